"""What a leader gathers in one turn for the entry of one context."""

from typing import Any

from rewind_cluster.records import Record
from rewind_node.overlay import Pending, Waiters


class Draft:
    """The entry of one context that this turn's appends are gathered in."""

    __slots__ = ("body_bytes", "context", "event_count", "first_position", "records", "waiters")

    def __init__(self, context: int, first_position: int) -> None:
        self.context = context
        self.first_position = first_position
        self.waiters = Waiters()
        self.records: list[bytes] = []
        self.event_count = 0
        self.body_bytes = 0

    def add(self, record: bytes, count: int, kind: int, payload: tuple[Any, ...], pending: Pending) -> None:
        """Put a record of `count` events at the end. Applying the entry will not have to read it again."""
        self.records.append(record)
        self.waiters.records.append(Record(self.body_bytes, len(record), kind, payload, b""))
        self.waiters.pending.append(pending)
        self.event_count += count
        self.body_bytes += len(record)
