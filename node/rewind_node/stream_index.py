"""Where a partition's streams are in its log: rows in the store and, over them, the rows applied since its checkpoint.

A row per append, under a key that is as good as random, would dirty a page of the database per append and make every
commit write far more than the events themselves. So rows gather in memory and go to the store a checkpoint at a time,
in the order of their keys, a slice a turn: neighbours share pages. A crash loses only what the log tells again: the
mark of the checkpoint is written after its last row, and what was applied after the mark is applied anew. Rows of a
checkpoint that was not finished are recognised by their index, and written again.
"""

from collections.abc import Iterator
from itertools import repeat

from rewind_cluster.errors import DamagedError
from rewind_cluster.records import Run
from rewind_node.store import Store, StreamRow

VERSION_MAX = (1 << 64) - 1
Row = tuple[int, int, int, int, int]  # the fields of a `StreamRow`
Rows = dict[str, list[Row]]  # stream → rows, ascending
_NO_ROWS: Rows = {}


def _last_version(row: Row) -> int:
    return row[0] + row[1] - 1


def _misfit(stream: str, version: int, row: Row) -> DamagedError:
    first_version, _, entry_index, _, _ = row
    return DamagedError(
        f"stream {stream!r} continues at version {first_version} in entry {entry_index}, this replica's is at {version}"
    )


class StreamIndex:
    """The rows of one partition's streams. `applied` is the index of the last entry whose rows count."""

    def __init__(self, partition: int, store: Store, applied: int) -> None:
        self.applied = applied
        self.row_count = 0  # rows in memory that no checkpoint has begun to write
        self._partition = partition
        self._store = store
        self._fresh: dict[int, Rows] = {}  # by context
        self._frozen: dict[int, Rows] = {}

    def add(self, context: int, run: Run, index: int, offset: int, length: int) -> None:
        """Add the rows of appends that are being applied; their record is at `offset` of entry `index`.

        Raises `DamagedError` where one does not continue its stream's rows in memory. Whether the first of them
        continues those in the store is checked when it is written there: that costs a lookup a stream, not an append.
        """
        fresh = self._fresh.get(context)
        if fresh is None:
            fresh = self._fresh[context] = {}
        frozen = self._frozen.get(context, _NO_ROWS)
        streams = run.streams
        counts = repeat(1) if run.counts is None else run.counts
        rows = zip(run.first_versions, counts, repeat(index), repeat(offset), repeat(length), strict=False)
        self.row_count += len(streams)
        apart = set(streams)
        if len(apart) == len(streams) and fresh.keys().isdisjoint(apart) and frozen.keys().isdisjoint(apart):
            fresh.update(zip(streams, map(list, zip(rows, strict=True)), strict=True))
            return
        for stream, row in zip(streams, rows, strict=True):
            held = fresh.get(stream)
            before = held if held is not None else frozen.get(stream)
            if before is not None and _last_version(before[-1]) + 1 != row[0]:
                raise _misfit(stream, _last_version(before[-1]), row)
            if held is None:
                fresh[stream] = [row]
            else:
                held.append(row)

    def head(self, context: int, stream: str) -> int:
        """Return the version of a stream's last applied event, 0 for none."""
        rows = self._fresh.get(context, _NO_ROWS).get(stream) or self._frozen.get(context, _NO_ROWS).get(stream)
        if rows is not None:
            return _last_version(rows[-1])
        row = self._stored(context, stream, VERSION_MAX)
        return 0 if row is None else row.last_version

    def _stored(self, context: int, stream: str, version: int) -> StreamRow | None:
        """Return the last stored row that begins at or before `version`, of those whose entries have been applied."""
        row = self._store.row_at(self._partition, context, stream, version)
        while row is not None and row.entry_index > self.applied:
            row = self._store.row_at(self._partition, context, stream, row.first_version - 1)
        return row

    def rows(self, context: int, stream: str, after: int, *, reverse: bool) -> Iterator[StreamRow]:
        """Yield a stream's rows.

        Forward those that hold a version beyond `after`; in reverse from the one that holds version `after` down.
        """
        tables = (self._frozen.get(context, _NO_ROWS), self._fresh.get(context, _NO_ROWS))
        held = [StreamRow._make(row) for table in tables for row in table.get(stream, ())]
        first_held = held[0].first_version if held else VERSION_MAX
        if reverse:
            yield from (row for row in reversed(held) if row.first_version <= after)
            yield from self._stored_rows(context, stream, min(after, first_held - 1), first_held, reverse=True)
        else:
            if after + 1 < first_held:
                yield from self._stored_rows(context, stream, after, first_held, reverse=False)
            yield from (row for row in held if row.last_version > after)

    def _stored_rows(self, context: int, stream: str, after: int, below: int, *, reverse: bool) -> Iterator[StreamRow]:
        if reverse and after < 1:
            return
        for row in self._store.stream_rows(self._partition, context, stream, after, reverse=reverse):
            if row.first_version < below and row.entry_index <= self.applied:
                yield row

    def names(self, context: int, prefix: str, after: str | None, count_max: int) -> list[str]:
        """Return up to `count_max` streams that start with `prefix`, in bytewise order from beyond `after` on."""
        names = set(self._store.stream_names(self._partition, context, prefix, after, count_max))
        for held in (self._fresh, self._frozen):
            for name in held.get(context, ()):
                if name.startswith(prefix) and (after is None or name > after):
                    names.add(name)
        return sorted(names)[:count_max]

    # Checkpoints.

    def freeze(self) -> Iterator[tuple[int, str, list[Row]]]:
        """Begin a checkpoint of all rows in memory, and yield each stream's, in the order of their keys."""
        assert not self._frozen
        self._frozen, self._fresh, self.row_count = self._fresh, {}, 0
        frozen = self._frozen
        # Text sorts by code points, which is the order of its UTF-8.
        return (
            (context, stream, frozen[context][stream])
            for context in sorted(frozen)
            for stream in sorted(frozen[context])
        )

    def write(self, streams: Iterator[tuple[int, str, list[Row]]], count_max: int) -> bool:
        """Put the next slice of a checkpoint's rows into the store; return whether that was the last.

        Raises `DamagedError` where a stream's rows do not continue those that are stored.
        """
        batches: dict[int, list[tuple[str, list[Row]]]] = {}
        count = 0
        for context, stream, rows in streams:
            if rows[0][0] > 1:
                self._check_continued(context, stream, rows[0])
            batches.setdefault(context, []).append((stream, rows))
            count += len(rows)
            if count >= count_max:
                break
        for context, batch in batches.items():
            if not self._store.add_stream_rows(self._partition, context, batch):
                self._check_stored(context, batch)
        return count < count_max

    def _check_continued(self, context: int, stream: str, row: Row) -> None:
        before = self._store.row_at(self._partition, context, stream, row[0] - 1)
        version = 0 if before is None else before.last_version
        if version + 1 != row[0]:
            raise _misfit(stream, version, row)

    def _check_stored(self, context: int, batch: list[tuple[str, list[Row]]]) -> None:
        """Make sure that rows which were there already are the same: an unfinished checkpoint has left them."""
        for stream, rows in batch:
            for row in rows:
                stored = self._store.row_at(self._partition, context, stream, row[0])
                if stored != row:
                    raise _misfit(stream, stored.last_version if stored else 0, row)

    def thaw(self) -> None:
        """Forget the rows of the checkpoint, which are all in the store."""
        self._frozen = {}
