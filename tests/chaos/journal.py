"""What a client process writes down, at once, so that it is known even if the process is killed; and reading it again.

An append is written before it is sent, and again when it has ended: one without an end has an unknown outcome. What a
subscription gives is written event by event, with what the checkpoint said then. A verdict on a delivery is written
before the client library hears of it. Each record is a line of JSON and one write to a file opened for appending.

All numbers of clients differ, those of a process that took another's place included.
"""

import json
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from histories.group_history import GroupSaid, Handed, MemberDone, packed_said, unpacked_said
from histories.history import (
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

Tag = tuple[int, int]  # a client, and the number of its operation
Line = list[Any]


class Journal:
    """The writer's side. Any thread may write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lock = threading.Lock()

    def write(self, kind: str, *fields: Any) -> None:
        """Write one record."""
        line = json.dumps([kind, *fields], separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        with self._lock:  # a line is longer than what a pipe takes at once, and lines must not mix
            os.write(self._file, line)

    def said(self, client: int, index: int, said: GroupSaid) -> None:
        """Write down a message about a group when it leaves."""
        who = client, index, said.context, said.partition, said.begun_us
        self.write("said", *who, packed_said(said.said))

    def answered(self, client: int, index: int, said: GroupSaid) -> None:
        """Write down the answer to it."""
        self.write("answered", client, index, said.ended_us, said.taken, said.epoch, said.attempts, said.refused)


@dataclass(slots=True)
class _OpenScan:
    """A subscription as far as it was written down."""

    context: int
    begun_us: int
    after: dict[int, int]
    is_now: bool
    types: tuple[str, ...] | None
    prefix: str
    events: defaultdict[int, list[ScannedEvent]] = field(default_factory=lambda: defaultdict(list))
    marks: defaultdict[int, list[Mark]] = field(default_factory=lambda: defaultdict(list))
    ended_us: int = 0

    def mark(self, partition: int, at_us: int, through: int) -> None:
        marks = self.marks[partition]
        if through != (marks[-1].through if marks else self.after[partition]):
            marks.append(Mark(at_us, len(self.events[partition]), through))
        self.ended_us = max(self.ended_us, at_us)


@dataclass(slots=True)
class _OpenMember:
    """A membership as far as it was written down."""

    context: int
    begun_us: int
    group: str
    member: str
    starts: dict[int, int]
    max_attempts: int
    types: tuple[str, ...] | None
    prefix: str
    handed: defaultdict[int, list[Handed]] = field(default_factory=lambda: defaultdict(list))
    ended_us: int = 0


@dataclass(slots=True)
class Told:
    """All that clients wrote down. `surprises`: errors that nothing gives reason for. `counts`: by kind and outcome."""

    history: History = field(default_factory=History)
    surprises: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def operations(self) -> int:
        """How many calls there were, but for those for single events of a subscription."""
        return sum(count for kind, count in self.counts.items() if not kind.startswith("event"))


def read_journals(paths: Iterable[Path]) -> Told:
    """Return what the journals of a run say."""
    told = Told()
    for path in paths:
        _Reader(told).read(path)
    return told


class _Reader:
    """Reads one process's journal."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._appends: dict[Tag, AppendDone] = {}
        self._scans: dict[Tag, _OpenScan] = {}
        self._members: dict[Tag, _OpenMember] = {}
        self._said: dict[Tag, GroupSaid] = {}

    def read(self, path: Path) -> None:
        with path.open("rb") as lines:
            for text in lines:
                if text.endswith(b"\n"):  # the last one of a process that was killed may be cut
                    kind, *fields = json.loads(text)
                    _READ[kind](self, fields)
        for done in self._appends.values():
            self._told.history.add(done)
            self._told.counts[f"append {done.outcome}"] += 1
        for tag, scan in self._scans.items():
            self._end_scan(tag, scan)
        for tag, member in self._members.items():
            self._end_member(tag, member)
        for said in self._said.values():
            self._told.history.add(said)

    # Appends and reads.

    def append(self, fields: Line) -> None:
        client, number, context, partition, begun_us, parts = fields
        listed = tuple(Part(stream, expected, _contents(events)) for stream, expected, events in parts)
        who = client, number, context, partition, begun_us
        self._appends[client, number] = AppendDone(*who, None, listed, Outcome.UNKNOWN)

    def appended(self, fields: Line) -> None:
        client, number, ended_us, outcome, places, refusal = fields
        begun = self._appends[client, number]
        who = client, number, begun.context, begun.partition, begun.begun_us, ended_us, begun.parts
        told = Refusal(*refusal) if refusal else None
        listed = tuple(Place(*place) for place in places)
        self._appends[client, number] = AppendDone(*who, Outcome(outcome), listed, told)

    def was_read(self, fields: Line) -> None:
        *simple, events, version = fields
        done = ReadDone(*simple, tuple(SeenEvent(*event) for event in events), version)
        self._told.history.add(done)
        self._told.counts["version ok" if version is not None else "read ok"] += 1

    def scanned(self, fields: Line) -> None:
        """Take in a `read_all` of one partition."""
        *who, after, events, marks, newest, types, prefix, limit, reverse, fresh, at_least, whole = fields
        done = ScanDone(
            *who,
            after,
            tuple(ScannedEvent(*event) for event in events),
            tuple(Mark(*mark) for mark in marks),
            newest,
            None if types is None else tuple(types),
            *(prefix, limit, reverse, fresh, at_least, whole),
        )
        self._told.history.add(done)

    def count(self, fields: Line) -> None:
        self._told.counts[fields[0]] += 1

    def surprise(self, fields: Line) -> None:
        self._told.surprises.append(fields[0])

    # Subscriptions.

    def scan(self, fields: Line) -> None:
        client, number, context, begun_us, after, is_now, types, prefix = fields
        positions = {int(partition): position for partition, position in after.items()}
        filters = None if types is None else tuple(types), prefix
        self._scans[client, number] = _OpenScan(context, begun_us, positions, is_now, *filters, ended_us=begun_us)
        self._told.counts["subscription ok"] += 1

    def event(self, fields: Line) -> None:
        client, number, partition, at_us, through, *event = fields
        scan = self._scans[client, number]
        scan.events[partition].append(ScannedEvent(*event))
        scan.mark(partition, at_us, through)
        self._told.counts["event of a subscription"] += 1

    def mark(self, fields: Line) -> None:
        client, number, partition, at_us, through = fields
        self._scans[client, number].mark(partition, at_us, through)

    def _end_scan(self, tag: Tag, scan: _OpenScan) -> None:
        for partition, after in scan.after.items():
            who = *tag, scan.context, partition, scan.begun_us, scan.ended_us, after
            events, marks = tuple(scan.events[partition]), tuple(scan.marks[partition])
            newest = after if scan.is_now else None
            self._told.history.add(ScanDone(*who, events, marks, newest, scan.types, scan.prefix))

    # Groups.

    def member(self, fields: Line) -> None:
        client, number, context, begun_us, group, member, starts, max_attempts, types, prefix = fields
        positions = {int(partition): position for partition, position in starts.items()}
        wants = max_attempts, None if types is None else tuple(types), prefix
        self._members[client, number] = _OpenMember(context, begun_us, group, member, positions, *wants)
        self._told.counts["membership ok"] += 1

    def handed(self, fields: Line) -> None:
        client, number, partition, *delivery = fields
        member = self._members[client, number]
        member.handed[partition].append(Handed(*delivery))
        member.ended_us = delivery[-1]

    def verdict(self, fields: Line) -> None:
        """Take in what was about to be said of a delivery; whoever was killed meanwhile may have said it."""
        client, number, partition, place, verdict, told_us = fields
        handed = self._members[client, number].handed[partition]
        handed[place] = handed[place]._replace(verdict=verdict, told_us=told_us, counts=True)
        self._told.counts[f"delivery {verdict}"] += 1

    def in_vain(self, fields: Line) -> None:
        client, number, partition, place = fields
        handed = self._members[client, number].handed[partition]
        handed[place] = handed[place]._replace(counts=False)

    def _end_member(self, tag: Tag, member: _OpenMember) -> None:
        for partition, start in member.starts.items():
            who = *tag, member.context, partition, member.begun_us, member.ended_us or member.begun_us
            handed = tuple(member.handed[partition])
            wants = start, member.max_attempts, handed, member.types, member.prefix
            self._told.history.add(MemberDone(*who, member.group, member.member, *wants))

    def said(self, fields: Line) -> None:
        client, index, context, partition, begun_us, said = fields
        self._said[client, index] = GroupSaid(client, index, context, partition, begun_us, None, unpacked_said(said))

    def answered(self, fields: Line) -> None:
        client, index, ended_us, taken, epoch, attempts, refused = fields
        said = self._said[client, index]
        who = said.client, said.number, said.context, said.partition, said.begun_us
        told = tuple((position, count) for position, count in attempts)
        self._said[client, index] = GroupSaid(*who, ended_us, said.said, taken, epoch, told, refused)


def _contents(events: Iterable[Line]) -> tuple[EventContent, ...]:
    return tuple(EventContent(*event) for event in events)


_READ: dict[str, Callable[[_Reader, Line], None]] = {
    "append": _Reader.append,
    "appended": _Reader.appended,
    "read": _Reader.was_read,
    "scanned": _Reader.scanned,
    "count": _Reader.count,
    "surprise": _Reader.surprise,
    "scan": _Reader.scan,
    "event": _Reader.event,
    "mark": _Reader.mark,
    "member": _Reader.member,
    "handed": _Reader.handed,
    "verdict": _Reader.verdict,
    "in vain": _Reader.in_vain,
    "said": _Reader.said,
    "answered": _Reader.answered,
}


def fields_of(done: ReadDone | ScanDone) -> Line:
    """Return an operation as its record has it."""
    return list(astuple(done))
