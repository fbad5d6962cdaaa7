"""The checker against brute force: small random histories, most of them wrong, judged by trying every order.

Linearizable is what some order explains in which each operation that had ended before another began comes first, and
the stored appends come in the order of the log. Here all such orders are tried, one operation after the other, on a
model of a partition; the checker must come to the same verdict from bounds alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any

import pytest
from histories.checker import check
from histories.history import (
    ANY,
    AppendDone,
    EventContent,
    History,
    Operation,
    Outcome,
    Part,
    Place,
    ReadDone,
    Refusal,
    SeenEvent,
)
from histories.logs import StoredAppend, StoredEntry, StoredLog

STREAMS = ("s", "t")
TIME_MAX_US = 12
OPERATIONS_MAX = 6
SHAPES = (  # few and alike, so that IDs are appended again, as a whole and in part
    (("s", ("a",)),),
    (("s", ("b",)),),
    (("s", ("c", "d")),),
    (("s", ("d",)),),
    (("t", ("e",)),),
    (("s", ("f",)), ("t", ("g",))),
    (("s", ("h",)), ("s", ("i",))),
)
Shape = tuple[tuple[str, tuple[str, ...]], ...]
Log = tuple[Shape, ...]


@cache
def events_of(log: Log, stream: str) -> tuple[str, ...]:
    return tuple(event for shape in log for name, ids in shape if name == stream for event in ids)


# The model: what a partition answers that holds a log.


def answer_of(append: AppendDone, log: Log) -> tuple[str, tuple[Any, ...]]:
    """Return "written" or "again" with the versions, or "refused" with the reasons, each of which may be told."""
    heads = Counter({stream: len(events_of(log, stream)) for stream in STREAMS})
    before = dict(heads)
    reasons, versions = [], []
    for part in append.parts:
        if part.expected not in (ANY, heads[part.stream]):
            reasons.append(Refusal(part.stream, part.expected, heads[part.stream]))
        heads[part.stream] += len(part.events)
        versions.append(heads[part.stream])
    if not reasons:
        return "written", tuple(versions)
    ends = tuple(part.expected + len(part.events) for part in append.parts)
    if all(
        part.expected != ANY
        and end <= before[part.stream]
        and ids_of(part) == events_of(log, part.stream)[part.expected : end]
        for part, end in zip(append.parts, ends, strict=True)
    ):
        return "again", ends
    return "refused", tuple(reasons)


def ids_of(part: Part) -> tuple[str, ...]:
    return tuple(event.id for event in part.events)


def shape_of(append: AppendDone) -> Shape:
    return tuple((part.stream, ids_of(part)) for part in append.parts)


def read_of(read: ReadDone, log: Log) -> object:
    events = events_of(log, read.stream)
    return len(events) if read.version is not None else events[read.after :][: read.limit]


# Brute force.


def explains(operations: tuple[Operation, ...], stored: Log) -> bool:
    """Return whether an order of the operations explains all answers and leads to what is stored."""

    @cache
    def goes_on(places: int, left: frozenset[int]) -> bool:
        due = [number for number in left if must_happen(operations[number])]
        if places == len(stored) and not due:
            return True
        for number in sorted(left):
            operation = operations[number]
            if any(ended_before(operations[other], operation) for other in due if other != number):
                continue
            after = places_after(operation, places, stored)
            if after is not None and goes_on(after, left - {number}):
                return True
        return False

    able = [number for number, operation in enumerate(operations) if not failed(operation)]
    return goes_on(0, frozenset(able))


def failed(operation: Operation) -> bool:
    return isinstance(operation, AppendDone) and operation.outcome is Outcome.FAILED


def must_happen(operation: Operation) -> bool:
    return isinstance(operation, ReadDone) or operation.outcome is not Outcome.UNKNOWN


def ended_before(first: Operation, second: Operation) -> bool:
    return first.ended_us is not None and first.ended_us < second.begun_us


def places_after(operation: Operation, places: int, stored: Log) -> int | None:
    """Return how much of the log is written after an operation, None if its answer cannot have been given there."""
    log = stored[:places]
    if isinstance(operation, ReadDone):
        told = operation.version if operation.version is not None else tuple(event.id for event in operation.events)
        return places if told == read_of(operation, log) else None
    what, answer = answer_of(operation, log)
    if what == "written" and operation.outcome in (Outcome.OK, Outcome.UNKNOWN):
        fits = stored[places : places + 1] == (shape_of(operation),)
        told = operation.outcome is Outcome.UNKNOWN or tuple(place.version for place in operation.places) == answer
        return places + 1 if fits and told else None
    if what == "again" and operation.outcome is Outcome.OK:
        return places if tuple(place.version for place in operation.places) == answer else None
    if what == "refused" and operation.outcome is Outcome.REFUSED:
        return places if operation.refusal in answer else None
    return None


# Random histories.


@dataclass
class Draft:
    """A history in the making: operations with the moments in which they take effect, and the log."""

    random: Random
    operations: list[Operation]
    shapes: Sequence[Shape]
    log: Log = ()

    @classmethod
    def draw(cls, random: Random) -> "Draft":
        """Return a correct history."""
        draft = cls(random, [], random.sample(SHAPES, random.choice((1, 2, len(SHAPES)))))
        count = random.randint(2, OPERATIONS_MAX)
        moments = sorted(random.randrange(1, TIME_MAX_US) * 10 + number for number in range(count))
        for number, moment in enumerate(moments):
            begun_us, ended_us = moment - random.randrange(60), moment + random.randrange(1, 60)
            draft._operate(number, begun_us, ended_us)
        return draft

    def _operate(self, number: int, begun_us: int, ended_us: int) -> None:
        random = self.random
        who = number, 1, 1, 1, begun_us, ended_us  # each by a client of its own
        if random.random() < 0.45:
            stream = random.choice(STREAMS)
            events = events_of(self.log, stream)
            if random.random() < 0.4:
                self.operations.append(ReadDone(*who, stream, version=len(events)))
                return
            read = ReadDone(*who, stream, after=random.randrange(3), limit=random.choice((None, None, 1)))
            seen = tuple(self.seen(stream, version) for version in range(read.after + 1, len(events) + 1))[: read.limit]
            self.operations.append(replace(read, events=seen))
            return
        parts = tuple(
            Part(
                stream,
                random.choice((ANY, len(events_of(self.log, stream)), random.randrange(3))),
                tuple(EventContent(each, "x") for each in ids),
            )
            for stream, ids in random.choice(self.shapes)
        )
        expected = [part[:2] for part in parts if part.expected != ANY]
        if len(set(expected)) < len(expected):
            return  # a refusal could mean either of them, and the checker lets both pass
        append = AppendDone(*who, parts, Outcome.FAILED)
        fate = random.random()
        what, answer = answer_of(append, self.log)
        if fate < 0.1:
            pass
        elif what == "refused":
            append = replace(append, outcome=Outcome.REFUSED, refusal=random.choice(answer))
        else:
            places = tuple(Place(version, 0, 0) for version in answer)
            if what == "written" and fate < 0.9:
                self.log = (*self.log, shape_of(append))
            append = replace(append, outcome=Outcome.OK, places=places)
            if fate > 0.8:
                append = replace(append, outcome=Outcome.UNKNOWN, places=())
        self.operations.append(append)

    def seen(self, stream: str, version: int) -> SeenEvent:
        return SeenEvent(version, 0, 0, events_of(self.log, stream)[version - 1], "x")

    def spoil(self) -> None:
        """Change something, so that the history may be wrong."""
        random = self.random
        number = random.randrange(len(self.operations))
        operation = self.operations[number]
        choice = random.randrange(4)
        if choice == 0 and len(self.log) > 1:
            place = random.randrange(len(self.log) - 1)
            log = list(self.log)
            log[place : place + 2] = log[place + 1], log[place]
            self.log = tuple(log)
        elif choice == 1:
            by_us = random.randrange(-80, 80)
            ended_us = None if operation.ended_us is None else operation.ended_us + by_us
            self.operations[number] = replace(operation, begun_us=operation.begun_us + by_us, ended_us=ended_us)  # type: ignore[arg-type]
        elif choice == 2 and self.log and random.random() < 0.3:
            self.log = self.log[:-1]
        else:
            self.operations[number] = self._lie(operation)

    def _lie(self, operation: Operation) -> Operation:
        by = self.random.choice((-1, 1))
        if isinstance(operation, ReadDone):
            if operation.version is not None:
                return replace(operation, version=max(0, operation.version + by))
            return replace(operation, events=operation.events[:-1])
        if operation.refusal is not None:
            return replace(operation, refusal=operation.refusal._replace(actual=max(0, operation.refusal.actual + by)))
        if operation.places:
            first = operation.places[0]
            return replace(operation, places=(Place(max(1, first.version + by), 0, 0), *operation.places[1:]))
        return operation

    def finish(self) -> tuple[History, StoredLog]:
        """Return the history with positions that follow from the log, and the log."""
        history = History()
        log, positions = self._stored()
        for operation in self.operations:
            if isinstance(operation, ReadDone):
                events = tuple(
                    event._replace(position=positions.get((operation.stream, event.version), 0))
                    for event in operation.events
                )
                history.add(replace(operation, events=events))
            else:
                places = tuple(
                    place._replace(position=positions.get((part.stream, place.version), 0))
                    for part, place in zip(operation.parts, operation.places, strict=False)
                )
                history.add(replace(operation, places=places))
        return history, log

    def _stored(self) -> tuple[StoredLog, dict[tuple[str, int], int]]:
        heads: Counter[str] = Counter()
        positions: dict[tuple[str, int], int] = {}
        log = StoredLog("n1", 1, len(self.log))
        for index, shape in enumerate(self.log, 1):
            appends = []
            for stream, ids in shape:
                digests = tuple("x" for _ in ids)
                appends.append(StoredAppend(stream, heads[stream] + 1, len(positions) + 1, 0, ids, digests))
                for _ in ids:
                    heads[stream] += 1
                    positions[stream, heads[stream]] = len(positions) + 1
            log.entries.append(StoredEntry(index, 1, f"e{index}", 1, tuple(appends)))
        return log, positions


@pytest.mark.parametrize("block", range(8))
def test_verdicts_are_those_of_brute_force(block: int) -> None:
    verdicts: Counter[bool] = Counter()

    for seed in range(block * 1000, block * 1000 + 1000):
        draft = Draft.draw(Random(seed))
        for _ in range(draft.random.choice((0, 1, 1, 2)) if draft.operations else 0):
            draft.spoil()
        history, log = draft.finish()
        violations = check(history, [log])
        verdict = explains(tuple(draft.operations), draft.log)

        assert (violations == []) is verdict, f"seed {seed}: {[str(each) for each in violations]} {draft}"
        verdicts[verdict] += 1

    assert min(verdicts[True], verdicts[False]) > 150, verdicts
