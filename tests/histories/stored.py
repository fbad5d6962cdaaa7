"""The final log of a partition as the order of its writes.

Each append that was stored, whole with all its parts, has a place: 1, 2, 3, … in log order. A moment in the partition's
life is the number of places filled by then. Everything that clients saw is turned into bounds of that number.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from histories.history import SeenEvent
from histories.logs import StoredAppend, StoredEntry
from histories.violations import Kind, Violation

Space = tuple[int, str]  # context and stream
Shape = tuple[tuple[str, tuple[str, ...]], ...]  # of an append: each part's stream and event IDs


@dataclass(slots=True)
class Group:
    """One append as it is stored: its parts stand in one entry, one after the other."""

    place: int
    context: int
    entry: int
    parts: tuple[StoredAppend, ...]

    @property
    def shape(self) -> Shape:
        """What tells which append it was."""
        return tuple((part.stream, part.ids) for part in self.parts)


@dataclass(slots=True)
class StreamLog:
    """A stream's events by version, from 1, and the place of each. A `broken` one has a hole or an overlap."""

    events: list[SeenEvent] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    broken: bool = False

    @property
    def head(self) -> int:
        """The version of the last event."""
        return len(self.events)

    def place_of(self, version: int) -> int:
        """Return the place that made a version, 0 for version 0."""
        return self.places[version - 1] if version else 0

    def most_before(self, version: int, end: int) -> int:
        """Return at how many places at most a version is not there yet. `end`: at how many there are."""
        return self.places[version - 1] - 1 if version <= len(self.places) else end


NO_STREAM = StreamLog()
CountParts = Callable[[int, Sequence[StoredAppend], int], int]


class Stored:
    """The final log, indexed. `count_parts(context, appends, start)` says how many of an entry's belong together."""

    def __init__(self, partition: int, entries: Sequence[StoredEntry], count_parts: CountParts) -> None:
        self.partition = partition
        self.groups: list[Group] = []
        self.streams: dict[Space, StreamLog] = {}
        self.positions: dict[int, list[int]] = {}  # by context, the place of each position from 1 on
        self.violations: list[Violation] = []
        self.holed: set[int] = set()  # contexts whose positions have a hole
        self._timestamps: dict[int, int] = {}  # by context, the newest
        self._next_positions: dict[int, int] = {}
        for entry in entries:
            for group in self._groups(entry, count_parts):
                self.groups.append(group)
                for part in group.parts:
                    self._add(group, part)

    @property
    def end(self) -> int:
        """How many places there are."""
        return len(self.groups)

    def stream(self, context: int, stream: str) -> StreamLog:
        """Return one stream."""
        return self.streams.get((context, stream), NO_STREAM)

    def holds_event(self, context: int, event_id: str) -> bool:
        """Return whether an event stands anywhere in a context."""
        return any(event_id in part.ids for group in self.groups if group.context == context for part in group.parts)

    def _groups(self, entry: StoredEntry, count_parts: CountParts) -> Iterator[Group]:
        start = 0
        while start < len(entry.appends):
            stop = start + count_parts(entry.context, entry.appends, start)
            yield Group(len(self.groups) + 1, entry.context, entry.index, entry.appends[start:stop])
            start = stop

    def _add(self, group: Group, part: StoredAppend) -> None:
        stream = self.streams.setdefault((group.context, part.stream), StreamLog())
        positions = self.positions.setdefault(group.context, [])
        count = len(part.ids)
        self._check(group, part, stream)
        positions.extend([group.place] * (part.first_position + count - 1 - len(positions)))  # a hole is filled
        stream.places.extend([group.place] * count)
        digests = part.digests or ("",) * count
        numbers = range(count)
        versions = range(part.first_version, part.first_version + count)
        stamps = [part.first_timestamp + number for number in numbers] if part.first_timestamp else [0] * count
        places = range(part.first_position, part.first_position + count)
        stream.events.extend(map(SeenEvent, versions, places, stamps, part.ids, digests))

    def _check(self, group: Group, part: StoredAppend, stream: StreamLog) -> None:
        where = f"partition {self.partition}, entry {group.entry}, context {group.context}"
        if part.first_version != stream.head + 1 and not stream.broken:
            stream.broken = True
            text = f"stream {part.stream!r} goes on at version {part.first_version} after {stream.head}"
            self.violations.append(Violation(Kind.VERSION_HOLE, f"{where}: {text}"))
        position = self._next_positions.get(group.context, 1)
        self._next_positions[group.context] = part.first_position + len(part.ids)
        if part.first_position != position:
            self.holed.add(group.context)
            text = f"stream {part.stream!r} takes position {part.first_position} where {position} is next"
            self.violations.append(Violation(Kind.POSITION_HOLE, f"{where}: {text}"))
        latest = self._timestamps.get(group.context, 0)
        if part.first_timestamp:
            if part.first_timestamp <= latest:
                text = f"position {part.first_position} has timestamp {part.first_timestamp}, the one before {latest}"
                self.violations.append(Violation(Kind.TIMESTAMP_ORDER, f"{where}: {text}"))
            self._timestamps[group.context] = part.first_timestamp + len(part.ids) - 1
