// Asks for one URL as a buyer would and prints what happened as one line of JSON.
//
//   node pay.mjs '{"url": "http://…", "key": "0x…", "version": 2}'
//
//   url      what to buy
//   key      private key of the buyer; without one nothing is paid
//   version  2: what @x402/fetch does by itself. 1: a client that knows only the 402 body and X-PAYMENT.
//            "2-in-x-payment": a version 2 payment in the X-PAYMENT header. "x402-fetch": what x402-fetch 1.x, which
//            knows no version 2, does by itself
//   method   GET by default
//   headers  more request headers
//
// Printed: status, headers, receipt (decoded), body (text), chunks [{ms, text}] with the time since the
// answer's head, challenge (decoded, where the first answer was a 402) and payment {name, value}: the
// header that was sent.

import { ExactEvmScheme } from "@x402/evm";
import { ExactEvmSchemeV1 } from "@x402/evm/exact/v1/client";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";

// The networks a version 1 client can pay on; its names are a closed list.
const V1_NETWORKS = ["base", "base-sepolia", "avalanche", "avalanche-fuji", "polygon", "polygon-amoy"];

const order = JSON.parse(process.argv[2]);
const seen = { challenge: null, payment: null };

const decode = (value) => (value ? JSON.parse(Buffer.from(value, "base64").toString("utf8")) : null);

// Stands between the library and the network: notes what goes by, and changes only what makes the library
// behave as an older client.
async function wire(input, init) {
  const request = new Request(input, init);
  if (order.version === "2-in-x-payment" && request.headers.has("PAYMENT-SIGNATURE")) {
    request.headers.set("X-PAYMENT", request.headers.get("PAYMENT-SIGNATURE"));
    request.headers.delete("PAYMENT-SIGNATURE");
  }
  for (const name of ["PAYMENT-SIGNATURE", "X-PAYMENT"]) {
    if (request.headers.has(name)) seen.payment = { name, value: request.headers.get(name) };
  }
  const response = await fetch(request, { redirect: "manual" });
  if (response.status !== 402 || seen.challenge) return response;
  seen.challenge = decode(response.headers.get("PAYMENT-REQUIRED"));
  if (order.version !== 1) return response;
  const headers = new Headers(response.headers);
  headers.delete("PAYMENT-REQUIRED");
  return new Response(await response.text(), { status: 402, headers });
}

async function paying(key) {
  if (order.version === "x402-fetch") {
    // Loaded here because it is large.
    const old = await import("x402-fetch");
    return old.wrapFetchWithPayment(wire, await old.createSigner("base-sepolia", key));
  }
  const account = privateKeyToAccount(key);
  const client = new x402Client().register("eip155:*", new ExactEvmScheme(account));
  for (const network of V1_NETWORKS) client.registerV1(network, new ExactEvmSchemeV1(account));
  return wrapFetchWithPayment(wire, client);
}

const ask = order.key ? await paying(order.key) : wire;
const response = await ask(order.url, { method: order.method ?? "GET", headers: order.headers ?? {} });

const started = performance.now();
const chunks = [];
const text = new TextDecoder();
for await (const part of response.body ?? []) {
  chunks.push({ ms: Math.round(performance.now() - started), text: text.decode(part, { stream: true }) });
}

const receipt = response.headers.get("PAYMENT-RESPONSE") ?? response.headers.get("X-PAYMENT-RESPONSE");
console.log(
  JSON.stringify({
    status: response.status,
    headers: Object.fromEntries(response.headers),
    receipt: decode(receipt),
    body: chunks.map((chunk) => chunk.text).join(""),
    chunks,
    ...seen,
  }),
);
