"""Reading a whole context, without input and output: which partition to ask next, and when all has been read.

The partitions are read in turn, a chunk at a time, with a few chunks on their way while one is consumed: so the memory
of a reader depends neither on how much there is nor on how many partitions hold it. The first chunk of a partition
tells its newest position, and there the read ends, though appends go on.

In reverse, which takes a context of one partition, the checkpoint says what was the newest event when the read began:
so whoever reads the last few events may subscribe from there on.
"""

from collections import deque
from collections.abc import Iterator

from rewind.cursor import Cursor
from rewind.errors import ProtocolError
from rewind.events import Event
from rewind.inquiries import Range, View, read_range
from rewind.requests import Request
from rewind.rows import Filter
from rewind.tokens import Origin

CHUNK_EVENTS_MAX = 4096  # as many as nodes send; events of a common size then come by the MiB
CHUNK_BYTES_TARGET = 1024 * 1024
CHUNKS_AHEAD = 4  # on their way at a time: as many nodes as a cluster commonly has are kept busy, with 4 MiB


class ContextRead:
    """One read of a context. Take what is asked for in the order it was asked for, and pop until None in between."""

    def __init__(
        self,
        origin: Origin,
        positions: dict[int, int],
        views: dict[int, View],
        timeout_us: int,
        *,
        wanted: Filter,
        limit: int | None,
        reverse: bool,
    ) -> None:
        self._origin = origin
        self._cursor = Cursor(origin, positions)
        self._lowest = dict(positions)  # what is wanted lies beyond
        self._through: dict[int, int | None] = dict.fromkeys(positions) if reverse else dict(positions)
        self._newest: dict[int, int] = {}  # the partitions' positions when they were first asked
        self._views = views
        self._timeout_us = timeout_us
        self._wanted = wanted
        self._left = limit  # wanted, and not come yet; in reverse, not popped yet
        self._reverse = reverse
        self._turns = deque(sorted(positions))  # partitions to be asked
        self._under_way = 0

    @property
    def checkpoint(self) -> str:
        """What was read so far, the event that was popped last included."""
        return self._cursor.checkpoint

    @property
    def full(self) -> bool:
        """Whether as many events were popped as were wanted; what is still on its way is not."""
        return self._left == 0 and (self._reverse or self._cursor.at_end)

    def next_request(self) -> tuple[int, Request] | None:
        """Return a partition and the request for its next chunk, or None while enough is under way, or at the end."""
        if not self._turns or self._left == 0 or self._under_way == CHUNKS_AHEAD:
            return None
        self._under_way += 1
        partition = self._turns.popleft()
        return partition, read_range(
            self._origin,
            partition,
            self._views[partition],
            self._timeout_us,
            self._wanted,
            after=self._through[partition],
            count_max=CHUNK_EVENTS_MAX if self._left is None else min(self._left, CHUNK_EVENTS_MAX),
            bytes_max=CHUNK_BYTES_TARGET,
            reverse=self._reverse,
        )

    def take(self, partition: int, chunk: Range) -> None:
        """Take in a chunk. After a `ProtocolError` it is as if none came: put it back, or take another."""
        asked = self._through[partition]
        if asked is not None and chunk.after != asked:
            raise ProtocolError(
                f"{self._what(partition)}: a node answered from position {chunk.after} on, not {asked}; try again"
            )
        ended = self._has_ended(partition, chunk)
        if not ended and chunk.through == chunk.after:
            raise ProtocolError(f"{self._what(partition)}: a node sent nothing where there is more; try again")
        self._under_way -= 1
        if partition not in self._newest:
            self._begin(partition, chunk)
        self._through[partition] = chunk.through
        if not ended:
            self._turns.append(partition)
        if self._reverse:
            self._cursor.enter(chunk.rows, None)
        else:
            self._cursor.enter(chunk.rows, chunk.through, self._left)
            if self._left is not None:
                self._left -= min(self._left, chunk.rows.count)

    def put_back(self, partition: int) -> None:
        """Take in that a chunk will not come: it is to be asked for again, before others."""
        self._under_way -= 1
        self._turns.appendleft(partition)

    def _begin(self, partition: int, chunk: Range) -> None:
        """Note where the read ends, and that whoever answers from now on must have got there."""
        self._newest[partition] = chunk.position
        view = self._views[partition]
        self._views[partition] = View(view.fresh, max(view.at_least, chunk.position))
        if self._reverse:
            self._cursor.positions[partition] = max(chunk.after, self._lowest[partition])

    def _has_ended(self, partition: int, chunk: Range) -> bool:
        if self._reverse:
            return chunk.through <= self._lowest[partition]
        return chunk.through >= self._newest.get(partition, chunk.position)

    def _what(self, partition: int) -> str:
        return f"reading partition {partition}"

    def rest(self) -> Iterator[Event]:
        """Yield the events that `pop` would return until the next chunk is needed."""
        return iter(self.pop, None) if self._reverse else self._cursor.rest()

    def pop(self) -> Event | None:
        """Return the next event, or None where the next chunk is needed, if any was asked for."""
        if self.full:
            return None
        while not self._cursor.at_end:
            event = self._cursor.pop()
            if self._reverse:
                if event.position <= self._lowest[event.partition]:
                    continue  # a chunk ends where appends end, which may be beyond what was asked for
                if self._left is not None:
                    self._left -= 1
            return event
        return None
