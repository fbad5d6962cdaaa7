"""An entry: one record of a partition's Raft log, as it is stored and as it travels.

    offset  size  field
         0     1  kind                1 noop, 2 membership, 3 records
         1     1  format              1
         2     2  reserved            0
         4     4  context             number of the context, 0 for none
         8     8  term
        16     8  index
        24     8  first position      of the entry's events in their context and partition, 0 for none
        32     4  event count
        36     4  body length         bytes
        40     8  timestamp           of the first event
        48    16  body digest         BLAKE2b-128 of the body as it was first written
        64    16  previous digest     BLAKE2b-128 of the previous entry's header, its first 80 bytes
        80     4  body checksum       CRC-32 of the body as it is stored
        84     4  header checksum     CRC-32 of the 84 bytes before
        88        body

Integers are big-endian. The digests chain headers only, so that a logged rewrite of bodies keeps the chain whole. The
header has a checksum of its own, so that a read of one record trusts neither more nor less than what it looks at.
"""

from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from struct import Struct
from typing import Any
from zlib import crc32

from rewind_cluster.errors import DamagedError

HEADER = Struct(">BBHIQQQIIQ16s16s")
CHECKSUM = Struct(">I")
SEALED_BYTES = HEADER.size + CHECKSUM.size  # what the header's checksum covers
HEADER_BYTES = SEALED_BYTES + CHECKSUM.size
ENTRY_FORMAT = 1
DIGEST_BYTES = 16
NO_DIGEST = bytes(DIGEST_BYTES)  # what the first entry names as its predecessor's


class EntryKind(IntEnum):
    """What an entry's body is."""

    NOOP = 1  # a new leader's first entry
    MEMBERSHIP = 2  # the group's voters and learners from here on
    RECORDS = 3  # records, see `rewind_cluster.records`


def digest(data: bytes | memoryview) -> bytes:
    """Return the 16-byte BLAKE2b digest that chains entries."""
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `data` is the whole of it in bytes, `digest` that of its header."""

    kind: EntryKind
    context: int
    term: int
    index: int
    first_position: int
    event_count: int
    timestamp: int
    previous_digest: bytes
    digest: bytes
    data: bytes

    @property
    def body(self) -> memoryview:
        """The body's bytes, not copied."""
        return memoryview(self.data)[HEADER_BYTES:]

    @property
    def last_timestamp(self) -> int:
        """The timestamp of the last event, or the entry's own where it has none."""
        return self.timestamp + max(0, self.event_count - 1)

    @classmethod
    def build(
        cls,
        kind: EntryKind,
        *,
        term: int,
        index: int,
        timestamp: int,
        previous_digest: bytes,
        body: bytes = b"",
        context: int = 0,
        first_position: int = 0,
        event_count: int = 0,
    ) -> "Entry":
        """Return a new entry with its digests and checksum."""
        header = HEADER.pack(
            kind,
            ENTRY_FORMAT,
            0,
            context,
            term,
            index,
            first_position,
            event_count,
            len(body),
            timestamp,
            digest(body),
            previous_digest,
        )
        sealed = header + CHECKSUM.pack(crc32(body))
        data = b"".join((sealed, CHECKSUM.pack(crc32(sealed)), body))
        return cls(
            kind, context, term, index, first_position, event_count, timestamp, previous_digest, digest(header), data
        )

    @classmethod
    def decode(cls, data: bytes, *, with_digest: bool = True) -> "Entry":
        """Return the entry in `data`, its checksums and its body's digest verified, or raise `DamagedError`.

        The digest tells one body from another of the same index, which the log's own reader need not fear: without it
        he is twice as fast.
        """
        header = memoryview(data)[: HEADER.size]
        (
            kind,
            entry_format,
            _,
            context,
            term,
            index,
            first_position,
            event_count,
            body_bytes,
            timestamp,
            body_digest,
            previous,
        ) = _unpack_header(data)
        body = memoryview(data)[HEADER_BYTES:]
        if len(body) != body_bytes:
            raise DamagedError(f"entry {index} has a body of {len(body)} bytes, its header says {body_bytes}")
        (checksum,) = CHECKSUM.unpack_from(data, HEADER.size)
        if crc32(body) != checksum:
            raise DamagedError(f"the body of entry {index} fails its checksum")
        if with_digest and digest(body) != body_digest:
            raise DamagedError(f"the body of entry {index} fails its digest")
        if entry_format != ENTRY_FORMAT or kind not in _KINDS:
            raise DamagedError(f"entry {index} has unknown kind {kind} or format {entry_format}; upgrade this node")
        return cls(
            _KINDS[kind], context, term, index, first_position, event_count, timestamp, previous, digest(header), data
        )


def read_place(data: bytes | memoryview) -> tuple[int, int]:
    """Return position and timestamp of an entry, its header verified but not its body, or raise `DamagedError`."""
    fields = _unpack_header(data)
    return fields[6], fields[9]


def _unpack_header(data: bytes | memoryview) -> tuple[Any, ...]:
    if len(data) < HEADER_BYTES:
        raise DamagedError(f"an entry of {len(data)} bytes is shorter than its header")
    (checksum,) = CHECKSUM.unpack_from(data, SEALED_BYTES)
    if crc32(data[:SEALED_BYTES]) != checksum:
        raise DamagedError("an entry's header fails its checksum")
    return HEADER.unpack_from(data)


_KINDS = {int(kind): kind for kind in EntryKind}
