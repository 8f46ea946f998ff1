"""An upstream that reads paths as Python's http.server does, which finds files by them.

    python3 files.py '{"port": 8000, "files": "/folder", "places": [["/goods/", "1000"], ["/one", "2000"]]}'

Answered is what is at the file that a request asks for, or below the folder, whether there is a file or not: the first
place that holds it.
"""

import http.server
import json
import os
import sys

ORDER = json.loads(sys.argv[1])


def what_is_at(file):
    for place, what in ORDER["places"]:
        here = ORDER["files"] + place.rstrip("/")
        if file == here or (place.endswith("/") and file.startswith(here + "/")):
            return what
    return None


class Files(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        what = what_is_at(self.translate_path(self.path).rstrip("/"))
        if what is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(what)))
        self.end_headers()
        self.wfile.write(what.encode())

    def log_message(self, *_):
        pass

    def __init__(self, *args):
        super().__init__(*args, directory=os.fspath(ORDER["files"]))


http.server.ThreadingHTTPServer(("127.0.0.1", ORDER["port"]), Files).serve_forever()
