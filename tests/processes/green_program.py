"""A program under gevent that appends while others of its greenlets go on; the test talks to it line by line."""

import sys
from pathlib import Path

import gevent
import gevent.monkey

gevent.monkey.patch_all()
sys.path.insert(0, str(Path(__file__).parents[1] / "load"))

from rewind_user import close_stores, shared_store  # noqa: E402 - gevent comes first

from rewind import NewEvent  # noqa: E402 - the same

TICKS = 10
TICK_S = 0.02


def main() -> None:
    """Append once; when told to, begin another append, and tick until it is answered."""
    store = shared_store(sys.argv[1])
    store.append("green", NewEvent("Happened", b""))
    say("ready")
    sys.stdin.readline()
    append = gevent.spawn(store.append, "green", NewEvent("Happened", b""))
    for _ in range(TICKS):
        gevent.sleep(TICK_S)
    say("pending" if not append.ready() else "answered")
    say(f"version {append.get().version}")
    close_stores()


def say(line: str) -> None:
    """Tell the test."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
