"""One segment of a partition's streams: how it is written, merged from others, and known.

A segment is written in slices, rows ascending, then its filter; it counts once `Catalogue.add` has put its row into
table `segments`. See `rewind_node.stream_segments` for what segments are there for.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from struct import Struct

from rewind_cluster.errors import DamagedError
from rewind_node import store_layout as layout
from rewind_node.engine import Engine, Pair
from rewind_node.stream_blocks import Block, Row, StreamFilter, block_ends, marks_of, pack_block, row_key

FILTER_PIECES_MAX = 16  # put into the store in one slice: 1 MiB
Item = tuple[bytes, Row]  # a row with its stream
_SEGMENT = Struct(">QQ")  # rows, and the index of the last entry that they are of


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment: `row_count` rows of the entries up to `through`, since the segment before."""

    key: bytes
    row_count: int
    through: int
    filter: StreamFilter

    @property
    def level(self) -> int:
        """Its size as a power of eight."""
        return self.row_count.bit_length() // 3

    @property
    def value(self) -> bytes:
        """What stands under its key in table `segments`."""
        return layout.seal(self.key, _SEGMENT.pack(self.row_count, self.through))

    @classmethod
    def load(cls, engine: Engine, key: bytes, value: bytes) -> "Segment":
        """Return the segment that a row of table `segments` tells of, or raise `DamagedError`."""
        payload = layout.unseal(layout.SEGMENTS, key, value)
        if len(key) != layout.SEGMENT_KEY.size or len(payload) != _SEGMENT.size:
            raise DamagedError(f"the row {key.hex()} of table {layout.SEGMENTS} tells of no segment")
        row_count, through = _SEGMENT.unpack(payload)
        pieces = engine.scan(layout.FILTERS, key, layout.beyond_number(key))
        return cls(key, row_count, through, StreamFilter.unpack(key, row_count, pieces))


class Blocks:
    """The blocks of one segment, each read where the one before, or a search, says that it is."""

    def __init__(self, engine: Engine, segment: bytes) -> None:
        self._engine = engine
        self._segment = segment

    def first(self) -> tuple[bytes, Block]:
        """Return the first block and its key."""
        return self._get(self._segment)

    def holding(self, ending: bytes) -> tuple[bytes, Block]:
        """Return the block that holds the row whose key would end with this, if any does, and its key."""
        pair = self._engine.floor(layout.STREAMS, self._segment + ending)
        if pair is None or not pair[0].startswith(self._segment):
            raise self._missing(self._segment)
        block = Block(*pair)
        if block.following and block.following <= ending:
            raise self._missing(self._segment + block.following)
        return pair[0], block

    def after(self, block: Block) -> tuple[bytes, Block] | None:
        """Return the block that follows, and its key, or None."""
        return self._get(self._segment + block.following) if block.following else None

    def before(self, key: bytes) -> tuple[bytes, Block] | None:
        """Return the block before that with this key, and its key, or None."""
        if key == self._segment:
            return None
        pair = next(self._engine.scan(layout.STREAMS, self._segment, key, reverse=True), None)
        block = None if pair is None else Block(*pair)
        if pair is None or block is None or self._segment + block.following != key:
            raise self._missing(key)
        return pair[0], block

    def _get(self, key: bytes) -> tuple[bytes, Block]:
        value = self._engine.get(layout.STREAMS, key)
        if value is None:
            raise self._missing(key)
        return key, Block(key, value)

    @staticmethod
    def _missing(key: bytes) -> DamagedError:
        return DamagedError(f"the row {key.hex()} of table {layout.STREAMS}, or one before it, is missing")


class SegmentWriter:
    """A segment on its way into the store. `rows`: how many it will have."""

    def __init__(self, engine: Engine, key: bytes, rows: int) -> None:
        self.key = key
        self._engine = engine
        self._filter = StreamFilter.empty(rows)
        self._rows_expected = rows
        self._row_count = 0
        self._names: list[bytes] = []
        self._rows: list[Row] = []
        self._block_key = key  # of the next block
        self._pieces: Iterator[Pair] | None = None

    def add(self, names: Sequence[bytes], rows: Sequence[Row]) -> None:
        """Add rows, each with its stream, beyond all others."""
        self._filter.add(marks_of(names))
        self._row_count += len(rows)
        self._names += names
        self._rows += rows
        self._put_blocks(whole=True)

    def _put_blocks(self, *, whole: bool) -> None:
        """Put what has gathered into the store, or of it only whole blocks that are known to have a successor."""
        names, rows = self._names, self._rows
        blocks: list[Pair] = []
        start = 0
        for stop in block_ends(names):
            if stop == len(names) and whole:
                break
            following = row_key(names[stop], rows[stop][0]) if stop < len(names) else b""
            blocks.append(pack_block(self._block_key, names[start:stop], rows[start:stop], following))
            self._block_key = self.key + following
            start = stop
        self._engine.put(layout.STREAMS, blocks)
        del names[:start], rows[:start]

    def finish(self) -> bool:
        """Put a slice of what is left into the store; return whether that was all."""
        if self._names:
            self._put_blocks(whole=False)
        if self._pieces is None:
            self._pieces = self._filter.pack(self.key)
        pieces = list(islice(self._pieces, FILTER_PIECES_MAX))
        self._engine.put(layout.FILTERS, pieces)
        return len(pieces) < FILTER_PIECES_MAX

    def segment(self, through: int) -> Segment:
        """Return the segment, now that all of it is in the store. `through`: the last entry that its rows are of."""
        assert self._row_count == self._rows_expected, "a filter is as large as its segment's rows ask for"
        return Segment(self.key, self._row_count, through, self._filter)


class Merge:
    """Several segments, each following on the one before, becoming one, in slices.

    Raises `DamagedError` where a stream's rows do not continue each other.
    """

    def __init__(self, engine: Engine, inputs: Sequence[Segment], key: bytes) -> None:
        self.inputs = inputs
        self.row_count = 0  # written so far
        self._sources = [_Source(engine, segment.key) for segment in inputs]
        self._written: list[Item] = []  # the last one, if any
        self._writer = SegmentWriter(engine, key, sum(segment.row_count for segment in inputs))

    def work(self, rows_max: int) -> bool:
        """Write about so many rows; return whether all is written."""
        end = self.row_count + rows_max
        while self.row_count < end:
            self._sources = [source for source in self._sources if source.fill()]
            if not self._sources:
                return self._writer.finish()
            # Every row up to the least of the sources' last ones is at hand. They are some sorted runs after each
            # other, which is what Python's sort is best at.
            bound = min(source.items[-1] for source in self._sources)
            items = [item for source in self._sources for item in source.take(bound)]
            items.sort()
            _check_continued([*self._written, *items])
            self._written = items[-1:]
            names, rows = zip(*items, strict=True)
            self._writer.add(names, rows)
            self.row_count += len(items)
        return False

    @property
    def segment(self) -> Segment:
        """The segment that takes the place of the inputs, when all of it is written."""
        return self._writer.segment(self.inputs[-1].through)


def _check_continued(items: Sequence[Item]) -> None:
    for (name, (version, count, *_)), (next_name, (next_version, *_)) in pairwise(items):
        if name == next_name and version + count != next_version:
            raise DamagedError(
                f"stream {name.decode(errors='replace')!r} has a row at version {next_version} after one of {count} "
                f"events at version {version}"
            )


class _Source:
    """A segment that is read in order, a block at a time."""

    def __init__(self, engine: Engine, key: bytes) -> None:
        self.items: list[Item] = []
        self._blocks = Blocks(engine, key)
        self._block: Block | None = None  # the last that was read

    def fill(self) -> bool:
        """Make sure of items, if there are any left."""
        if not self.items:
            found = self._blocks.first() if self._block is None else self._blocks.after(self._block)
            if found is not None:
                _, self._block = found
                self.items = self._block.items()
        return bool(self.items)

    def take(self, bound: Item) -> list[Item]:
        """Return the items up to `bound`, which are no longer here."""
        place = bisect_right(self.items, bound)
        taken = self.items[:place]
        del self.items[:place]
        return taken
