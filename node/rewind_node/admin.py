"""Admin HTTP, the process: health, metrics, status and a dashboard, all read-only, from snapshots of the node's state.

    GET /livez       200 while the node's loop turns: its last snapshot is younger than 5 s
    GET /readyz      200 while the node serves; else 503 with the reasons, one per line
    GET /metrics     for Prometheus
    GET /api/status  the cluster as this node sees it
    GET /            a page that shows it

The parent (`rewind_node.admin_link`) hands over the listening socket and writes snapshots to standard input. The
process has nothing to save: it ends at once when that pipe ends, and ignores the signals that are meant for the node.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import uvicorn
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from rewind_node.admin_link import LENGTH
from rewind_node.prometheus import SnapshotCollector

SNAPSHOT_AGE_MAX_S = 5.0  # the loop publishes about once a second; after this it hangs, whatever it may say
SNAPSHOT_BYTES_MAX = 64 * 1024 * 1024  # far beyond the largest map; more means that the pipe lost its rhythm
CONNECTIONS_MAX = 64  # monitors and a few browsers; beyond it HTTP 503
KEEP_ALIVE_S = 5
DASHBOARD = Path(__file__).with_name("dashboard.html")
DASHBOARD_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'",
    "X-Content-Type-Options": "nosniff",
}
NOT_CACHED = {"Cache-Control": "no-store"}


class State:
    """The node's last snapshot and when it came, by this process's monotonic clock, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._taken_at = now()
        self.snapshot: dict[str, Any] | None = None

    def take(self, snapshot: dict[str, Any]) -> None:
        """Take in the next snapshot."""
        self.snapshot = snapshot
        self._taken_at = self._now()

    @property
    def age_s(self) -> float:
        """Seconds since the last snapshot or, before the first, since the start."""
        return self._now() - self._taken_at

    @property
    def complaint(self) -> str:
        """Why the node does not count as alive; empty if it does."""
        if self.snapshot is None:
            return "the node has not reported yet"
        if self.age_s > SNAPSHOT_AGE_MAX_S:
            return f"the node's loop has not reported for {self.age_s:.1f} s"
        return ""


def application(state: State, node_pid: int) -> Starlette:
    """Return the ASGI application that answers from `state`."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: (state.snapshot, state.age_s)))
    ProcessCollector(namespace="rewind", pid=lambda: node_pid, registry=registry)

    async def livez(_: Request) -> Response:
        return _plain([state.complaint] if state.complaint else [])

    async def readyz(_: Request) -> Response:
        if state.complaint or state.snapshot is None:
            return _plain([state.complaint])
        reasons = [str(reason) for reason in state.snapshot["reasons"]]
        return _plain([] if state.snapshot["ready"] else reasons or ["not ready"])

    async def metrics(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=media_type, headers=NOT_CACHED)

    async def status(_: Request) -> Response:
        # What is old is still shown, but not under a 200: nobody should take a hanging node's word for the truth.
        body = dict(state.snapshot["status"]) if state.snapshot else {}
        body["age_ms"] = int(state.age_s * 1000)
        if state.complaint:
            body["error"] = state.complaint
        return JSONResponse(body, status_code=503 if state.complaint else 200, headers=NOT_CACHED)

    async def dashboard(_: Request) -> Response:
        return HTMLResponse(page, headers=DASHBOARD_HEADERS)

    page = DASHBOARD.read_bytes()
    handlers = {"/livez": livez, "/readyz": readyz, "/metrics": metrics, "/api/status": status, "/": dashboard}
    return Starlette(routes=[Route(path, handler, methods=["GET"]) for path, handler in handlers.items()])


def _plain(reasons: list[str]) -> Response:
    text = "\n".join(reasons) or "ok"
    return PlainTextResponse(text + "\n", status_code=503 if reasons else 200, headers=NOT_CACHED)


async def take_snapshots(state: State, reader: asyncio.StreamReader) -> None:
    """Take snapshots from the parent's pipe until it ends."""
    try:
        while True:
            (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
            if length > SNAPSHOT_BYTES_MAX:
                raise ValueError(f"a snapshot of {length} bytes is over the limit of {SNAPSHOT_BYTES_MAX}")
            state.take(msgpack.unpackb(await reader.readexactly(length), strict_map_key=False))
    except asyncio.IncompleteReadError:
        return


class Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the parent says when to end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def serve(listening: socket.socket, node_pid: int) -> None:
    """Serve until the parent's pipe ends, which ends this process on the spot."""
    state = State()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    config = uvicorn.Config(
        application(state, node_pid),
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    serving = asyncio.create_task(Server(config).serve(sockets=[listening]))
    taking = asyncio.create_task(take_snapshots(state, reader))
    done, _ = await asyncio.wait([serving, taking], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    # No farewell to open connections: the node that starts next wants the address.
    os._exit(0)


def main() -> None:
    """Run as the child of a node; the one argument is the inherited listening socket's number."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(serve(socket.socket(fileno=int(sys.argv[1])), os.getppid()))
    except Exception as error:  # noqa: BLE001 - one line; the parent starts the process again
        sys.stderr.write(f"rewind-node: the admin process failed: {type(error).__name__}: {error}\n")
        os._exit(1)


if __name__ == "__main__":
    main()
