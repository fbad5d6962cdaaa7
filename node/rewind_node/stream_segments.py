"""Where a partition's streams are in its log, as the store keeps it: segments, written once, in order, and merged.

A checkpoint writes its rows as one segment for each context, sorted by stream, and segments are merged when there are
many of a size: a log-structured merge tree ("The Log-Structured Merge-Tree", O'Neil and others, 1996), tiered. A row
under a key of its own would dirty a page of the database as good as alone, the more so the larger that has grown; here
a row is written a few times, but always beside its neighbours.

A segment counts from the commit that its row in table `segments` belongs to; a checkpoint puts that into the same as
the mark that says how far it goes. What a crash leaves of one that was not finished is found when the partition is
loaded, and deleted in slices, as the inputs of a merge are. Later segments hold later versions of a stream, so the
newest that knows a stream knows its head.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge as in_order
from itertools import groupby, islice

from rewind_cluster.errors import DamagedError
from rewind_node import store_layout as layout
from rewind_node.engine import Engine
from rewind_node.segments import Blocks, Merge, Segment, SegmentWriter
from rewind_node.store_layout import StreamRow
from rewind_node.stream_blocks import Block, marks_of, row_key

MERGED_AT_ONCE = 8  # segments of a level, and newer ones: a row is merged once for each power of eight, and a stream
# that nobody knows is looked for in the filters of some four segments a level
SLICE_ROWS = 128  # merged in one turn; a turn applies less than that, even at full speed
SLICE_BLOCKS = 64  # deleted in one turn


@dataclass(slots=True)
class _Merging:
    """A merge under way, of a context's segments from place `first` on."""

    context: int
    first: int
    merge: Merge


class StreamSegments:
    """The stored rows of one partition's streams. Raises `DamagedError` where they are not what was written."""

    def __init__(self, partition: int, engine: Engine) -> None:
        self._partition = partition
        self._engine = engine
        self._segments: dict[int, list[Segment]] = {}  # by context, oldest first
        self._merging: _Merging | None = None
        self._unchecked: set[int] = set()  # contexts whose segments have changed since it was asked what to merge
        self._garbage: list[bytes] = []  # keys of segments that count no more, or never did
        self._last_number = 0
        self._load()

    def _load(self) -> None:
        start, stop = layout.partition_range(self._partition)
        counting: set[bytes] = set()
        for key, value in self._engine.scan(layout.SEGMENTS, start, stop):
            _, context, number = layout.segment_of_key(layout.SEGMENTS, key)
            counting.add(key)
            self._last_number = max(self._last_number, number)
            self._segments.setdefault(context, []).append(Segment.load(self._engine, key, value))
        self._unchecked.update(self._segments)
        for segments in self._segments.values():
            segments.sort(key=lambda segment: segment.through)
        for table in (layout.STREAMS, layout.FILTERS):
            for key in self._keys(table):
                if key not in counting and key not in self._garbage:
                    self._garbage.append(key)
                    self._last_number = max(self._last_number, layout.segment_of_key(table, key)[2])

    def _keys(self, table: str) -> Iterator[bytes]:
        """Yield the keys of all segments that a table has rows of: a seek for each."""
        start, stop = layout.partition_range(self._partition)
        while (pair := next(self._engine.scan(table, start, stop), None)) is not None:
            layout.segment_of_key(table, pair[0])
            key = pair[0][: layout.SEGMENT_KEY.size]
            yield key
            start = layout.beyond_number(key)

    # Looking up.

    def row_at(self, context: int, stream: str, version: int) -> StreamRow | None:
        """Return the last row of a stream whose first version is not beyond `version`, or None."""
        name = stream.encode()
        for segment in reversed(self._candidates(context, name)):
            _, block = self._blocks(segment).holding(row_key(name, version))
            row = block.row_at(name, version)
            if row is not None:
                return row
        return None

    def _blocks(self, segment: Segment) -> Blocks:
        return Blocks(self._engine, segment.key)

    def _candidates(self, context: int, name: bytes) -> list[Segment]:
        """Return the segments that may hold a stream, oldest first."""
        segments = self._segments.get(context)
        if not segments:
            return []
        marks = marks_of((name,))
        return [segment for segment in segments if segment.filter.may_hold_of(marks)]

    def hold_none_of(self, context: int, streams: Sequence[str]) -> bool:
        """Return whether there is no row of any of these streams."""
        segments = self._segments.get(context)
        if not segments:
            return True
        marks = marks_of([stream.encode() for stream in streams])
        suspects = {place for segment in segments for place in segment.filter.may_hold_of(marks)}
        return all(self.row_at(context, streams[place], layout.U64_MAX) is None for place in suspects)

    def rows(self, context: int, stream: str, after: int, *, reverse: bool) -> Iterator[StreamRow]:
        """Yield a stream's rows.

        Forward those that hold a version beyond `after`; in reverse from the one that holds version `after` down.
        Finish or drop it before the next write.
        """
        name = stream.encode()
        segments = self._candidates(context, name)
        if reverse:
            for segment in reversed(segments):
                yield from self._rows_down(segment, name, after)
        else:
            for segment in segments:
                yield from self._rows_up(segment, name, after)

    def _rows_up(self, segment: Segment, name: bytes, after: int) -> Iterator[StreamRow]:
        blocks = self._blocks(segment)
        found: tuple[bytes, Block] | None = blocks.holding(row_key(name, after))
        while found is not None:
            _, block = found
            start, stop = block.places(name)
            for place in range(start, stop):
                row = block.row(place)
                if row.last_version > after:
                    yield row
            found = blocks.after(block) if block.names[-1] <= name else None

    def _rows_down(self, segment: Segment, name: bytes, after: int) -> Iterator[StreamRow]:
        blocks = self._blocks(segment)
        found: tuple[bytes, Block] | None = blocks.holding(row_key(name, after))
        while found is not None:
            key, block = found
            start, stop = block.places(name)
            for place in reversed(range(start, stop)):
                row = block.row(place)
                if row.first_version <= after:
                    yield row
            found = blocks.before(key) if block.names[0] >= name else None

    def names(self, context: int, prefix: str, after: str | None, count_max: int) -> list[str]:
        """Return up to `count_max` streams that start with `prefix`, in bytewise order from beyond `after` on."""
        start = prefix.encode()
        if after is not None:
            start = max(start, after.encode() + b"\x00")  # the least that is beyond it
        of_segments = [self._names(segment, start, prefix.encode()) for segment in self._segments.get(context, ())]
        names = (name for name, _ in groupby(in_order(*of_segments)))
        return [_text(name) for name in islice(names, count_max)]

    def _names(self, segment: Segment, start: bytes, prefix: bytes) -> Iterator[bytes]:
        """Yield a segment's streams that start with `prefix`, from `start` on, perhaps several times each."""
        blocks = self._blocks(segment)
        found: tuple[bytes, Block] | None = blocks.holding(start)
        while found is not None:
            key, block = found
            for name, _ in groupby(block.names):
                if name >= start:
                    if not name.startswith(prefix):
                        return
                    yield name
            last = block.names[-1]
            if block.names[0] == last:  # perhaps of a stream with very many rows: on to the block that holds its last
                further = blocks.holding(row_key(last, layout.U64_MAX))
                found = further if further[0] > key else blocks.after(block)
            else:
                found = blocks.after(block)

    # Writing.

    def writer(self, context: int, rows_max: int) -> SegmentWriter:
        """Begin a segment of at most so many rows."""
        return SegmentWriter(self._engine, self._new_key(context), rows_max)

    def publish(self, context: int, writer: SegmentWriter, through: int) -> None:
        """Let a segment that was written count: its rows are those of the entries up to `through`."""
        self._segments.setdefault(context, []).append(writer.publish(through))
        self._unchecked.add(context)

    def _new_key(self, context: int) -> bytes:
        self._last_number += 1
        return layout.SEGMENT_KEY.pack(self._partition, context, self._last_number)

    # Keeping house.

    @property
    def untidy(self) -> bool:
        """Whether there may be something to merge or to delete."""
        return bool(self._garbage or self._unchecked) or self._merging is not None

    def tidy(self) -> None:
        """Do a slice of what is to be merged or deleted."""
        if self._garbage:
            self._delete_slice()
        elif self._merging is None:
            if self._unchecked:
                self._begin_merge(self._unchecked.pop())
        elif self._merging.merge.work(SLICE_ROWS):
            self._finish_merge(self._merging)

    def _begin_merge(self, context: int) -> None:
        segments = self._segments[context]
        first = _first_to_merge(segments)
        if first is not None:
            self._merging = _Merging(context, first, Merge(self._engine, segments[first:], self._new_key(context)))

    def _finish_merge(self, merging: _Merging) -> None:
        inputs = [segment.key for segment in merging.merge.inputs]
        stop = merging.first + len(inputs)
        self._segments[merging.context][merging.first : stop] = [merging.merge.publish()]
        self._engine.delete(layout.SEGMENTS, inputs)
        self._garbage += inputs
        self._unchecked.add(merging.context)
        self._merging = None

    def _delete_slice(self) -> None:
        """Delete some of the blocks that belong to no segment."""
        key = self._garbage[-1]
        end = layout.beyond_number(key)
        if self._engine.delete_range(layout.STREAMS, key, end, SLICE_BLOCKS) < SLICE_BLOCKS:
            self._engine.delete_range(layout.FILTERS, key, end)
            self._garbage.pop()


def _first_to_merge(segments: Sequence[Segment]) -> int | None:
    """Return the place of the oldest of the newest segments that are to become one: all up to a level."""
    first = len(segments)
    for level in sorted({segment.level for segment in segments}):
        while first and segments[first - 1].level <= level:
            first -= 1
        if len(segments) - first >= MERGED_AT_ONCE:
            return first
    return None


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise DamagedError(f"an index names the stream {name.hex()}, which is no text") from None
