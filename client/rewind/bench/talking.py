"""The client process's side of its conversation: lines in on standard input, lines out on standard output.

The process ends when its standard input does: so when whoever started it is gone, however that went. What goes wrong is
told in one line, and nothing more is done.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from rewind.bench.tasks import Outcome
from rewind.errors import RewindError

LINE_BYTES_MAX = 1 << 20  # of what it is told: a few hundred in fact
Lines = asyncio.Queue[str]


def first_line() -> str:
    """Return the line that says what this process is for, before there is an event loop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started this, who then ends it
    return sys.stdin.readline()


async def serve(work: Callable[[Lines], Awaitable[None]]) -> None:
    """Work on lines until there are no more."""
    lines: Lines = asyncio.Queue()
    working = asyncio.ensure_future(_guarded(work, lines))
    async for line in await _standard_input():
        await lines.put(line.decode())
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def _guarded(work: Callable[[Lines], Awaitable[None]], lines: Lines) -> None:
    try:
        await work(lines)
    except (RewindError, OSError) as error:
        _tell({"error": f"{type(error).__name__}: {error}"})


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    # A copy: closing the transport closes its file, and Python wants to close its standard input itself.
    pipe = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


def tell_ready() -> None:
    """Say that the next line may come."""
    _tell({"said": "ready"})


def tell_outcome(outcome: Outcome) -> None:
    """Tell a task's outcome."""
    _tell({"outcome": asdict(outcome)})


def _tell(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
