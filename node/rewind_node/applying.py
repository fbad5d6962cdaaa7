"""Applying committed entries: from a partition's log to what reads and retries need.

The state of a data partition is a function of its log up to `applied`: rows of streams, positions, sessions, groups.
What an entry holds of appends was judged by its leader before it was logged, so it is not judged here; but that
versions and positions continue this replica's own is checked, and a mismatch is damage, never skipped. Operations on
consumer groups are judged here, by every replica alike.

The state is kept in memory and goes to the store in checkpoints, see `rewind_node.stream_index`. `checkpointed` is the
index that the store's rows lead to; entries after it are applied anew after a restart.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rewind_cluster.cluster_map import ClusterMap
from rewind_cluster.entry import Entry, EntryKind
from rewind_cluster.errors import DamagedError
from rewind_cluster.records import Record, RecordKind, Run, iterate_body, unpack_refusal, unpack_run
from rewind_node.groups import GroupKey, GroupTable, Outcome
from rewind_node.position_index import PositionIndex
from rewind_node.sessions import SessionKey, SessionTable, done, wrong_version
from rewind_node.store import GroupRow, PositionRow, SessionRun, Store
from rewind_node.stream_index import StreamIndex

CHECKPOINT_ROWS = 262_144  # gathered rows of a node, all partitions together, that make checkpoints due early: some
# 50 MB, twice that while they are written. The more rows a checkpoint has, the more of them share a page.
CHECKPOINT_ROWS_MIN = 4096  # of a partition, however many there are
SLICE_ROWS = 256  # put into the store in one turn
MERGE_PACE = 4  # rows merged for each that is applied: a row rises a level for each power of eight of checkpoints that
# there have been, so that merging keeps up with 4,096 of them


class Applied(NamedTuple):
    """What an applied entry held: its appends, and how each run of a session's numbers ended, None if evicted since.

    `groups`: how each operation on a consumer group ended.
    """

    runs: Sequence[Run]
    settled: Sequence[SessionRun | None]
    groups: Sequence[Outcome]


NOTHING = Applied((), (), ())


@dataclass(slots=True)
class Checkpoint:
    """The state at `index` on its way into the store."""

    index: int
    runs: list[SessionRun]
    deleted_runs: list[SessionKey]
    groups: list[GroupRow]
    deleted_groups: list[GroupKey]


class EventIndex:
    """What a data partition's log has led to."""

    def __init__(self, partition: int, store: Store, applied: int, partitions: int = 1) -> None:
        self.partition = partition
        self._rows_due = max(CHECKPOINT_ROWS_MIN, CHECKPOINT_ROWS // partitions)
        self.applied = applied
        self.checkpointed = applied
        self.streams = StreamIndex(partition, store, applied)
        self.sessions = SessionTable(store.session_runs(partition))
        self.groups = GroupTable(store.groups(partition))
        self.positions = PositionIndex(partition, store)
        self._store = store
        self._checkpoint: Checkpoint | None = None

    def head(self, context: int, stream: str) -> int:
        """Return the applied version of a stream, 0 for none."""
        return self.streams.head(context, stream)

    def position(self, context: int) -> int:
        """Return the newest applied position of a context, 0 for none."""
        return self.positions.head(context)

    def apply(self, entry: Entry, records: Iterable[Record] | None = None) -> Applied:
        """Take in one committed entry and return what it held. `records`: its body's, where they are known already."""
        applied = NOTHING
        if entry.kind is EntryKind.RECORDS:
            work = _Applying(self, entry)
            work.run(iterate_body(entry.body) if records is None else records)
            applied = Applied(work.runs, work.settled, work.groups)
            if entry.event_count:
                self.positions.add(entry.context, PositionRow(entry.first_position, entry.event_count, entry.index))
        self.applied = entry.index
        return applied

    # Checkpoints.

    @property
    def checkpoint_due(self) -> bool:
        """Whether so much has gathered in memory that a checkpoint should begin."""
        return self._checkpoint is None and self.streams.row_count >= self._rows_due

    @property
    def checkpointing(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._checkpoint is not None

    def begin_checkpoint(self) -> None:
        """Begin to write what has been applied, unless that is under way or done."""
        if self._checkpoint is None and self.applied > self.checkpointed:
            self.positions.freeze()
            self.streams.freeze()
            self._checkpoint = Checkpoint(self.applied, *self.sessions.take_rows(), *self.groups.take_rows())

    def keep_house(self) -> None:
        """Write a slice of the checkpoint under way, and bring what is stored into order.

        Both follow the load: a replica that catches up must not gather rows faster than it writes them, nor segments
        faster than it merges them. When there is no load, the one is done after the other.
        """
        added, self.streams.added = self.streams.added, 0
        merged = MERGE_PACE * added
        if self.checkpointing:
            self.write_checkpoint(max(SLICE_ROWS, 2 * added))
        else:
            merged = max(SLICE_ROWS // 2, merged)
        self.streams.tidy(merged)

    def write_checkpoint(self, rows_max: int) -> bool:
        """Put a slice of the checkpoint into the store; return whether it is whole and `checkpointed` has moved."""
        checkpoint = self._checkpoint
        if checkpoint is None or not self.streams.write(rows_max):
            return False
        self.positions.write()
        if checkpoint.runs:
            self._store.put_session_runs(self.partition, checkpoint.runs)
        if checkpoint.deleted_runs:
            self._store.delete_session_runs(self.partition, checkpoint.deleted_runs)
        if checkpoint.groups:
            self._store.put_groups(self.partition, checkpoint.groups)
        if checkpoint.deleted_groups:
            self._store.delete_groups(self.partition, checkpoint.deleted_groups)
        self.streams.thaw(checkpoint.index)
        self.checkpointed = checkpoint.index
        self._checkpoint = None
        return True


class _Applying:
    """One entry on its way into the index."""

    def __init__(self, index: EventIndex, entry: Entry) -> None:
        self.runs: list[Run] = []
        self.settled: list[SessionRun | None] = []
        self.groups: list[Outcome] = []
        self._index = index
        self._entry = entry
        self._place = 0

    def run(self, records: Iterable[Record]) -> None:
        entry = self._entry
        for record in records:
            if record.kind == RecordKind.RUN:
                self._append(record, unpack_run(record.payload))
            elif record.kind == RecordKind.SESSION:
                self._index.sessions.opened(entry.index)
            elif record.kind == RecordKind.REFUSAL:
                session, sequence, low, stream, expected, actual = unpack_refusal(record.payload)
                answer = wrong_version(stream, expected, actual, logged=True)
                self._settle(SessionRun(session, sequence, 1, entry.index, record.offset, low, answer))
            elif record.kind == RecordKind.GROUP:
                self.groups.append(self._index.groups.apply(entry.index, record.payload, self._index.position))
            else:
                raise DamagedError(
                    f"entry {entry.index} of partition {self._index.partition} holds a record of the unknown kind "
                    f"{record.kind}; upgrade this node"
                )
        if self._place != entry.event_count:
            raise self._mismatch(f"it holds {self._place} events, its header says {entry.event_count}")

    def _append(self, record: Record, run: Run) -> None:
        entry, index = self._entry, self._index
        place = run.place
        if place != self._place:
            raise self._mismatch(f"appends stand at {place}, after {self._place} events")
        if not place and entry.first_position != index.position(entry.context) + 1:
            raise self._mismatch(f"it begins at position {entry.first_position}, not after this replica's last")
        index.streams.add(entry.context, run, entry.index, record.offset, record.length)
        self._place = place + run.event_count
        self.runs.append(run)
        answer = done(run, entry.first_position + place, entry.timestamp + place)
        self._settle(
            SessionRun(run.session, run.first_sequence, run.append_count, entry.index, record.offset, run.low, answer)
        )

    def _settle(self, run: SessionRun) -> None:
        self.settled.append(run if self._index.sessions.settled(run) else None)

    def _mismatch(self, what: str) -> DamagedError:
        return DamagedError(f"entry {self._entry.index} of partition {self._index.partition} does not fit: {what}")


def unpack_control(entry: Entry) -> list[tuple[int, Sequence[Any]]]:
    """Return kind and payload of each record of an entry of partition 0."""
    if entry.kind is not EntryKind.RECORDS:
        return []
    return [(record.kind, record.payload) for record in iterate_body(entry.body)]


def apply_to_map(cluster_map: ClusterMap, entry: Entry) -> None:
    """Bring the map up to date with a committed entry of partition 0."""
    for kind, payload in unpack_control(entry):
        cluster_map.apply(entry.index, kind, payload)
    cluster_map.index = entry.index
