"""How the command shows results, to people and as JSON."""

import json
from contextlib import suppress
from datetime import UTC
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from rewind.events import Event
from rewind.lines import data_fields

UNFOLDED_CHARS = 10_000  # wider than any line


def result_console() -> Console:
    """Return where tables and lines of results go: into a file or a pipe each line whole, for somebody searches it."""
    console = Console()
    if not console.is_terminal:
        console.width = UNFOLDED_CHARS
    return console


def result_table(*, plain: bool) -> Table:
    """Return a table without columns yet. `plain`: for a file or a pipe."""
    return Table(box=None if plain else box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))


def event_fields(event: Event) -> dict[str, Any]:
    """Return an event as JSON has it: `data_text` spares people the decoding of text that is no compact JSON."""
    return {
        "stream": event.stream,
        "version": event.version,
        "type": event.type,
        **_data_fields(event.data),
        "id": str(event.id),
        "metadata": event.metadata,
        "timestamp": str(event.timestamp),
        "time": iso(event),
        "position": event.position,
        "partition": event.partition,
    }


def _data_fields(data: bytes) -> dict[str, Any]:
    fields = data_fields(data)
    if "data_base64" in fields:
        with suppress(UnicodeDecodeError):
            fields["data_text"] = data.decode()
    return fields


def iso(what: Any) -> str:
    """Return the time of an event or a result in ISO, in UTC."""
    text: str = what.time.astimezone(UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def shown(data: bytes) -> str:
    """Return data for people."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"<{len(data)} bytes>"
    return text if text.isprintable() else repr(text)


def notes(event: Event) -> str:
    """Return metadata for people, where there is any."""
    metadata = event.metadata
    return f"  {json.dumps(metadata, ensure_ascii=False)}" if metadata else ""
