"""The records of an entry's body: what clients' appends become in the log.

A body is a run of records, one after the other. A record is a msgpack array `[kind, checksum, payload]`: `payload` is a
msgpack array of its own, packed, and `checksum` its CRC-32. Readers accept longer arrays than they know. A record
without a position (a session, a refusal) joins an append atomically when it stands in the same entry.

An append's events are packed by the client and stay as they came, one msgpack array of four columns:
`[ids, types, datas, metadatas]`: the ids as one run of 16 bytes each, types as text, data as bytes, metadata as nil or
a packed map.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple
from zlib import crc32

import msgpack

from rewind_cluster.errors import DamagedError, InvalidArgumentError, ProtocolError, TooLargeError
from rewind_cluster.names import (
    APPEND_BYTES_MAX,
    APPEND_EVENTS_MAX,
    DATA_BYTES_MAX,
    METADATA_BYTES_MAX,
    check_type_name,
)
from rewind_cluster.wire import unpack

ID_BYTES = 16
APPEND_FIELDS = 8
REFUSAL_FIELDS = 6
_make_tuple = tuple.__new__  # a named tuple made without the detour through its constructor, which is Python


class RecordKind(IntEnum):
    """What a record is. A kind that a replica does not know stops that replica with a clear error."""

    APPEND = 1
    SESSION = 2  # a session was opened; the entry's index is its ID
    REFUSAL = 3  # an append was refused for good under its number
    GROUP = 4  # kept for the state of consumer groups
    MARK = 5  # kept for tracking marks
    CONTEXT = 16  # partition 0: a context was created
    NODE = 17  # partition 0: a node joined, or its names or addresses changed


Record = tuple[int, int, int, Sequence[Any]]  # offset and length in the body, in bytes; kind; payload


class Append(NamedTuple):
    """Events appended to one stream. `place` counts the events that stand before it in its entry.

    A named tuple because one is made per append on every replica: a frozen dataclass costs five times as much.
    """

    stream: str
    first_version: int
    place: int
    session: int
    sequence: int
    low: int  # the session's low-water mark: every number below it is settled at the client
    event_count: int
    events: bytes

    @property
    def last_version(self) -> int:
        """The version of the last event."""
        return self.first_version + self.event_count - 1


class Refusal(NamedTuple):
    """The session's append `sequence` was refused: `stream` had version `actual`, not `expected`."""

    session: int
    sequence: int
    low: int
    stream: str
    expected: int
    actual: int


@dataclass(frozen=True, slots=True)
class Events:
    """An append's events, column by column. `metadatas` holds packed maps or None."""

    ids: bytes
    types: list[str]
    datas: list[bytes]
    metadatas: list[bytes | None]

    def __len__(self) -> int:
        return len(self.types)


# One packer for all records: making one costs as much as packing with it. It is used by one thread at a time, a node's.
_pack: Callable[[Any], bytes] = msgpack.Packer().pack


def pack_record(kind: int, payload: tuple[Any, ...]) -> bytes:
    """Return one record's bytes."""
    packed = _pack(payload)
    return _pack((kind, crc32(packed), packed))


def pack_append(append: Append) -> bytes:
    """Return the bytes of an append's record."""
    return pack_record(RecordKind.APPEND, append)


def pack_refusal(refusal: Refusal) -> bytes:
    """Return the bytes of a refusal's record."""
    return pack_record(RecordKind.REFUSAL, refusal)


def unpack_record(record: bytes | memoryview) -> tuple[int, list[Any]]:
    """Return kind and payload of one record, its checksum verified, or raise `DamagedError`."""
    try:
        kind, checksum, packed = msgpack.unpackb(record)[:3]
        if crc32(packed) != checksum:
            raise DamagedError("a record fails its checksum")
        return int(kind), list(msgpack.unpackb(packed))
    except DamagedError:
        raise
    except Exception as error:
        raise DamagedError(f"a record cannot be read: {error}") from error


def unpack_append(payload: Sequence[Any]) -> Append:
    """Return an append from its record's payload, or raise `DamagedError`."""
    if type(payload) is Append:
        return payload
    if type(payload) is not list or len(payload) < APPEND_FIELDS:
        raise DamagedError(f"an append's record is no array of {APPEND_FIELDS} or more")
    return _make_tuple(Append, payload[:APPEND_FIELDS])


def unpack_refusal(payload: Sequence[Any]) -> Refusal:
    """Return a refusal from its record's payload, or raise `DamagedError`."""
    if not isinstance(payload, list | tuple) or len(payload) < REFUSAL_FIELDS:
        raise DamagedError(f"a refusal's record is no array of {REFUSAL_FIELDS} or more")
    return Refusal(*payload[:REFUSAL_FIELDS])


def iterate_body(body: bytes | memoryview) -> Iterator[Record]:
    """Yield each record of a body whose entry has been verified.

    The records' own checksums are not looked at: the entry's covers
    them.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(body)))
    unpacker.feed(body)
    offset = 0
    try:
        for record in unpacker:
            end = unpacker.tell()
            yield offset, end - offset, record[0], msgpack.unpackb(record[2])
            offset = end
    except (ValueError, TypeError, LookupError, msgpack.UnpackException) as error:
        raise DamagedError(f"a body's record at {offset} cannot be read: {error}") from error
    if offset != len(body):
        raise DamagedError(f"a body ends in half a record at {offset}")


def pack_events(events: Events) -> bytes:
    """Return the bytes of an append's events."""
    packed: bytes = msgpack.packb((events.ids, events.types, events.datas, events.metadatas))
    return packed


def unpack_events(packed: bytes | memoryview) -> Events:
    """Return stored events, or raise `DamagedError`."""
    try:
        return Events(*msgpack.unpackb(packed)[:4])
    except Exception as error:
        raise DamagedError(f"an append's events cannot be read: {error}") from error


def check_events(packed: bytes) -> Events:
    """Return the events that a client sent, every rule and limit verified.

    Raises `ProtocolError` for bytes that are no events, `InvalidArgumentError` or `TooLargeError` for events outside
    the rules.
    """
    if len(packed) > APPEND_BYTES_MAX:
        raise TooLargeError(f"an append of {len(packed)} bytes is over the limit of {APPEND_BYTES_MAX}")
    events = _unpack_columns(packed)
    count = len(events.types)
    if not 1 <= count <= APPEND_EVENTS_MAX:
        raise TooLargeError(f"an append of {count} events is outside 1 to {APPEND_EVENTS_MAX}")
    for name in events.types:
        check_type_name(name)
    for data in events.datas:
        if type(data) is not bytes:
            raise InvalidArgumentError("an event's data is not bytes")
        if len(data) > DATA_BYTES_MAX:
            raise TooLargeError(f"an event's data of {len(data)} bytes is over the limit of {DATA_BYTES_MAX}")
    for metadata in events.metadatas:
        if metadata is not None:
            _check_metadata(metadata)
    return events


def _unpack_columns(packed: bytes) -> Events:
    try:
        ids, types, datas, metadatas = unpack(packed)
        count = len(types)
        fits = type(ids) is bytes and len(ids) == count * ID_BYTES and len(datas) == len(metadatas) == count
    except Exception as error:
        raise ProtocolError(f"an append's events cannot be read: {error}") from error
    if not fits or not type(types) is type(datas) is type(metadatas) is list:
        raise ProtocolError("an append's events are not four columns of the same length")
    return Events(ids, types, datas, metadatas)


def _check_metadata(packed: object) -> None:
    if type(packed) is not bytes:
        raise InvalidArgumentError("an event's metadata is not a packed map")
    if len(packed) > METADATA_BYTES_MAX:
        raise TooLargeError(f"an event's metadata of {len(packed)} bytes is over the limit of {METADATA_BYTES_MAX}")
    try:
        metadata = unpack(packed)
    except Exception as error:
        raise InvalidArgumentError(f"an event's metadata cannot be read: {error}") from error
    if type(metadata) is not dict or not all(type(key) is str for key in metadata):
        raise InvalidArgumentError("an event's metadata is not a map with text keys")
