"""Applying committed entries: from a partition's log to what reads and retries need.

The state of a data partition is a function of its log up to `applied`: rows for streams and positions in the store,
sessions in memory and store. An entry was judged by its leader before it was logged, so nothing is judged here; but
that versions and positions continue this replica's own is checked, and a mismatch is damage, never skipped.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rewind_cluster.entry import Entry, EntryKind
from rewind_cluster.errors import DamagedError
from rewind_cluster.records import Append, RecordKind, Refusal, iterate_body, unpack_append, unpack_refusal
from rewind_node.sessions import Answer, SessionTable, done, wrong_version
from rewind_node.store import Store, StreamRow


class Applied(NamedTuple):
    """What an applied entry held."""

    appends: Sequence[Append]
    refusals: Sequence[Refusal]


NOTHING = Applied((), ())


class EventIndex:
    """What a data partition's log has led to."""

    def __init__(self, partition: int, store: Store) -> None:
        self.partition = partition
        self.sessions = SessionTable(store.session_runs(partition))
        self._store = store
        self._positions: dict[int, int] = {}

    def head(self, context: int, stream: str) -> int:
        """Return the applied version of a stream, 0 for none."""
        return self._store.head(self.partition, context, stream)

    def position(self, context: int) -> int:
        """Return the newest applied position of a context, 0 for none."""
        position = self._positions.get(context)
        if position is None:
            position = self._positions[context] = self._store.position_head(self.partition, context)
        return position

    def apply(self, entry: Entry) -> Applied:
        """Put one committed entry into the store, uncommitted there, and return what it held."""
        if entry.kind is not EntryKind.RECORDS:
            return NOTHING
        work = _Applying(self, entry)
        for offset, length, kind, payload in iterate_body(entry.body):
            if kind == RecordKind.APPEND:
                work.append(offset, length, unpack_append(payload))
            elif kind == RecordKind.SESSION:
                work.settle()
                self.sessions.opened(entry.index)
            elif kind == RecordKind.REFUSAL:
                work.settle()
                refusal = unpack_refusal(payload)
                answer = wrong_version(refusal.stream, refusal.expected, refusal.actual, logged=True)
                self.sessions.settled(refusal.session, refusal.sequence, refusal.low, answer, (entry.index, offset))
            else:
                raise DamagedError(
                    f"entry {entry.index} of partition {self.partition} holds a record of the unknown kind {kind}; "
                    "upgrade this node"
                )
        work.finish()
        self._put(entry, work)
        return Applied(work.appends, work.refusals)

    def _put(self, entry: Entry, work: "_Applying") -> None:
        if work.rows:
            self._store.put_stream_rows(self.partition, entry.context, work.rows)
            self._store.put_position(
                self.partition, entry.context, entry.first_position, entry.event_count, entry.index
            )
            self._positions[entry.context] = entry.first_position + entry.event_count - 1
        runs, deleted = self.sessions.take_rows()
        if runs:
            self._store.put_session_runs(self.partition, runs)
        if deleted:
            self._store.delete_session_runs(self.partition, deleted)


class _Applying:
    """One entry on its way into the index: its rows, and the answers of its appends."""

    def __init__(self, index: EventIndex, entry: Entry) -> None:
        self.appends: list[Append] = []
        self.refusals: list[Refusal] = []
        self.rows: list[tuple[str, StreamRow]] = []
        self._index = index
        self._entry = entry
        self._heads: dict[str, int] = {}
        self._place = 0
        self._settling: tuple[int, int, int, int] | None = None  # session, sequence, low, offset
        self._places: list[tuple[int, int]] = []
        self._timestamp = 0

    def append(self, offset: int, length: int, append: Append) -> None:
        stream, first_version, place, session, sequence, low, count, _ = append
        head = self._heads.get(stream)
        if head is None:
            head = self._index.head(self._entry.context, stream)
        if first_version != head + 1 or place != self._place:
            raise self._mismatch(f"stream {stream!r} continues at {first_version}, this replica's is at {head}")
        self._heads[stream] = head + count
        self._place = place + count
        self.rows.append((stream, StreamRow(first_version, count, self._entry.index, offset, length)))
        self.appends.append(append)
        settling = self._settling
        if settling is None or settling[0] != session or settling[1] != sequence:
            self.settle()
            self._settling = (session, sequence, low, offset)
        self._places.append((head + count, self._entry.first_position + self._place - 1))
        self._timestamp = self._entry.timestamp + self._place - 1

    def refuse(self, offset: int, refusal: Refusal) -> None:
        self.settle()
        self.refusals.append(refusal)
        session, sequence, low, stream, expected, actual = refusal
        answer = wrong_version(stream, expected, actual, logged=True)
        self._index.sessions.settled(session, sequence, low, answer, (self._entry.index, offset))

    def finish(self) -> None:
        self.settle()
        if self._place != self._entry.event_count:
            raise self._mismatch(f"it holds {self._place} events, its header says {self._entry.event_count}")
        expected = self._index.position(self._entry.context) + 1
        if self._place and self._entry.first_position != expected:
            raise self._mismatch(
                f"it begins at position {self._entry.first_position}, this replica's next is {expected}"
            )

    def settle(self) -> None:
        if self._settling is None:
            return
        session, sequence, low, offset = self._settling
        answer: Answer = done(self._timestamp, self._places)
        self._index.sessions.settled(session, sequence, low, answer, (self._entry.index, offset))
        self._settling = None
        self._places = []

    def _mismatch(self, what: str) -> DamagedError:
        return DamagedError(f"entry {self._entry.index} of partition {self._index.partition} does not fit: {what}")


def unpack_control(entry: Entry) -> list[tuple[int, list[Any]]]:
    """Return kind and payload of each record of an entry of partition 0."""
    if entry.kind is not EntryKind.RECORDS:
        return []
    return [(kind, payload) for _, _, kind, payload in iterate_body(entry.body)]
