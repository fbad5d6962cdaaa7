"""One `rewind-node run` with any flags: whether it ends, how, and what it says."""

import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from rewind_node.local_cluster import HOST, PROGRAM, LocalNode, complaint_of
from rewind_node.parent_death import dying_with_this_process

PATIENCE_S = 30.0
POLL_S = 0.02


def flags_of(base: int, directory: Path, name: str = "n1", **more: str) -> list[str]:
    """Return flags of a node at `base`, alone in its cluster unless `seeds` says otherwise."""
    flags = {
        "name": name,
        "data-dir": str(directory),
        "seeds": f"{HOST}:{base + 1}",
        "listen": f"{HOST}:{base}",
        "peer-listen": f"{HOST}:{base + 1}",
        "http-listen": f"{HOST}:{base + 2}",
        "partitions": "1",
    } | {key.replace("_", "-"): value for key, value in more.items()}
    return [word for key, value in flags.items() for word in (f"--{key}", value)]


class RealProgram:
    """The program while it runs and after it ended."""

    def __init__(self, flags: Sequence[str], log_file: Path) -> None:
        self.log_file = log_file
        self._flags = flags
        with log_file.open("wb") as log:
            self._process = subprocess.Popen(
                dying_with_this_process([*PROGRAM, "run", *flags]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def wait(self) -> int:
        """Wait until it ends and return its exit code."""
        return self._process.wait(PATIENCE_S)

    def terminate(self) -> int:
        """Stop it in good order and return its exit code."""
        self._process.terminate()
        return self.wait()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    @property
    def said(self) -> str:
        """All that it has said on standard error."""
        return self.log_file.read_text(errors="replace")

    @property
    def farewell(self) -> list[str]:
        """The lines that are meant for whoever started it, not log lines."""
        return [line for line in self.said.splitlines() if line.startswith("rewind-node:")]

    @property
    def complaint(self) -> str | None:
        """Why it is not ready, None if it is."""
        address = self._flags[list(self._flags).index("--http-listen") + 1]
        return complaint_of(LocalNode("", int(address.rpartition(":")[2]) - 2, Path(), self._process))

    def wait_until(self, words: str | None) -> None:
        """Wait until its complaint contains these words; None: until it has none."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            complaint = self.complaint
            if complaint is None if words is None else words in (complaint or ""):
                return
            assert self._process.poll() is None, f"it ended: {self.said}"
            assert time.monotonic() < give_up, f"it is {complaint or 'ready'!r}, not {words or 'ready'!r}"
            time.sleep(POLL_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
