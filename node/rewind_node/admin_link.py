"""The node's side of its admin HTTP: it owns the listening socket and the process that serves it.

HTTP has a process of its own so that no parsing, no slow reader and no busy Python thread ever takes a microsecond from
the node's loop. The loop only writes a snapshot of its state into a pipe, now and then:

    4 bytes, big-endian: length     then so many bytes: one msgpack map
    {"ready": bool, "reasons": [text], "status": what /api/status answers, "metrics": Metrics.snapshot()}

The rule: nothing here blocks the loop or raises into it. A snapshot that finds the pipe full is dropped, since the next
one is better anyway. A process that died is started again, and ends by itself when its pipe does: with the node.
"""

import errno
import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from struct import Struct
from typing import Any, Self

import msgpack
import structlog

from rewind_node.addresses import join, split
from rewind_node.exits import AddressInUseError, UsageError

LENGTH = Struct(">I")
PIPE_BYTES = 1024 * 1024  # the most Linux allows without privileges; a snapshot of 1,024 partitions fits
BACKLOG = 128  # connections that wait while the process starts again
RESTART_INTERVAL_S = 5.0  # a process that cannot live is not worth more of the loop's time
STOP_PATIENCE_S = 1.0  # it has nothing to save, so it is killed if it does not end at once
BIND_PATIENCE_S = 3.0  # the process of a node that was killed just now takes a moment to notice and let go
BIND_RETRY_S = 0.05
PROGRAM = (sys.executable, "-P", "-m", "rewind_node.admin")

log = structlog.get_logger()


def bind(address: str, patience_s: float = BIND_PATIENCE_S) -> socket.socket:
    """Return a socket listening on `host:port`, or raise `AddressInUseError` or, where that cannot be, `UsageError`."""
    host, port = split(address)
    give_up = time.monotonic() + patience_s
    while True:
        try:
            return socket.create_server(
                (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UsageError(f"--http-listen {address}: {error.strerror}") from None
        if time.monotonic() > give_up:
            raise AddressInUseError(f"--http-listen {address} is in use by another program; choose another address")
        time.sleep(BIND_RETRY_S)


class AdminProcess:
    """Admin HTTP at `host:port`. `publish` is for the loop; `now` is a monotonic clock in seconds."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        program: Sequence[str] = PROGRAM,
        now: Callable[[], float] = time.monotonic,
        bind_patience_s: float = BIND_PATIENCE_S,
    ) -> None:
        """Bind the address at once, so that one in use is told before the node does anything else, and start."""
        self._program = program
        self._now = now
        self._socket = bind(join(host, port), bind_patience_s)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._unsent = memoryview(b"")  # the rest of a snapshot that the pipe took only in part
        self._start()

    @property
    def pid(self) -> int | None:
        """The process's ID, None while there is none."""
        return self._process.pid if self._process else None

    def publish(self, snapshot: dict[str, Any]) -> bool:
        """Hand over a snapshot; return whether it was taken. Neither blocks nor raises."""
        if not self._alive() or not self._flush():
            return False
        try:
            packed = msgpack.packb(snapshot)
        except (TypeError, ValueError, OverflowError) as error:
            log.warning("a snapshot could not be packed, so HTTP shows an older one", error=str(error))
            return False
        self._unsent = memoryview(LENGTH.pack(len(packed)) + packed)
        self._flush()
        return True

    def close(self) -> None:
        """End the process and free the address."""
        if self._process:
            self._end(self._process)
            self._process = None
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _alive(self) -> bool:
        """Whether there is a process to write to; one that died is started again, if that is due."""
        if self._process and (code := self._process.poll()) is not None:
            log.warning("the admin process ended, HTTP is not answered until it is back", exit_code=code)
            self._end(self._process)
            self._process = None
        if self._process is None and self._now() - self._started_at >= RESTART_INTERVAL_S:
            self._start()
        return self._process is not None

    def _start(self) -> None:
        self._started_at = self._now()
        self._unsent = memoryview(b"")
        listening = self._socket.fileno()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*self._program, str(listening)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listening],
                bufsize=0,
            )
        except OSError as error:
            log.warning("the admin process could not be started", error=str(error))
            return
        assert self._process.stdin is not None
        pipe = self._process.stdin.fileno()
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_NONBLOCK)
        with suppress(OSError):  # past a user's share of pipe memory it stays at its 64 KiB, and takes more turns
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def _flush(self) -> bool:
        """Write what is unsent; return whether all of it went out."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            while self._unsent:
                written = self._process.stdin.write(self._unsent)
                if not written:  # None: the pipe is full
                    return False
                self._unsent = self._unsent[written:]
        except OSError:  # it died just now, which the next `publish` notices
            return False
        return True

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
