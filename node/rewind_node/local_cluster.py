"""A cluster of real nodes on this machine, for `dev`, `demo` and tests: each an own process with its own directory.

Node i of 1, 2, 3, … is named `n<i>` and listens on 127.0.0.1 at `port_base + 100·(i-1)` for clients, the next port for
peers, the one after for HTTP. The processes die with the one that started them, however it dies. Use it from the main
thread: the kernel ties a child to the *thread* that started it (`rewind_node.parent_death`).
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from rewind_node.addresses import PORT_MAX
from rewind_node.exits import INTERNAL_ERROR, NodeExit, UsageError
from rewind_node.parent_death import dying_with_this_process

HOST = "127.0.0.1"
PORTS_PER_NODE = 100
READY_TIMEOUT_S = 60.0  # founding takes a second or two; a busy machine with one core may take far longer
POLL_INTERVAL_S = 0.05
STOP_PATIENCE_S = 10.0  # handing leaderships over takes well under a second
HTTP_TIMEOUT_S = 2.0
LAST_WORDS_BYTES = 4096
PROGRAM = (sys.executable, "-P", "-m", "rewind_node")

_http = build_opener(ProxyHandler({}))  # a proxy meant for the world would answer for our own nodes


class NodeEndedError(NodeExit):
    """A node ended by itself; `code` is its exit code."""

    def __init__(self, name: str, code: int, last_words: str) -> None:
        super().__init__(f"node {name} ended with exit code {code}: {last_words or 'it said nothing'}")
        self.code = code if code > 0 else INTERNAL_ERROR  # negative: the signal that killed it


class NotReadyError(NodeExit):
    """A node did not become ready in time. It still runs."""


@dataclass(slots=True)
class LocalNode:
    """One node, running or not."""

    name: str
    port: int
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"{HOST}:{self.port}"

    @property
    def peer_address(self) -> str:
        """Where other nodes reach it."""
        return f"{HOST}:{self.port + 1}"

    @property
    def http_address(self) -> str:
        """Where HTTP reaches it."""
        return f"{HOST}:{self.port + 2}"

    @property
    def log_file(self) -> Path:
        """What it says while it runs."""
        return self.directory.with_suffix(".log")

    @property
    def pid(self) -> int | None:
        """Its process, None while there is none."""
        return self.process.pid if self.process else None

    def exit_code(self) -> int | None:
        """Return None while it runs, else its exit code, or the negative number of the signal that killed it."""
        return self.process.poll() if self.process else None

    def last_words(self) -> str:
        """Return the last line of its log."""
        with suppress(OSError), self.log_file.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""


class LocalCluster:
    """Nodes of one cluster below `directory`. `program` is what `run` and its flags are appended to."""

    def __init__(
        self,
        directory: Path,
        *,
        nodes: int = 3,
        partitions: int = 4,
        port_base: int = 7070,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        highest = port_base + PORTS_PER_NODE * (nodes - 1) + 2
        if highest > PORT_MAX:
            raise UsageError(f"{nodes} nodes from port {port_base} on would need port {highest}; choose a lower one")
        self._program = program
        self._partitions = partitions
        self.nodes = [
            LocalNode(f"n{number + 1}", port_base + PORTS_PER_NODE * number, directory.absolute() / f"n{number + 1}")
            for number in range(nodes)
        ]

    @property
    def servers(self) -> str:
        """The addresses for clients, as `rewind --servers` takes them."""
        return ",".join(node.address for node in self.nodes)

    def node(self, name: str) -> LocalNode:
        """Return the node of that name."""
        return next(node for node in self.nodes if node.name == name)

    def start(self) -> None:
        """Start every node that has no process."""
        for node in self.nodes:
            if node.process is None:
                self.start_node(node)

    def start_node(self, node: LocalNode) -> None:
        """Start a node, or start it again after it ended."""
        assert threading.current_thread() is threading.main_thread()
        assert node.process is None or node.exit_code() is not None
        node.directory.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("REWIND_")}
        with node.log_file.open("ab") as log:
            node.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                dying_with_this_process([*self._program, "run", *self._flags(node)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C in the terminal is for us, who then stop the nodes in good order
            )

    def kill(self, node: LocalNode) -> None:
        """End a node as a power cut would: `kill -9`."""
        assert node.process is not None
        node.process.kill()
        node.process.wait()

    def stop_node(self, node: LocalNode) -> int:
        """Stop a node with SIGTERM, kill it if it does not end in time, and return its exit code."""
        assert node.process is not None
        node.process.terminate()
        try:
            return node.process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            node.process.kill()
            return node.process.wait()

    def stop(self) -> None:
        """Stop all nodes with SIGTERM, and kill those that do not end in time."""
        running = [node.process for node in self.nodes if node.process]
        for process in running:
            process.terminate()
        give_up = time.monotonic() + STOP_PATIENCE_S
        try:
            for process in running:
                process.wait(max(0.0, give_up - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass  # it and those not yet waited for are killed below
        finally:
            for process in running:
                process.kill()
                process.wait()
            for node in self.nodes:
                node.process = None

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until every node serves. Raises `NodeEndedError` or `NotReadyError`."""
        give_up = time.monotonic() + timeout_s
        for node in self.nodes:
            while (complaint := complaint_of(node)) is not None:
                if (code := node.exit_code()) is not None:
                    raise NodeEndedError(node.name, code, node.last_words())
                if time.monotonic() > give_up:
                    raise NotReadyError(f"node {node.name} is not ready after {timeout_s:.0f} s: {complaint}")
                time.sleep(POLL_INTERVAL_S)
        for node in self.nodes:
            if (code := node.exit_code()) is not None:
                raise NodeEndedError(node.name, code, node.last_words())

    def status(self, *, but: LocalNode | None = None) -> dict[str, Any] | None:
        """Return `/api/status` of the first node that answers, leaving one out if asked; None if none does."""
        for node in self.nodes:
            if node is not but and node.process and node.exit_code() is None:
                status = self.status_of(node)
                if status is not None:
                    return status
        return None

    @staticmethod
    def status_of(node: LocalNode) -> dict[str, Any] | None:
        """Return what one node says of the cluster, None if it does not answer."""
        try:
            with fetch(node, "/api/status") as response:
                status: dict[str, Any] = json.load(response)
                return status
        except (OSError, HTTPException, ValueError):
            return None

    def _flags(self, node: LocalNode) -> list[str]:
        flags = {
            "--name": node.name,
            "--data-dir": str(node.directory),
            "--seeds": ",".join(each.peer_address for each in self.nodes),
            "--listen": node.address,
            "--peer-listen": node.peer_address,
            "--http-listen": node.http_address,
            "--partitions": str(self._partitions),
        }
        return [word for pair in flags.items() for word in pair]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def complaint_of(node: LocalNode) -> str | None:
    """Return why a node is not ready, None if it is."""
    try:
        fetch(node, "/readyz").close()
        with fetch(node, "/api/status") as response:
            pids = {
                row["pid"] for row in json.load(response).get("nodes", ()) if row["http_address"] == node.http_address
            }
        if pids and pids != {node.pid}:
            return f"another node than ours answers at {node.http_address}"
    except HTTPError as error:
        with error:
            return "; ".join(error.read().decode(errors="replace").split("\n")).strip("; ")
    except (OSError, HTTPException) as error:
        return f"no answer at {node.http_address}: {error}"
    return None


def fetch(node: LocalNode, path: str) -> Any:
    """Return what a node answers over HTTP, to be read and closed. Raises `OSError` or `HTTPException`."""
    return _http.open(f"http://{node.http_address}{path}", timeout=HTTP_TIMEOUT_S)


@contextmanager
def ended_like_by_ctrl_c() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise `KeyboardInterrupt` too, so that what was started is stopped and removed."""
    asked = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in asked]
    try:
        yield
    finally:
        for number, handler in zip(asked, before, strict=True):
            signal.signal(number, handler)
