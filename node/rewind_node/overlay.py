"""The uncommitted tail of a leader's log, laid over the applied state.

An append is judged against versions, positions and sessions as they will be once all that is in the log has been
committed. The overlay is built from the log when a replica is elected, grows with each entry that it proposes, and
shrinks with each that is applied. A leader never truncates its own log, so the overlay dies with the term and is never
cut back.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from rewind_cluster.entry import Entry, EntryKind
from rewind_cluster.records import Record, RecordKind, iterate_body, unpack_append, unpack_refusal
from rewind_node.applying import Applied, EventIndex
from rewind_node.connections import Burst, Client
from rewind_node.sessions import SESSIONS_MAX

Waiter = tuple[Burst, int]  # who is to be answered for an append: its batch, and its sequence number in the session


@dataclass(slots=True)
class Waiters:
    """Who is to be answered when an entry has been applied, and the entry's records where this leader has made them."""

    appends: list[Waiter] = field(default_factory=list)
    sessions: list[tuple[Client, int]] = field(default_factory=list)  # who asked for a session, in which request
    records: list[Record] = field(default_factory=list)


@dataclass(slots=True)
class TailSession:
    """A session as the tail leaves it: its low-water mark, and by number who waits for an entry of the tail."""

    low: int
    pending: dict[int, Waiters] = field(default_factory=dict)


class Overlay:
    """The tail's effects on one data partition. `tail_bytes` counts its entries' bytes."""

    def __init__(self, index: EventIndex, tail: Iterable[Entry]) -> None:
        self.tail_bytes = 0
        self._index = index
        self._heads: dict[tuple[int, str], int] = {}
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
        for _, _, kind, payload in iterate_body(entry.body):
            if kind == RecordKind.APPEND:
                append = unpack_append(payload)
                self._heads[entry.context, append.stream] = append.last_version
                self._restore_number(append.session, append.sequence, append.low, waiters)
            elif kind == RecordKind.REFUSAL:
                refusal = unpack_refusal(payload)
                self._restore_number(refusal.session, refusal.sequence, refusal.low, waiters)
            elif kind == RecordKind.SESSION:
                self._opened.add(entry.index)
        if entry.event_count:
            self._positions[entry.context] = entry.first_position + entry.event_count - 1

    def _restore_number(self, session: int, sequence: int, low: int, waiters: Waiters) -> None:
        tail = self.session(session)
        if tail is None:  # evicted since: its appends stand, its numbers are refused from now on
            return
        tail.low = max(tail.low, low)
        tail.pending[sequence] = waiters

    def enter(self, entry: Entry, waiters: Waiters) -> None:
        """Take in an entry that now stands in the log."""
        self._waiters[entry.index] = (waiters, len(entry.data))
        self.tail_bytes += len(entry.data)

    def records(self, entry: Entry) -> list[Record] | None:
        """Return an entry's records, where they are known without reading its body again."""
        waiters = self._waiters.get(entry.index)
        return None if waiters is None else waiters[0].records or None

    def head(self, context: int, stream: str) -> int:
        """Return the version of a stream at the tail."""
        version = self._heads.get((context, stream))
        return self._index.head(context, stream) if version is None else version

    def set_head(self, context: int, stream: str, version: int) -> None:
        """Note the version that the tail leaves a stream at."""
        self._heads[context, stream] = version

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
            tail = self._sessions[number] = TailSession(1 if applied is None else applied.low)
        return tail

    def applied(self, entry: Entry, applied: Applied) -> Waiters:
        """Forget what an entry did to the tail, now that it has been applied, and return who waits for it."""
        waiters, size = self._waiters.pop(entry.index, (Waiters(), 0))
        self.tail_bytes -= size
        self._opened.discard(entry.index)
        context, heads, sessions = entry.context, self._heads, self._sessions
        for append in applied.appends:
            key = (context, append.stream)
            if heads.get(key) == append.last_version:
                del heads[key]
            tail = sessions.get(append.session)
            if tail is not None:
                tail.pending.pop(append.sequence, None)
        for refusal in applied.refusals:
            tail = sessions.get(refusal.session)
            if tail is not None:
                tail.pending.pop(refusal.sequence, None)
        if applied.appends and self._positions.get(context) == entry.first_position + entry.event_count - 1:
            del self._positions[context]
        self._forget_idle_sessions()
        return waiters

    def _forget_idle_sessions(self) -> None:
        if len(self._sessions) <= SESSIONS_MAX:
            return
        self._sessions = {number: tail for number, tail in self._sessions.items() if tail.pending}

    def resign(self) -> list[Waiters]:
        """Return all who wait, now that this replica leads no more."""
        return [waiters for waiters, _ in self._waiters.values()]
