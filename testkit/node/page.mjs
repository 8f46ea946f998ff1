// Lets a page in a browser ask for URLs of another origin, as a buyer would, and prints what happened as one line of JSON.
//
//   node page.mjs '{"port": 8000, "browser": "/usr/bin/chromium", "libraries": "", "key": "0x…", "urls": ["http://…"]}'
//
//   port       of 127.0.0.1, where the page comes from
//   browser    the program
//   libraries  folders of libraries that it needs, as LD_LIBRARY_PATH has them
//   key        private key of the buyer
//   urls       what to buy
//
// Printed: for each URL either status, receipt (decoded, as the page may read it) and body (text), or error.

import { createServer } from "node:http";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const order = JSON.parse(process.argv[2]);

// What the page runs: the public client, as it is published.
const source = `
import { ExactEvmScheme } from "@x402/evm";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";

window.buy = async (url, key) => {
  const client = new x402Client().register("eip155:*", new ExactEvmScheme(privateKeyToAccount(key)));
  try {
    const response = await wrapFetchWithPayment(fetch, client)(url, { method: "POST", body: "{}" });
    const receipt = response.headers.get("PAYMENT-RESPONSE");
    const body = await response.text();
    return { status: response.status, receipt: receipt && JSON.parse(atob(receipt)), body };
  } catch (error) {
    return { error: String(error) };
  }
};
`;
const bundle = await build({
  stdin: { contents: source, resolveDir: import.meta.dirname },
  bundle: true,
  write: false,
  format: "iife",
  platform: "browser",
  logLevel: "error",
});
const [{ text: script }] = bundle.outputFiles;

const server = createServer((request, response) => {
  const [type, body] = request.url === "/page.js" ? ["text/javascript", script] : ["text/html", "<script src=/page.js></script>"];
  response.writeHead(200, { "content-type": `${type}; charset=utf-8` }).end(body);
});
await new Promise((resolve) => server.listen(order.port, "127.0.0.1", resolve));

const env = order.libraries ? { ...process.env, LD_LIBRARY_PATH: order.libraries } : process.env;
const browser = await chromium.launch({ executablePath: order.browser, env });
const page = await browser.newPage();
await page.goto(`http://127.0.0.1:${order.port}/`);
const bought = [];
for (const url of order.urls) bought.push(await page.evaluate(([url, key]) => window.buy(url, key), [url, order.key]));
await browser.close();
server.close();
console.log(JSON.stringify(bought));
