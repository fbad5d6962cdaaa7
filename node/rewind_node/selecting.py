"""What a reader wants of a context's events: all, those of some types, those of streams whose names begin alike.

A run of which everything is wanted is sent as it is stored. Of others the columns are cut; `data` is never looked into,
and a run in which nothing is wanted is not even unpacked beyond its types.
"""

from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from rewind_cluster.columns import ID_BYTES, Events, pack_events, size_of, unpack_events, unpack_types
from rewind_cluster.errors import DamagedError, TooLargeError
from rewind_cluster.names import TYPES_MAX, check_stream_name, check_type_name
from rewind_cluster.ranges import EventRow, pack_row
from rewind_cluster.records import Run


@dataclass(slots=True)
class LoggedRun:
    """A run as it stands in the log: its first event's position and timestamp, and its events, packed."""

    position: int
    timestamp: int
    run: Run
    events: bytes
    _whole: bytes | None = None

    @property
    def last_position(self) -> int:
        """The position of its last event."""
        return self.position + self.run.event_count - 1

    @property
    def whole(self) -> bytes:
        """The row of all its events, packed; made once, however many readers want it."""
        if self._whole is None:
            run = self.run
            self._whole = pack_row(
                EventRow(self.position, self.timestamp, None, run.streams, run.first_versions, run.counts, self.events)
            )
        return self._whole


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter. `types` None and `prefix` "" take all; with both, an event must pass both."""

    types: frozenset[str] | None = None
    prefix: str = ""

    @classmethod
    def check(cls, types: list[Any] | None, prefix: str) -> "Selection":
        """Return what a client asks for, or raise `InvalidArgumentError` or `TooLargeError`."""
        if prefix:
            check_stream_name(prefix)
        if types is not None and len(types) > TYPES_MAX:
            raise TooLargeError(f"a filter of {len(types)} types is over the limit of {TYPES_MAX}")
        return cls(None if types is None else frozenset(map(check_type_name, types)), prefix)

    def pick(self, logged: LoggedRun, first: int, last: int) -> tuple[int, bytes] | None:
        """Return what is wanted of a run within positions `first` to `last`: how many events, and their row, packed."""
        count = size_of(logged.run.counts, len(logged.run.streams))
        within = range(max(0, first - logged.position), min(count, last - logged.position + 1))
        offsets = self._offsets(logged, count, within)
        if not offsets:
            return None
        if len(offsets) == count:
            return count, logged.whole
        return len(offsets), pack_row(_cut(logged, count, offsets))

    def _offsets(self, logged: LoggedRun, count: int, within: range) -> list[int] | range:
        offsets: list[int] | range = within
        if self.prefix:
            prefix = self.prefix
            wanted = [stream.startswith(prefix) for stream in logged.run.streams]
            if not any(wanted):
                return []
            if not all(wanted):
                by_event = _spread(wanted, logged.run)
                offsets = [offset for offset in within if by_event[offset]]
        if self.types is not None and offsets:
            types, wanted_types = unpack_types(logged.events, count), self.types
            offsets = [offset for offset in offsets if types[offset] in wanted_types]
        return offsets


def _spread(values: list[Any], run: Run) -> list[Any]:
    """Return a value of each part as one of each event."""
    if run.counts is None:
        return values
    return list(chain.from_iterable(map(repeat, values, run.counts)))


def _cut(logged: LoggedRun, count: int, offsets: list[int] | range) -> EventRow:
    """Return the row of some of a run's events."""
    run = logged.run
    ids, types, datas, metadatas = unpack_events(logged.events)
    if len(types) != count:
        raise DamagedError(f"a run of {count} events holds {len(types)}")
    streams = _spread(list(run.streams), run)
    versions = run.first_versions
    if run.counts is not None:
        pairs = zip(run.first_versions, run.counts, strict=True)
        versions = [first + ahead for first, length in pairs for ahead in range(length)]
    events = Events(
        b"".join([ids[offset * ID_BYTES : (offset + 1) * ID_BYTES] for offset in offsets]),
        [types[offset] for offset in offsets],
        [datas[offset] for offset in offsets],
        None if metadatas is None else [metadatas[offset] for offset in offsets],
    )
    return EventRow(
        logged.position,
        logged.timestamp,
        list(offsets),
        [streams[offset] for offset in offsets],
        [versions[offset] for offset in offsets],
        None,
        pack_events(events),
    )
