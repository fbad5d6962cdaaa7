"""Stands in for `rewind-node`: listens, is ready, and names one of the nodes that are up as leader of each partition.

FAKE_NODE says what goes wrong: `unready`, `address in use`, or `deaf` to SIGTERM.
"""

import json
import os
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

flags = dict(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
seeds = flags["--seeds"].split(",")
behaviour = os.environ.get("FAKE_NODE", "")


def address(text: str) -> tuple[str, int]:
    host, port = text.rsplit(":", 1)
    return host, int(port)


def is_up(seed: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(address(seed)) == 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ready = behaviour != "unready"
        body = b"ok\n" if ready else b"waits for n2\nwaits for n3\n"
        if self.path == "/api/status":
            up = [f"n{number}" for number, seed in enumerate(seeds, 1) if is_up(seed)]
            partitions = [{"partition": number, "leader": up[number % len(up)]} for number in range(5)]
            body = json.dumps({"partitions": partitions}).encode()
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    if behaviour == "address in use":
        sys.stderr.write("starting\nrewind-node: --listen 127.0.0.1:1 is in use\n\n")
        sys.exit(3)
    if leaked := [name for name in os.environ if name.startswith("REWIND_")]:
        sys.exit(f"leaked: {leaked}")
    signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "deaf" else lambda *_: sys.exit(0))
    peers = socket.create_server(address(flags["--peer-listen"]), backlog=1000)
    with peers, HTTPServer(address(flags["--http-listen"]), Handler) as server:
        server.serve_forever()


main()
