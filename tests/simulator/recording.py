"""What the history says of one application: each operation from its begin to its end.

A machine that is started again is another client of the history, for its session is new. Numbers count what a client
submitted; `operations` leads from them back to the plan.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from uuid import UUID

from histories.group_history import GroupSaid, MemberDone
from histories.history import AppendDone, Part, ReadDone, ScanDone, SeenEvent
from histories.recording import append_done, part_of, seen_event

from rewind.append import Append
from rewind.errors import (
    AccessDenied,
    ContextNotFound,
    CrossPartition,
    InvalidArgument,
    ProtocolError,
    RewindError,
    TooLarge,
)
from rewind.events import AppendResult, Event, NewEvent
from simulator.plan import Operation
from simulator.world import World

LIVES_MAX = 1000  # of one machine: its clients are numbered from 1,000 times its own number on
EVENT_TYPES = ("Happened", "Happened", "Happened", "Noted", "Counted")
NEVER_DUE = (AccessDenied, ContextNotFound, CrossPartition, InvalidArgument, TooLarge)  # nothing here asks for these

Answer = AppendResult | Sequence[AppendResult] | RewindError | None
Tag = tuple[int, int]  # a client of the history, and the number of its operation


@dataclass(frozen=True, slots=True)
class OpenAppend:
    """An append under way."""

    operation: Operation
    context: int
    partition: int
    begun_us: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class OpenRead:
    """A read or a question for a version under way."""

    operation: Operation
    context: int
    partition: int
    begun_us: int
    after: int = 0
    limit: int | None = None
    reverse: bool = False
    fresh: bool = True
    at_least: int = 0


@dataclass(frozen=True, slots=True)
class OpenScan:
    """A `read_all` under way, or a subscription that begins. What comes of it is told by who consumes it."""

    operation: Operation


Opened = OpenAppend | OpenRead | OpenScan


@dataclass(slots=True)
class Records:
    """What all applications of a run have recorded. `surprises`: errors that nothing in a run gives reason for."""

    appends: list[AppendDone] = field(default_factory=list)
    reads: list[ReadDone] = field(default_factory=list)
    scans: list[ScanDone] = field(default_factory=list)
    members: list[MemberDone] = field(default_factory=list)
    said: list[GroupSaid] = field(default_factory=list)
    operations: dict[Tag, Operation] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)  # by kind and outcome


class Recorder:
    """Records what one machine's application does."""

    def __init__(self, world: World, machine: int, records: Records) -> None:
        self.open: dict[Tag, Opened] = {}
        self._world = world
        self._records = records
        self._client = machine * LIVES_MAX
        self._numbers = 0

    @property
    def client(self) -> int:
        """The number of the client of the history that the machine is at the moment."""
        return self._client

    def _begin(self, opened: Opened) -> Tag:
        self._numbers += 1
        tag = self._client, self._numbers
        self.open[tag] = opened
        self._records.operations[tag] = opened.operation
        operation = opened.operation
        self._world.note("begin", client=tag[0], number=tag[1], operation=operation.number, what=operation.kind)
        return tag

    def _end(self, tag: Tag, outcome: str) -> Opened:
        opened = self.open.pop(tag)
        self._records.counts[f"{opened.operation.kind} {outcome}"] += 1
        self._world.note("end", client=tag[0], number=tag[1], outcome=outcome)
        return opened

    def _look_for_surprise(self, tag: Tag, error: RewindError | None) -> None:
        if isinstance(error, NEVER_DUE):
            operation = self._records.operations[tag]
            self._records.surprises.append(f"operation {operation.number}: {type(error).__name__}: {error}")

    # Appends.

    def begin_append(
        self, operation: Operation, append: Append, parts: Sequence[tuple[str, list[NewEvent], int]]
    ) -> Tag:
        """Record that an append is handed to the session."""
        recorded = tuple(part_of(stream, expected, events) for stream, events, expected in parts)
        now_us = self._world.now_us
        return self._begin(OpenAppend(operation, append.origin.context, append.partition, now_us, recorded))

    def end_append(self, tag: Tag, append: Append) -> None:
        """Record how an append ended."""
        answer = append.result if append.error is None else append.error
        self._settle(tag, answer, self._world.now_us)
        self._look_for_surprise(tag, append.error)

    def _settle(self, tag: Tag, answer: Answer, ended_us: int | None) -> None:
        opened = self.open[tag]
        assert isinstance(opened, OpenAppend)
        done = append_done(*tag, opened.context, opened.partition, opened.begun_us, ended_us, opened.parts, answer)
        self._records.appends.append(done)
        self._end(tag, done.outcome)

    # Reads.

    def begin_read(
        self,
        operation: Operation,
        context: int,
        partition: int,
        *,
        after: int = 0,
        limit: int | None = None,
        reverse: bool = False,
        at_least: int = 0,
    ) -> Tag:
        """Record that a read or a question for a version is handed to the session, or sent by hand."""
        fresh = operation.arguments.get("consistency", "linearizable") == "linearizable"
        now_us = self._world.now_us
        return self._begin(OpenRead(operation, context, partition, now_us, after, limit, reverse, fresh, at_least))

    def end_version(self, tag: Tag, version: int) -> None:
        """Record the answer to a question for a version."""
        self._read(tag, (), version, self._opened_read(tag).limit, 0)

    def end_read(self, tag: Tag, events: Sequence[Event], seen: int, *, more: bool) -> None:
        """Record what was read; with `more` the reader was content with less than there was."""
        limit = len(events) if more else self._opened_read(tag).limit
        self._read(tag, tuple(map(seen_event, events)), None, limit, seen)

    def fail_read(self, tag: Tag, error: RewindError | None) -> None:
        """Record that a read got no answer: the history leaves it out."""
        self._end(tag, "unanswered")
        self._look_for_surprise(tag, error)

    def _opened_read(self, tag: Tag) -> OpenRead:
        opened = self.open[tag]
        assert isinstance(opened, OpenRead)
        return opened

    def _read(self, tag: Tag, events: tuple[SeenEvent, ...], version: int | None, limit: int | None, seen: int) -> None:
        opened = self._opened_read(tag)
        stream = opened.operation.arguments["stream"]
        done = ReadDone(
            *tag,
            opened.context,
            opened.partition,
            opened.begun_us,
            self._world.now_us,
            stream,
            opened.after,
            limit,
            opened.reverse,
            opened.fresh,
            opened.at_least,
            seen,
            events,
            version,
        )
        self._records.reads.append(done)
        self._end(tag, "ok")

    # Subscriptions and `read_all`.

    def begin_scan(self, operation: Operation) -> Tag:
        """Record that a subscription or a `read_all` is asked for."""
        return self._begin(OpenScan(operation))

    def end_scan(self, tag: Tag) -> None:
        """Record that a subscription has begun, or that a `read_all` has ended."""
        self._end(tag, "ok")

    def fail_scan(self, tag: Tag, error: RewindError | None) -> None:
        """Record that a subscription could not begin, or that a `read_all` was broken off."""
        self._end(tag, "unanswered")
        if isinstance(error, ProtocolError):
            self.surprise(tag, error)  # chunks that do not join
        self._look_for_surprise(tag, error)

    def scanned(self, done: ScanDone) -> None:
        """Record what a consumer was given by one partition."""
        self._records.scans.append(done)
        self._records.counts["events consumed"] += len(done.events)
        through = done.marks[-1].through if done.marks else done.newest
        who = {"client": done.client, "number": done.number, "partition": done.partition}
        self._world.note("scanned", **who, events=len(done.events), after=done.after, through=through)

    def was_member(self, done: MemberDone) -> None:
        """Record what a member of a group was handed out in one partition."""
        self._records.members.append(done)
        counts = self._records.counts
        counts["deliveries"] += len(done.handed)
        for handed in done.handed:
            counts[f"deliveries {handed.verdict or 'left'}{'' if handed.counts else ' in vain'}"] += 1
        who = {"client": done.client, "number": done.number, "partition": done.partition, "member": done.member}
        self._world.note("was-member", **who, group=done.group, handed=len(done.handed))

    def surprise(self, tag: Tag, error: RewindError) -> None:
        """Record that a subscription or a membership ended by itself."""
        operation = self._records.operations[tag]
        self._records.surprises.append(f"operation {operation.number}: {type(error).__name__}: {error}")

    # The end of a machine's life.

    def abandon_all(self) -> None:
        """Record that the machine went down: nobody was told of what was under way."""
        for tag, opened in list(self.open.items()):
            if isinstance(opened, OpenAppend):
                self._settle(tag, None, None)
            else:
                self._end(tag, "unanswered")
        self._client += 1
        self._numbers = 0


def new_events(seed: int, operation: Operation, place: int, part: int, count: int) -> list[NewEvent]:
    """Return the events of a part of an append: the same IDs and contents, however often they are asked for."""
    events = []
    for number in range(count):
        name = f"{seed}/{operation.number}/{place}/{part}/{number}"
        event_id = UUID(bytes=blake2b(name.encode(), digest_size=16).digest())
        padding = b"." * operation.arguments["padding_bytes"]
        metadata = {"operation": operation.number} if number % 2 else None
        kind = EVENT_TYPES[(operation.number + number) % len(EVENT_TYPES)]
        events.append(NewEvent(kind, name.encode() + padding, event_id, metadata))
    return events
