// A chain with one token, for facilitators of other projects: a JSON-RPC server that applies transfers, and can
// lose what it says about them. It checks no signature.
//
//   node chain.mjs '{"port": 8545, "chain": 84532, "token": "0x…", "name": "USDC", "version": "2"}'
//
//   POST /           JSON-RPC
//   POST /lose       {"sent": N}: the next N transactions are applied, and nobody is told.
//                    {"code": N}: the next N questions for the code of an account fail.
//   GET  /transfers  [{from, to, value, nonce, transaction}]

import { createServer } from "node:http";
import { decodeFunctionData, encodeAbiParameters, encodeEventTopics, encodeFunctionResult, keccak256, numberToHex, parseAbi, parseTransaction } from "viem";

const order = JSON.parse(process.argv[2]);
const same = (one, other) => one.toLowerCase() === other.toLowerCase();

const token = parseAbi([
  "function balanceOf(address) view returns (uint256)",
  "function name() view returns (string)",
  "function version() view returns (string)",
  "function authorizationState(address, bytes32) view returns (bool)",
  "function transferWithAuthorization(address, address, uint256, uint256, uint256, bytes32, uint8, bytes32, bytes32)",
  "function transferWithAuthorization(address, address, uint256, uint256, uint256, bytes32, bytes)",
  "event Transfer(address indexed from, address indexed to, uint256 value)",
]);

class Revert extends Error {}

const lose = { sent: 0, code: 0 };
const transfers = [];
const receipts = new Map();
let sent = 0;

const isUsed = (from, nonce) => transfers.some((one) => same(one.from, from) && same(one.nonce, nonce));

// What a call of the token comes to; the transfer it is, if it is one.
function call(data) {
  const { functionName, args } = decodeFunctionData({ abi: token, data });
  const result = (value) => ({ result: encodeFunctionResult({ abi: token, functionName, result: value }) });
  switch (functionName) {
    case "balanceOf":
      return result(10n ** 30n);
    case "name":
      return result(order.name);
    case "version":
      return result(order.version);
    case "authorizationState":
      return result(isUsed(...args));
    default: {
      const [from, to, value, after, before, nonce] = args;
      const now = BigInt(Math.floor(Date.now() / 1000));
      if (isUsed(from, nonce)) throw new Revert("FiatTokenV2: authorization is used or canceled");
      if (now <= after || now >= before) throw new Revert("FiatTokenV2: authorization is expired");
      return { result: "0x", transfer: { from, to, value: value.toString(), nonce } };
    }
  }
}

function block() {
  const number = numberToHex(sent + 1);
  const hash = keccak256(number);
  return {
    number, hash, parentHash: hash, timestamp: numberToHex(Math.floor(Date.now() / 1000)),
    baseFeePerGas: "0x1", gasLimit: "0x1c9c380", gasUsed: "0x0", transactions: [], uncles: [],
    difficulty: "0x0", extraData: "0x", logsBloom: `0x${"00".repeat(256)}`, miner: order.token,
    mixHash: hash, nonce: "0x0000000000000000", receiptsRoot: hash, sha3Uncles: hash, size: "0x1",
    stateRoot: hash, totalDifficulty: "0x0", transactionsRoot: hash,
  };
}

function send(raw) {
  const { to, data } = parseTransaction(raw);
  const transaction = keccak256(raw);
  const { transfer } = call(data);
  sent += 1;
  transfers.push({ ...transfer, transaction });
  const { number, hash } = block();
  const place = { blockNumber: number, blockHash: hash, transactionHash: transaction, transactionIndex: "0x0" };
  const topics = encodeEventTopics({ abi: token, eventName: "Transfer", args: transfer });
  const amount = encodeAbiParameters([{ type: "uint256" }], [BigInt(transfer.value)]);
  const log = { ...place, address: to, topics, data: amount, logIndex: "0x0", removed: false };
  receipts.set(transaction, {
    ...place, from: transfer.from, to, contractAddress: null, status: "0x1", type: "0x2", logs: [log],
    logsBloom: `0x${"00".repeat(256)}`, gasUsed: "0x1", cumulativeGasUsed: "0x1", effectiveGasPrice: "0x1",
  });
  return transaction;
}

// The answer to one request, or undefined where it is lost.
function answer({ method, params = [] }) {
  switch (method) {
    case "eth_chainId":
      return numberToHex(order.chain);
    case "net_version":
      return String(order.chain);
    case "eth_getCode":
      if (lose.code > 0) {
        lose.code -= 1;
        throw new Error("the node is overloaded");
      }
      return same(params[0], order.token) ? "0x01" : "0x";
    case "eth_getTransactionCount":
      return numberToHex(sent);
    case "eth_blockNumber":
      return block().number;
    case "eth_getBlockByNumber":
      return block();
    case "eth_gasPrice":
    case "eth_maxPriorityFeePerGas":
      return "0x1";
    case "eth_feeHistory":
      return { oldestBlock: "0x1", baseFeePerGas: ["0x1", "0x1"], gasUsedRatio: [0], reward: [["0x1"]] };
    case "eth_getBalance":
      return numberToHex(10n ** 20n);
    case "eth_call":
      return call(params[0].data ?? params[0].input).result;
    case "eth_estimateGas":
      call(params[0].data ?? params[0].input);
      return "0x186a0";
    case "eth_sendRawTransaction": {
      const transaction = send(params[0]);
      if (lose.sent === 0) return transaction;
      lose.sent -= 1;
      return undefined;
    }
    case "eth_getTransactionReceipt":
      return receipts.get(params[0]) ?? null;
    default:
      throw Object.assign(new Error(`the method ${method} does not exist`), { code: -32601 });
  }
}

function reply(request) {
  const { id } = request;
  try {
    const result = answer(request);
    return result === undefined ? undefined : { jsonrpc: "2.0", id, result };
  } catch (error) {
    const code = error instanceof Revert ? 3 : (error.code ?? -32000);
    const message = error instanceof Revert ? `execution reverted: ${error.message}` : error.message;
    return { jsonrpc: "2.0", id, error: { code, message } };
  }
}

async function body(request) {
  let text = "";
  for await (const part of request) text += part;
  return JSON.parse(text);
}

const server = createServer(async (request, response) => {
  const tell = (value) => response.setHeader("content-type", "application/json").end(JSON.stringify(value));
  if (request.url === "/transfers") return tell(transfers);
  if (request.url === "/lose") return tell(Object.assign(lose, await body(request)));
  const asked = await body(request);
  const replies = [asked].flat().map(reply);
  if (replies.includes(undefined)) return request.socket.destroy();
  tell(Array.isArray(asked) ? replies : replies[0]);
});
server.listen(order.port, "127.0.0.1");
