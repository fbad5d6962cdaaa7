"""The offline dump of a data directory: one JSON object per line, for people and for checkers.

    {"partition", "kind": "state", "term", "vote", "applied", "last"}
    {"partition", "kind": "entry", "index", "term", "context", "digest", "appends": [{"stream", "version", "ids"}]}
    {"partition", "kind": "damage", "table", "where", "error"}

`version` is that of the append's first event, `context` the context's number, `digest` the header's in hex. The dump
changes nothing, refuses a directory in use and goes on past damage: what cannot be trusted becomes a damage line saying
where. Checked are every checksum, that the log has no hole and its terms never go back, and that each entry names the
digest of the one before.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from rewind_cluster.columns import ID_BYTES, starts, unpack_events
from rewind_cluster.entry import NO_DIGEST, Entry, EntryKind
from rewind_cluster.errors import DamagedError
from rewind_cluster.records import RecordKind, iterate_body, unpack_run
from rewind_node import store_layout as layout
from rewind_node.data_directory import SHARD, DataDirectoryLock, check_format, read_format
from rewind_node.lmdb_reader import DATA_FILE, LmdbReader
from rewind_node.log_end import log_end
from rewind_node.storage_errors import StorageFailedError
from rewind_node.stream_blocks import Block

Line = dict[str, Any]

UNPACK: dict[str, Callable[[bytes, bytes], object]] = {  # how the rows of each index are read, and so verified
    layout.STREAMS: Block,
    layout.FILTERS: partial(layout.unseal, layout.FILTERS),
    layout.SEGMENTS: partial(layout.unseal, layout.SEGMENTS),
    layout.POSITIONS: layout.unpack_position,
    layout.SESSIONS: layout.unpack_session_run,
    layout.GROUPS: layout.unpack_group,
}


def dump(path: Path, write: Callable[[str], object]) -> None:
    """Hand the data in directory `path` to `write`, a line with its end at a time.

    Raises `DataDirectoryInUseError`, `NewerFormatError` or, where there is no data, `StorageFailedError`.
    """
    if not (path / SHARD / DATA_FILE).is_file():
        raise StorageFailedError(f"{path} holds no data of a node; name the directory given as its data directory")
    lock = DataDirectoryLock(path, create=False)
    try:
        reader = LmdbReader.open(path / SHARD)
        try:
            for line in _lines(reader):
                write(json.dumps(line, ensure_ascii=False) + "\n")
        finally:
            reader.close()
    finally:
        lock.release()


def _lines(reader: LmdbReader) -> Iterator[Line]:
    try:
        check_format(read_format(reader))
    except DamagedError as error:
        yield _damage(None, layout.NODE, "format", error)
    partitions = set(layout.logged_partitions(reader.tables()))
    try:
        partitions.update(int.from_bytes(key) for key, _ in reader.scan(layout.RAFT, b"", layout.SPACE_END))
    except DamagedError as error:
        yield _damage(None, layout.RAFT, None, error)
    for partition in sorted(partitions):
        yield from _Replica(reader, partition).lines()
        for table in layout.INDEX_TABLES:
            yield from _index_damage(reader, partition, table)


class _Replica:
    """One replica's state and log; `term` and `digest` are those of the last entry read, None after damage."""

    def __init__(self, reader: LmdbReader, partition: int) -> None:
        self._reader = reader
        self._partition = partition
        self._table = layout.log_table(partition)
        self._term = 0
        self._digest: bytes | None = NO_DIGEST

    def lines(self) -> Iterator[Line]:
        last = 1  # where even that cannot be read, read on from the front until the damage is met
        try:
            last = self._last_index()
            log_end(self._reader, self._partition)
        except DamagedError as error:
            yield self._damage(None, error)
        yield from self._state(last)
        yield from self._log(last)

    def _last_index(self) -> int:
        pair = self._reader.last(self._table)
        return layout.index_of_key(pair[0]) if pair else 0

    def _state(self, last: int) -> Iterator[Line]:
        key = layout.U16.pack(self._partition)
        try:
            value = self._reader.get(layout.RAFT, key)
            if value is None and not last:
                return  # a replica that was dropped leaves an empty table
            if value is None:
                raise DamagedError("the replica has entries and no state: it is being dropped, or its row is lost")
            state = layout.unpack_state(key, value)
        except DamagedError as error:
            yield _damage(self._partition, layout.RAFT, None, error)
            return
        yield {
            "partition": self._partition,
            "kind": "state",
            "term": state.term,
            "vote": state.vote,
            "applied": state.applied,
            "last": last,
        }
        if state.applied > last:
            yield _damage(self._partition, layout.RAFT, None, DamagedError("the applied mark lies beyond the log"))

    def _log(self, last: int) -> Iterator[Line]:
        index = 1
        while index <= last:
            try:
                for key, data in self._reader.scan(self._table, layout.U64.pack(index), layout.NUMBERS_END):
                    found = layout.index_of_key(key)
                    if found != index:
                        yield self._damage(index, DamagedError(f"entries {index} to {found - 1} are missing"))
                    yield from self._entry(found, data)
                    index = found + 1
                if index <= last:
                    raise DamagedError(f"entries {index} to {last} cannot be reached")
            except DamagedError as error:  # a page of the file: what other pages hold can still be read
                yield self._damage(index, error)
                index += 1

    def _entry(self, index: int, data: bytes) -> Iterator[Line]:
        try:
            entry = Entry.decode(data)
            line = self._entry_line(entry)
            if entry.index != index:
                raise DamagedError(f"entry {entry.index} is stored in its place")
        except DamagedError as error:
            yield self._damage(index, error)
            return
        if self._digest not in (None, entry.previous_digest):
            yield self._damage(index, DamagedError("the entry does not name the digest of the one before"))
        if entry.term < self._term:
            yield self._damage(index, DamagedError(f"the entry's term {entry.term} is older than {self._term}"))
        self._term, self._digest = entry.term, entry.digest
        yield line

    def _entry_line(self, entry: Entry) -> Line:
        return {
            "partition": self._partition,
            "kind": "entry",
            "index": entry.index,
            "term": entry.term,
            "context": entry.context,
            "digest": entry.digest.hex(),
            "appends": list(_appends(entry)) if entry.kind is EntryKind.RECORDS else [],
        }

    def _damage(self, index: int | None, error: DamagedError) -> Line:
        self._digest = None
        return _damage(self._partition, self._table, index, error)


def _appends(entry: Entry) -> Iterator[Line]:
    for record in iterate_body(entry.body):
        if record.kind != RecordKind.RUN:
            continue
        run = unpack_run(record.payload)
        ids = unpack_events(record.events).ids
        pieces = starts(run.counts, len(run.streams))
        for stream, version, (start, stop) in zip(run.streams, run.first_versions, pieces, strict=True):
            yield {
                "stream": stream,
                "version": version,
                "ids": [str(UUID(bytes=ids[at * ID_BYTES : (at + 1) * ID_BYTES])) for at in range(start, stop)],
            }


def _index_damage(reader: LmdbReader, partition: int, table: str) -> Iterator[Line]:
    try:
        for key, value in reader.scan(table, *layout.partition_range(partition)):
            try:
                UNPACK[table](key, value)
            except DamagedError as error:
                yield _damage(partition, table, key.hex(), error)
    except DamagedError as error:
        yield _damage(partition, table, None, error)


def _damage(partition: int | None, table: str, where: int | str | None, error: DamagedError) -> Line:
    return {"partition": partition, "kind": "damage", "table": table, "where": where, "error": str(error)}
