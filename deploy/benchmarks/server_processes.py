"""Server processes of the stores that are compared: they end with the comparison, however that ends."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rewind.bench.fleet import BenchError

HOST = "127.0.0.1"
START_PATIENCE_S = 60.0
STOP_PATIENCE_S = 10.0
POLL_S = 0.05
LAST_WORDS_BYTES = 2000


class Processes:
    """The processes of one store, in the order in which they were started."""

    def __init__(self) -> None:
        self._running: list[tuple[subprocess.Popen[bytes], Path, signal.Signals]] = []

    def start(
        self, command: Sequence[str], log: Path, *, user: str | None = None, stop: signal.Signals = signal.SIGTERM
    ) -> None:
        """Start a program, as `user` if that is given and this is root; `stop` is how it is asked to end."""
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 - servers that were looked up by name
                _dying_with_us(command, user),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
                start_new_session=True,
            )
        self._running.append((process, log, stop))

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until it is ready; raise if a process ends before that, or patience does."""
        give_up = time.monotonic() + START_PATIENCE_S
        while not ready():
            for process, log, _ in self._running:
                if process.poll() is not None:
                    raise BenchError(f"{what} ended with exit code {process.returncode}: {last_words(log)}")
            if time.monotonic() > give_up:
                raise BenchError(f"{what} did not become ready within {START_PATIENCE_S:.0f} s")
            time.sleep(POLL_S)

    def pids(self) -> list[int]:
        """Return the processes' IDs."""
        return [process.pid for process, _, _ in self._running]

    def stop(self) -> None:
        """Ask all to end, the last one first, and end those that do not."""
        for process, _, number in reversed(self._running):
            with suppress(ProcessLookupError):
                process.send_signal(number)
        give_up = time.monotonic() + STOP_PATIENCE_S
        for process, _, _ in reversed(self._running):
            try:
                process.wait(max(0.0, give_up - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


def _dying_with_us(command: Sequence[str], user: str | None) -> list[str]:
    setpriv = program("setpriv")
    if setpriv is None:
        raise BenchError("setpriv is missing, which ends servers when this program dies; install util-linux")
    change = ["--reuid", user, "--regid", user, "--clear-groups"] if user and os.geteuid() == 0 else []
    return [setpriv, *change, "--pdeathsig", "KILL", *command]


def program(name: str, *folders: str) -> str | None:
    """Return the path of a program, also from the folders where distributions hide servers."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *folders])
    return shutil.which(name, path=path)


def output_of(*command: str) -> str:
    """Return what a program prints, on one line."""
    result = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - the same
    return " ".join(result.stdout.split())


def succeeds(*command: str) -> bool:
    """Run a program and return whether it ended with exit code 0."""
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603 - the same


def run(command: Sequence[str], log: Path, user: str | None = None) -> None:
    """Run a program to its end; raise with its last words if it fails."""
    with log.open("ab") as output:
        result = subprocess.run(  # noqa: S603 - the same
            _dying_with_us(command, user), stdout=output, stderr=output, check=False, cwd=log.parent
        )
    if result.returncode:
        raise BenchError(f"{command[0]} ended with exit code {result.returncode}: {last_words(log)}")


def last_words(log: Path) -> str:
    """Return the end of a log, on one line."""
    with suppress(OSError), log.open("rb") as opened:
        opened.seek(max(0, opened.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
        return " ".join(opened.read().decode(errors="replace").split()[-40:])
    return "it said nothing"


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nobody uses at the moment, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        ports: list[Any] = [each.getsockname()[1] for each in sockets]
        return ports
    finally:
        for each in sockets:
            each.close()


def listens(port: int) -> bool:
    """Return whether somebody takes connections at a port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0
