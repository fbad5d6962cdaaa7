"""The records of an entry's body: what clients' appends become in the log.

A body is a run of records, one after the other. A record is a msgpack array `[kind, checksum, payload, events]`:
`payload` is a msgpack array of its own, packed; `events` is empty except where the record is a run of appends, whose
events it holds as the client packed them, see `rewind_cluster.columns`; `checksum` is the CRC-32 of both. Readers
accept longer arrays than they know. A record without a position (a session, a refusal) joins an append atomically when
it stands in the same entry.
"""

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Any, NamedTuple
from zlib import crc32

import msgpack

from rewind_cluster.columns import Counts, are_counts, size_of
from rewind_cluster.errors import DamagedError
from rewind_cluster.names import STREAM_BYTES_MAX

RUN_FIELDS = 8
NUMBERS = 4  # of a run's fields, before its columns
VERSION_MAX = 1 << 63  # no stream gets there, and what follows it in a run still has a number
_INTEGERS_ONLY = {int}
_TEXTS_ONLY = {str}
REFUSAL_FIELDS = 6


class RecordKind(IntEnum):
    """What a record is. A kind that a replica does not know stops that replica with a clear error."""

    RUN = 1  # appends of one session
    SESSION = 2  # a session was opened; the entry's index is its ID
    REFUSAL = 3  # an append was refused for good under its number
    GROUP = 4  # kept for the state of consumer groups
    MARK = 5  # kept for tracking marks
    CONTEXT = 16  # partition 0: a context was created
    NODE = 17  # partition 0: a node joined, or its names or addresses changed


class Record(NamedTuple):
    """One record of a body. `offset` and `length`: its bytes' place in it. `payload`: its fields, by kind."""

    offset: int
    length: int
    kind: int
    payload: Sequence[Any]
    events: bytes


class Run(NamedTuple):
    """Appends of one session, numbered from `first_sequence` on, as columns: see `rewind_cluster.columns`.

    `place` counts the events that stand before it in its entry; `streams` and `first_versions` name each part's stream
    and its first event's version. A named tuple because one is made per batch on every replica: a frozen dataclass
    costs five times as much.
    """

    session: int
    first_sequence: int
    low: int  # the session's low-water mark: every number below it is settled at the client
    place: int
    streams: Sequence[str]
    first_versions: Sequence[int]
    counts: Counts
    parts: Counts

    @property
    def append_count(self) -> int:
        """How many appends it holds."""
        return len(self.streams if self.parts is None else self.parts)

    @property
    def event_count(self) -> int:
        """How many events it holds."""
        return size_of(self.counts, len(self.streams))

    @property
    def last_versions(self) -> list[int]:
        """The version of the last event of each part."""
        if self.counts is None:
            return list(self.first_versions)
        return [first + count - 1 for first, count in zip(self.first_versions, self.counts, strict=True)]


class Refusal(NamedTuple):
    """The session's append `sequence` was refused: `stream` had version `actual`, not `expected`."""

    session: int
    sequence: int
    low: int
    stream: str
    expected: int
    actual: int


# One packer for all records: making one costs as much as packing with it. It is used by one thread at a time, a node's.
_pack: Callable[[Any], bytes] = msgpack.Packer().pack


def pack_record(kind: int, payload: tuple[Any, ...], events: bytes = b"") -> bytes:
    """Return one record's bytes."""
    packed = _pack(payload)
    return _pack((kind, crc32(events, crc32(packed)), packed, events))


def pack_run(run: Run, events: bytes) -> bytes:
    """Return the bytes of a record of appends. `events` are packed."""
    return pack_record(RecordKind.RUN, run, events)


def pack_refusal(refusal: Refusal) -> bytes:
    """Return the bytes of a refusal's record."""
    return pack_record(RecordKind.REFUSAL, refusal)


def unpack_record(record: bytes | memoryview) -> Record:
    """Return one record, its checksum verified, or raise `DamagedError`. Its `offset` is 0."""
    try:
        kind, checksum, packed, events = msgpack.unpackb(record)[:4]
        if crc32(events, crc32(packed)) != checksum:
            raise DamagedError("a record fails its checksum")
        return Record(0, len(record), int(kind), list(msgpack.unpackb(packed)), bytes(events))
    except DamagedError:
        raise
    except Exception as error:
        raise DamagedError(f"a record cannot be read: {error}") from error


def unpack_run(payload: Sequence[Any]) -> Run:
    """Return appends from their record's payload, or raise `DamagedError`."""
    if type(payload) is Run:
        return payload
    if type(payload) is not list or len(payload) < RUN_FIELDS:
        raise DamagedError(f"a record of appends is no array of {RUN_FIELDS} or more")
    run = Run._make(payload[:RUN_FIELDS])
    if (
        set(map(type, run[:NUMBERS])) != _INTEGERS_ONLY
        or min(run.session, run.first_sequence, run.low, run.place) < 0
        or type(run.streams) is not list
        or type(run.first_versions) is not list
        or not len(run.first_versions) == len(run.streams) > 0
        or set(map(type, run.streams)) != _TEXTS_ONLY
        or not _can_be_keys(run.streams)
        or set(map(type, run.first_versions)) != _INTEGERS_ONLY
        or not 1 <= min(run.first_versions) <= max(run.first_versions) <= VERSION_MAX
        or not are_counts(run.counts, length=len(run.streams))
        or not are_counts(run.parts, whole=len(run.streams))
    ):
        raise DamagedError("a record of appends has columns that do not fit together")
    return run


def _can_be_keys(streams: list[str]) -> bool:
    """Return whether the store can hold rows of these streams. Their leader has checked the other rules for names."""
    whole = "".join(streams)
    if "\0" in whole:
        return False
    if whole.isascii():
        return max(map(len, streams)) <= STREAM_BYTES_MAX
    return max(len(stream.encode()) for stream in streams) <= STREAM_BYTES_MAX


def unpack_refusal(payload: Sequence[Any]) -> Refusal:
    """Return a refusal from its record's payload, or raise `DamagedError`."""
    if not isinstance(payload, list | tuple) or len(payload) < REFUSAL_FIELDS:
        raise DamagedError(f"a refusal's record is no array of {REFUSAL_FIELDS} or more")
    refusal = Refusal(*payload[:REFUSAL_FIELDS])
    if type(refusal.stream) is not str or set(map(type, (*refusal[:3], *refusal[4:]))) != _INTEGERS_ONLY:
        raise DamagedError("a refusal's record holds other things than numbers and a stream")
    if min(refusal.session, refusal.sequence, refusal.low) < 0:
        raise DamagedError("a refusal's record names a session or an append by a number below 0")
    return refusal


def iterate_body(body: bytes | memoryview) -> Iterator[Record]:
    """Yield each record of a body whose entry has been verified.

    The records' own checksums are not looked at: the entry's covers them.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(body)))
    unpacker.feed(body)
    offset = 0
    try:
        for record in unpacker:
            end = unpacker.tell()
            yield Record(offset, end - offset, record[0], msgpack.unpackb(record[2]), record[3])
            offset = end
    except (ValueError, TypeError, LookupError, msgpack.UnpackException) as error:
        raise DamagedError(f"a body's record at {offset} cannot be read: {error}") from error
    if offset != len(body):
        raise DamagedError(f"a body ends in half a record at {offset}")
