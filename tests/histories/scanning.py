"""Subscriptions and `read_all` against the log: what a consumer was given between two checkpoints is what stands there.

Per partition the promise is an equation. A consumer that began after one position and whose checkpoint names another
was given the context's events in between that match its filter: all of them, in order, once. That holds at every
checkpoint on the way, so whoever goes on from any of them misses nothing and gets nothing twice, and what several lives
of one subscription saw need not be put together.

Whatever was given is committed, so who begins to read after that must not miss it. Where a consumer was told which
position is the newest, that is a read of the partition like any other.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from histories.history import Mark, ScanDone, ScannedEvent
from histories.stored import Stored
from histories.timeline import Bounds
from histories.violations import Kind, Violation

Filter = tuple[tuple[str, ...] | None, str]  # types and prefix
Problem = tuple[Kind, str] | None


@dataclass(slots=True)
class Wanted:
    """The events of a context that match a filter, and their positions."""

    events: list[ScannedEvent]
    positions: list[int]

    def between(self, after: int, through: int) -> list[ScannedEvent]:
        """Return those beyond one position up to another."""
        return self.events[bisect_right(self.positions, after) : bisect_right(self.positions, through)]


class ContextLog:
    """A context's events in one partition by position, from 1; `types` is empty if the log does not tell them all."""

    def __init__(self, stored: Stored, context: int) -> None:
        self.events: list[ScannedEvent] = []
        self.types: list[str] = []
        self._wanted: dict[Filter, Wanted | None] = {}
        parts = [part for group in stored.groups if group.context == context for part in group.parts]
        for part in parts:
            self.types.extend(part.types)
            columns = (part.ids, part.digests or ("",) * len(part.ids))
            for ahead, (event_id, digest) in enumerate(zip(*columns, strict=True)):
                stamp = part.first_timestamp and part.first_timestamp + ahead
                version, position = part.first_version + ahead, part.first_position + ahead
                self.events.append(ScannedEvent(part.stream, version, position, stamp, event_id, digest))
        if len(self.types) != len(self.events):
            self.types = []

    def wanted(self, types: tuple[str, ...] | None, prefix: str) -> Wanted | None:
        """Return the events that match a filter, or None if their types are not known."""
        key = (types, prefix)
        if key not in self._wanted:
            self._wanted[key] = self._pick(types, prefix)
        return self._wanted[key]

    def _pick(self, types: tuple[str, ...] | None, prefix: str) -> Wanted | None:
        if types is not None and self.events and not self.types:
            return None
        events = [
            event
            for number, event in enumerate(self.events)
            if event.stream.startswith(prefix) and (types is None or self.types[number] in types)
        ]
        return Wanted(events, [event.position for event in events])


class Scans:
    """All scans of one partition, checked one by one. `bounds` are those of linearizable answers, `shown` of all."""

    def __init__(self, stored: Stored, scans: Sequence[ScanDone]) -> None:
        self.bounds: list[Bounds] = []
        self.shown: list[Bounds] = []
        self.violations: list[Violation] = []
        self._stored = stored
        self._logs: dict[int, ContextLog] = {}
        for scan in scans:
            self._check(scan)

    def _check(self, scan: ScanDone) -> None:
        if scan.context in self._stored.holed:
            return  # the log itself has been complained about
        log = self._logs.get(scan.context)
        if log is None:
            log = self._logs[scan.context] = ContextLog(self._stored, scan.context)
        problem = next((found for check in _CHECKS if (found := check(scan, log)) is not None), None)
        if problem is not None:
            self.violations.append(Violation(*problem, (scan,)))
            return
        places = self._stored.positions.get(scan.context, [])
        self.shown += _bounds_of_marks(scan, places)
        if scan.newest is not None:
            self._take_newest(scan, scan.newest, places)

    def _take_newest(self, scan: ScanDone, newest: int, places: Sequence[int]) -> None:
        """Take in that a position was told to be the newest."""
        shows = places[newest - 1] if newest else 0
        most = places[newest] - 1 if newest < len(places) else self._stored.end
        if shows > most:
            text = f"position {newest} was told to be the newest, and is not the last of its append"
            self.violations.append(Violation(Kind.TORN_BATCH, text, (scan,)))
            return
        bounds = Bounds(scan, shows, most, f"position {newest + 1}")
        self.shown.append(bounds)
        if scan.fresh:
            self.bounds.append(bounds)


def _bounds_of_marks(scan: ScanDone, places: Sequence[int]) -> Iterator[Bounds]:
    """Yield what checkpoints had shown, each at its time."""
    before = scan.after
    for mark in scan.marks:
        if mark.through > before:
            before = mark.through
            yield Bounds(replace(scan, ended_us=mark.at_us), places[mark.through - 1], 0)


# Checks, each of which relies on those before it.


def _check_positions(scan: ScanDone, log: ContextLog) -> Problem:
    """Hold the positions that checkpoints and answers name against the log's end."""
    named = [scan.after, scan.at_least, scan.newest or 0, *(mark.through for mark in scan.marks)]
    if max(named) > len(log.events):
        return Kind.PHANTOM, f"position {max(named)} was named; the log ends at {len(log.events)}"
    if scan.newest is not None and scan.newest < max(scan.at_least, scan.after):
        text = f"position {scan.newest} was told to be the newest, after {max(scan.at_least, scan.after)} was given"
        return Kind.STALE_READ, text
    return None


def _check_events(scan: ScanDone, log: ContextLog) -> Problem:
    """Hold each event against the log."""
    if scan.events == tuple(_due(scan, log) or ()):
        return None
    for seen in scan.events:
        problem = _event_problem(scan, seen, log)
        if problem is not None:
            return problem
    return _order_problem(scan)


def _event_problem(scan: ScanDone, seen: ScannedEvent, log: ContextLog) -> Problem:
    what = f"event {seen.id} at position {seen.position}"
    if not 0 < seen.position <= len(log.events):
        return Kind.PHANTOM, f"{what} was given; the log ends at {len(log.events)}"
    logged = log.events[seen.position - 1]
    if seen.id != logged.id:
        kind = Kind.WRONG_PLACE if any(event.id == seen.id for event in log.events) else Kind.PHANTOM
        return kind, f"{what} was given; the log has {logged.id} there"
    if logged.digest and seen.digest != logged.digest:
        return Kind.PHANTOM, f"{what} was given with other contents than it has in the log"
    if seen[:3] != logged[:3] or (logged.timestamp and seen.timestamp != logged.timestamp):
        return Kind.WRONG_PLACE, f"{what} was given as {_where(seen)}; the log has it as {_where(logged)}"
    return _filter_problem(scan, seen, log)


def _filter_problem(scan: ScanDone, seen: ScannedEvent, log: ContextLog) -> Problem:
    what = f"event {seen.id} at position {seen.position}"
    if seen.position <= scan.after:
        return Kind.WRONG_RANGE, f"{what} was given where only those after {scan.after} were asked for"
    other_type = scan.types is not None and log.types and log.types[seen.position - 1] not in scan.types
    if other_type or not seen.stream.startswith(scan.prefix):
        return Kind.WRONG_RANGE, f"{what}, of {seen.stream!r}, does not match the filter"
    return None


def _where(event: ScannedEvent) -> str:
    return f"version {event.version} of {event.stream!r} with timestamp {event.timestamp}"


def _order_problem(scan: ScanDone) -> Problem:
    positions = [event.position for event in scan.events]
    for before, after in pairwise(positions):
        if before == after or (before < after) == scan.reverse:
            again = positions.count(after) > 1
            text = f"position {after} was given after position {before}"
            return Kind.DUPLICATE if again else Kind.EVENT_ORDER, f"{text}{', and once before' if again else ''}"
    return None


def _check_count(scan: ScanDone, _: ContextLog) -> Problem:
    """Hold how many there are against how many were asked for."""
    if scan.limit is not None and len(scan.events) > scan.limit:
        return Kind.WRONG_RANGE, f"{len(scan.events)} events were given where {scan.limit} were asked for"
    return None


def _check_gaps(scan: ScanDone, log: ContextLog) -> Problem:
    """See whether all was given that counts as seen, and nothing beyond."""
    due = _due(scan, log)
    if due is None:
        return None
    seen = {event.position for event in scan.events}
    missing = next((event for event in due if event.position not in seen), None)
    if missing is not None:
        return Kind.GAP, f"position {missing.position}, event {missing.id} of {missing.stream!r}, was left out"
    if len(scan.events) > len(due):
        beyond = scan.events[len(due)].position
        return Kind.WRONG_CHECKPOINT, f"position {beyond} was given, and {_end(scan)} is all that counts as seen"
    return None


def _due(scan: ScanDone, log: ContextLog) -> list[ScannedEvent] | None:
    """Return what must have been given, or None if that is not known."""
    wanted = log.wanted(scan.types, scan.prefix)
    if wanted is None:
        return None
    due = wanted.between(scan.after, _end(scan))
    if not scan.reverse:
        return due
    return due[::-1] if scan.whole else due[::-1][: len(scan.events)]


def _end(scan: ScanDone) -> int:
    """Return the position up to which everything counts as seen."""
    if scan.reverse:
        return scan.after if scan.newest is None else scan.newest
    return scan.marks[-1].through if scan.marks else scan.after


def _check_marks(scan: ScanDone, log: ContextLog) -> Problem:
    """See whether each checkpoint stood between what had come by then and what came next."""
    wanted = log.wanted(scan.types, scan.prefix)
    before = Mark(scan.begun_us, 0, scan.after)
    for mark in scan.marks:
        if mark.through < before.through:
            return Kind.WRONG_CHECKPOINT, f"it went back from {before.through} to {mark.through}"
        last = scan.events[mark.events - 1].position if mark.events else scan.after
        if mark.through < last:
            return Kind.WRONG_CHECKPOINT, f"it was {mark.through} after position {last} had been given"
        if wanted is not None and len(wanted.between(last, mark.through)) > 0:
            position = wanted.between(last, mark.through)[0].position
            return Kind.WRONG_CHECKPOINT, f"it was {mark.through} before position {position} had been given"
        before = mark
    return None


_CHECKS: tuple[Callable[[ScanDone, ContextLog], Problem], ...] = (
    _check_positions,
    _check_events,
    _check_count,
    _check_gaps,
    _check_marks,
)
