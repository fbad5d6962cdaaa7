"""New events into columns: each is checked here, and copied into what is sent when its append is."""

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgpack

from rewind.arguments import check_type
from rewind.errors import InvalidArgument, TooLarge
from rewind.events import NewEvent
from rewind.ids import RandomIds
from rewind_cluster.columns import Events, pack_events
from rewind_cluster.names import APPEND_BYTES_MAX, APPEND_EVENTS_MAX, DATA_BYTES_MAX, METADATA_BYTES_MAX

INTEGER_MIN = -(1 << 63)  # what msgpack can hold
INTEGER_MAX = (1 << 64) - 1
EVENT_BYTES = 32  # of an event beside its type, data and metadata: its ID and what msgpack adds
TYPES_CACHED_MAX = 1024  # an application has dozens of types and checks one with every event

_check_type = lru_cache(TYPES_CACHED_MAX)(check_type)


def new_events(events: NewEvent | Iterable[NewEvent], ids: RandomIds) -> tuple[Events, int]:
    """Return an append's events as columns, and about how many bytes. Raises `InvalidArgument` or `TooLarge`."""
    if isinstance(events, NewEvent):
        kind, data, metadata = _type(events.type), _data(events.data), _metadata(events.metadata)
        columns = Events(_id_bytes(events.id, ids), (kind,), (data,), None if metadata is None else (metadata,))
        return columns, EVENT_BYTES + len(kind) + len(data) + (0 if metadata is None else len(metadata))
    columns = _columns(events, ids)
    size = EVENT_BYTES * columns.event_count + sum(map(len, columns.types)) + sum(map(len, columns.datas))
    size += sum(len(metadata) for metadata in columns.metadatas or () if metadata is not None)
    if size > APPEND_BYTES_MAX // 2 and (size := len(pack_events(columns))) > APPEND_BYTES_MAX:
        raise TooLarge(f"an append of {size} bytes is over the limit of {APPEND_BYTES_MAX}; nothing was sent")
    return columns, size


def with_metadata(events: Events, more: Mapping[str, str]) -> Events:
    """Return events that carry more metadata, where they do not carry any of it or are full already."""
    metadatas = events.metadatas or (None,) * events.event_count
    return events._replace(metadatas=[_more(metadata, more) for metadata in metadatas])


def _more(packed: bytes | None, more: Mapping[str, str]) -> bytes | None:
    metadata: dict[str, Any] = {} if packed is None else msgpack.unpackb(packed)
    if not metadata.keys().isdisjoint(more):
        return packed
    together: bytes = msgpack.packb({**metadata, **more})
    return together if len(together) <= METADATA_BYTES_MAX else packed


def _columns(events: object, ids: RandomIds) -> Events:
    if not isinstance(events, Iterable):
        raise InvalidArgument(f"events {events!r} is neither a NewEvent nor a list of them; nothing was sent")
    listed = list(events)
    if not listed:
        raise InvalidArgument("an append without events; give one at least")
    if len(listed) > APPEND_EVENTS_MAX:
        raise TooLarge(f"an append of {len(listed)} events is over the limit of {APPEND_EVENTS_MAX}; nothing was sent")
    for event in listed:
        if not isinstance(event, NewEvent):
            raise InvalidArgument(f"{event!r} is not a NewEvent; nothing was sent")
    metadatas = [_metadata(event.metadata) for event in listed]
    return Events(
        b"".join([_id_bytes(event.id, ids) for event in listed]),
        [_type(event.type) for event in listed],
        [_data(event.data) for event in listed],
        None if all(metadata is None for metadata in metadatas) else metadatas,
    )


def _id_bytes(given: UUID | None, ids: RandomIds) -> bytes:
    if given is None:
        return ids.take()
    if not isinstance(given, UUID):
        raise InvalidArgument(f"an event's id {given!r} is not a uuid.UUID; nothing was sent")
    return given.bytes


def _type(name: str) -> str:
    return _check_type(name) if type(name) is str else check_type(name)


def _data(data: object) -> bytes:
    if type(data) is not bytes:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InvalidArgument(f"an event's data is {type(data).__name__}, not bytes; encode it first")
        data = bytes(data)
    if len(data) > DATA_BYTES_MAX:
        raise TooLarge(
            f"an event's data of {len(data)} bytes is over the limit of {DATA_BYTES_MAX}: "
            "keep it elsewhere and its address in the event; nothing was sent"
        )
    return data


def _metadata(metadata: Mapping[str, Any] | None) -> bytes | None:
    if not metadata:
        if metadata is not None and not isinstance(metadata, Mapping):
            raise InvalidArgument(f"an event's metadata {metadata!r} is not a mapping; nothing was sent")
        return None
    return pack_metadata(metadata)


def pack_metadata(metadata: object) -> bytes:
    """Return metadata, packed. Raises `InvalidArgument` or `TooLarge`."""
    if not isinstance(metadata, Mapping):
        raise InvalidArgument(f"an event's metadata {metadata!r} is not a mapping; nothing was sent")
    try:
        packed: bytes = msgpack.packb({_key(key): _json_value(value) for key, value in metadata.items()})
    except (ValueError, RecursionError, UnicodeEncodeError) as error:  # nested too deeply, or text that is no Unicode
        raise InvalidArgument(f"an event's metadata cannot be encoded: {error}; nothing was sent") from None
    if len(packed) > METADATA_BYTES_MAX:
        raise TooLarge(f"metadata of {len(packed)} bytes is over the limit of {METADATA_BYTES_MAX}; nothing was sent")
    return packed


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidArgument(f"metadata has the key {key!r}, which is not a text; nothing was sent")
    return key


def _json_value(value: object) -> object:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise InvalidArgument(f"metadata holds the number {value}, which is over 64 bits; nothing was sent")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidArgument(f"metadata holds {value}, which JSON does not know; nothing was sent")
        return value
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, Mapping):
        return {_key(key): _json_value(item) for key, item in value.items()}
    raise InvalidArgument(f"metadata holds {value!r}, which is no JSON value; nothing was sent")
