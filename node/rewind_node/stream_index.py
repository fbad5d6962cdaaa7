"""Where a partition's streams are in its log: stored segments and, over them, what was applied since the checkpoint.

Rows gather in memory as entries are applied, and go to the store a checkpoint at a time, in the order of their keys, a
slice a turn, see `rewind_node.stream_segments`. A crash loses only what the log tells again: the mark of the checkpoint
is written with its last row, and what was applied after the mark is applied anew.

Most streams have one row since the checkpoint, and most runs are of such streams. So a stream leads to its run as a
whole, which costs an append next to nothing, and to a list of rows only once it has several.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat

from rewind_cluster.columns import Counts
from rewind_cluster.errors import DamagedError
from rewind_cluster.records import Run
from rewind_node.segments import SegmentWriter
from rewind_node.store import Store, StreamRow
from rewind_node.stream_blocks import Row
from rewind_node.stream_segments import StreamSegments

VERSION_MAX = (1 << 64) - 1


class Noted:
    """A run whose streams each have one row in it; `index`, `offset` and `length` say where its record is."""

    __slots__ = ("_counts", "_first_versions", "_record", "_rows", "_streams")

    def __init__(
        self, streams: Sequence[str], first_versions: Sequence[int], counts: Counts, record: tuple[int, int, int]
    ) -> None:
        self._streams = streams
        self._first_versions = first_versions
        self._counts = counts
        self._record = record
        self._rows: dict[str, Row] | None = None

    @property
    def rows(self) -> dict[str, Row]:
        """Each stream's row."""
        rows = self._rows
        if rows is None:
            counts = repeat(1) if self._counts is None else self._counts
            places = zip(self._first_versions, counts, *map(repeat, self._record), strict=False)
            rows = self._rows = dict(zip(self._streams, places, strict=False))
        return rows


Held = Noted | list[Row]
Table = dict[str, Held]  # by stream
_NOTHING: Table = {}


@dataclass(slots=True)
class _Writing:
    """A context's rows on their way into the store."""

    context: int
    streams: Iterator[str]  # in the order of their keys
    writer: SegmentWriter
    written: bool = False


def _rows(stream: str, held: Held) -> list[Row]:
    return [held.rows[stream]] if isinstance(held, Noted) else held


def _last_version(row: Row) -> int:
    return row[0] + row[1] - 1


def _misfit(stream: str, version: int, row: Row) -> DamagedError:
    first_version, _, entry_index, _, _ = row
    return DamagedError(
        f"stream {stream!r} continues at version {first_version} in entry {entry_index}, this replica's is at {version}"
    )


class StreamIndex:
    """The rows of one partition's streams."""

    def __init__(self, partition: int, store: Store) -> None:
        self.row_count = 0  # rows in memory that no checkpoint has begun to write
        self._segments = StreamSegments(partition, store.engine)
        self._fresh: dict[int, Table] = {}  # by context
        self._frozen: dict[int, Table] = {}
        self._writing: list[_Writing] = []

    def add(self, context: int, run: Run, index: int, offset: int, length: int) -> None:
        """Add the rows of appends that are being applied; their record is at `offset` of entry `index`.

        Raises `DamagedError` where one does not continue its stream's rows in memory. Whether the first of them
        continues those in the store is checked when it is written there: that costs a lookup a stream, not an append.
        """
        fresh = self._fresh.get(context)
        if fresh is None:
            fresh = self._fresh[context] = {}
        frozen = self._frozen.get(context, _NOTHING)
        streams, record = run.streams, (index, offset, length)
        self.row_count += len(streams)
        noted: Table = dict.fromkeys(streams, Noted(streams, run.first_versions, run.counts, record))
        if len(noted) == len(streams) and fresh.keys().isdisjoint(noted) and frozen.keys().isdisjoint(noted):
            fresh.update(noted)
            return
        for place, (stream, first_version) in enumerate(zip(streams, run.first_versions, strict=True)):
            row = (first_version, 1 if run.counts is None else run.counts[place], *record)
            held = fresh.get(stream)
            before = held or frozen.get(stream)
            if before is None:
                fresh[stream] = [row]
                continue
            rows = _rows(stream, before)
            if _last_version(rows[-1]) + 1 != first_version:
                raise _misfit(stream, _last_version(rows[-1]), row)
            if isinstance(held, list):
                held.append(row)
            else:
                fresh[stream] = [row] if held is None else [*rows, row]

    def head(self, context: int, stream: str) -> int:
        """Return the version of a stream's last applied event, 0 for none."""
        held = self._fresh.get(context, _NOTHING).get(stream) or self._frozen.get(context, _NOTHING).get(stream)
        if held is not None:
            return _last_version(_rows(stream, held)[-1])
        row = self._segments.row_at(context, stream, VERSION_MAX)
        return 0 if row is None else row.last_version

    def knows_none_of(self, context: int, streams: Sequence[str]) -> bool:
        """Return whether no event of any of these streams has been applied."""
        for tables in (self._fresh, self._frozen):
            if not tables.get(context, _NOTHING).keys().isdisjoint(streams):
                return False
        return self._segments.hold_none_of(context, streams)

    def rows(self, context: int, stream: str, after: int, *, reverse: bool) -> Iterator[StreamRow]:
        """Yield a stream's rows.

        Forward those that hold a version beyond `after`; in reverse from the one that holds version `after` down.
        Finish or drop it before the next write.
        """
        after = min(after, VERSION_MAX)
        tables = (self._frozen.get(context, _NOTHING), self._fresh.get(context, _NOTHING))
        held = [StreamRow._make(row) for table in tables if stream in table for row in _rows(stream, table[stream])]
        if reverse:
            yield from (row for row in reversed(held) if row.first_version <= after)
            yield from self._segments.rows(context, stream, after, reverse=True)
        else:
            if not held or after + 1 < held[0].first_version:
                yield from self._segments.rows(context, stream, after, reverse=False)
            yield from (row for row in held if row.last_version > after)

    def names(self, context: int, prefix: str, after: str | None, count_max: int) -> list[str]:
        """Return up to `count_max` streams that start with `prefix`, in bytewise order from beyond `after` on."""
        names = set(self._segments.names(context, prefix, after, count_max))
        for tables in (self._fresh, self._frozen):
            for name in tables.get(context, ()):
                if name.startswith(prefix) and (after is None or name > after):
                    names.add(name)
        return sorted(names)[:count_max]

    # Checkpoints.

    def freeze(self) -> None:
        """Begin a checkpoint of all rows in memory."""
        assert not self._frozen
        for context, table in sorted(self._fresh.items()):
            rows = sum(1 if isinstance(held, Noted) else len(held) for held in table.values())
            # Text sorts by code points, which is the order of its UTF-8.
            self._writing.append(_Writing(context, iter(sorted(table)), self._segments.writer(context, rows)))
        self._frozen, self._fresh, self.row_count = self._fresh, {}, 0

    def write(self, count_max: int) -> bool:
        """Put the next slice of a checkpoint's rows into the store; return whether that was the last.

        Raises `DamagedError` where a stream's rows do not continue those that are stored.
        """
        for writing in self._writing:
            if not writing.written:
                count_max -= self._write(writing, count_max)
                if count_max <= 0:
                    return False
        return True

    def _write(self, writing: _Writing, count_max: int) -> int:
        """Write about `count_max` rows of a context, and return how many it were."""
        table = self._frozen[writing.context]
        names: list[bytes] = []
        rows: list[Row] = []
        for stream in islice(writing.streams, count_max):
            held = table[stream]
            if isinstance(held, Noted):
                row = held.rows[stream]
                names.append(stream.encode())
                rows.append(row)
            else:
                row = held[0]
                names += [stream.encode()] * len(held)
                rows += held
            if row[0] > 1:
                self._check_continued(writing.context, stream, row)
            if len(rows) >= count_max:
                break
        writing.writer.add(names, rows)
        if len(rows) < count_max:
            writing.written = writing.writer.finish()
            return len(rows) + (0 if writing.written else count_max)
        return len(rows)

    def _check_continued(self, context: int, stream: str, row: Row) -> None:
        before = self._segments.row_at(context, stream, row[0] - 1)
        version = 0 if before is None else before.last_version
        if version + 1 != row[0]:
            raise _misfit(stream, version, row)

    def thaw(self, through: int) -> None:
        """End the checkpoint: its rows are all in the store and count. `through`: the last entry they are of."""
        for writing in self._writing:
            self._segments.publish(writing.context, writing.writer, through)
        self._frozen = {}
        self._writing = []

    @property
    def untidy(self) -> bool:
        """Whether there may be something to do to the stored rows."""
        return self._segments.untidy

    def tidy(self) -> None:
        """Do a slice of what keeps the stored rows few and in order."""
        self._segments.tidy()
