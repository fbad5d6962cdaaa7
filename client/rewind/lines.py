"""Events as JSON lines, for import, export and `rewind read`: the format, and what keeps its meaning through it.

    {"stream", "type", "data" or "data_base64", "time"?, "id"?, "metadata"?}

`data` is a JSON value, stored as its compact encoding in UTF-8; what is stored otherwise travels as `data_base64`. So
what was exported is imported again to the same bytes. Nothing is stored that would mean something else than the line:
a number that a double cannot hold, or a key that comes twice, is refused.

`time` is kept in the metadata, under `time`: as it was given where it has an offset, else in ISO with `Z`, since no
offset means UTC. A missing `id` is derived from stream, ordinal in the stream and content, so that the same line of
the same file always has the same ID.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from typing import Any
from uuid import UUID

import msgpack

from rewind.arguments import check_stream, check_type
from rewind.errors import InvalidArgument, RewindError
from rewind.events import Event, NewEvent
from rewind.packing import pack_metadata
from rewind_cluster.columns import ID_BYTES
from rewind_cluster.names import DATA_BYTES_MAX

FIELDS = frozenset(("stream", "type", "data", "data_base64", "time", "id", "metadata"))
TIME = "time"
UUID_VERSION_CUSTOM = 8  # RFC 9562: made by a rule of one's own


@dataclass(frozen=True, slots=True)
class Line:
    """One line's event. `id` is None where the line has none."""

    stream: str
    type: str
    data: bytes
    id: UUID | None
    metadata: Mapping[str, Any] | None

    def event(self, ordinal: int) -> NewEvent:
        """Return the event to append; `ordinal` is its place among its stream's lines, from 1."""
        given = self.id if self.id is not None else self._derived_id(ordinal)
        return NewEvent(self.type, self.data, given, self.metadata)

    def _derived_id(self, ordinal: int) -> UUID:
        metadata = pack_metadata(self.metadata) if self.metadata else None
        content = msgpack.packb((self.stream, ordinal, self.type, self.data, metadata))
        raw = bytearray(blake2b(content, digest_size=ID_BYTES).digest())
        raw[6] = raw[6] & 0x0F | UUID_VERSION_CUSTOM << 4
        raw[8] = raw[8] & 0x3F | 0x80
        return UUID(bytes=bytes(raw))


def parse_line(text: bytes) -> Line:
    """Return the event in one line, or raise a `RewindError` that says what is wrong with it."""
    fields = _load(text)
    if not isinstance(fields, dict):
        raise InvalidArgument("it is not a JSON object")
    unknown = fields.keys() - FIELDS
    if unknown:
        raise InvalidArgument(f"it has the unknown field {min(unknown)!r}")
    for name in ("stream", "type"):
        if name not in fields:
            raise InvalidArgument(f"it has no {name!r}")
    return Line(
        check_stream(fields["stream"]),
        check_type(fields["type"]),
        _data(fields),
        _id(fields.get("id")),
        _metadata(fields),
    )


def compact(value: object) -> bytes:
    """Return a JSON value's compact encoding, or raise `ValueError`."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _load(text: bytes) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_float=_exact_float, parse_constant=_no_constant)
    except RewindError:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"it is not JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidArgument(f"the key {_repeated(pairs)!r} comes twice in one object")
    return fields


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    return next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def _exact_float(text: str) -> float:
    number = float(text)
    if repr(number) != text and (number in (float("inf"), float("-inf")) or not _is_equal(number, text)):
        raise InvalidArgument(f"the number {text} would lose digits: give it as a text, or the data as data_base64")
    return number


def _is_equal(number: float, text: str) -> bool:
    try:
        return Decimal(repr(number)) == Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return False


def _no_constant(text: str) -> float:
    raise InvalidArgument(f"{text} is no JSON value")


def _data(fields: dict[str, Any]) -> bytes:
    if ("data" in fields) == ("data_base64" in fields):
        raise InvalidArgument("it has both of 'data' and 'data_base64', or neither")
    if "data" in fields:
        try:
            data = compact(fields["data"])
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"its data cannot be encoded: {error}") from None
    else:
        try:
            data = base64.b64decode(fields["data_base64"], validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            raise InvalidArgument(f"its data_base64 cannot be decoded: {error}") from None
    if len(data) > DATA_BYTES_MAX:
        raise InvalidArgument(f"its data of {len(data)} bytes is over the limit of {DATA_BYTES_MAX}")
    return data


def _id(given: object) -> UUID | None:
    if given is None:
        return None
    try:
        return UUID(given)  # type: ignore[arg-type] # anything but a text raises
    except (ValueError, TypeError, AttributeError):
        raise InvalidArgument(f"its id {given!r} is no UUID") from None


def _metadata(fields: dict[str, Any]) -> dict[str, Any] | None:
    metadata = fields.get("metadata")
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict):
        raise InvalidArgument("its metadata is not a JSON object")
    if "time" in fields:
        if TIME in metadata:
            raise InvalidArgument("it has a time, and another in its metadata")
        metadata = {**metadata, TIME: time_text(fields["time"])}
    if metadata:
        pack_metadata(metadata)
    return metadata or None


def time_text(given: object) -> str:
    """Return a time as it is kept: as given where it has an offset, else in ISO with `Z`. Raises `InvalidArgument`."""
    try:
        time = datetime.fromisoformat(given)  # type: ignore[arg-type] # anything but a text raises
    except (ValueError, TypeError):
        raise InvalidArgument(f"its time {given!r} is no ISO time such as 2024-05-01T12:00:00+02:00") from None
    assert isinstance(given, str)
    return given if time.tzinfo is not None else time.isoformat() + "Z"


# ── out ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def data_fields(data: bytes) -> dict[str, Any]:
    """Return `data` where a compact encoding of the JSON value gives the same bytes, else `data_base64`."""
    try:
        value = json.loads(data)
        if compact(value) == data:
            return {"data": value}
    except (ValueError, RecursionError):
        pass
    return {"data_base64": base64.b64encode(data).decode()}


def export_fields(event: Event) -> dict[str, Any]:
    """Return an event as a line that imports to the same event."""
    metadata = event.metadata
    fields: dict[str, Any] = {"stream": event.stream, "type": event.type, **data_fields(event.data)}
    if _is_kept_time(metadata.get(TIME)):
        fields["time"] = metadata.pop(TIME)
    fields["id"] = str(event.id)
    if metadata:
        fields["metadata"] = metadata
    return fields


def _is_kept_time(value: object) -> bool:
    try:
        return time_text(value) == value
    except InvalidArgument:
        return False


def dump(fields: object) -> str:
    """Return a line of JSON, without its end."""
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
