"""What every fuzz test uses: how long to search, and the bytes to search with.

`pytest` searches a little, the same each time. `HYPOTHESIS_PROFILE=long` searches for much longer, and elsewhere each
time; what it finds is printed with the blob that reproduces it.
"""

import os
import tracemalloc
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints

import msgpack
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
LONG_FACTOR = 100
UINT_MAX = (1 << 64) - 1
NESTING = 1000  # deeper than Python recurses, and as deep as msgpack reads
FRAME_OVERHEAD_BYTES = 1 << 20

NUMBERS = st.one_of(
    st.sampled_from([0, 1, 2, 3, 127, 128, 255, 1 << 16, (1 << 31) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, UINT_MAX]),
    st.integers(0, UINT_MAX),
)
TEXTS = st.one_of(st.text(max_size=12), st.sampled_from(["", "\0", "a" * 255, "a" * 256, "ä" * 128, "x" * 4097]))


def search(examples: int) -> settings:
    """Return the settings of a fuzz test that tries so many examples, or a hundred times more in a long search."""
    return settings(
        max_examples=examples * (LONG_FACTOR if LONG else 1),
        derandomize=not LONG,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


def refusal(attempt: Callable[[], object], *kinds: type[Exception]) -> str | None:
    """Return what the error says that `attempt` raises, None where it raises none; any other kind is a failure."""
    try:
        attempt()
    except kinds as error:
        return str(error)
    return None


def peak_bytes(action: Callable[[], object]) -> int:
    """Return how many bytes `action` needed at most at a time, beyond what there was before."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Bytes that msgpack may meet.

SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.integers(-(1 << 63), -1),
    st.floats(),
    TEXTS,
    st.binary(max_size=12),
    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4)),
    st.builds(msgpack.Timestamp, st.integers(0, 1 << 40), st.integers(0, 999_999_999)),
)
_FLAT = st.one_of(st.lists(SCALARS, max_size=4), st.dictionaries(TEXTS, SCALARS, max_size=3))
VALUES: st.SearchStrategy[Any] = st.one_of(
    SCALARS, _FLAT, st.lists(SCALARS | _FLAT, max_size=3), st.dictionaries(TEXTS, SCALARS | _FLAT, max_size=2)
)
LIES = [  # headers of things that do not follow
    b"\xdd\xff\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xde\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xdd\x00\x00\x27\x10",
    b"\xc1",
    b"\xd9\x02\xff\xfe",  # no UTF-8
    b"\xa3\xed\xa0\x80",  # half a surrogate pair
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # not a number
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",  # infinity
    b"\xc7\x0c\xff" + b"\xff" * 12,  # a timestamp of no time
    b"\x81\x01\x02",  # a map whose key is a number
]


def nested(depth: int, header: bytes = b"\x91") -> bytes:
    """Return an array in an array in an array."""
    return header * depth + b"\xc0"


RAW_VALUES: st.SearchStrategy[bytes] = st.one_of(
    VALUES.map(msgpack.packb),
    st.sampled_from(LIES),
    st.builds(nested, st.sampled_from([10, 900, NESTING, 1023, 1100]), st.sampled_from([b"\x91", b"\x81\xa1k"])),
)


def raw_array(parts: list[bytes]) -> bytes:
    """Return the msgpack array of parts that are packed already."""
    return b"\xdc" + len(parts).to_bytes(2) + b"".join(parts)


@st.composite
def mutations(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    """Draw valid bytes with one to three accidents: bits flipped, cut short, repeated, or lies written into them."""
    data = bytearray(draw(valid))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["flip", "cut", "repeat", "insert", "overwrite"])):
            case "flip" if place < len(data):
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[place:]
            case "repeat":
                end = draw(st.integers(place, len(data)))
                data[place:place] = data[place:end]
            case "insert":
                data[place:place] = draw(st.one_of(st.binary(max_size=9), RAW_VALUES))
            case _:
                lie = draw(st.sampled_from(LIES))
                data[place : place + len(lie)] = lie
    return bytes(data)


# Messages of a codec.

FITTING: dict[Any, st.SearchStrategy[Any]] = {  # what a field of each kind takes
    int: NUMBERS,
    str: st.text(max_size=20),
    bool: st.booleans(),
    bytes: st.binary(max_size=20),
    list[int]: st.lists(NUMBERS, max_size=3),
    list[Any]: st.lists(VALUES, max_size=4),
    list[Any] | None: st.none() | st.lists(VALUES, max_size=4),
    dict[str, Any]: st.dictionaries(st.text(max_size=5), VALUES, max_size=3),
    int | None: st.none() | NUMBERS,
    str | None: st.none() | st.text(max_size=20),
    bytes | None: st.none() | st.binary(max_size=20),
}


def classes_of(codec: Any) -> list[type[Any]]:
    """Return the classes of all messages of a protocol."""
    return list(codec._codes)


def messages(kind: type[Any], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw messages of a class whose fields have the right types; `given` says more of some of them."""
    hints = get_type_hints(kind)
    drawn = {field.name: given.get(field.name, FITTING[hints[field.name]]) for field in fields(kind)}
    return st.builds(kind, **drawn)


def frames_with_a_wrong_field(codec: Any, kind: type[Any]) -> st.SearchStrategy[bytes]:
    """Draw header frames in which one field, or the code, is anything at all."""

    @st.composite
    def frame(draw: st.DrawFn) -> bytes:
        message = draw(messages(kind))
        code, names = codec._codes[kind]
        parts = [msgpack.packb(code), *(msgpack.packb(getattr(message, name)) for name in names)]
        parts[draw(st.integers(0, len(parts) - 1))] = draw(RAW_VALUES)
        return raw_array(parts)

    return frame()


def header_frames(codec: Any, kinds: list[type[Any]] | None = None) -> st.SearchStrategy[bytes]:
    """Draw header frames of every sort: arbitrary, valid, mutated, with a field of a wrong kind."""

    def of(kind: type[Any]) -> st.SearchStrategy[bytes]:
        valid = messages(kind).map(codec.encode)
        return st.one_of(valid, mutations(valid), frames_with_a_wrong_field(codec, kind))

    return st.one_of(st.binary(max_size=40), RAW_VALUES, st.sampled_from(kinds or classes_of(codec)).flatmap(of))


def nested_lies(size: int) -> bytes:
    """Return arrays in arrays, each of which promises more items than msgpack is prepared to refuse at once."""
    return (b"\xdd" + min(size, 10_000).to_bytes(4)) * (size // 5)


EMPTIES = [b"\x90", b"\x80", b"\xc7\x00\x01"]  # an array, a map and an extension of nothing


def full_of(item: bytes, count: int, size: int) -> bytes:
    """Return arrays in arrays, each of `count` items: as many as fit into `size` bytes, or as deep as msgpack goes."""
    each = b"\xdd" + count.to_bytes(4) + item * (count - 1)
    return each * min(1000, size // len(each)) + item
