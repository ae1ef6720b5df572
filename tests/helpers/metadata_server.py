"""A metadata server of AWS or Google Cloud: `python tests/helpers/metadata_server.py PORT NOTICE`.

It gives notice as soon as the file NOTICE exists. AWS's answers are those of IMDSv2: without its token, 401.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "a-token"


def make_server(port, notice):
    """A server whose attribute `requests` lists what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self):
            self.server.requests.append(self.path)
            valid = self.path == "/latest/api/token" and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
            self._reply(200 if valid else 400, self.server.token)

        def do_GET(self):
            self.server.requests.append(self.path)
            if self.path == "/latest/meta-data/spot/instance-action":
                if self.headers.get("X-aws-ec2-metadata-token") != self.server.token:
                    return self._reply(401, "")
                action = '{"action": "terminate", "time": "2026-01-01T00:02:00Z"}'
                return self._reply(200, action) if notice.exists() else self._reply(404, "")
            if (
                self.path == "/computeMetadata/v1/instance/preempted"
                and self.headers.get("Metadata-Flavor") == "Google"
            ):
                return self._reply(200, "TRUE" if notice.exists() else "FALSE")
            return self._reply(403, "")

        def _reply(self, status, text):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments):
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.requests, server.token = [], TOKEN
    return server


if __name__ == "__main__":
    make_server(int(sys.argv[1]), Path(sys.argv[2])).serve_forever()
