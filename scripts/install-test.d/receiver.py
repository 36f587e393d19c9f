"""usage: receiver.py PORT FILE: writes what is posted to it, one JSON text a line, to FILE. Standard library alone."""

import http.server
import sys


class Taker(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(sys.argv[2], "ab") as file:
            file.write(body.replace(b"\n", b" ") + b"\n")
        self.send_response(200)
        self.end_headers()


http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Taker).serve_forever()
