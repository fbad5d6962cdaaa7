"""The uncommitted tail of a leader's log, laid over the applied state.

An append is judged against versions, positions and sessions as they will be once all that is in the log has been
committed. The overlay is built from the log when a replica begins to lead, grows with each entry that it proposes, and
shrinks with each that is applied. A leader never truncates its own log, so the overlay dies with the term and is never
cut back.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from rewind_cluster.entry import Entry, EntryKind
from rewind_cluster.records import Record, RecordKind, iterate_body, unpack_refusal, unpack_run
from rewind_node.applying import Applied, EventIndex
from rewind_node.connections import Burst, Client
from rewind_node.sessions import SESSIONS_MAX, Numbered
from rewind_node.store import SessionRun

Waiter = tuple[Burst, int, int]  # who is to be answered for appends: their batch, and the first and last number
Ended = tuple[Waiter, SessionRun | None]  # and how they ended, or None where their session was evicted


@dataclass(slots=True, eq=False)
class Pending:
    """A run of a session's numbers that an entry of the tail will settle."""

    session: int
    first_sequence: int
    last_sequence: int
    waiters: list[Waiter]


@dataclass(slots=True)
class Waiters:
    """What an entry of the tail will settle, in the order of its records, and who is to be told when it has."""

    pending: list[Pending] = field(default_factory=list)
    sessions: list[tuple[Client, int]] = field(default_factory=list)  # who asked for a session, in which request
    records: list[Record] = field(default_factory=list)  # the entry's, where this leader has made them


class TailSession:
    """A session as the tail leaves it: its low-water mark, and the numbers that are pending."""

    __slots__ = ("_settled", "low", "pending")

    def __init__(self, low: int, settled: int) -> None:
        self.low = low
        self.pending: Numbered[Pending] = Numbered()
        self._settled = settled

    @property
    def last(self) -> int:
        """The highest number that has been seen."""
        return max(self._settled, self.pending.last)


class Overlay:
    """The tail's effects on one data partition. `tail_bytes` counts its entries' bytes."""

    def __init__(self, index: EventIndex, tail: Iterable[Entry]) -> None:
        self.tail_bytes = 0
        self._index = index
        self._heads: dict[int, dict[str, int]] = {}  # versions of streams, by context
        self._positions: dict[int, int] = {}
        self._sessions: dict[int, TailSession] = {}
        self._opened: set[int] = set()  # sessions that the tail opens
        self._waiters: dict[int, tuple[Waiters, int]] = {}  # by entry, with its bytes
        for entry in tail:
            self._restore(entry)

    def _restore(self, entry: Entry) -> None:
        waiters = Waiters()
        self.enter(entry, waiters)
        if entry.kind is not EntryKind.RECORDS:
            return
        for record in iterate_body(entry.body):
            if record.kind == RecordKind.RUN:
                run = unpack_run(record.payload)
                self.heads(entry.context).update(zip(run.streams, run.last_versions, strict=True))
                last = run.first_sequence + run.append_count - 1
                self._restore_numbers(waiters, run.low, Pending(run.session, run.first_sequence, last, []))
            elif record.kind == RecordKind.REFUSAL:
                refusal = unpack_refusal(record.payload)
                sequence = refusal.sequence
                self._restore_numbers(waiters, refusal.low, Pending(refusal.session, sequence, sequence, []))
            elif record.kind == RecordKind.SESSION:
                self._opened.add(entry.index)
        if entry.event_count:
            self._positions[entry.context] = entry.first_position + entry.event_count - 1

    def _restore_numbers(self, waiters: Waiters, low: int, pending: Pending) -> None:
        waiters.pending.append(pending)
        tail = self.session(pending.session)
        if tail is not None:  # else evicted since: its appends stand, its numbers are refused from now on
            tail.low = max(tail.low, low)
            tail.pending.add(pending)

    def enter(self, entry: Entry, waiters: Waiters) -> None:
        """Take in an entry that now stands in the log."""
        self._waiters[entry.index] = (waiters, len(entry.data))
        self.tail_bytes += len(entry.data)

    def records(self, entry: Entry) -> list[Record] | None:
        """Return an entry's records, where they are known without reading its body again."""
        waiters = self._waiters.get(entry.index)
        return None if waiters is None else waiters[0].records or None

    def heads(self, context: int) -> dict[str, int]:
        """Return the versions that the tail leaves the streams of a context at, to be looked up and added to."""
        heads = self._heads.get(context)
        if heads is None:
            heads = self._heads[context] = {}
        return heads

    def position(self, context: int) -> int:
        """Return the newest position of a context at the tail."""
        position = self._positions.get(context)
        return self._index.position(context) if position is None else position

    def set_position(self, context: int, position: int) -> None:
        """Note the newest position that the tail leaves a context at."""
        self._positions[context] = position

    def session(self, number: int) -> TailSession | None:
        """Return a session as the tail leaves it, or None if it is not known."""
        applied = self._index.sessions.find(number)
        if applied is None and number not in self._opened:
            return None
        tail = self._sessions.get(number)
        if tail is None:
            low, last = (1, 0) if applied is None else (applied.low, applied.last)
            tail = self._sessions[number] = TailSession(low, last)
        return tail

    def applied(self, entry: Entry, applied: Applied) -> tuple[list[Ended], list[tuple[Client, int]]]:
        """Forget what an entry did to the tail, now that it has been applied.

        Returns who waited for appends and how they ended, and who for a session.
        """
        waiters, size = self._waiters.pop(entry.index, (Waiters(), 0))
        self.tail_bytes -= size
        self._opened.discard(entry.index)
        heads = self.heads(entry.context)
        for run in applied.runs:
            for stream, version in zip(run.streams, run.last_versions, strict=True):
                if heads.get(stream) == version:
                    del heads[stream]
        if applied.runs and self._positions.get(entry.context) == entry.first_position + entry.event_count - 1:
            del self._positions[entry.context]
        ended: list[Ended] = []
        for pending, settled in zip(waiters.pending, applied.settled, strict=True):
            tail = self._sessions.get(pending.session)
            if tail is not None:
                tail.pending.remove(pending)
            ended.extend((waiter, settled) for waiter in pending.waiters)
        self._forget_idle_sessions()
        return ended, waiters.sessions

    def _forget_idle_sessions(self) -> None:
        if len(self._sessions) <= SESSIONS_MAX:
            return
        self._sessions = {number: tail for number, tail in self._sessions.items() if tail.pending}

    def resign(self) -> list[Waiters]:
        """Return all who wait, now that this replica leads no more."""
        return [waiters for waiters, _ in self._waiters.values()]
