"""Where streams are, as a segment keeps it: blocks of rows in the order of their streams, and a filter.

A block is the value of a row of table `streams`: how many rows it has, what the key of the next block ends with, the
rows, each `ROW`, and their streams' names, joined by 0x00. Its own key ends with its first row's stream and version, so
that one search leads to the block that holds a row, if any does; the first one's ends with nothing. So from every block
the next is known: none can be lost unnoticed. The rows of a block share a key, a checksum and one page of the
database: that is what makes them cheap to write.

A filter tells most streams that a segment does not hold, without a look at its blocks: Bloom's, in which one word of
64 bits holds all four bits of a stream ("Cache-, Hash- and Space-Efficient Bloom Filters", Putze, Sanders and Singler,
2007). It has 16 bits a row and is wrong about one stream in two hundred.
"""

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, starmap
from struct import Struct
from zlib import crc32

from rewind_cluster.errors import DamagedError
from rewind_node.engine import Pair
from rewind_node.store_layout import CHECKSUM, FILTERS, STREAMS, U64, StreamRow, seal, unseal

Row = tuple[int, int, int, int, int]  # the fields of a `StreamRow`
Mark = tuple[int, int]

HEAD = Struct(">HH")  # rows, and bytes of the next block's key
ROW = Struct(">QIQII")  # as in `StreamRow`: first version, event count, entry index, offset, length
VALUE_BYTES_MAX = 4080  # of a block where names allow: what LMDB can put into one page of its own
FILTER_BITS_PER_ROW = 16
FILTER_PIECE_BYTES = 65_536
_ROW_AND_SEPARATOR_BYTES = ROW.size + 1
_KEY_BYTES_BESIDE_NAME = 9
_WORD_BITS = 64
_SPREAD = 0x9E37_79B9_7F4A_7C15  # 2^64 over the golden ratio: every bit of a checksum tells on the product's middle
_SPREAD_SHIFT = 20  # lower bits of the product depend on the slot alone, which a partition's streams share
_PAIRS = [1 << (pair & 63) | 1 << (pair >> 6) for pair in range(64 * 64)]  # two bits of a word at once: half the time


def block_ends(names: Sequence[bytes]) -> Iterator[int]:
    """Yield where each block of these rows stops: as many as fit, one at least."""
    if not names:
        return
    sizes = list(accumulate([len(name) + _ROW_AND_SEPARATOR_BYTES for name in names]))
    room = VALUE_BYTES_MAX - HEAD.size - CHECKSUM.size - (max(map(len, names)) + _KEY_BYTES_BESIDE_NAME)
    stop = taken = 0
    while stop < len(names):
        stop = max(stop + 1, bisect_right(sizes, taken + room))
        taken = sizes[stop - 1]
        yield stop


def pack_block(key: bytes, names: Sequence[bytes], rows: Sequence[Row], following: bytes) -> Pair:
    """Return key and value of a block. `following`: what the next block's key ends with, empty for the last."""
    head = HEAD.pack(len(rows), len(following))
    return key, seal(key, b"".join((head, following, *starmap(ROW.pack, rows), b"\x00".join(names))))


def row_key(name: bytes, version: int) -> bytes:
    """Return what the key of a block ends with that begins with this row."""
    return name + b"\x00" + U64.pack(version)


class Block:
    """A block that was read and verified. Raises `DamagedError` where it is not what was written."""

    __slots__ = ("_body", "_rows_start", "following", "names")

    def __init__(self, key: bytes, value: bytes) -> None:
        body = unseal(STREAMS, key, value)
        count, following_bytes = HEAD.unpack_from(body) if len(body) >= HEAD.size else (0, 0)
        self._rows_start = HEAD.size + following_bytes
        self.following = body[HEAD.size : self._rows_start]  # what the next block's key ends with
        self.names = body[self._rows_start + count * ROW.size :].split(b"\x00")
        self._body = body
        if not count or len(self.names) != count:
            raise DamagedError(f"the row {key.hex()} of table {STREAMS} does not hold what it says")

    def places(self, name: bytes) -> tuple[int, int]:
        """Return where a stream's rows start and stop."""
        return bisect_left(self.names, name), bisect_right(self.names, name)

    def row(self, place: int) -> StreamRow:
        """Return one row."""
        return StreamRow._make(ROW.unpack_from(self._body, self._rows_start + place * ROW.size))

    def row_at(self, name: bytes, version: int) -> StreamRow | None:
        """Return a stream's last row that begins at or before `version`, or None."""
        start, stop = self.places(name)
        place = bisect_right(range(stop), version, start, stop, key=self._first_version)
        return self.row(place - 1) if place > start else None

    def _first_version(self, place: int) -> int:
        version: int
        (version,) = U64.unpack_from(self._body, self._rows_start + place * ROW.size)
        return version

    def items(self) -> list[tuple[bytes, Row]]:
        """Return every row with its stream."""
        stop = self._rows_start + len(self.names) * ROW.size
        rows = ROW.iter_unpack(memoryview(self._body)[self._rows_start : stop])
        return list(zip(self.names, rows, strict=True))


def marks_of(names: Iterable[bytes]) -> list[Mark]:
    """Return for each stream what `StreamFilter.may_hold_of` asks by: what leads to its word, and its bits there."""
    return [
        (number, _PAIRS[number >> 32 & 4095] | _PAIRS[number >> 44 & 4095])
        for number in [crc32(name) * _SPREAD >> _SPREAD_SHIFT for name in names]
    ]


class StreamFilter:
    """The streams that a segment may hold, in words of 64 bits, a power of two of them."""

    __slots__ = ("mask", "words")

    def __init__(self, words: "array[int]") -> None:
        self.words = words
        self.mask = len(words) - 1

    @classmethod
    def empty(cls, rows: int) -> "StreamFilter":
        """Return a filter with room for so many rows."""
        count = max(1, -(-rows * FILTER_BITS_PER_ROW // _WORD_BITS))
        return cls(array("Q", bytes(8 << (count - 1).bit_length())))

    def add(self, marks: Iterable[Mark]) -> None:
        """Take in streams."""
        words, mask = self.words, self.mask
        for number, bits in marks:
            words[number & mask] |= bits

    def may_hold_of(self, marks: Iterable[Mark]) -> list[int]:
        """Return the places in `marks` of the streams that may be among those taken in; the others surely are not."""
        words, mask = self.words, self.mask
        return [place for place, (number, bits) in enumerate(marks) if words[number & mask] & bits == bits]

    def pack(self, segment: bytes) -> Iterator[Pair]:
        """Yield key and value of each piece."""
        data = _little_endian(self.words).tobytes()
        for number, start in enumerate(range(0, len(data), FILTER_PIECE_BYTES)):
            key = segment + number.to_bytes(4)
            yield key, seal(key, data[start : start + FILTER_PIECE_BYTES])

    @classmethod
    def unpack(cls, segment: bytes, rows: int, pieces: Iterable[Pair]) -> "StreamFilter":
        """Return the filter of a segment of `rows` rows from its pieces, or raise `DamagedError`."""
        words = array("Q")
        for number, (key, value) in enumerate(pieces):
            if key != segment + number.to_bytes(4):
                raise DamagedError(f"piece {number} of a filter is missing before the row {key.hex()} of {FILTERS}")
            piece = unseal(FILTERS, key, value)
            if len(piece) % words.itemsize:
                raise DamagedError(f"the row {key.hex()} of table {FILTERS} does not hold whole words")
            words.frombytes(piece)
        if len(words) != len(cls.empty(rows).words):
            raise DamagedError(f"the filter under {segment.hex()} in table {FILTERS} is not whole")
        return cls(_little_endian(words))


def _little_endian(words: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        words = words[:]
        words.byteswap()
    return words
