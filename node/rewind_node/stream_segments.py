"""Where a partition's streams are in its log, as the store keeps it: segments, written once, in order, and merged.

A checkpoint writes its rows as one segment for each context, sorted by stream, and segments are merged when there are
many of a size: a log-structured merge tree ("The Log-Structured Merge-Tree", O'Neil and others, 1996), tiered. A row
under a key of its own would dirty a page of the database as good as alone, the more so the larger that has grown; here
a row is written a few times, but always beside its neighbours.

Which segments count says `rewind_node.segment_catalogue`. What a crash leaves of one that was not finished is found
when the partition is loaded, and deleted in slices, as the inputs of a merge are. Later segments hold later versions of
a stream, so the newest that knows a stream knows its head.
"""

from collections.abc import Iterator, Sequence
from heapq import merge as in_order
from itertools import groupby, islice

from rewind_cluster.errors import DamagedError
from rewind_node import store_layout as layout
from rewind_node.engine import Engine
from rewind_node.segment_catalogue import Catalogue
from rewind_node.segments import Blocks, Merge, Segment, SegmentWriter
from rewind_node.store_layout import StreamRow
from rewind_node.stream_blocks import Block, marks_of, row_key

MERGED_AT_ONCE = 8  # segments of a level: a row is merged once for each power of eight, and a stream that nobody knows
# is looked for in the filters of some four segments a level
STEP_COST = 8  # rows that a step of keeping house counts for, whatever it does: it writes a page or two
DELETED_AT_ONCE = 64  # blocks


class StreamSegments:
    """The stored rows of one partition's streams. Raises `DamagedError` where they are not what was written.

    `applied` is the replica's mark, which the rows lead to.
    """

    def __init__(self, partition: int, engine: Engine, applied: int) -> None:
        self._engine = engine
        self._catalogue = Catalogue(partition, engine, applied)
        self._merging: tuple[int, Merge] | None = None  # context
        self._garbage = dict.fromkeys(self._catalogue.strangers())  # keys of segments that count no more, or never did
        self._unchecked = set(self._catalogue.segments)  # contexts of which it was not asked what to merge

    # Looking up.

    def row_at(self, context: int, stream: str, version: int) -> StreamRow | None:
        """Return the last row of a stream whose first version is not beyond `version`, or None."""
        name = stream.encode()
        for segment in reversed(self._candidates(context, name)):
            row = self._row_in(segment, name, version)
            if row is not None:
                return row
        return None

    def _row_in(self, segment: Segment, name: bytes, version: int) -> StreamRow | None:
        _, block = self._blocks(segment).holding(row_key(name, version))
        return block.row_at(name, version)

    def _blocks(self, segment: Segment) -> Blocks:
        return Blocks(self._engine, segment.key)

    def _candidates(self, context: int, name: bytes) -> list[Segment]:
        """Return the segments that may hold a stream, oldest first."""
        segments = self._catalogue.segments.get(context)
        if not segments:
            return []
        marks = marks_of((name,))
        return [segment for segment in segments if segment.filter.may_hold_of(marks)]

    def hold_none_of(self, context: int, streams: Sequence[str]) -> bool:
        """Return whether there is no row of any of these streams."""
        segments = self._catalogue.segments.get(context)
        if not segments:
            return True
        names = [stream.encode() for stream in streams]
        marks = marks_of(names)
        return not any(
            self._row_in(segment, names[place], layout.U64_MAX) is not None
            for segment in segments
            for place in segment.filter.may_hold_of(marks)
        )

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
        of_segments = [
            self._names(segment, start, prefix.encode()) for segment in self._catalogue.segments.get(context, ())
        ]
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

    def writer(self, context: int, rows: int) -> SegmentWriter:
        """Begin a segment of so many rows."""
        return SegmentWriter(self._engine, self._catalogue.new_key(context), rows)

    def publish(self, writers: Sequence[tuple[int, SegmentWriter]], applied: int) -> None:
        """Let segments that were written count, each with its context: those of the entries up to the mark."""
        self._catalogue.add([(context, writer.segment(applied)) for context, writer in writers], applied)
        self._unchecked.update(context for context, _ in writers)

    # Keeping house.

    @property
    def untidy(self) -> bool:
        """Whether there may be something to merge or to delete."""
        return bool(self._garbage or self._unchecked) or self._merging is not None

    def tidy(self, rows: int) -> None:
        """Merge and delete about as much as `rows` rows are."""
        while rows > 0 and self.untidy:
            rows -= STEP_COST
            if self._garbage:
                rows -= self._delete_slice()
            elif self._merging is None:
                self._begin_merge(self._unchecked.pop())
            else:
                context, merge = self._merging
                written = merge.row_count
                if merge.work(rows):
                    self._finish_merge(context, merge)
                rows -= merge.row_count - written

    def _begin_merge(self, context: int) -> None:
        segments = self._catalogue.segments[context]
        first = _first_to_merge(segments)
        if first is not None:
            self._merging = (context, Merge(self._engine, segments[first:], self._catalogue.new_key(context)))

    def _finish_merge(self, context: int, merge: Merge) -> None:
        self._catalogue.replace(context, merge.inputs, merge.segment)
        self._garbage.update(dict.fromkeys(segment.key for segment in merge.inputs))
        self._unchecked.add(context)
        self._merging = None

    def _delete_slice(self) -> int:
        """Delete some of the blocks that belong to no segment, and return how many."""
        key = next(iter(self._garbage))
        end = layout.beyond_number(key)
        count = self._engine.delete_range(layout.STREAMS, key, end, DELETED_AT_ONCE)
        if count < DELETED_AT_ONCE:
            self._engine.delete_range(layout.FILTERS, key, end)
            del self._garbage[key]
        return count


def _first_to_merge(segments: Sequence[Segment]) -> int | None:
    """Return the place of the oldest of the newest segments that are to become one: those of a level and below it."""
    first = len(segments)
    for level in sorted({segment.level for segment in segments}):
        of_level = 0
        while first and segments[first - 1].level <= level:
            first -= 1
            of_level += segments[first].level == level
        if of_level >= MERGED_AT_ONCE:
            return first
    return None


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise DamagedError(f"an index names the stream {name.hex()}, which is no text") from None
