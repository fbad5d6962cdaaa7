"""Reading the applied state of one partition: records, versions, names.

Whatever is read is verified: the header's and the record's checksum, and that the record is the one its index row
promises. A mismatch is `DamagedError`, never served.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rewind_cluster.entry import HEADER_BYTES, read_place
from rewind_cluster.errors import DamagedError
from rewind_cluster.records import ID_BYTES, Append, RecordKind, unpack_append, unpack_events, unpack_record
from rewind_node.applying import EventIndex
from rewind_node.sessions import Answer, done
from rewind_node.store import Store, StreamRow


@dataclass(frozen=True, slots=True)
class StoredAppend:
    """An append as it stands in the log, with its entry's first position and timestamp."""

    first_position: int
    timestamp: int
    record: bytes
    append: Append


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of a stream's appends, in the order asked for. `more`: the stream goes on beyond it."""

    appends: list[StoredAppend]
    version: int
    more: bool


class Reader:
    """Reads of one data partition's applied state."""

    def __init__(self, store: Store, index: EventIndex) -> None:
        self._store = store
        self._index = index
        self._partition = index.partition

    def chunk(
        self, context: int, stream: str, after: int | None, count_max: int, bytes_max: int, *, reverse: bool
    ) -> Chunk:
        """Return appends that hold the events asked for, at least one, at most what the limits allow."""
        version = self._index.head(context, stream)
        start = after if after is not None else (version if reverse else 0)
        appends: list[StoredAppend] = []
        count = size = 0
        last = start
        for stored in self._appends(context, stream, start, reverse=reverse):
            appends.append(stored)
            size += len(stored.record)
            append = stored.append
            if reverse:
                count += min(append.last_version, start) - append.first_version + 1
                last = append.first_version
            else:
                count += append.last_version - max(append.first_version, start + 1) + 1
                last = append.last_version
            if count >= count_max or size >= bytes_max:
                break
        more = bool(appends) and (last > 1 if reverse else last < version)
        return Chunk(appends, version, more)

    def _appends(self, context: int, stream: str, start: int, *, reverse: bool) -> Iterator[StoredAppend]:
        if reverse and start < 1:
            return
        before: StreamRow | None = None
        for row in self._index.streams.rows(context, stream, start, reverse=reverse):
            if before is not None:
                earlier, later = (row, before) if reverse else (before, row)
                if earlier.last_version + 1 != later.first_version:
                    raise DamagedError(f"stream {stream!r} has a hole before version {later.first_version}")
            before = row
            yield self._load(stream, row)

    def _load(self, stream: str, row: StreamRow) -> StoredAppend:
        data = self._store.entry(self._partition, row.entry_index)
        first_position, timestamp = read_place(data)
        offset = HEADER_BYTES + row.offset
        record = bytes(data[offset : offset + row.length])
        kind, payload = unpack_record(record)
        if kind != RecordKind.APPEND:
            raise DamagedError(f"the index of stream {stream!r} leads to a record that is no append")
        append = unpack_append(payload)
        if append[:2] != (stream, row.first_version) or append.event_count != row.event_count:
            raise DamagedError(f"the index of stream {stream!r} leads to another append")
        return StoredAppend(first_position, timestamp, record, append)

    def earlier_answer(self, context: int, parts: list[tuple[str, int, bytes]]) -> Answer | None:
        """Return what was first answered to an append whose events already stand where it expects them, or None.

        `parts`: stream, expected version and the events' ids, one after the other.
        """
        places = []
        for stream, expected, ids in parts:
            found = self._place_of(context, stream, expected, ids)
            if found is None:
                return None
            places.append(found)
        return done(places)

    def _place_of(self, context: int, stream: str, expected: int, ids: bytes) -> tuple[int, int, int] | None:
        last_version = expected + len(ids) // ID_BYTES
        if expected < 0 or self._index.head(context, stream) < last_version:
            return None
        version = expected
        for stored in self._appends(context, stream, expected, reverse=False):
            append = stored.append
            skipped = version + 1 - append.first_version
            taken = min(append.last_version, last_version) - version
            held = unpack_events(append.events).ids[skipped * ID_BYTES : (skipped + taken) * ID_BYTES]
            if held != ids[(version - expected) * ID_BYTES : (version - expected + taken) * ID_BYTES]:
                return None
            version += taken
            if version == last_version:
                ahead = append.place + version - append.first_version
                return version, stored.first_position + ahead, stored.timestamp + ahead
        return None
