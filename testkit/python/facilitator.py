"""The facilitator of the package x402 as it is published, over the node of a chain.

    python3 facilitator.py '{"port": 4021, "rpc": "http://…", "key": "0x…"}'

key: private key that sends the transactions
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from x402 import x402FacilitatorSync
from x402.mechanisms.evm import FacilitatorWeb3Signer
from x402.mechanisms.evm.exact import register_exact_evm_facilitator
from x402.schemas import PaymentPayload, PaymentRequirements

order = json.loads(sys.argv[1])
signer = FacilitatorWeb3Signer(private_key=order["key"], rpc_url=order["rpc"])
facilitator = x402FacilitatorSync()
register_exact_evm_facilitator(facilitator, signer, networks="eip155:84532")


def plain(model):
    return model.model_dump(by_alias=True, exclude_none=True, mode="json")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.tell(200, plain(facilitator.get_supported()))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        operation = {"/verify": facilitator.verify, "/settle": facilitator.settle}[self.path]
        try:
            payload = PaymentPayload.model_validate(body["paymentPayload"])
            requirements = PaymentRequirements.model_validate(body["paymentRequirements"])
            verdict = plain(operation(payload, requirements))
            print(self.path, json.dumps(verdict), flush=True)
            self.tell(200, verdict)
        except Exception as error:
            print(self.path, repr(error), flush=True)
            self.tell(500, {"error": str(error)})

    def tell(self, status, value):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", order["port"]), Handler).serve_forever()
