"""`rewind-node demo`: take events in, kill a leader on the way, read everything back, and count what is missing.

Nothing here is staged: three `rewind-node run` processes with fsync on, the ordinary `rewind` command importing over
loopback, a `kill -9` of the node that leads most partitions, and at the end a comparison of what went in with what is
there.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from random import SystemRandom
from tempfile import TemporaryDirectory
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from rewind_node.demo_events import write_events
from rewind_node.demo_histories import Histories
from rewind_node.demo_report import Outcome, report
from rewind_node.exits import NodeExit
from rewind_node.leader_loss import LeaderLoss
from rewind_node.local_cluster import HOST, PORTS_PER_NODE, PROGRAM, LocalCluster, ended_like_by_ctrl_c
from rewind_node.parent_death import dying_with_this_process

NODES = 3
PARTITIONS = 4
PORT_BASES = range(10_000, 30_000, 10)  # below the ports that the kernel hands out by itself
IMPORT_SECONDS = 5.0  # what the import is slowed down to, so that a leader can be killed in the middle of it
RATE_MAX = 20_000  # events a second; a file so large needs no slowing down
SILENCE_MAX_S = 60.0  # an import that reports nothing for so long hangs
TICK_S = 0.1
CLIENT = (sys.executable, "-P", "-m", "rewind")


class DemoError(NodeExit):
    """The demo could not be carried through. It is *not* a loss of events."""


def run_demo(file: Path | None, *, node: tuple[str, ...] = PROGRAM, client: tuple[str, ...] = CLIENT) -> int:
    """Return 0 if nothing was lost and nothing happened twice, else 1. `node` and `client` are the programs to run."""
    console = Console(highlight=False)
    with ended_like_by_ctrl_c(), TemporaryDirectory(prefix="rewind-demo-") as temporary:
        directory = Path(temporary)
        if file is None:
            file = directory / "events.jsonl"
            write_events(file)
        expected = Histories.of_file(file)
        base = free_port_base(NODES)
        with LocalCluster(directory, nodes=NODES, partitions=PARTITIONS, port_base=base, program=node) as cluster:
            with console.status("Starting three nodes …"):
                cluster.start()
                cluster.wait_ready()
            pids = ", ".join(f"{node.name} (pid {node.pid})" for node in cluster.nodes)
            console.print(f"Three nodes are up: {pids}.", soft_wrap=True)
            command = Client(cluster, client, directory / "client.log")
            loss = LeaderLoss(cluster, expected.events, lambda text: console.print(text, soft_wrap=True))
            summary = _import(command, file, expected.events, loss, console)
            loss.finish()
            actual = _export(command, console)
        outcome = Outcome(summary, loss.killed, loss.led, expected, actual, expected.compare(actual))
        report(outcome, console)
        return 0 if outcome.comparison.clean else 1


def free_port_base(nodes: int) -> int:
    """Return a first port such that every port of a cluster is free at the moment."""
    bases = list(PORT_BASES)
    SystemRandom().shuffle(bases)
    for base in bases:
        ports = [base + PORTS_PER_NODE * number + offset for number in range(nodes) for offset in range(3)]
        if all(map(_is_free, ports)):
            return base
    raise DemoError("no free ports were found on this machine; stop what listens on them")


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return True
    return False


class Client:
    """The `rewind` command as a process of its own, against this cluster."""

    def __init__(self, cluster: LocalCluster, program: tuple[str, ...], log_file: Path) -> None:
        self._words = [*program, "--servers", cluster.servers, "--json"]
        self._log_file = log_file

    @contextmanager
    def running(self, *arguments: str) -> Iterator[IO[bytes]]:
        """Yield what the command prints. Raises `DemoError` if it fails; it never outlives the block."""
        with (
            self._log_file.open("w+b") as log,
            subprocess.Popen(  # noqa: S603 - our own interpreter and module
                dying_with_this_process([*self._words, *arguments]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            ) as process,
        ):
            assert process.stdout is not None
            try:
                yield process.stdout
                code = process.wait(SILENCE_MAX_S)
            except subprocess.TimeoutExpired:
                raise DemoError(f"rewind {arguments[0]} closed its output but does not end") from None
            finally:
                process.kill()
            if code != 0:
                log.seek(0)
                words = log.read().decode(errors="replace").strip().split("\n")[-1]
                raise DemoError(f"rewind {arguments[0]} ended with exit code {code}: {words or 'it said nothing'}")


def _import(command: Client, file: Path, total: int, loss: LeaderLoss, console: Console) -> dict[str, Any]:
    """Import the file, let `loss` strike on the way, and return the import's summary."""
    arguments = ["import", str(file)]
    if (rate := max(1, round(total / IMPORT_SECONDS))) < RATE_MAX:
        arguments += ["--rate", str(rate)]
    summary: dict[str, Any] = {}
    with command.running(*arguments) as output, _progress_bar(console) as progress:
        bar = progress.add_task("Taking events in", total=total)
        for message in _messages(output):
            if message.get("kind") == "summary":
                summary = message
            elif message.get("kind") == "progress":
                progress.update(bar, completed=message["events"])
                loss.advance(message["events"])
            else:
                loss.tick()
    if not summary:
        raise DemoError("rewind import ended without its summary")
    return summary


def _progress_bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _messages(output: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield each JSON line as it comes, and an empty message every `TICK_S` while none does."""
    lines: SimpleQueue[bytes] = SimpleQueue()
    # Reading has a thread of its own, so that the main one, which kills and starts nodes, never waits for the import.
    reader = threading.Thread(target=_read_lines, args=(output, lines), daemon=True)
    reader.start()
    heard_at = time.monotonic()
    while True:
        try:
            line = lines.get(timeout=TICK_S)
        except Empty:
            if time.monotonic() - heard_at > SILENCE_MAX_S:
                raise DemoError(f"rewind import has said nothing for {SILENCE_MAX_S:.0f} s") from None
            yield {}
            continue
        if not line:
            reader.join()
            return
        heard_at = time.monotonic()
        try:
            yield json.loads(line)
        except ValueError:
            raise DemoError(f"rewind import printed what is no JSON: {line[:80]!r}") from None


def _read_lines(output: IO[bytes], lines: "SimpleQueue[bytes]") -> None:
    with suppress(ValueError):  # the command was killed and its output closed
        for line in output:
            lines.put(line)
    lines.put(b"")


def _export(command: Client, console: Console) -> Histories:
    histories = Histories()
    with console.status("Reading everything back …"), command.running("export") as output:
        try:
            histories.add_lines(output)
        except ValueError as error:
            raise DemoError(f"rewind export: {error}") from None
    return histories
