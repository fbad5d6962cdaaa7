"""A replica of a data partition: appends while it leads, reads whenever it may."""

from collections.abc import Callable, Sequence
from typing import Any

from rewind_cluster.batches import AppendRun
from rewind_cluster.client_messages import (
    AppendBatch,
    Code,
    Failed,
    GetVersion,
    ListStreams,
    OpenSession,
    ReadStream,
    StreamIs,
    StreamsAre,
    VersionIs,
    pack_chunk,
)
from rewind_cluster.clock import HybridClock
from rewind_cluster.cluster_map import ClusterMap
from rewind_cluster.entry import Entry
from rewind_cluster.raft import RaftOptions
from rewind_cluster.ranges import AllIs, GetPosition, PositionIs, ReadAll, pack_rows
from rewind_node.applying import CHECKPOINT_ROWS, EventIndex
from rewind_node.connections import Burst, Client, Outbox
from rewind_node.group_desk import GroupDesk
from rewind_node.leadership import Leadership
from rewind_node.range_reading import Limits, Range, RangeReader
from rewind_node.reading import Reader
from rewind_node.replica import PendingRead, Replica
from rewind_node.selecting import Selection
from rewind_node.store import Store

CHUNK_BYTES_MAX = 1024 * 1024  # of records in one answer, the last record excepted
TURN_ANSWER_BYTES_MAX = 4 * 1024 * 1024  # of chunks in one turn, all partitions together: about 2 ms of reading
CHUNK_EVENTS_MAX = 4096
RANGE_COST_MAX = 1024 * 1024  # of reading and sending one range, what is filtered out included: 3 to 6 ms
RANGE_COST_FACTOR = 4  # whole entries are verified and unpacked: that takes four times as long as parts of a stream
CHECKPOINT_INTERVAL_US = 10_000_000  # with little to do: what a restart has to apply anew stays small
NAMES_MAX = 1000  # streams in one answer

Read = ReadStream | GetVersion | ListStreams | ReadAll | GetPosition


class DataPartition(Replica):
    """One data partition's replica."""

    def __init__(
        self,
        partition: int,
        store: Store,
        options: RaftOptions,
        pick: Callable[[int, int], int],
        now_us: int,
        *,
        cluster_map: ClusterMap,
        clock: HybridClock,
        outbox: Outbox,
        has_space: Callable[[Replica], bool],
        ranges: RangeReader,
        now: Callable[[], int],
    ) -> None:
        super().__init__(partition, store, options, pick, now_us)
        self._now = now
        self._has_space = has_space
        self._map = cluster_map
        self._clock = clock
        self._outbox = outbox
        self._leadership: Leadership | None = None
        self._group_desk: GroupDesk | None = None
        self.index = EventIndex(self.partition, self.store, self.applied, len(cluster_map.partitions))
        self.reader = Reader(self.store, self.index)
        self._ranges = ranges
        # Not all partitions of a node at once.
        self._checkpoint_us = now_us - partition * CHECKPOINT_INTERVAL_US // (len(cluster_map.partitions) + 1)

    @property
    def tail_bytes(self) -> int:
        """Bytes of the log that await a majority, at a leader."""
        return self._leadership.tail_bytes if self._leadership else 0

    @property
    def answers_full(self) -> bool:
        """Whether this turn has answered reads with as many bytes as a turn may."""
        return self._outbox.bytes >= TURN_ANSWER_BYTES_MAX

    @property
    def wants_turn(self) -> bool:
        """Whether records wait to be proposed."""
        desk = self.group_desk
        return self._leadership is not None and (self._leadership.wants_turn or (desk is not None and desk.wants_turn))

    @property
    def group_desk(self) -> GroupDesk | None:
        """Where requests about consumer groups are taken, while this replica leads."""
        return None if self.raft.transferring else self._group_desk

    # Appends.

    def open_session(self, client: Client, message: OpenSession) -> bool:
        """Log a session; return False if this replica does not lead."""
        if self._leadership is None or self.raft.transferring:
            return False
        self._leadership.open_session(client, message.request)
        return True

    def append(self, client: Client, batch: AppendBatch, runs: Sequence[AppendRun], leader: tuple[str, int]) -> None:
        """Take a batch of appends, or refuse it naming the `leader` (node ID or "", term)."""
        if client.refused.get(self.partition, -1) >= batch.epoch:
            code, detail = Code.EPOCH, list[Any]([""])
        elif self._leadership is not None and self.leading:
            leadership = self._leadership
            if self.guard(lambda: leadership.take(client, batch, runs)):
                return
            code, detail = Code.OPEN, [f"this replica is under repair: {self.damage}"]
        else:
            code, detail = Code.NOT_LEADER, [*leader]
        client.refused[self.partition] = max(batch.epoch, client.refused.get(self.partition, -1))
        burst = Burst(client, self.partition, batch.session, batch.epoch)
        self._outbox.refuse(burst, runs, (code, *detail), (code, *detail))

    # What a replica does.

    def apply_entry(self, entry: Entry) -> None:
        """Put a committed entry into the index and answer those who waited for it."""
        if self._leadership is None:
            self.index.apply(entry)
            return
        applied = self.index.apply(entry, self._leadership.records(entry))
        self._leadership.applied(entry, applied)
        if applied.groups and self._group_desk is not None:
            self._group_desk.applied(entry.index, applied.groups)

    def lead(self) -> None:
        """Begin to take appends."""
        self._leadership = Leadership(
            self.raft,
            self.index,
            self.reader,
            self._map,
            self._clock,
            self._outbox,
            lambda: self._has_space(self),
            self.tail(),
        )
        self._group_desk = GroupDesk(self.index, self._outbox, self._leadership.obstacle, self._now)

    def resign(self) -> None:
        """Answer all who wait for this leader."""
        if self._leadership is not None:
            self._leadership.resign()
            self._leadership = None
        if self._group_desk is not None:
            self._group_desk.resign()
            self._group_desk = None

    def close_turn(self, wall_us: int) -> None:
        """Propose what this turn has gathered."""
        leadership, desk = self._leadership, self.group_desk
        if leadership is not None:
            leadership.close_turn(wall_us)
            if desk is not None:
                desk.close_turn(lambda body: leadership.log_records(body, wall_us))

    def reads_ready(self, number: int) -> None:
        """Let refusals that waited for a read-index round go on."""
        if self._leadership is not None:
            self._leadership.reads_ready(number)

    def settle_refusals(self) -> None:
        """Answer the refusals that have waited long enough."""
        if self._leadership is not None and self.leading:
            self._leadership.judge_ready(self.applied)

    # Checkpoints.

    @property
    def checkpointed(self) -> int:
        """The index that what is stored of the state leads to."""
        return self.index.checkpointed

    def checkpoint(self, now_us: int) -> None:
        """Begin a checkpoint when one is due, and write the next slice of the one under way."""
        due = self.index.checkpoint_due or now_us - self._checkpoint_us >= CHECKPOINT_INTERVAL_US
        if due and not self.index.checkpointing:
            self._checkpoint_us = now_us
            self.index.begin_checkpoint()
        self.index.keep_house()

    @property
    def untidy(self) -> bool:
        """Whether what is stored should be brought into order, when there is time."""
        return self.index.streams.untidy

    def finish_checkpoint(self) -> None:
        """Write all that has been applied, so that nothing is applied anew after a restart."""
        while self.index.checkpointing or self.applied > self.checkpointed:
            self.index.begin_checkpoint()
            self.index.write_checkpoint(CHECKPOINT_ROWS)
        self.put_state()

    # Reads.

    def read(self, client: Client, message: Read) -> None:
        """Serve a read when it may be; the caller has made sure that a fresh one is at the leader."""

        def fail(why: str) -> None:
            self._fail(client, message.request, Code.NOT_READY, why)

        at_least = message.at_least
        if isinstance(message, ReadAll):
            at_least = max(at_least, message.after or 0)
        # What a leader has not applied after a round, nobody has: it need not wait for what may never come.
        fresh = message.fresh or (self.leading and at_least > self.index.position(message.context))

        def serve() -> None:
            if at_least > self.index.position(message.context):
                text = f"position {at_least} is beyond the newest event of partition {self.partition}"
                self._fail(client, message.request, Code.BEYOND_HEAD, text)
            else:
                self._serve(client, message)

        def ready() -> bool:
            return fresh or at_least <= self.index.position(message.context)

        read = PendingRead(0, message.deadline_us, ready, serve, fail)
        if not self.add_read(read, fresh=fresh):
            self._fail(client, message.request, Code.OVERLOADED, "too many reads are waiting; retry later")

    def _serve(self, client: Client, message: Read) -> None:
        if isinstance(message, ReadStream):
            self._serve_stream(client, message)
        elif isinstance(message, GetVersion):
            version = self.index.head(message.context, message.stream)
            position = self.index.position(message.context)
            self._outbox.send(client, VersionIs(message.request, version, position))
        elif isinstance(message, ReadAll):
            self._serve_all(client, message)
        elif isinstance(message, GetPosition):
            self._outbox.send(client, PositionIs(message.request, self.index.position(message.context)))
        else:
            self._serve_names(client, message)

    def _serve_stream(self, client: Client, message: ReadStream) -> None:
        chunk = self.reader.chunk(
            message.context,
            message.stream,
            message.after,
            max(1, min(message.count_max, CHUNK_EVENTS_MAX)),
            max(1, min(message.bytes_max, CHUNK_BYTES_MAX)),
            reverse=message.reverse,
        )
        rows = [(append.first_version, append.position, append.timestamp, append.packed) for append in chunk.appends]
        position = self.index.position(message.context)
        self._outbox.send(client, StreamIs(message.request, chunk.version, position, chunk.more), pack_chunk(rows))
        self._outbox.bytes += chunk.opened_bytes  # a small event may stand in a large record

    def _serve_all(self, client: Client, message: ReadAll) -> None:
        position = self.index.position(message.context)
        start = message.after
        if start is None:
            start = position if message.reverse else 0
        limits = Limits(
            max(1, min(message.count_max, CHUNK_EVENTS_MAX)),
            max(1, min(message.bytes_max, CHUNK_BYTES_MAX)),
            RANGE_COST_MAX,
        )
        selection = Selection.check(message.types, message.prefix)
        found = self.read_range(message.context, start, selection, limits, reverse=message.reverse)
        more = found.through > 0 if message.reverse else found.through < position
        self._outbox.send(client, AllIs(message.request, start, found.through, position, more), pack_rows(found.rows))
        self._outbox.charge(RANGE_COST_FACTOR * found.cost)

    def read_range(
        self, context: int, after: int, selection: Selection, limits: Limits, *, reverse: bool = False
    ) -> Range:
        """Return the range that begins at `after`, as far as the limits allow, or raise `DamagedError`."""
        return self._ranges.read(self.index, context, after, selection, limits, reverse=reverse)

    def _serve_names(self, client: Client, message: ListStreams) -> None:
        count = max(1, min(message.count_max, NAMES_MAX))
        names = self.index.streams.names(message.context, message.prefix, message.after, count + 1)
        position = self.index.position(message.context)
        self._outbox.send(client, StreamsAre(message.request, names[:count], position, len(names) > count))

    def _fail(self, client: Client, request: int, code: Code, text: str) -> None:
        self._outbox.send(client, Failed(request, code, text, "", 0))
