// The facilitator of @x402/core and @x402/evm as they are published, over the node of a chain.
//
//   node facilitator.mjs '{"port": 4021, "rpc": "http://…", "key": "0x…", "timeout": 1000}'
//
//   key      private key that sends the transactions
//   timeout  milliseconds the node has for an answer

import { createServer } from "node:http";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { registerExactEvmScheme } from "@x402/evm/exact/facilitator";
import { createWalletClient, http, publicActions } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { baseSepolia } from "viem/chains";

const order = JSON.parse(process.argv[2]);
const account = privateKeyToAccount(order.key);
const transport = http(order.rpc, { timeout: order.timeout, retryCount: 0 });
const client = createWalletClient({ account, chain: baseSepolia, transport, pollingInterval: 50 });
const signer = toFacilitatorEvmSigner(Object.assign(client.extend(publicActions), { address: account.address }));
const facilitator = registerExactEvmScheme(new x402Facilitator(), { signer, networks: "eip155:84532" });

async function body(request) {
  let text = "";
  for await (const part of request) text += part;
  return JSON.parse(text);
}

const server = createServer(async (request, response) => {
  const tell = (status, value) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
  try {
    if (request.url === "/supported") return tell(200, facilitator.getSupported());
    const { paymentPayload, paymentRequirements } = await body(request);
    const operation = { "/verify": "verify", "/settle": "settle" }[request.url];
    const verdict = await facilitator[operation](paymentPayload, paymentRequirements);
    console.log(operation, JSON.stringify(verdict));
    tell(200, verdict);
  } catch (error) {
    console.log(request.url, error);
    tell(500, { error: String(error.message ?? error) });
  }
});
server.listen(order.port, "127.0.0.1");
