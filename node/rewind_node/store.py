"""The store: logs, replicas' state and indexes of a node's partitions, on any engine.

Rules it keeps:

* An entry's bytes are stored once, in the log; the indexes only say where to look.
* Index rows and the `applied` mark that covers them belong to the same commit. Nothing here commits by itself.
* Where streams are is for `rewind_node.stream_segments` to know; here is what deletes that as well.
* What is read is verified: every value but an entry by its checksum here, an entry by `Entry.decode` where it is used.
* No reader outlives a turn: finish or drop an iterator before the next write.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from rewind_cluster.entry import Entry
from rewind_cluster.errors import DamagedError
from rewind_node import store_layout as layout
from rewind_node.engine import Engine, Pair
from rewind_node.log_end import index_of, log_end, log_ends
from rewind_node.store_layout import U16, U64, GroupRow, PositionRow, ReplicaState, SessionRun, StreamRow
from rewind_node.strays import delete_strays

__all__ = ["GroupRow", "LogStore", "PositionRow", "ReplicaState", "SessionRun", "Store", "StreamRow"]


REORDERED_ROWS = 512  # of a log, put in order at once: a page holds some 150 of them at most


class Store:
    """One node's storage. A partition's number comes first everywhere."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        for table in layout.SHARED_TABLES:
            engine.create_table(table)

    def commit(self) -> None:
        """Make everything written since the last commit durable; `StorageFailedError` must end the process."""
        self.engine.commit()

    # The node itself

    def node_value(self, key: str) -> bytes | None:
        """Return what the node keeps under a name, or None."""
        name = key.encode()
        value = self.engine.get(layout.NODE, name)
        return None if value is None else layout.unseal(layout.NODE, name, value)

    def put_node_value(self, key: str, value: bytes) -> None:
        """Keep a value under a name."""
        name = key.encode()
        self.engine.put(layout.NODE, [(name, layout.seal(name, value))])

    # Replicas

    def partitions(self) -> list[int]:
        """Return the partitions this node has a replica of, as far as its state is sound."""
        rows = self.engine.scan(layout.RAFT, b"", layout.SPACE_END)
        return sorted(layout.partition_of_key(key) for key, value in rows if layout.is_sound(key, value))

    def stateless_partitions(self) -> list[int]:
        """Return the partitions that have a log's table and no sound state: it is lost, or the replica was dropped."""
        replicas = set(self.partitions())
        return [number for number in layout.logged_partitions(self.engine.tables()) if number not in replicas]

    def mend_states(self) -> None:
        """Keep only sound states where their keys do not ascend, so that a search finds each.

        A damaged key hides others from a search. What is written then can leave an older state of the same replica
        beside it, one that has forgotten its vote: of two states of one replica neither is kept.
        """
        rows = self.engine.run(layout.RAFT, b"", layout.STATES_MAX)
        if all(row[0] < following[0] for row, following in pairwise(rows)):
            return
        sound = [(key, value) for key, value in rows if layout.is_sound(key, value)]
        times = Counter(key for key, _ in sound)
        self.engine.delete_run(layout.RAFT, b"", len(rows))
        self.engine.put(layout.RAFT, sorted(pair for pair in sound if times[pair[0]] == 1))

    def create_partition(self, partition: int) -> None:
        """Make room for a partition's log; its replica exists once its state is put."""
        self.engine.create_table(layout.log_table(partition))
        assert self.replica_state(partition) or not self.engine.count(layout.log_table(partition)), (
            "a replica is dropped before the next one"
        )

    def replica_state(self, partition: int) -> ReplicaState | None:
        """Return the state of this node's replica of a partition, or None."""
        key = U16.pack(partition)
        value = self.engine.get(layout.RAFT, key)
        return None if value is None else layout.unpack_state(key, value)

    def known_state(self, partition: int) -> ReplicaState:
        """Return the state of a replica that must have one; a missing one is damage."""
        state = self.replica_state(partition)
        if state is None:
            raise DamagedError(f"the state of the replica of partition {partition} is missing")
        return state

    def put_replica_state(self, partition: int, state: ReplicaState) -> None:
        """Keep the state of this node's replica of a partition."""
        key = U16.pack(partition)
        self.engine.put(layout.RAFT, [(key, layout.pack_state(key, state))])

    # Logs

    def log_store(self, partition: int) -> "LogStore":
        """Return the log of one partition, as the Raft core reads it."""
        return LogStore(self, partition)

    def last_index(self, partition: int) -> int:
        """Return the index of a log's last entry, 0 for an empty log; that it may have ended elsewhere is damage."""
        return log_end(self.engine, partition)

    def farthest_index(self, partition: int) -> int:
        """Return the farthest index that a log may end at, though it be damaged."""
        return max(log_ends(self.engine, partition))

    def has_lost_rows(self, partition: int, last_index: int) -> bool:
        """Return whether a log whose entries are there up to one, with nothing behind it, counts more or fewer."""
        table, last = layout.log_table(partition), U64.pack(last_index) if last_index else b""
        return self.engine.count(table) != last_index and not self.engine.run(table, last, 1)

    def entry(self, partition: int, index: int) -> bytes:
        """Return the bytes of one entry; a missing one is damage."""
        data = self.engine.get(layout.log_table(partition), U64.pack(index))
        if data is None:
            raise DamagedError(f"entry {index} of partition {partition} is missing")
        return data

    def entries(self, partition: int, first: int, last: int, bytes_max: int) -> list[bytes]:
        """Return entries `first` to `last`, at least one and then as many as `bytes_max` allows; a hole is damage."""
        found: list[bytes] = []
        bytes_left = bytes_max
        for data in self.scan_entries(partition, first, last):
            bytes_left -= len(data)
            if found and bytes_left < 0:
                break
            found.append(data)
        return found

    def scan_entries(self, partition: int, first: int, last: int) -> Iterator[bytes]:
        """Yield the bytes of entries `first` to `last`; a hole, or what stands among them and is none, is damage.

        The caller finishes or drops the iterator before the next write.
        """
        index = first
        for key, data in self.engine.scan(layout.log_table(partition), U64.pack(first), U64.pack(last + 1)):
            if layout.index_of_key(key) != index:
                break
            yield data
            index += 1
        if index <= last:
            raise DamagedError(f"entry {index} of partition {partition} is missing")

    def reorder_entries(self, partition: int, index: int) -> bool:
        """Put the rows that stand at an entry and behind it in order; return whether they were not.

        A row with a damaged key is found by no search, and hides what follows it from whoever reads entry after entry.
        It is deleted by its place, with all rows on its page, and each is put where its entry belongs.
        """
        table, before = layout.log_table(partition), U64.pack(index - 1) if index > 1 else b""
        rows = self.engine.run(table, before, REORDERED_ROWS)
        due = _in_order(index, rows, at_end=len(rows) < REORDERED_ROWS)
        if due == rows:
            return False
        self.engine.replace_run(table, before, len(rows), due)
        return True

    def append_entries(self, partition: int, entries: Sequence[Entry]) -> None:
        """Add entries at the log's end."""
        items = [(U64.pack(entry.index), entry.data) for entry in entries]
        self.engine.append(layout.log_table(partition), items)

    def truncate(self, partition: int, first_index: int) -> None:
        """Delete the entries from `first_index` on."""
        self.engine.delete_range(layout.log_table(partition), U64.pack(first_index), layout.NUMBERS_END)

    def rows_from(self, partition: int, index: int, count: int) -> list[bytes]:
        """Return the first rows that stand from an entry on, by their place, whatever their keys say."""
        table, before = layout.log_table(partition), U64.pack(index - 1) if index > 1 else b""
        return [data for _, data in self.engine.run(table, before, count)]

    def drop_rows_from(self, partition: int, index: int) -> None:
        """Delete what stands from an entry on, by its place, whatever the keys say."""
        table, before = layout.log_table(partition), U64.pack(index - 1) if index > 1 else b""
        self.engine.delete_run(table, before, self.engine.count(table))

    def replace_entry(self, partition: int, entry: Entry) -> None:
        """Put a good copy in the place of a damaged or lost entry."""
        assert 1 <= entry.index <= self.farthest_index(partition), "replacing never moves the log's end"
        self.engine.put(layout.log_table(partition), [(U64.pack(entry.index), entry.data)])

    # Positions

    def put_positions(self, partition: int, context: int, rows: Iterable[PositionRow]) -> None:
        """Index the positions that entries gave to their events."""
        self.engine.put(layout.POSITIONS, [layout.pack_position(partition, context, row) for row in rows])

    def position_head(self, partition: int, context: int) -> int:
        """Return the position of a context's last event, 0 where there is none."""
        row = self._position_at(partition, context, layout.U64_MAX)
        return row.last_position if row else 0

    def position_rows(
        self, partition: int, context: int, position: int, *, reverse: bool = False
    ) -> Iterator[PositionRow]:
        """Yield a context's rows from the one that holds a position, or the next beyond it, on; or down from it."""
        space = layout.SPACE.pack(partition, context)
        start, stop = space, layout.space_end(partition, context)
        if reverse:
            stop = min(stop, space + U64.pack(position) + b"\x00")
        else:
            row = self._position_at(partition, context, position)
            start = space + U64.pack(row.first_position if row and row.last_position >= position else position)
        for key, value in self.engine.scan(layout.POSITIONS, start, stop, reverse=reverse):
            yield layout.unpack_position(key, value)

    def _position_at(self, partition: int, context: int, position: int) -> PositionRow | None:
        """Return the last row of a context whose first position is not beyond `position`."""
        space = layout.SPACE.pack(partition, context)
        pair = self.engine.floor(layout.POSITIONS, space + U64.pack(position))
        return layout.unpack_position(*pair) if pair and pair[0].startswith(space) else None

    # Sessions

    def put_session_runs(self, partition: int, runs: Iterable[SessionRun]) -> None:
        """Keep runs of answers, each under its session and first sequence number."""
        self.engine.put(layout.SESSIONS, [layout.pack_session_run(partition, run) for run in runs])

    def delete_session_runs(self, partition: int, keys: Iterable[tuple[int, int]]) -> None:
        """Forget runs, named by session and first sequence number."""
        self.engine.delete(layout.SESSIONS, [layout.session_key(partition, *key) for key in keys])

    def session_runs(self, partition: int) -> Iterator[SessionRun]:
        """Yield a partition's runs, by session and sequence number."""
        for key, value in self.engine.scan(layout.SESSIONS, *layout.partition_range(partition)):
            yield layout.unpack_session_run(key, value)

    # Groups

    def put_groups(self, partition: int, rows: Iterable[GroupRow]) -> None:
        """Keep the states of groups."""
        self.engine.put(layout.GROUPS, [layout.pack_group(partition, row) for row in rows])

    def delete_groups(self, partition: int, keys: Iterable[tuple[int, str]]) -> None:
        """Forget groups, named by context and name."""
        self.engine.delete(layout.GROUPS, [layout.group_key(partition, *key) for key in keys])

    def groups(self, partition: int) -> Iterator[GroupRow]:
        """Yield a partition's groups, by context and name."""
        for key, value in self.engine.scan(layout.GROUPS, *layout.partition_range(partition)):
            yield layout.unpack_group(key, value)

    # Repair and removal, in slices

    def drop_indexes(self, partition: int, count_max: int) -> bool:
        """Delete up to `count_max` index rows of a partition and return whether all are gone.

        The first slice sets `applied` to 0, so that a crash between two slices leaves no mark beyond the rows: after a
        restart a replica that has applied nothing drops what is left before it applies again.
        """
        state = self.replica_state(partition)
        if state is not None and state.applied:
            self.put_replica_state(partition, replace(state, applied=0))
        return self.delete_index_rows(partition, count_max)

    def drop_partition(self, partition: int, count_max: int) -> bool:
        """Delete a replica, up to `count_max` rows of it, and return whether all are gone.

        Its state goes with the first slice, so that after a crash between two slices nothing takes the rest for a
        sound replica: `stateless_partitions` names it.
        """
        self.engine.delete(layout.RAFT, [U16.pack(partition)])
        log = layout.log_table(partition)
        log_is_gone = self.engine.delete_range(log, b"", layout.NUMBERS_END, count_max) < count_max
        return log_is_gone and self.delete_index_rows(partition, count_max)

    def delete_index_rows(self, partition: int, count_max: int) -> bool:
        """Delete up to `count_max` index rows of a partition that is not applied, and return whether all are gone."""
        start, stop = layout.partition_range(partition)
        for table in layout.INDEX_TABLES:
            while deleted := (
                self.engine.delete_range(table, start, stop, count_max) or delete_strays(self.engine, table, start)
            ):
                count_max -= deleted
                if count_max <= 0:
                    return False
        return True


def _in_order(first: int, rows: Sequence[Pair], *, at_end: bool) -> list[Pair]:
    """Return rows each where its entry belongs. One that says nothing stays where its key says, if that can be.

    One that can be nowhere stands for an entry all the same. Where the log ends with these rows (`at_end`) and has no
    hole for it, it is put behind them: a log must not end before what was acknowledged, whatever is damaged.
    """
    placed: dict[int, bytes] = {}
    silent: list[tuple[int, bytes]] = []
    for key, data in rows:
        said = index_of(data)
        if said is None or said < first:
            silent.append((layout.index_of_key(key), data))
        else:
            placed[said] = data
    last = max(placed, default=first - 1)
    homeless: list[bytes] = []
    for index, data in sorted(silent):
        if first <= index <= last + 1 and index not in placed:
            placed[index] = data
            last = max(last, index)
        else:
            homeless.append(data)
    holes = last + 1 - first - len(placed)
    if at_end:
        placed.update(enumerate(homeless[holes:], last + 1))
    return [(U64.pack(index), data) for index, data in sorted(placed.items())]


class LogStore:
    """The log of one partition."""

    __slots__ = ("_partition", "_store")

    def __init__(self, store: Store, partition: int) -> None:
        self._store = store
        self._partition = partition

    def last_index(self) -> int:
        """Return the index of the last entry, 0 for an empty log, or raise `DamagedError` if that is not certain."""
        return self._store.last_index(self._partition)

    def entry(self, index: int) -> bytes:
        """Return the bytes of one entry; a missing one is damage."""
        return self._store.entry(self._partition, index)

    def entries(self, first: int, last: int, bytes_max: int) -> list[bytes]:
        """Return the entries `first` to `last`, at least one and then as many as `bytes_max` allows."""
        return self._store.entries(self._partition, first, last, bytes_max)
