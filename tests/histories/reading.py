"""Reads against the log: what was seen stands there, and bounds the moment in which it was all there was.

A read of any replica shows a state that the log once had, but none so new as its time; it must only have waited for
`at_least`. What it did show is committed, so whatever begins later must not miss it.
"""

from collections.abc import Sequence

from histories.history import ReadDone, SeenEvent
from histories.stored import NO_STREAM, Stored, StreamLog
from histories.timeline import Bounds
from histories.violations import Kind, Violation


class Readings:
    """All reads of one partition, checked one by one. `bounds` are those of linearizable ones, `shown` of all."""

    def __init__(self, stored: Stored, reads: Sequence[ReadDone]) -> None:
        self.bounds: list[Bounds] = []
        self.shown: list[Bounds] = []
        self.violations: list[Violation] = []
        self._stored = stored
        for read in reads:
            self._check(read)

    def _check(self, read: ReadDone) -> None:
        stream = self._stored.streams.get((read.context, read.stream), NO_STREAM)
        if stream.broken:
            return  # the log itself has been complained about
        problem = _range_problem(read) or self._content_problem(read, stream)
        if problem is not None:
            self.violations.append(Violation(*problem, (read,)))
            return
        bounds = self._bounds(read, stream)
        if bounds is not None:
            self._check_tokens(read, bounds)
            self.shown.append(bounds)
            if read.fresh:
                self.bounds.append(bounds)

    def _content_problem(self, read: ReadDone, stream: StreamLog) -> tuple[Kind, str] | None:
        """Return what of the events that were seen is not in the log as it was seen."""
        events = read.events
        if not events:
            return None
        if read.reverse:
            logged = stream.events[max(0, events[-1].version - 1) : events[0].version][::-1]
        else:
            logged = stream.events[max(0, events[0].version - 1) : events[-1].version]
        if tuple(logged) == events:
            return None
        for event in events:
            if event.version > stream.head:
                return (
                    Kind.PHANTOM,
                    f"version {event.version} of {read.stream!r} was read; the log ends at {stream.head}",
                )
            problem = self._difference(read, event, stream.events[event.version - 1])
            if problem is not None:
                return problem
        return None

    def _difference(self, read: ReadDone, seen: SeenEvent, logged: SeenEvent) -> tuple[Kind, str] | None:
        what = f"version {seen.version} of {read.stream!r}"
        if seen.id != logged.id:
            elsewhere = self._stored.holds_event(read.context, seen.id)
            kind = Kind.WRONG_PLACE if elsewhere else Kind.PHANTOM
            return kind, f"{what} was read as event {seen.id}; the log has {logged.id} there"
        if logged.digest and seen.digest != logged.digest:
            return Kind.PHANTOM, f"{what}, event {seen.id}, was read with other contents than it has in the log"
        if seen.position != logged.position or (logged.timestamp and seen.timestamp != logged.timestamp):
            told, true = (f"position {each.position} with timestamp {each.timestamp}" for each in (seen, logged))
            return Kind.WRONG_PLACE, f"{what}, event {seen.id}, was read at {told}; the log has it at {true}"
        return None

    def _bounds(self, read: ReadDone, stream: StreamLog) -> Bounds | None:
        head = _head_seen(read)
        end = self._stored.end
        if head is None:
            last = max((event.version for event in read.events), default=0)
            return Bounds(read, stream.place_of(last), end)
        version, exact = head
        if not exact:
            return Bounds(read, 0, stream.most_before(version + 1, end), f"version {version + 1}")
        if version > stream.head:
            text = f"version {version} of {read.stream!r} was read; the log ends at {stream.head}"
            self.violations.append(Violation(Kind.PHANTOM, text, (read,)))
            return None
        bounds = Bounds(read, stream.place_of(version), stream.most_before(version + 1, end), f"version {version + 1}")
        if bounds.shows > bounds.most:
            text = f"{read.stream!r} was read up to version {version}, which is not the last of its append"
            self.violations.append(Violation(Kind.TORN_BATCH, text, (read,)))
            return None
        return bounds

    def _check_tokens(self, read: ReadDone, bounds: Bounds) -> None:
        """Raise what a read shows to what it waited for and what its answer names, and see whether it shows that."""
        places = self._stored.positions.get(read.context, [])
        for position, what in ((read.at_least, "it had to wait for"), (read.seen, "its answer names")):
            if position > len(places):
                text = f"{what} position {position}; the log ends at {len(places)}"
                self.violations.append(Violation(Kind.PHANTOM, text, (read,)))
            elif position:
                # A long read is answered in chunks. Its token is from the newest, which need not be the one that tells
                # the stream's end: the first one does of a reversed read, any replica's last one of another.
                binding = position == read.at_least or (read.fresh and not read.reverse)
                if binding and places[position - 1] > bounds.most:
                    text = f"{bounds.why} of {read.stream!r} stands at or before position {position}, which {what}"
                    self.violations.append(Violation(Kind.STALE_READ, text, (read,)))
                bounds.shows = max(bounds.shows, places[position - 1])


def _head_seen(read: ReadDone) -> tuple[int, bool] | None:
    """Return the last version as a read says, and whether that is it or the most it can be; None where it does not."""
    if read.version is not None:
        return read.version, True
    count = len(read.events)
    if read.reverse and count:
        return read.events[0].version, True
    if count == read.limit:
        return None
    return (read.events[-1].version, True) if count else (read.after, False)


def _range_problem(read: ReadDone) -> tuple[Kind, str] | None:
    """Return how the versions that came differ from those that were asked for."""
    versions = [event.version for event in read.events]
    if not versions:
        return None
    if read.limit is not None and len(versions) > read.limit:
        return Kind.WRONG_RANGE, f"{len(versions)} events came where {read.limit} were asked for"
    if min(versions) <= read.after:
        return Kind.WRONG_RANGE, f"version {min(versions)} came where only those after {read.after} were asked for"
    first = versions[0] if read.reverse else read.after + 1
    step = -1 if read.reverse else 1
    wanted = list(range(first, first + step * len(versions), step))
    if versions != wanted:
        missing = next(want for want, version in zip(wanted, versions, strict=True) if want != version)
        return Kind.VERSION_HOLE, f"version {missing} of {read.stream!r} is missing from what was read"
    if read.reverse and versions[-1] != read.after + 1 and len(versions) != read.limit:
        return Kind.VERSION_HOLE, f"version {versions[-1] - 1} of {read.stream!r} is missing from what was read"
    return None
