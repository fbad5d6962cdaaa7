"""Random event IDs, drawn many at a time: asking the system for each would cost more than packing the event."""

import os

from rewind_cluster.columns import ID_BYTES

IDS_PER_DRAW = 256  # 4 KiB: one system call costs about as much as eight of 16 bytes

_VERSION_4 = bytes(byte & 0x0F | 0x40 for byte in range(256))
_VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))
_VERSION_AT = 6  # which byte of a UUID holds the version, and which the variant, see RFC 9562
_VARIANT_AT = 8


class RandomIds:
    """A supply of UUIDs of version 4, as 16 bytes each. Safe between threads: popping from a list is atomic."""

    def __init__(self) -> None:
        self._supply: list[bytes] = []

    def take(self) -> bytes:
        """Return an ID that was never returned before."""
        try:
            return self._supply.pop()
        except IndexError:
            drawn = _draw()
            taken = drawn.pop()
            self._supply.extend(drawn)
            return taken


def _draw() -> list[bytes]:
    pool = bytearray(os.urandom(IDS_PER_DRAW * ID_BYTES))
    pool[_VERSION_AT::ID_BYTES] = pool[_VERSION_AT::ID_BYTES].translate(_VERSION_4)
    pool[_VARIANT_AT::ID_BYTES] = pool[_VARIANT_AT::ID_BYTES].translate(_VARIANT)
    ids = bytes(pool)
    return [ids[start : start + ID_BYTES] for start in range(0, len(ids), ID_BYTES)]
