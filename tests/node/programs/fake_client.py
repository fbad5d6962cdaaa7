"""Stands in for `rewind --servers … --json import|export`, with a plain file as the event store.

FAKE_STORE names that file, FAKE_CLIENT what goes wrong: `lose` an event, take one `twice`, `swap` two, or `fail`.
"""

import json
import os
import sys
import time
from pathlib import Path

store = Path(os.environ["FAKE_STORE"])
behaviour = os.environ.get("FAKE_CLIENT", "")
STEPS = 20


def say(**message: object) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201 - its standard output is the contract


def main() -> None:
    assert sys.argv[1] == "--servers"
    assert sys.argv[3] == "--json"
    command, *arguments = sys.argv[4:]
    if command == "export":
        sys.stdout.write(store.read_text())
        return
    if behaviour == "fail":
        sys.exit("rewind: order-1 holds other events")
    lines = Path(arguments[0]).read_text().splitlines(keepends=True)
    for step in range(STEPS + 1):
        say(kind="progress", events=len(lines) * step // STEPS, total=len(lines))
        time.sleep(0.05)
    kept = {"lose": lines[1:], "twice": [*lines, lines[-1]], "swap": [lines[1], lines[0], *lines[2:]]}
    store.write_text("".join(kept.get(behaviour, lines)))
    say(
        kind="summary",
        events=len(lines),
        streams=1,
        appended=len(lines),
        already_present=0,
        seconds=1.0,
        write_gap_ms=87,
    )


main()
