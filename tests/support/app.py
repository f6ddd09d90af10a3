"""The service that services.rs deploys: it says the version that it was started with."""
import http.server
import os
import sys

with open("version", encoding="ascii") as file:
    VERSION = file.read()
with open("data/greeting", encoding="ascii") as file:
    GREETING = file.read()
IS_SICK = os.path.exists("sick")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, text = 200, GREETING + VERSION
        if self.path == "/healthz" and IS_SICK:
            status, text = 500, "sick"
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("listening", flush=True)
server.serve_forever()
