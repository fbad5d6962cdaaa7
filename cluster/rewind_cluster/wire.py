"""How messages become frames: the codec shared by both protocols, clients' and peers'.

A message is one header frame and any number of opaque frames. The header is a msgpack array: the message's code, then
its fields in the order of its dataclass. Longer arrays than known are accepted, so that a later version can add fields
at the end. Everything that is decoded is validated here: a frame either becomes a message or raises `ProtocolError`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar, dataclass_transform, get_type_hints

import msgpack

from rewind_cluster.errors import ProtocolError
from rewind_cluster.names import MESSAGE_BYTES_MAX

PROTOCOL_VERSIONS = (1,)
UINT_MAX = (1 << 64) - 1
TEXT_BYTES_MAX = 4096  # of any text in a header; names have tighter limits of their own
LIST_ITEMS_MAX = 100_000  # of any list in a header: more than partitions, nodes or contexts of a cluster
NUMBERS_MAX = 100  # of a list of numbers in a header: there will not be more versions of a protocol
WALKED_BYTES = 512  # shorter msgpack can ask for no more than a few 100 KB, whatever it says
READ_BYTES_MAX = 1024 * 1024  # what msgpack makes room for at first
UNWALKED_ITEMS_MAX = 256  # arrays of no more, in one another as deep as msgpack goes, ask for 2 MB

Frame = bytes
M = TypeVar("M")


def _is_uint(value: object) -> bool:
    return type(value) is int and 0 <= value <= UINT_MAX


def _is_text(value: object) -> bool:
    return type(value) is str and len(value) <= TEXT_BYTES_MAX


def _is_numbers(value: object) -> bool:
    return type(value) is list and len(value) <= NUMBERS_MAX and all(map(_is_uint, value))


def _is_list(value: object) -> bool:
    return type(value) is list and len(value) <= LIST_ITEMS_MAX


_CHECKS: dict[Any, Callable[[object], bool]] = {
    int: _is_uint,
    str: _is_text,
    bool: lambda value: type(value) is bool,
    bytes: lambda value: type(value) is bytes,
    list[int]: _is_numbers,
    list[Any]: _is_list,
    dict[str, Any]: lambda value: type(value) is dict and len(value) <= LIST_ITEMS_MAX,
    int | None: lambda value: value is None or _is_uint(value),
    str | None: lambda value: value is None or _is_text(value),
    bytes | None: lambda value: value is None or type(value) is bytes,
    list[Any] | None: lambda value: value is None or _is_list(value),
}


class Codec:
    """The messages of one protocol, by code."""

    def __init__(self) -> None:
        self._shapes: dict[int, tuple[type[Any], tuple[tuple[str, Callable[[object], bool]], ...]]] = {}
        self._codes: dict[type[Any], tuple[int, tuple[str, ...]]] = {}

    def register(self, code: int, made: type[Any]) -> None:
        """Take in a class of messages, a frozen dataclass, under its code."""
        hints = get_type_hints(made)
        shape = tuple((field.name, _CHECKS[hints[field.name]]) for field in fields(made))
        assert code not in self._shapes
        self._shapes[code] = (made, shape)
        self._codes[made] = (code, tuple(name for name, _ in shape))

    def encode(self, message: object) -> Frame:
        """Return the header frame of a message."""
        code, names = self._codes[type(message)]
        header: bytes = msgpack.packb((code, *[getattr(message, name) for name in names]))
        return header

    def decode(self, frame: Frame, bytes_max: int = MESSAGE_BYTES_MAX) -> Any:
        """Return the message in a header frame of at most `bytes_max`, or raise `ProtocolError`."""
        if len(frame) > bytes_max:
            raise ProtocolError(f"a header frame of {len(frame)} bytes is over the limit of {bytes_max}")
        header = unpack_frame(frame)
        if type(header) is not list or not header or type(header[0]) is not int:
            raise ProtocolError("a header frame is not an array that begins with a message's code")
        known = self._shapes.get(header[0])
        if known is None:
            raise ProtocolError(f"a message has the unknown code {header[0]}")
        cls, shape = known
        if len(header) <= len(shape):
            raise ProtocolError(f"{cls.__name__} has {len(header) - 1} fields, not {len(shape)}")
        values = header[1 : len(shape) + 1]
        for (name, check), value in zip(shape, values, strict=True):
            if not check(value):
                raise ProtocolError(f"{cls.__name__}.{name} has a value of the wrong kind or size")
        return cls(*values)


@dataclass_transform(frozen_default=True)
def message(codec: Codec, code: int) -> Callable[[type[M]], type[M]]:
    """Make a class a message of a protocol: a frozen dataclass with this code."""

    def register(cls: type[M]) -> type[M]:
        made = dataclass(frozen=True, slots=True)(cls)
        codec.register(code, made)
        return made

    return register


def unpack_frame(frame: Frame) -> Any:
    """Return what a msgpack frame holds, or raise `ProtocolError`."""
    if len(frame) > MESSAGE_BYTES_MAX:
        raise ProtocolError(f"a frame of {len(frame)} bytes is over the limit of {MESSAGE_BYTES_MAX}")
    try:
        return unpack(frame)
    except Exception as error:  # msgpack raises a dozen kinds, UnicodeDecodeError among them
        raise ProtocolError(f"a frame is not msgpack: {error}") from error


def unpack(packed: bytes, **hooks: Callable[..., Any]) -> Any:
    """Return what a stranger's msgpack holds; raises what msgpack does.

    Arrays are made as long as they say they are, before their items are read: a thousand in one another that hold
    nothing cost a thousand times their bytes. So what is long enough to matter is walked through first, which makes
    nothing and fails where something is missing. `hooks` are msgpack's.
    """
    if len(packed) > WALKED_BYTES:
        _walk(packed)
    return msgpack.unpackb(packed, **hooks)


def unpack_columns(packed: bytes, arrays_max: int, items_max: int) -> Any:
    """Return what a stranger's msgpack holds, where that is columns; raises what msgpack does.

    There are no more than `arrays_max` arrays, none of more than `items_max` items, and no maps or extensions: of small
    arrays and maps a stranger packs one into each byte, and each costs a hundred times that and half a microsecond.
    """
    if len(packed) <= WALKED_BYTES:
        return msgpack.unpackb(packed)
    if items_max > UNWALKED_ITEMS_MAX:
        _walk(packed)
    left = arrays_max

    def count(array: list[Any]) -> list[Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"there are more arrays than {arrays_max}")
        return array

    return msgpack.unpackb(
        packed,
        list_hook=count,
        object_hook=_refuse,
        ext_hook=_refuse,
        max_array_len=items_max,
        max_map_len=0,
        max_ext_len=0,
    )


def _refuse(*_: object) -> None:
    raise ValueError("a column holds a map or an extension")


def _walk(packed: bytes) -> None:
    walker = msgpack.Unpacker(max_buffer_size=len(packed), read_size=min(len(packed), READ_BYTES_MAX))
    walker.feed(packed)
    walker.skip()


def check_shape(what: str, value: object, *kinds: type) -> Sequence[Any]:
    """Return `value` if it is an array that begins with values of these kinds, else raise `ProtocolError`."""
    if type(value) is not list or len(value) < len(kinds):
        raise ProtocolError(f"{what} is not an array of {len(kinds)} or more")
    for item, kind in zip(value, kinds, strict=False):
        if type(item) is not kind:
            raise ProtocolError(f"{what} holds {type(item).__name__} in place of {kind.__name__}")
    return value
