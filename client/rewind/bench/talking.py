"""The client process's side of its conversation: lines in on standard input, lines out on standard output.

The process ends when its standard input does: so when whoever started it is gone, however that went. What goes wrong is
told in one line, and nothing more is done.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from rewind.bench.tasks import Outcome
from rewind.errors import RewindError

END_PATIENCE_S = 3.0  # for closing a store; whoever started this waits a little longer
EXIT_HELD_UP = 1
Lines = asyncio.Queue[str]


def first_line() -> str:
    """Return the line that says what this process is for, before there is an event loop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started this, who then ends it
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)  # whoever started this has gone already
    return line


async def serve(work: Callable[[Lines], Awaitable[None]]) -> None:
    """Work on lines until there are no more."""
    lines: Lines = asyncio.Queue()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    # A thread of its own, which waits almost always: work that blocks must not outlive whoever wanted it.
    threading.Thread(target=_listen, args=(loop, lines, ended), name="standard input", daemon=True).start()
    working = asyncio.ensure_future(_guarded(work, lines))
    await ended.wait()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


def _listen(loop: asyncio.AbstractEventLoop, lines: Lines, ended: asyncio.Event) -> None:
    for line in sys.stdin:
        loop.call_soon_threadsafe(lines.put_nowait, line)
    loop.call_soon_threadsafe(ended.set)
    time.sleep(END_PATIENCE_S)
    os._exit(EXIT_HELD_UP)  # a call that blocks holds the event loop up, and nobody waits for its answer any more


async def _guarded(work: Callable[[Lines], Awaitable[None]], lines: Lines) -> None:
    try:
        await work(lines)
    except (RewindError, OSError) as error:
        _tell({"error": f"{type(error).__name__}: {error}"})


def tell_ready() -> None:
    """Say that the next line may come."""
    _tell({"said": "ready"})


def tell_outcome(outcome: Outcome) -> None:
    """Tell a task's outcome."""
    _tell({"outcome": asdict(outcome)})


def _tell(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
