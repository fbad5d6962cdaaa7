"""Repairing a damaged replica in place, from its leader.

A replica under repair takes no part in its group: it neither votes, campaigns, acknowledges nor serves, as if its node
were down. Its log is read from the first entry on, each verified by itself and by the chain of digests; what is damaged
is fetched from the leader, committed entries only, and put in its place. The log's end is not moved back: what this
replica once acknowledged it still holds. Only what follows on an entry in whose place another was committed, and is of
too old a term to be committed ever, is cut off, as it is from any follower's log: it would be waited for in vain. Then
its indexes are dropped, to be derived again, and it is loaded as after a restart.

The log is read entry after entry, as it is by whoever serves from it. A row with a damaged key is found by no search
and hides those behind it from such reading: the rows around it are put in order by what they say themselves.

A replica whose vote or membership is damaged or missing cannot be repaired, since it might vote twice: it stays out
until it is replaced under a new ID. So does one whose pages do not hang together, cannot be read, or hold another
number of entries than was counted: some may be gone that it acknowledged, and nobody knows how many. And
`rewind_node.infirmary` gives one up whose repairs do not help.
"""

from collections.abc import Sequence
from dataclasses import replace

from rewind_cluster.entry import NO_DIGEST, Entry, EntryKind
from rewind_cluster.errors import DamagedError, ProtocolError
from rewind_node.store import ReplicaState, Store

SLICE_BYTES = 512 * 1024  # verified in one slice: about 2 ms
DROP_ROWS = 2000  # index rows dropped in one slice
FETCH_ENTRIES = 256
TAIL_ROWS_MAX = 5000  # more than a leader adds that nobody hears of, until it steps down; looked at in some 40 ms
REPLACED = "must be replaced under a new ID"


class LogCheck:
    """A walk along a stored log that verifies entries and their chain. `next_index` is the first not yet verified."""

    def __init__(self, store: Store, partition: int) -> None:
        self._store = store
        self._partition = partition
        self.next_index = 1
        self.digest = NO_DIGEST
        self.term = 0

    def walk(self, last_index: int, bytes_max: int) -> bool:
        """Verify about `bytes_max` bytes of entries up to `last_index`; return whether the walk is over.

        Raises `DamagedError` at the first entry that is not what it was; `next_index` is then its index.
        """
        size = 0
        for data in self._store.scan_entries(self._partition, self.next_index, last_index):
            self.take(Entry.decode(data))
            size += len(data)
            if size >= bytes_max:
                break
        return self.next_index > last_index

    def take(self, entry: Entry) -> None:
        """Verify that an entry continues the chain, and step over it."""
        if entry.index != self.next_index or entry.previous_digest != self.digest or entry.term < self.term:
            raise DamagedError(f"entry {self.next_index} of partition {self._partition} breaks the chain of its log")
        self.next_index, self.digest, self.term = entry.index + 1, entry.digest, entry.term


class Repair:
    """The repair of one replica. `wanted` is the first entry to fetch from the leader, or None."""

    def __init__(self, store: Store, partition: int, reason: str) -> None:
        self.partition = partition
        self.reason = reason
        self.wanted: int | None = None
        self.repaired = 0
        self.done = False
        self.hopeless = False
        self._store = store
        self._check = LogCheck(store, partition)
        self._verified = False
        self._met = 0  # where damage was met last
        self._state = self._read_state()
        # A log that ends before what was applied has lost its end: that is fetched as well.
        self._end = max(self._state.applied, self._state.membership_index) if self._state else 0

    def _read_state(self) -> ReplicaState | None:
        try:
            return self._store.known_state(self.partition)
        except DamagedError as error:
            self.give_up(f"{error}; its vote is lost")
            return None

    @property
    def told(self) -> str:
        """What is wrong and what is done about it, in one line for people."""
        return self.reason if self.hopeless else f"{self.reason}; it is repaired from its leader"

    @property
    def replica(self) -> int:
        """The ID of the replica under repair, 0 where even that is lost."""
        return 0 if self._state is None else self._state.replica

    def work(self) -> None:
        """Do one slice of the repair."""
        if self.hopeless or self.wanted is not None or self.done:
            return
        try:
            if not self._verified:
                self._verify()
            else:
                self._drop_indexes()
        except DamagedError as error:
            self.give_up(f"what is stored cannot be mended: {error}")

    def give_up(self, reason: str) -> None:
        """Leave the replica out of service for good, for a reason."""
        self.reason = f"{reason}, so it {REPLACED}"
        self.wanted = None
        self.hopeless = True

    def _drop_indexes(self) -> None:
        """Drop a slice of the indexes, and put the state with each: what is stored may have been damaged since."""
        state = self._state
        assert state is not None
        term = max(state.term, self._check.term)
        vote = state.vote if term == state.term else 0
        self._store.put_replica_state(self.partition, replace(state, applied=0, term=term, vote=vote))
        self.done = self._store.delete_index_rows(self.partition, DROP_ROWS)

    def _verify(self) -> None:
        try:
            end = max(self._end, self._store.farthest_index(self.partition))
            if self._check.walk(end, SLICE_BYTES):
                self._store.last_index(self.partition)  # is certain now, or will never be
                self._verified = True
        except DamagedError:
            self._meet_damage()

    def _meet_damage(self) -> None:
        """Put rows in order that are not; otherwise have the next entry fetched, if it is not there already."""
        index = self._check.next_index
        again, self._met = index == self._met, index
        if not again and self._store.reorder_entries(self.partition, index):
            return
        if self._is_sound(index) or self._store.has_lost_rows(self.partition, index - 1):
            self.give_up(f"the pages of its log do not hang together at entry {index}")
        else:
            self.wanted = index

    def _is_sound(self, index: int) -> bool:
        entry = self._stored(index)
        return entry is not None and entry.index == index and entry.previous_digest == self._check.digest

    def _stored(self, index: int) -> Entry | None:
        try:
            return Entry.decode(self._store.entry(self.partition, index))
        except DamagedError:
            return None

    def received(self, first: int, frames: Sequence[bytes]) -> None:
        """Take committed entries of the leader: from `wanted` on, or its last one where that is not committed yet.

        They replace damaged ones here, or lengthen our log. Raises `ProtocolError` where they do not fit.
        """
        if self.wanted is None or first > self.wanted or not frames:
            return
        try:
            entries = [Entry.decode(data) for data in frames]
        except DamagedError as error:
            raise ProtocolError(f"what the leader sent does not fit: {error}") from error
        if entries[0].index != first:
            raise ProtocolError(f"the leader sent entry {entries[0].index} as {first}")
        try:
            if self._is_contradicted_by(entries[0]):
                self._make_way(min(first, self.wanted - 1), entries)
            elif first == self.wanted:
                self._take(entries)
        except DamagedError as error:
            self.give_up(f"what is stored cannot be mended: {error}")

    def _is_contradicted_by(self, entry: Entry) -> bool:
        """Return whether our entries before the wanted one are others than those that led to a committed entry."""
        if entry.index == self._check.next_index:
            return entry.index > 1 and entry.previous_digest != self._check.digest
        ours = self._stored(entry.index)
        return ours is not None and ours.digest != entry.digest

    def _make_way(self, index: int, committed: Sequence[Entry]) -> None:
        """Drop our entries from `index` on, where another was committed, if no leader can ever commit any of them.

        What stands behind a damaged entry need not have followed what is before it: a disk that lost a write shows old
        entries there. But terms never fall along a log, so what has a lower term than an entry that was committed
        before it never was. What may yet be committed is waited for.
        """
        state = self._state
        assert state is not None
        rows = self._store.rows_from(self.partition, index, TAIL_ROWS_MAX)
        ours = [entry for data in rows if (entry := _sound(data)) is not None]
        digests = {entry.index: entry.digest for entry in committed}
        if index <= state.applied or any(digests.get(entry.index) == entry.digest for entry in ours):
            self.give_up(f"entry {index} is another than was committed")
        elif len(rows) < TAIL_ROWS_MAX and all(entry.term < committed[-1].term for entry in ours):
            self._cut_off(index, state)

    def _cut_off(self, index: int, state: ReplicaState) -> None:
        self._store.drop_rows_from(self.partition, index)
        if state.membership_index >= index:
            state = _with_former_membership(state)
            self._keep(state)
        self._end = max(state.applied, state.membership_index)
        self._check = LogCheck(self._store, self.partition)
        self._met = 0
        self.wanted = None

    def _take(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            try:
                self._check.take(entry)
            except DamagedError as error:
                self.wanted = self._check.next_index
                raise ProtocolError(f"what the leader sent does not fit: {error}") from error
            self._put(entry)
        self.wanted = None

    def _put(self, entry: Entry) -> None:
        if entry.index > self._store.farthest_index(self.partition):
            self._store.append_entries(self.partition, [entry])
        elif self._stored(entry.index) != entry:
            self._store.replace_entry(self.partition, entry)
            self.repaired += 1
        self._put_membership(entry)

    def _put_membership(self, entry: Entry) -> None:
        """Keep the memberships in the state those of the log: what is put into it may be one, or replace one.

        The state goes into the same commit as the entry, and a crash before the repair is done cannot part them.
        """
        state = self._state
        assert state is not None
        if entry.kind is EntryKind.MEMBERSHIP:
            body = bytes(entry.body)
            if entry.index > state.membership_index:
                former, former_index = state.membership, state.membership_index
                state = replace(state, previous_membership=former, previous_index=former_index)
                state = replace(state, membership=body, membership_index=entry.index)
            elif entry.index == state.membership_index:
                state = replace(state, membership=body)
            elif entry.index > state.previous_index:
                state = replace(state, previous_membership=body, previous_index=entry.index)
        elif entry.index == state.membership_index:  # it was never committed, and another leader's entry was
            state = _with_former_membership(state)
        if state != self._state:
            self._keep(state)

    def _keep(self, state: ReplicaState) -> None:
        self._state = state
        self._store.put_replica_state(self.partition, state)


def _sound(data: bytes) -> Entry | None:
    try:
        return Entry.decode(data)
    except DamagedError:
        return None


def _with_former_membership(state: ReplicaState) -> ReplicaState:
    former = replace(state, membership=state.previous_membership, membership_index=state.previous_index)
    return replace(former, previous_membership=b"", previous_index=0)
