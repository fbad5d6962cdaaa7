"""A correct history to be spoilt: what can be found in it, and what can be changed or added."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from histories.checker import check
from histories.history import (
    AppendDone,
    EventContent,
    History,
    Outcome,
    Part,
    ReadDone,
    ScanDone,
    ScannedEvent,
    SeenEvent,
)
from histories.logs import StoredAppend, StoredEntry, StoredLog
from histories.model import Model, type_of
from histories.stored import Space
from histories.violations import Kind, Violation

OPERATIONS = 400
PARTITION = 1  # all that is spoilt lies there
CLIENT = 99  # none of the model's
LATE_US = 10_000_000  # all that the model does has ended by then
STRANGER = EventContent("f" * 32, "0" * 16)  # none of the model's events


Plant = Callable[["Case"], None]


class Plants:
    """Functions that break a promise each, with the kind of violation that is due."""

    def __init__(self) -> None:
        self.parameters: list[Any] = []

    def breaks(self, kind: Kind) -> Callable[[Plant], Plant]:
        """Take in a function."""

        def register(plant: Plant) -> Plant:
            self.parameters.append(pytest.param(kind, plant, id=plant.__name__))
            return plant

        return register


@dataclass
class Case:
    """One history with the logs of three replicas of each partition."""

    random: Random
    history: History
    logs: list[StoredLog]

    @classmethod
    def draw(cls, seed: int) -> "Case":
        """Return a correct one."""
        random = Random(seed)
        model = Model(random)
        model.run(OPERATIONS)
        return cls(random, model.history, model.logs)

    def check(self, **options: Any) -> list[Violation]:
        """Return what the checker says."""
        return check(self.history, self.logs, **options)

    # Finding.

    @property
    def replicas(self) -> list[StoredLog]:
        """The partition's replicas; the first has all of the log."""
        return [log for log in self.logs if log.partition == PARTITION]

    @property
    def entries(self) -> list[StoredEntry]:
        """The partition's final log, to be changed and handed to `rewrite`."""
        return list(self.replicas[0].entries)

    def streams(self) -> dict[Space, list[StoredAppend]]:
        """Return what is stored of each stream."""
        streams: defaultdict[Space, list[StoredAppend]] = defaultdict(list)
        for entry in self.entries:
            for part in entry.appends:
                streams[entry.context, part.stream].append(part)
        return streams

    def events(self, context: int, stream: str) -> list[SeenEvent]:
        """Return a stream's events as they are read."""
        return [
            SeenEvent(part.first_version + ahead, part.first_position + ahead, part.first_timestamp + ahead, *event)
            for part in self.streams()[context, stream]
            for ahead, event in enumerate(zip(part.ids, part.digests, strict=True))
        ]

    def context_events(self, context: int = 1) -> list[ScannedEvent]:
        """Return a context's events as they are given to consumers."""
        parts = [part for entry in self.entries if entry.context == context for part in entry.appends]
        return [
            ScannedEvent(
                part.stream,
                part.first_version + ahead,
                part.first_position + ahead,
                part.first_timestamp + ahead,
                *event,
            )
            for part in parts
            for ahead, event in enumerate(zip(part.ids, part.digests, strict=True))
        ]

    def outdated(self) -> tuple[int, str, int]:
        """Return a stream that everybody was told is longer than a version, and that version."""
        long = {space: parts for space, parts in self.streams().items() if len(parts) > 2 and space[0] == 1}
        space = min(long, key=lambda space: long[space][-1].first_position)
        return *space, long[space][-1].first_version - 1

    def written(self, parts: int = 1, events_min: int = 1, expected: int | None = None) -> AppendDone:
        """Return an append that was acknowledged."""
        found = [
            append
            for append in self.history.appends
            if append.outcome is Outcome.OK
            and append.partition == PARTITION
            and len({part.stream for part in append.parts}) == len(append.parts) == parts
            and len(append.parts[-1].events) >= events_min
            and expected in (None, append.parts[0].expected)
        ]
        return self.random.choice(found)

    def find(self, append: AppendDone) -> tuple[int, int]:
        """Return in which of `entries` an append stands, and as which of its appends the first part does."""
        for number, entry in enumerate(self.entries):
            for place, part in enumerate(entry.appends):
                if part.ids == tuple(event.id for event in append.parts[0].events):
                    return number, place
        raise AssertionError(f"{append} is not stored")

    # Spoiling.

    def change(self, operation: AppendDone | ReadDone, **fields: Any) -> None:
        """Record an operation otherwise."""
        if isinstance(operation, AppendDone):
            self.history.appends[self.history.appends.index(operation)] = replace(operation, **fields)
        else:
            self.history.reads[self.history.reads.index(operation)] = replace(operation, **fields)

    def add_read(self, context: int, stream: str, **fields: Any) -> None:
        """Read after all else."""
        self.history.add(ReadDone(CLIENT, 1, context, PARTITION, LATE_US, LATE_US + 1, stream, **fields))

    def add_scan(self, after: int, events: Sequence[ScannedEvent], **fields: Any) -> None:
        """Subscribe or read all of context 1 after all else."""
        who = CLIENT, 1, 1, PARTITION, LATE_US, LATE_US + 1
        self.history.add(ScanDone(*who, after, tuple(events), **fields))

    def add_append(self, context: int, parts: tuple[Part, ...], outcome: Outcome, **fields: Any) -> None:
        """Append after all else."""
        who = CLIENT, 1, context, PARTITION, LATE_US, LATE_US + 1
        self.history.add(AppendDone(*who, parts, outcome, **fields))

    def rewrite(self, entries: list[StoredEntry]) -> None:
        """Give all replicas another log."""
        for log in self.replicas:
            log.entries = list(entries)
            log.committed = len(entries)

    def rewrite_part(self, number: int, place: int, **fields: Any) -> None:
        """Store one part of an append otherwise."""
        entries = self.entries
        appends = list(entries[number].appends)
        appends[place] = appends[place]._replace(**fields)
        entries[number] = replace(entries[number], appends=tuple(appends))
        self.rewrite(entries)

    def store(self, context: int, *parts: Part) -> tuple[StoredAppend, ...]:
        """Add an append at the log's end, as it ought to go on."""
        entries = self.entries
        stored = [part for entry in entries for part in entry.appends]
        stamp = max(part.first_timestamp for part in stored) + 100
        position = sum(len(part.ids) for entry in entries for part in entry.appends if entry.context == context)
        appends = []
        for stream, _, events in parts:
            version = sum(len(part.ids) for part in self.streams()[context, stream])
            ids, digests = (tuple(column) for column in zip(*events, strict=True))
            types = tuple(map(type_of, ids))
            appends.append(StoredAppend(stream, version + 1, position + 1, stamp, ids, digests, 1, 1_000_000, types))
            position, stamp = position + len(ids), stamp + len(ids)
        entry = StoredEntry(len(entries) + 1, entries[-1].term, "planted", context, tuple(appends))
        self.rewrite([*entries, entry])
        return entry.appends
