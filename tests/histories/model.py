"""Correct histories out of thin air, with everything that clients do and are told: what the checker is tried on.

One operation takes effect after the other at a moment between its beginning and its end, on streams that are plain
lists. What is stored follows from that, and so does every answer.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random

from histories.history import (
    ANY,
    AppendDone,
    EventContent,
    History,
    Mark,
    Outcome,
    Part,
    Place,
    ReadDone,
    Refusal,
    ScanDone,
    ScannedEvent,
    SeenEvent,
)
from histories.logs import StoredAppend, StoredEntry, StoredLog
from histories.stored import Space

REPLICAS = 3
CLIENTS = 8
CONTEXTS = (1, 1, 1, 2)
ENTRY_APPENDS_MAX = 4
DELAY_US = 2_000  # of a request or an answer, at most; an operation begins every `STEP_US`
STEP_US = 300
TYPES = ("Happened", "Noted", "Counted")
FILTERS = (
    (None, ""),
    (None, ""),
    (TYPES[:1], ""),
    (TYPES[1:], ""),
    (("Never",), ""),
    (TYPES[:2], "p0"),
    (None, "p1-s1"),
)
SCANNED_MAX = 60


def type_of(event_id: str) -> str:
    """Return an event's type: in a model the ID says it."""
    return TYPES[int(event_id, 16) % len(TYPES)]


@dataclass(slots=True)
class _Partition:
    number: int
    streams: dict[Space, list[SeenEvent]] = field(default_factory=lambda: defaultdict(list))
    boundaries: dict[Space, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0]))
    positions: Counter[int] = field(default_factory=Counter)
    contexts: dict[int, list[ScannedEvent]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[int, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0]))  # positions, of appends
    entries: list[StoredEntry] = field(default_factory=list)
    draft: list[StoredAppend] = field(default_factory=list)
    context: int = 0
    timestamp: int = 1 << 40
    sequence: int = 0

    def write(self, context: int, parts: tuple[Part, ...]) -> tuple[Place, ...]:
        """Store an append and return its places."""
        if context != self.context or len(self.draft) >= ENTRY_APPENDS_MAX:
            self.close()
            self.context = context
        self.sequence += 1
        places = tuple([self._write_part(context, part) for part in parts])
        for stream in {part.stream: None for part in parts}:
            self.boundaries[context, stream].append(len(self.streams[context, stream]))
        self.ends[context].append(self.positions[context])
        return places

    def _write_part(self, context: int, part: Part) -> Place:
        space = context, part.stream
        stream = self.streams[space]
        first = SeenEvent(len(stream) + 1, self.positions[context] + 1, self.timestamp + 1, "", "")
        for ahead, event in enumerate(part.events):
            stream.append(SeenEvent(first[0] + ahead, first[1] + ahead, first[2] + ahead, *event))
            self.contexts[context].append(ScannedEvent(part.stream, *stream[-1]))
        count = len(part.events)
        self.positions[context] += count
        self.timestamp += count
        ids, digests = (tuple(column) for column in zip(*part.events, strict=True))
        types = tuple(map(type_of, ids))
        self.draft.append(StoredAppend(part.stream, *first[:3], ids, digests, 1, self.sequence, types))
        return Place(*stream[-1][:3])

    def close(self) -> None:
        """End the entry that is being gathered."""
        if self.draft:
            index = len(self.entries) + 1
            self.entries.append(StoredEntry(index, 1 + index // 50, f"e{index}", self.context, tuple(self.draft)))
            self.draft = []

    def logs(self) -> list[StoredLog]:
        """Return the replicas: the second has not heard of the last commit, the third has a tail of its own."""
        self.close()
        end = len(self.entries)
        logs = [StoredLog(f"n{number}", self.number, end, list(self.entries)) for number in range(1, REPLICAS + 1)]
        if end:
            logs[1].committed = logs[2].committed = end - 1
            logs[2].entries[-1:] = [StoredEntry(end, self.entries[-1].term, "a tail of its own")]
        return logs


@dataclass(frozen=True, slots=True)
class _Slot:
    """When and by whom an operation is made."""

    client: int
    number: int
    context: int
    partition: int
    begun_us: int
    ended_us: int


class Model:
    """A cluster that keeps its promises. `run` once, then read `history` and `logs`."""

    def __init__(self, random: Random, partitions: int = 2, streams: int = 5) -> None:
        self.history = History()
        self._random = random
        self._partitions = [_Partition(number) for number in range(1, partitions + 1)]
        self._streams = streams
        self._events = 0

    @property
    def logs(self) -> list[StoredLog]:
        """All replicas of all partitions."""
        return [log for partition in self._partitions for log in partition.logs()]

    def run(self, operations: int) -> None:
        """Make so many operations, at least."""
        random = self._random
        slots: list[tuple[int, _Slot]] = []
        latest: Counter[int] = Counter()  # what a client has submitted takes effect in that order
        for number in range(1, operations + 1):
            client = random.randrange(CLIENTS)
            begun_us = number * STEP_US
            effect_us = latest[client] = max(begun_us, latest[client]) + random.randrange(1, DELAY_US)
            ended_us = effect_us + random.randrange(1, DELAY_US)
            partition = random.randrange(len(self._partitions))
            slots.append((effect_us, _Slot(client, number, random.choice(CONTEXTS), partition, begun_us, ended_us)))
        for _, slot in sorted(slots, key=lambda pair: pair[0]):
            makers = (self._append, self._read, self._version, self._again, self._read_all, self._subscribe)
            make = random.choices(makers, (50, 35, 12, 3, 2, 2))[0]
            make(slot)

    # Appends.

    def _event(self) -> EventContent:
        self._events += 1
        return EventContent(f"{self._events:032x}", f"{self._random.getrandbits(64):016x}")

    def _parts(self, slot: _Slot) -> tuple[Part, ...]:
        random = self._random
        partition = self._partitions[slot.partition]
        parts: list[Part] = []
        heads: Counter[str] = Counter()
        for _ in range(random.choice((1, 1, 1, 1, 2, 3))):
            stream = self._stream(slot)
            head = len(partition.streams[slot.context, stream]) + heads[stream]
            events = tuple(self._event() for _ in range(random.choice((1, 1, 1, 2, 5))))
            parts.append(Part(stream, random.choice((ANY, head)), events))
            heads[stream] += len(events)
        return tuple(parts)

    def _stream(self, slot: _Slot) -> str:
        return f"p{slot.partition}-s{self._random.randrange(self._streams)}"

    def _append(self, slot: _Slot) -> None:
        outcome = self._random.choices(("ok", "refused", "failed", "lost", "written"), (80, 8, 4, 4, 4))[0]
        parts = self._parts(slot)
        if outcome == "refused":
            self._refuse(slot, parts)
        elif outcome == "failed":
            self._told(slot, parts, Outcome.FAILED)
        elif outcome == "lost":
            self._told(slot, parts, Outcome.UNKNOWN)
        else:
            places = self._partitions[slot.partition].write(slot.context, parts)
            if outcome == "ok":
                self._told(slot, parts, Outcome.OK, places)
            else:
                self._told(slot, parts, Outcome.UNKNOWN)

    def _refuse(self, slot: _Slot, parts: tuple[Part, ...]) -> None:
        stream = self._partitions[slot.partition].streams[slot.context, parts[0].stream]
        expected = self._random.choice([other for other in range(len(stream) + 3) if other != len(stream)])
        refusal = Refusal(parts[0].stream, expected, len(stream))
        self._told(slot, (parts[0]._replace(expected=expected), *parts[1:]), Outcome.REFUSED, refusal=refusal)

    def _again(self, slot: _Slot) -> None:
        """Append once more what somebody appended with a version for each part, and whose outcome is unknown."""
        unknown = [
            append
            for append in self.history.appends[-200:]
            if append.outcome is Outcome.UNKNOWN and all(part.expected != ANY for part in append.parts)
        ]
        if not unknown:
            return
        first = self._random.choice(unknown)
        partition = self._partitions[first.partition - 1]
        slot = _Slot(slot.client, slot.number, first.context, first.partition - 1, slot.begun_us, slot.ended_us)
        streams = [partition.streams[first.context, part.stream] for part in first.parts]
        logged = [
            stream[part.expected :][: len(part.events)] for stream, part in zip(streams, first.parts, strict=True)
        ]
        wanted = [list(part.events) for part in first.parts]
        if [[EventContent(*event[3:]) for event in events] for events in logged] == wanted:
            self._told(slot, first.parts, Outcome.OK, tuple(Place(*events[-1][:3]) for events in logged))
            return
        heads = Counter({part.stream: len(stream) for stream, part in zip(streams, first.parts, strict=True)})
        for part in first.parts:
            if part.expected != heads[part.stream]:
                refusal = Refusal(part.stream, part.expected, heads[part.stream])
                self._told(slot, first.parts, Outcome.REFUSED, refusal=refusal)
                return
            heads[part.stream] += len(part.events)
        self._told(slot, first.parts, Outcome.OK, partition.write(first.context, first.parts))

    def _told(
        self,
        slot: _Slot,
        parts: tuple[Part, ...],
        outcome: Outcome,
        places: tuple[Place, ...] = (),
        refusal: Refusal | None = None,
    ) -> None:
        ended_us = None if outcome is Outcome.UNKNOWN and self._random.random() < 0.5 else slot.ended_us
        who = slot.client, slot.number, slot.context, slot.partition + 1, slot.begun_us
        self.history.add(AppendDone(*who, ended_us, parts, outcome, places, refusal))

    # Reads.

    def _seen(self, slot: _Slot, stream: str) -> tuple[bool, int, int, int]:
        """Return whether a read is fresh, the version it sees as the last, what it waits for and what it names."""
        partition = self._partitions[slot.partition]
        space = slot.context, stream
        fresh = self._random.random() < 0.7
        head = len(partition.streams[space])
        if not fresh:
            head = self._random.choice(partition.boundaries[space][-5:])
        position = partition.streams[space][head - 1].position if head else 0
        seen = partition.positions[slot.context] if fresh else position
        return fresh, head, self._random.choice((0, position)), self._random.choice((0, seen))

    def _read(self, slot: _Slot) -> None:
        random = self._random
        stream = self._stream(slot)
        fresh, head, at_least, seen = self._seen(slot, stream)
        after = max(0, random.choice((0, head - 3, head - 20, head + 1)))
        limit = random.choice((None, None, 1, 5))
        reverse = random.random() < 0.3
        events = self._partitions[slot.partition].streams[slot.context, stream][after:head]
        events = (events[::-1] if reverse else events)[: min(60, limit or 60)]
        if len(events) == 60:
            limit = 60
        asked = (stream, after, limit, reverse, fresh, at_least, seen)
        self._asked(slot, *asked, tuple(events))

    def _version(self, slot: _Slot) -> None:
        stream = self._stream(slot)
        fresh, head, at_least, seen = self._seen(slot, stream)
        self._asked(slot, stream, 0, None, False, fresh, at_least, seen, (), head)

    def _asked(self, slot: _Slot, stream: str, *asked: object) -> None:
        who = slot.client, slot.number, slot.context, slot.partition + 1, slot.begun_us, slot.ended_us
        self.history.add(ReadDone(*who, stream, *asked))  # type: ignore[arg-type]

    # Subscriptions and `read_all`.

    def _read_all(self, slot: _Slot) -> None:
        random, partition = self._random, self._partitions[slot.partition]
        fresh, reverse = random.random() < 0.7, random.random() < 0.3
        newest = partition.positions[slot.context] if fresh else random.choice(partition.ends[slot.context][-5:])
        after = random.randint(max(0, newest - SCANNED_MAX), newest)
        types, prefix = random.choice(FILTERS)
        limit = random.choice((None, None, 1, 5))
        matching = matches(partition.contexts[slot.context][after:newest], types, prefix)
        events = (matching[::-1] if reverse else matching)[:limit]
        whole = limit is None or len(events) < limit
        through = newest if whole else events[-1].position
        marks = () if reverse else (Mark(slot.ended_us, len(events), through),)
        told = newest if whole or reverse else None
        asked = (told, types, prefix, limit, reverse, fresh, random.choice((0, newest)), whole)
        self._scanned(slot, after, events, marks, *asked)

    def _subscribe(self, slot: _Slot) -> None:
        """See some of the past; NOW shows nothing of it."""
        random, partition = self._random, self._partitions[slot.partition]
        head = partition.positions[slot.context]
        is_now = random.random() < 0.3
        after = head if is_now else random.randint(max(0, head - SCANNED_MAX), head)
        types, prefix = random.choice(FILTERS)
        through = sorted(random.randint(after, head) for _ in range(random.randint(0, 4)))
        log = partition.contexts[slot.context]
        marks = [Mark(slot.ended_us, len(matches(log[after:each], types, prefix)), each) for each in through]
        events = matches(log[after : through[-1]], types, prefix) if through else []
        self._scanned(slot, after, events, tuple(marks), after if is_now else None, types, prefix)

    def _scanned(self, slot: _Slot, after: int, events: list[ScannedEvent], *told: object) -> None:
        who = slot.client, slot.number, slot.context, slot.partition + 1, slot.begun_us, slot.ended_us
        self.history.add(ScanDone(*who, after, tuple(events), *told))  # type: ignore[arg-type]


def matches(events: list[ScannedEvent], types: tuple[str, ...] | None, prefix: str) -> list[ScannedEvent]:
    """Return the events that match a filter."""
    return [
        event for event in events if event.stream.startswith(prefix) and (types is None or type_of(event.id) in types)
    ]
