"""How the command shows events, to people and as JSON."""

import json
from datetime import UTC
from typing import Any

from rewind.events import Event
from rewind.lines import data_fields


def event_fields(event: Event) -> dict[str, Any]:
    """Return an event as JSON has it."""
    return {
        "stream": event.stream,
        "version": event.version,
        "type": event.type,
        **data_fields(event.data),
        "id": str(event.id),
        "metadata": event.metadata,
        "timestamp": str(event.timestamp),
        "time": iso(event),
        "position": event.position,
        "partition": event.partition,
    }


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
