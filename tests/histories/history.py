"""A history: everything that clients asked a cluster for, when, and what they were told.

Real processes and the simulator write the same records; `histories.checker` holds them against the replicas' logs.
Times are integers in microseconds of one monotonic clock. Records go to files as JSON, one a line.

A client is one session: a machine that is started again is another client with another number. Its operations are
numbered in the order in which it submitted them, whatever is under way at the time.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Any, NamedTuple

from histories.group_history import GroupSaid, Handed, MemberDone, packed_said, unpacked_said

ANY = -1  # `expected` of an append that takes whatever version the stream has


class Outcome(StrEnum):
    """What a client was told of its append."""

    OK = "ok"
    REFUSED = "refused"  # another version was expected: it was not written and never will be
    FAILED = "failed"  # surely not written, for any other reason
    UNKNOWN = "unknown"  # it may have been written, or may yet be; also where the client died before it was told


class EventContent(NamedTuple):
    """An event as it was appended. `id`: 32 hexadecimal digits. `digest`: see `histories.recording.digest_of`.

    Here and below named tuples, because histories hold hundreds of thousands and compare them all.
    """

    id: str
    digest: str


class Part(NamedTuple):
    """What an append adds to one stream."""

    stream: str
    expected: int
    events: tuple[EventContent, ...]


class Place(NamedTuple):
    """Where the last event of a part stands."""

    version: int
    position: int
    timestamp: int


class Refusal(NamedTuple):
    """What a refused client was told: `stream` has version `actual`, not `expected`."""

    stream: str
    expected: int
    actual: int


class SeenEvent(NamedTuple):
    """An event as it was read, or as it stands in a log."""

    version: int
    position: int
    timestamp: int
    id: str
    digest: str


class ScannedEvent(NamedTuple):
    """An event as a subscription or `read_all` gave it, or as it stands in its context."""

    stream: str
    version: int
    position: int
    timestamp: int
    id: str
    digest: str


class Mark(NamedTuple):
    """What a checkpoint said at a moment: so many events had come, and all up to position `through` counts as seen."""

    at_us: int
    events: int
    through: int


@dataclass(frozen=True, slots=True)
class AppendDone:
    """An append and its end. `places`: one for each part if `outcome` is OK. `refusal`: set if it is REFUSED.

    `ended_us` is None where the client was never told; an append whose outcome is unknown may take effect after it.
    """

    client: int
    number: int
    context: int
    partition: int
    begun_us: int
    ended_us: int | None
    parts: tuple[Part, ...]
    outcome: Outcome
    places: tuple[Place, ...] = ()
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class ReadDone:
    """A read of a stream that was read to its end, or a question for its version, that was answered.

    A read has `events` in the order they came, and `version` is None; a question has `version`. Reads without an answer
    say nothing and are left out, and so are those that the reader broke off, unless it stopped at `limit`.
    `fresh`: linearizable; otherwise any replica's answer will do. `at_least`: the position in the context that it had
    to wait for, 0 for none. `seen`: the position that the answer's token names, 0 where that is not known.
    """

    client: int
    number: int
    context: int
    partition: int
    begun_us: int
    ended_us: int
    stream: str
    after: int = 0
    limit: int | None = None
    reverse: bool = False
    fresh: bool = True
    at_least: int = 0
    seen: int = 0
    events: tuple[SeenEvent, ...] = ()
    version: int | None = None


@dataclass(frozen=True, slots=True)
class ScanDone:
    """What one partition gave to one life of a subscription, or to a `read_all`, from checkpoint `after` on.

    `marks`: what its checkpoints said, of which the last is the one it ended with; none in reverse. Both kinds may have
    been broken off. `newest`: the context's newest position in the partition, as it was told: where NOW began, where a
    `read_all` ended, and where one in reverse began; None if that was not told. That answer was `fresh`, linearizable,
    or any replica's, and had to wait for `at_least`. `whole`: a `read_all` came to its end, not to its `limit`.
    """

    client: int
    number: int
    context: int
    partition: int
    begun_us: int
    ended_us: int
    after: int
    events: tuple[ScannedEvent, ...] = ()
    marks: tuple[Mark, ...] = ()
    newest: int | None = None
    types: tuple[str, ...] | None = None
    prefix: str = ""
    limit: int | None = None
    reverse: bool = False
    fresh: bool = True
    at_least: int = 0
    whole: bool = False


Operation = AppendDone | ReadDone | ScanDone | MemberDone | GroupSaid


@dataclass(slots=True)
class History:
    """All operations on one cluster, in any order."""

    appends: list[AppendDone] = field(default_factory=list)
    reads: list[ReadDone] = field(default_factory=list)
    scans: list[ScanDone] = field(default_factory=list)
    members: list[MemberDone] = field(default_factory=list)
    said: list[GroupSaid] = field(default_factory=list)

    def add(self, operation: Operation) -> None:
        """Take in one operation that has ended."""
        if isinstance(operation, AppendDone):
            self.appends.append(operation)
        elif isinstance(operation, ReadDone):
            self.reads.append(operation)
        elif isinstance(operation, ScanDone):
            self.scans.append(operation)
        elif isinstance(operation, MemberDone):
            self.members.append(operation)
        else:
            self.said.append(operation)

    def __iter__(self) -> Iterator[Operation]:
        return chain(self.appends, self.reads, self.scans, self.members, self.said)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def lines(self) -> Iterator[str]:
        """Yield each operation as a line of JSON, without its end."""
        yield from (_line("append", operation) for operation in self.appends)
        yield from (_line("read", operation) for operation in self.reads)
        yield from (_line("scan", operation) for operation in self.scans)
        yield from (_line("member", operation) for operation in self.members)
        yield from (_line("said", operation) for operation in self.said)

    @classmethod
    def of_lines(cls, lines: Iterable[str]) -> "History":
        """Return the history that `lines` wrote."""
        history = cls()
        for line in lines:
            fields: dict[str, Any] = json.loads(line)
            history.add(_OF_FIELDS[fields.pop("kind")](fields))
        return history


def _line(kind: str, operation: Operation) -> str:
    fields = {each.name: getattr(operation, each.name) for each in dataclasses.fields(operation)}
    if isinstance(operation, GroupSaid):
        fields["said"] = packed_said(operation.said)
    return json.dumps({"kind": kind} | fields, separators=(",", ":"), ensure_ascii=False)  # named tuples are arrays


def _append(fields: dict[str, Any]) -> AppendDone:
    refusal = fields["refusal"]
    return AppendDone(
        **fields
        | {
            "outcome": Outcome(fields["outcome"]),
            "parts": tuple(
                Part(stream, expected, tuple(EventContent(*event) for event in events))
                for stream, expected, events in fields["parts"]
            ),
            "places": tuple(Place(*place) for place in fields["places"]),
            "refusal": None if refusal is None else Refusal(*refusal),
        }
    )


def _read(fields: dict[str, Any]) -> ReadDone:
    return ReadDone(**fields | {"events": tuple(SeenEvent(*event) for event in fields["events"])})


def _scan(fields: dict[str, Any]) -> ScanDone:
    types = fields["types"]
    return ScanDone(
        **fields
        | {
            "events": tuple(ScannedEvent(*event) for event in fields["events"]),
            "marks": tuple(Mark(*mark) for mark in fields["marks"]),
            "types": None if types is None else tuple(types),
        }
    )


def _member(fields: dict[str, Any]) -> MemberDone:
    types = fields["types"]
    handed = tuple(Handed(*each) for each in fields["handed"])
    return MemberDone(**fields | {"handed": handed, "types": None if types is None else tuple(types)})


def _said(fields: dict[str, Any]) -> GroupSaid:
    attempts = tuple((position, count) for position, count in fields["attempts"])
    return GroupSaid(**fields | {"said": unpacked_said(fields["said"]), "attempts": attempts})


_OF_FIELDS: dict[str, Callable[[dict[str, Any]], Operation]] = {
    "append": _append,
    "read": _read,
    "scan": _scan,
    "member": _member,
    "said": _said,
}
