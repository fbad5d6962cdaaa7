"""Rows of events by position, checked when they arrive and made into events when they are consumed.

What arrives must be exactly what was asked for: within its range, in order, without a hole where nothing was filtered,
and nothing that the filter should have taken out. Whoever asked may then say that the whole range was seen.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat, starmap

from rewind.events import Event
from rewind_cluster.columns import ID_BYTES, Events, unpack_events
from rewind_cluster.errors import ProtocolError
from rewind_cluster.ranges import EventRow, unpack_rows
from rewind_cluster.wire import Frame


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are wanted: of these types (None: all), in streams whose names begin with `prefix`."""

    types: tuple[str, ...] | None = None
    prefix: str = ""

    @property
    def takes_all(self) -> bool:
        """Whether every event is wanted."""
        return self.types is None and not self.prefix

    def wire_types(self) -> list[str] | None:
        """Return the types as messages have them."""
        return None if self.types is None else list(self.types)

    def check(self, row: EventRow, events: Events) -> None:
        """Raise `ProtocolError` if a row holds what is not wanted."""
        if self.types is not None and not set(self.types).issuperset(events.types):
            raise ProtocolError("a row holds an event of a type that was not asked for")
        if self.prefix and not all(stream.startswith(self.prefix) for stream in row.streams):
            raise ProtocolError(f"a row holds an event of a stream whose name does not begin with {self.prefix!r}")


@dataclass(frozen=True, slots=True)
class Rows:
    """The events of one range, in ascending order, or in descending order if `reverse`."""

    partition: int
    rows: Sequence[tuple[EventRow, Events]]
    count: int
    reverse: bool = False

    def events(self) -> Iterator[Event]:
        """Return the events in order."""
        pieces = starmap(self._make, self.rows)
        return chain.from_iterable(map(reversed, map(list, pieces)) if self.reverse else pieces)

    def _make(self, row: EventRow, events: Events) -> Iterator[Event]:
        # Zipped and mapped by the interpreter itself, for readers want events by the hundred thousand a second.
        positions, timestamps, streams, versions = row.by_event()
        packed_ids, types, datas, metadatas = events
        ids = [packed_ids[start : start + ID_BYTES] for start in range(0, len(packed_ids), ID_BYTES)]
        partitions: Iterable[int] = repeat(self.partition, len(ids))
        columns = (streams, versions, types, datas, timestamps, positions, partitions, ids)
        return map(Event._make, zip(*columns, metadatas or repeat(None, len(ids)), strict=True))


def take_rows(
    partition: int, frames: Sequence[Frame], after: int, through: int, wanted: Filter, *, reverse: bool = False
) -> Rows:
    """Return the rows of a range, or raise `ProtocolError`, or `DamagedError` for events that cannot be read."""
    low, high = sorted((after, through))
    rows = unpack_rows(frames[0], low + 1, high) if frames else []
    last = low
    for row in reversed(rows) if reverse else rows:
        lowest = row.position + (row.offsets[0] if row.offsets else 0)
        if lowest <= last:
            raise ProtocolError(f"a row begins with position {lowest}, which is not beyond {last}")
        last = row.position + (row.offsets[-1] if row.offsets else row.event_count - 1)
    count = sum(row.event_count for row in rows)
    if wanted.takes_all and count != high - low:
        raise ProtocolError(f"{count} events came for the {high - low} positions after {low}")
    return Rows(partition, [(row, _unpack(row, wanted)) for row in rows], count, reverse)


def _unpack(row: EventRow, wanted: Filter) -> Events:
    events = unpack_events(row.events)
    if events.event_count != row.event_count:
        raise ProtocolError(f"a row of {row.event_count} events holds {events.event_count}")
    wanted.check(row, events)
    return events
