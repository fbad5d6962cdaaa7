"""Reading the applied state of one partition: records, versions, names.

Whatever is read is verified: the header's and the record's checksum, and that the record holds what its index row
promises. A mismatch is `DamagedError`, never served.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rewind_cluster.client_messages import Code
from rewind_cluster.columns import ID_BYTES, Events, pack_events, starts, unpack_events
from rewind_cluster.entry import HEADER_BYTES, read_place
from rewind_cluster.errors import DamagedError
from rewind_cluster.records import RecordKind, Run, unpack_record, unpack_run
from rewind_node.applying import EventIndex
from rewind_node.judging import Part
from rewind_node.store import Store, StreamRow

OPEN_RUNS_MAX = 8


@dataclass(frozen=True, slots=True)
class StoredAppend:
    """An append to one stream as it stands in the log: its first event's version, position and timestamp."""

    first_version: int
    position: int
    timestamp: int
    events: Events
    packed: bytes

    @property
    def last_version(self) -> int:
        """The version of its last event."""
        return self.first_version + self.events.event_count - 1


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some of a stream's appends, in the order asked for. `more`: the stream goes on beyond them.

    `opened_bytes`: of all records that had to be opened to get at them.
    """

    appends: list[StoredAppend]
    version: int
    more: bool
    opened_bytes: int


class StoredRun:
    """A record of appends, verified and unpacked: the parts of one stream are often found in one record."""

    def __init__(self, data: bytes, row: StreamRow) -> None:
        first_position, timestamp = read_place(data)
        offset = HEADER_BYTES + row.offset
        record = unpack_record(bytes(data[offset : offset + row.length]))
        if record.kind != RecordKind.RUN:
            raise DamagedError("an index leads to a record that holds no appends")
        self._run: Run = unpack_run(record.payload)
        self._events = unpack_events(record.events)
        self._packed = record.events
        self._position = first_position + self._run.place
        self._timestamp = timestamp + self._run.place
        run = self._run
        pieces = starts(run.counts, len(run.streams))
        self._parts = dict(zip(zip(run.streams, run.first_versions, strict=True), pieces, strict=True))

    def part(self, stream: str, row: StreamRow) -> StoredAppend:
        """Return one part, by its stream and row."""
        found = self._parts.get((stream, row.first_version))
        if found is None or found[1] - found[0] != row.event_count or found[1] > self._events.event_count:
            raise DamagedError(f"the index of stream {stream!r} leads to another append")
        start, stop = found
        if len(self._parts) == 1:
            events, packed = self._events, self._packed
        else:
            events = self._events.slice(start, stop)
            packed = pack_events(events)
        return StoredAppend(row.first_version, self._position + start, self._timestamp + start, events, packed)


class StoredRuns:
    """The records that were opened last in one piece of work: what is read next is often in one of them."""

    def __init__(self) -> None:
        self.opened_bytes = 0
        self._runs: OrderedDict[tuple[int, int], StoredRun] = OrderedDict()

    def open(self, store: Store, partition: int, row: StreamRow) -> StoredRun:
        """Return the record that a row leads to, verified."""
        place = (row.entry_index, row.offset)
        run = self._runs.get(place)
        if run is None:
            run = self._runs[place] = StoredRun(store.entry(partition, row.entry_index), row)
            self.opened_bytes += row.length
            if len(self._runs) > OPEN_RUNS_MAX:
                self._runs.popitem(last=False)
        else:
            self._runs.move_to_end(place)
        return run


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
        runs = StoredRuns()
        count = 0
        last = start
        for append in self._appends(context, stream, start, runs, reverse=reverse):
            appends.append(append)
            if reverse:
                count += min(append.last_version, start) - append.first_version + 1
                last = append.first_version
            else:
                count += append.last_version - max(append.first_version, start + 1) + 1
                last = append.last_version
            if count >= count_max or runs.opened_bytes >= bytes_max:
                break
        more = bool(appends) and (last > 1 if reverse else last < version)
        return Chunk(appends, version, more, runs.opened_bytes)

    def _appends(
        self, context: int, stream: str, start: int, runs: StoredRuns, *, reverse: bool
    ) -> Iterator[StoredAppend]:
        if reverse and start < 1:
            return
        head = self._index.head(context, stream)
        version = min(start, head) if reverse else start + 1  # what is told next
        for number, row in enumerate(self._index.streams.rows(context, stream, start, reverse=reverse)):
            joins = not number or version == (row.last_version if reverse else row.first_version)
            if not joins or not row.first_version <= version <= row.last_version:
                raise _hole(stream, version)
            version = row.first_version - 1 if reverse else row.last_version + 1
            yield runs.open(self._store, self._partition, row).part(stream, row)
        if version > 0 if reverse else version <= head:
            raise _hole(stream, version)

    def earlier_answer(self, context: int, parts: Sequence[Part], runs: StoredRuns) -> list[Any] | None:
        """Return how an append ended whose events already stand where it expects them, or None."""
        places: list[tuple[int, int, int]] = []
        for stream, expected, ids in parts:
            found = self._place_of(context, stream, expected, ids, runs)
            if found is None:
                return None
            places.append(found)
        versions, positions, timestamps = map(list, zip(*places, strict=True))
        return [int(Code.OK), versions, positions, timestamps, None, None if len(parts) == 1 else [len(parts)]]

    def _place_of(
        self, context: int, stream: str, expected: int, ids: bytes, runs: StoredRuns
    ) -> tuple[int, int, int] | None:
        """Return version, position and timestamp of the last of the events that these IDs name."""
        last_version = expected + len(ids) // ID_BYTES
        if expected < 0 or self._index.head(context, stream) < last_version:
            return None
        version = expected
        for append in self._appends(context, stream, expected, runs, reverse=False):
            skipped = version + 1 - append.first_version
            taken = min(append.last_version, last_version) - version
            held = append.events.ids[skipped * ID_BYTES : (skipped + taken) * ID_BYTES]
            if held != ids[(version - expected) * ID_BYTES : (version - expected + taken) * ID_BYTES]:
                return None
            version += taken
            if version == last_version:
                ahead = version - append.first_version
                return version, append.position + ahead, append.timestamp + ahead
        return None


def _hole(stream: str, version: int) -> DamagedError:
    return DamagedError(f"the index of stream {stream!r} has a hole, or an overlap, at version {version}")
