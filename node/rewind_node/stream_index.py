"""Where a partition's streams are in its log: stored segments and, over them, what was applied since the checkpoint.

Rows gather in memory as entries are applied, and go to the store a checkpoint at a time, in the order of their keys, a
slice a turn, see `rewind_node.stream_segments`. A crash loses only what the log tells again: the mark of the checkpoint
is written with its last row, and what was applied after the mark is applied anew.

Most streams have one row since the checkpoint, and most runs are of such streams. So a stream leads to its run as a
whole, which costs an append next to nothing, and to a list of rows only once it has several.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat, takewhile

from rewind_cluster.columns import Counts
from rewind_cluster.errors import DamagedError
from rewind_cluster.records import Run
from rewind_node.sample_sort import SampleSort
from rewind_node.segments import SegmentWriter
from rewind_node.store import Store, StreamRow
from rewind_node.stream_blocks import Row
from rewind_node.stream_segments import StreamSegments

VERSION_MAX = (1 << 64) - 1
DEALT_FOR_A_ROW = 8  # names dealt out in the time that writing a row takes


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
    sorting: SampleSort
    streams: Iterator[str]  # in the order of their keys
    writer: SegmentWriter
    rest: tuple[bytes, list[Row], int] = (b"", [], 0)  # a stream's rows, and how many of them are written
    written: bool = False


def _rows(stream: str, held: Held) -> list[Row]:
    return [held.rows[stream]] if isinstance(held, Noted) else held


def _first_version(row: Row) -> int:
    return row[0]


def _last_version(row: Row) -> int:
    return row[0] + row[1] - 1


def _misfit(stream: str, version: int, row: Row) -> DamagedError:
    first_version, _, entry_index, _, _ = row
    return DamagedError(
        f"stream {stream!r} continues at version {first_version} in entry {entry_index}, this replica's is at {version}"
    )


class StreamIndex:
    """The rows of one partition's streams."""

    def __init__(self, partition: int, store: Store, applied: int) -> None:
        self._row_counts: dict[int, int] = {}  # by context: rows in memory that no checkpoint has begun to write
        self.added = 0  # rows since the index was asked last
        self._segments = StreamSegments(partition, store.engine, applied)
        self._fresh: dict[int, Table] = {}  # by context
        self._frozen: dict[int, Table] = {}
        self._writing: list[_Writing] = []
        self._names: dict[tuple[int, int], list[str]] = {}  # by context and table: its streams, sorted for a listing

    @property
    def row_count(self) -> int:
        """Rows in memory that no checkpoint has begun to write."""
        return sum(self._row_counts.values())

    def add(self, context: int, run: Run, index: int, offset: int, length: int) -> None:
        """Add the rows of appends that are being applied; their record is at `offset` of entry `index`.

        Raises `DamagedError` where one does not continue its stream's rows in memory. Whether the first of them
        continues those in the store is checked when it is written there: that costs a lookup a stream, not an append.
        That a stream which begins is not there already is checked where its rows meet, when segments are merged: most
        streams begin, and to look for each among all that are stored would cost more than to write it.
        """
        fresh = self._fresh.get(context)
        if fresh is None:
            fresh = self._fresh[context] = {}
        frozen = self._frozen.get(context, _NOTHING)
        streams, record = run.streams, (index, offset, length)
        self._row_counts[context] = self._row_counts.get(context, 0) + len(streams)
        self.added += len(streams)
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
        held = [
            _rows(stream, table[stream])
            for table in (self._frozen.get(context, _NOTHING), self._fresh.get(context, _NOTHING))
            if stream in table
        ]
        if reverse:
            for rows in reversed(held):
                place = bisect_right(rows, after, key=_first_version)
                yield from (StreamRow._make(rows[number]) for number in range(place - 1, -1, -1))
            yield from self._segments.rows(context, stream, after, reverse=True)
        else:
            if not held or after + 1 < held[0][0][0]:
                yield from self._segments.rows(context, stream, after, reverse=False)
            for rows in held:
                place = max(0, bisect_right(rows, after, key=_first_version) - 1)
                later = (StreamRow._make(rows[number]) for number in range(place, len(rows)))
                yield from (row for row in later if row.last_version > after)

    def names(self, context: int, prefix: str, after: str | None, count_max: int) -> list[str]:
        """Return up to `count_max` streams that start with `prefix`, in bytewise order from beyond `after` on."""
        names = set(self._segments.names(context, prefix, after, count_max))
        for tables in (self._fresh, self._frozen):
            table = tables.get(context)
            if table:
                names.update(self._names_of(context, table, prefix, after, count_max))
        return sorted(names)[:count_max]

    def _names_of(self, context: int, table: Table, prefix: str, after: str | None, count_max: int) -> Iterator[str]:
        """Yield the first of a table's streams that start with `prefix`, from beyond `after` on."""
        cached = self._names.get((context, id(table)))
        if cached is None or len(cached) < len(table):
            cached = self._names[context, id(table)] = sorted(table)
        start = bisect_left(cached, prefix)
        if after is not None:
            start = max(start, bisect_right(cached, after))
        return takewhile(lambda name: name.startswith(prefix), cached[start : start + count_max])

    # Checkpoints.

    def freeze(self) -> None:
        """Begin a checkpoint of all rows in memory."""
        assert not self._frozen
        for context, table in sorted(self._fresh.items()):
            writer = self._segments.writer(context, self._row_counts[context])
            sorting = SampleSort(table)  # text sorts by code points, which is the order of its UTF-8
            self._writing.append(_Writing(context, sorting, sorting.in_order(), writer))
        self._frozen, self._fresh, self._row_counts = self._fresh, {}, {}

    def write(self, count_max: int) -> bool:
        """Put the next slice of a checkpoint's rows into the store; return whether that was the last.

        Raises `DamagedError` where a stream's rows do not continue those that are stored.
        """
        for writing in self._writing:
            if not writing.sorting.dealt:
                count_max -= writing.sorting.deal(count_max * DEALT_FOR_A_ROW) // DEALT_FOR_A_ROW
            if count_max > 0 and not writing.written:
                count_max -= self._write(writing, count_max)
            if count_max <= 0:
                return False
        return True

    def _write(self, writing: _Writing, count_max: int) -> int:
        """Write about `count_max` rows of a context, and return how many it were."""
        name, rest, start = writing.rest
        rows = rest[start : start + count_max]
        names = [name] * len(rows)
        writing.rest = (name, rest, start + len(rows))
        table = self._frozen[writing.context]
        for stream in islice(writing.streams, count_max - len(rows)):
            held = table[stream]
            if isinstance(held, Noted):
                row = held.rows[stream]
                names.append(stream.encode())
                rows.append(row)
            else:
                row, taken = held[0], held[: count_max - len(rows)]
                name = stream.encode()
                names += [name] * len(taken)
                rows += taken
                writing.rest = (name, held, len(taken))
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

    def thaw(self, applied: int) -> None:
        """End the checkpoint: its rows are all in the store and count. `applied`: the mark that they lead to."""
        self._segments.publish([(writing.context, writing.writer) for writing in self._writing], applied)
        self._frozen = {}
        self._writing = []
        self._names.clear()

    @property
    def untidy(self) -> bool:
        """Whether there may be something to do to the stored rows."""
        return self._segments.untidy

    def tidy(self, rows: int) -> None:
        """Keep the stored rows in few segments, at the price of about so many rows."""
        self._segments.tidy(rows)
