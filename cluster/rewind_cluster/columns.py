"""Columns: how many appends travel and are stored as few values.

An append to one stream of one event is the rule and comes by the ten thousand a second. So what a client sends in one
message, and what a log keeps in one record, is a *run* of appends as columns: one array of streams, one of versions,
one of data. A run is decoded in one call and checked and indexed with what the language does to a whole array at once.

A run holds *appends*; an append has *parts*, one per stream; a part has *events*. `counts` gives the events of each
part, or None where each has one; `parts` the parts of each append, or None where each has one.

The events of a run are packed by the client and stay as they came, one msgpack array of four columns:
`[ids, types, datas, metadatas]`: the ids as one run of 16 bytes each, types as text, data as bytes, metadata as nil or
a packed map each, or nil for all where no event has any.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgpack

from rewind_cluster import wire
from rewind_cluster.errors import DamagedError, InvalidArgumentError, ProtocolError, TooLargeError
from rewind_cluster.names import DATA_BYTES_MAX, METADATA_BYTES_MAX, check_type_name

ID_BYTES = 16
ARRAYS_MAX = 16  # in one array of columns, itself included: there are four, and six; room for those of later versions
COLUMNS = 4
_BYTES_ONLY = {bytes}
_BYTES_OR_NONE = {bytes, type(None)}
_TEXTS_ONLY = {str}
_INTEGERS_ONLY = {int}

Counts = Sequence[int] | None


class Events(NamedTuple):
    """Events, column by column. `metadatas` holds packed maps or None; it is None where no event has any."""

    ids: bytes
    types: Sequence[str]
    datas: Sequence[bytes]
    metadatas: Sequence[bytes | None] | None

    @property
    def event_count(self) -> int:
        """How many they are."""
        return len(self.types)

    def slice(self, start: int, stop: int) -> "Events":
        """Return the events from number `start` to before `stop`, counted from 0."""
        metadatas = None if self.metadatas is None else self.metadatas[start:stop]
        if metadatas is not None and not any(metadatas):
            metadatas = None  # it was a neighbour that had some
        ids = self.ids[start * ID_BYTES : stop * ID_BYTES]
        return Events(ids, self.types[start:stop], self.datas[start:stop], metadatas)


def size_of(counts: Counts, length: int) -> int:
    """Return how many events `length` parts hold, or how many parts `length` appends."""
    return length if counts is None else sum(counts)


def starts(counts: Counts, length: int) -> Iterator[tuple[int, int]]:
    """Yield where each of `length` parts starts and stops among the events, or each append among the parts."""
    start = 0
    for number in range(length):
        stop = start + (1 if counts is None else counts[number])
        yield start, stop
        start = stop


def are_counts(counts: object, *, length: int | None = None, whole: int | None = None) -> bool:
    """Return whether what came over the wire may be counts: `length` of them if that is given, `whole` in sum."""
    return counts is None or (
        type(counts) is list
        and set(map(type, counts)) == _INTEGERS_ONLY
        and min(counts) >= 1
        and length in (None, len(counts))
        and whole in (None, sum(counts))
    )


def pack_events(events: Events) -> bytes:
    """Return the bytes of events."""
    packed: bytes = msgpack.packb(events)
    return packed


def unpack_events(packed: bytes | memoryview) -> Events:
    """Return stored events, or raise `DamagedError`."""
    try:
        events = Events(*msgpack.unpackb(packed)[:COLUMNS])
        fit = _are_columns(events, len(events.types)) and set(map(type, events.datas)) == _BYTES_ONLY
    except Exception as error:
        raise DamagedError(f"events cannot be read: {error}") from error
    if not fit or not set(map(type, events.metadatas or (None,))) <= _BYTES_OR_NONE:
        raise DamagedError("events are not four columns of the same length")
    return events


def unpack_types(packed: bytes | memoryview, count: int) -> list[str]:
    """Return the types of `count` stored events and look at nothing behind them, or raise `DamagedError`."""
    try:
        unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(packed)))
        unpacker.feed(packed)
        unpacker.read_array_header()
        unpacker.skip()
        types: list[str] = unpacker.unpack()
        fit = type(types) is list and len(types) == count and set(map(type, types)) == _TEXTS_ONLY
    except Exception as error:
        raise DamagedError(f"events cannot be read: {error}") from error
    if not fit:
        raise DamagedError(f"events do not have a column of {count} types")
    return types


def _are_columns(events: Events, count: int) -> bool:
    ids, types, datas, metadatas = events
    return (
        type(ids) is bytes
        and len(ids) == count * ID_BYTES
        and type(types) is list
        and type(datas) is list
        and len(types) == len(datas) == count
        and (metadatas is None or (type(metadatas) is list and len(metadatas) == count))
        and set(map(type, types)) == _TEXTS_ONLY
    )


def check_events(packed: bytes, count: int) -> Events:
    """Return the events that a client sent, `count` of them, every rule and limit verified.

    Raises `ProtocolError` for bytes that are no events, `InvalidArgumentError` or `TooLargeError` for events outside
    the rules.
    """
    events = unpack_columns(packed, count)
    for name in set(events.types):
        check_type_name(name)
    if set(map(type, events.datas)) != _BYTES_ONLY:
        raise InvalidArgumentError("an event's data is not bytes")
    largest = max(map(len, events.datas)) if len(packed) > DATA_BYTES_MAX else 0
    if largest > DATA_BYTES_MAX:
        raise TooLargeError(f"an event's data of {largest} bytes is over the limit of {DATA_BYTES_MAX}")
    for metadata in events.metadatas or ():
        if metadata is not None:
            _check_metadata(metadata)
    return events


def unpack_columns(packed: bytes, count: int) -> Events:
    """Return `count` events that came over the wire, their shape verified but no rule, or raise `ProtocolError`."""
    try:
        events = Events(*wire.unpack_columns(packed, ARRAYS_MAX, max(ARRAYS_MAX, count))[:COLUMNS])
        fit = _are_columns(events, count)
    except Exception as error:
        raise ProtocolError(f"an append's events cannot be read: {error}") from error
    if not fit:
        raise ProtocolError(f"an append's events are not four columns of {count}")
    return events


def _forget(*_: object) -> None:
    return None


def _check_metadata(packed: object) -> None:
    if type(packed) is not bytes:
        raise InvalidArgumentError("an event's metadata is not a packed map")
    if len(packed) > METADATA_BYTES_MAX:
        raise TooLargeError(f"an event's metadata of {len(packed)} bytes is over the limit of {METADATA_BYTES_MAX}")
    try:
        # Arrays are counted and forgotten: only the outermost keys matter here, and a MiB of empty arrays takes 60.
        metadata = wire.unpack(packed, list_hook=len, ext_hook=_forget)
    except Exception as error:
        raise InvalidArgumentError(f"an event's metadata cannot be read: {error}") from error
    if type(metadata) is not dict or not all(type(key) is str for key in metadata):
        raise InvalidArgumentError("an event's metadata is not a map with text keys")
