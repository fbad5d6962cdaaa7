"""The clocks of a node, to be set wrong while it runs: a small library that is preloaded, and the file it reads.

The library is compiled for the run from `clock_shim.c`, which tells the file's layout. Of the monotonic clock only its
speed changes, never what it shows at the moment: it does not jump, and never goes back.
"""

import mmap
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

from chaos.commands import CommandError, run

SOURCE = Path(__file__).with_name("clock_shim.c")
VERSION = struct.Struct("=q")
LAYOUT = struct.Struct("=qqqq")
RIGHT = 1000  # thousandths


class Clock:
    """One node's clocks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._version = 0
        self._wall_ns = 0
        self._speed = RIGHT
        self._anchor_ns = self._shown_ns = time.monotonic_ns()
        path.write_bytes(bytes(VERSION.size + LAYOUT.size))
        with path.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), VERSION.size + LAYOUT.size)
        self._write()

    def _write(self) -> None:
        """Write all of it, with an odd version meanwhile, so that nobody computes with one half of it."""
        self._mapped[: VERSION.size] = VERSION.pack(self._version + 1)
        self._mapped[VERSION.size :] = LAYOUT.pack(self._wall_ns, self._speed, self._anchor_ns, self._shown_ns)
        self._version += 2
        self._mapped[: VERSION.size] = VERSION.pack(self._version)

    def set_wall(self, ahead_s: float) -> None:
        """Let the wall clock be so far ahead of the truth."""
        self._wall_ns = int(ahead_s * 1e9)
        self._write()

    def set_speed(self, thousandths: int) -> None:
        """Let the monotonic clock go at another speed from now on."""
        now_ns = time.monotonic_ns()
        self._shown_ns += (now_ns - self._anchor_ns) * self._speed // RIGHT
        self._anchor_ns, self._speed = now_ns, thousandths
        self._write()

    def environment(self, shim: Path) -> dict[str, str]:
        """Return what a process needs in its environment to have these clocks."""
        return {"LD_PRELOAD": str(shim), "CHAOS_CLOCK": str(self.path)}


def compile_shim(directory: Path) -> Path:
    """Compile the library into a directory and return its path."""
    shim = directory / "clock_shim.so"
    run("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(shim), str(SOURCE))
    return shim


def why_unavailable(directory: Path) -> str:
    """Return why clocks cannot be set wrong on this machine; nothing if they can. Tries it, in a directory."""
    if shutil.which("gcc") is None:
        return "gcc is not installed"
    try:
        clock = Clock(directory / "try.clock")
        clock.set_wall(1e6)
        environment = clock.environment(compile_shim(directory))
    except CommandError as error:
        return str(error)
    asked = [sys.executable, "-I", "-c", "import time; print(time.time())"]
    said = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False).stdout
    ahead_s = float(said or 0) - time.time()
    return "" if ahead_s > 1e6 - 60 else "a preloaded library has no effect on Python's clocks"
