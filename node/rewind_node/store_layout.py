"""Every byte a node stores: the keys and values of its tables.

    table      key                                       value
    node       name, UTF-8                               as its owner packs it
    raft       partition 2                               replica 8, term 8, vote 8, applied 8, membership index 8,
                                                         previous membership's index 8, length of the membership 4,
                                                         membership, previous membership
    log:P      index 8                                   an entry, see `rewind_cluster.entry`
    streams    partition 2, context 4, segment 4,        a block of rows, see `rewind_node.stream_blocks`
               stream in UTF-8, 0x00, first version 8
    filters    partition 2, context 4, segment 4,        a piece of the segment's filter
               piece 4
    segments   partition 2, context 4, segment 4         rows 8, index of the last entry they are of 8
    positions  partition 2, context 4, first position 8  index 8, count 4
    sessions   partition 2, session 8, first sequence 8  count 4, index 8, offset 4, low 8, answer in msgpack
    groups     partition 2, context 4, group in ASCII    the group's state, see `rewind_node.group_state`

Numbers are sizes in bytes; integers are big-endian, so that keys sort as numbers do. The 0x00 cannot occur in a
stream's name, so a segment's streams sort bytewise and no stream's rows lie between another's. An entry has a checksum
of its own; every other value ends with the CRC-32 of its key and itself, 4 bytes: LMDB has none, and a row under a
wrong key is as wrong as a wrong row.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError  # noqa: N812 - its own name says nothing
from typing import Any, NamedTuple
from zlib import crc32

import msgpack

from rewind_cluster.errors import DamagedError

NODE = "node"
RAFT = "raft"
STREAMS = "streams"
FILTERS = "filters"
SEGMENTS = "segments"
POSITIONS = "positions"
SESSIONS = "sessions"
GROUPS = "groups"
INDEX_TABLES = (STREAMS, FILTERS, SEGMENTS, POSITIONS, SESSIONS, GROUPS)
SHARED_TABLES = (NODE, RAFT, *INDEX_TABLES)
LOG_PREFIX = "log:"

STATES_MAX = 1 << 16  # rows of table `raft`, whose keys are 16-bit numbers

U16 = Struct(">H")
U64 = Struct(">Q")
U64_MAX = (1 << 64) - 1
NUMBERS_END = b"\xff" * 8 + b"\x00"  # beyond every key that is, or ends with, a 64-bit integer
SPACE = Struct(">HI")  # partition, context
SPACE_END = b"\xff" * 6
SEGMENT_KEY = Struct(">HII")  # partition, context, segment
SESSION_KEY = Struct(">HQQ")
CHECKSUM = Struct(">I")
STATE = Struct(">QQQQQQI")
POSITION_ROW = Struct(">QI")
RUN_HEAD = Struct(">IQIQ")


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """What one replica must never forget. `vote` is a replica, 0 for none; a membership is the bytes of its record."""

    replica: int
    term: int
    vote: int
    applied: int
    membership: bytes
    membership_index: int
    previous_membership: bytes
    previous_index: int


class StreamRow(NamedTuple):
    """Where one append to a stream is: `offset` and `length` are its record's bytes in the body of entry `entry_index`.

    The record may hold more appends than this one. Rows on their way into the store are plain tuples of these fields:
    they are made by the ten thousand a second.
    """

    first_version: int
    event_count: int
    entry_index: int
    offset: int
    length: int

    @property
    def last_version(self) -> int:
        """The version of the append's last event."""
        return self.first_version + self.event_count - 1


@dataclass(frozen=True, slots=True)
class PositionRow:
    """The positions that entry `index` gave to its events."""

    first_position: int
    count: int
    index: int

    @property
    def last_position(self) -> int:
        """The position of the entry's last event."""
        return self.first_position + self.count - 1


@dataclass(frozen=True, slots=True)
class SessionRun:
    """How `count` of a session's appends ended, numbered from `first_sequence` on; 0 tells that it was opened.

    `index` and `offset` are the place of its record in the log: it decides who was used least recently. `answer` is
    what `AppendsDone` holds after the first number.
    """

    session: int
    first_sequence: int
    count: int
    index: int
    offset: int
    low: int
    answer: list[Any]

    @property
    def last_sequence(self) -> int:
        """The number of its last append."""
        return self.first_sequence + max(0, self.count - 1)


class GroupRow(NamedTuple):
    """The state of a consumer group, packed."""

    context: int
    group: str
    state: bytes


def log_table(partition: int) -> str:
    """Return the name of the table that holds a partition's log."""
    return f"{LOG_PREFIX}{partition}"


def logged_partitions(tables: Iterable[str]) -> list[int]:
    """Return the partitions among `tables` that have a log."""
    numbers = (table.removeprefix(LOG_PREFIX) for table in tables if table.startswith(LOG_PREFIX))
    return sorted(int(number) for number in numbers if number.isdecimal())


def seal(key: bytes, payload: bytes) -> bytes:
    """Return a value: the payload and the checksum of both."""
    return payload + CHECKSUM.pack(crc32(payload, crc32(key)))


def unseal(table: str, key: bytes, value: bytes) -> bytes:
    """Return the payload of a value, or raise `DamagedError`."""
    if not is_sound(key, value):
        raise DamagedError(f"the row {key.hex()} of table {table} fails its checksum")
    return value[: -CHECKSUM.size]


def is_sound(key: bytes, value: bytes) -> bool:
    """Return whether a value's checksum is that of its key and itself."""
    payload = value[: -CHECKSUM.size]
    return value[-CHECKSUM.size :] == CHECKSUM.pack(crc32(payload, crc32(key)))


def partition_range(partition: int) -> tuple[bytes, bytes]:
    """Return where a partition's rows of an index table start and stop."""
    return U16.pack(partition), U16.pack(partition + 1)


def space_end(partition: int, context: int) -> bytes:
    """Return where the rows of a context in a partition stop."""
    return beyond_number(SPACE.pack(partition, context))


def beyond_number(key: bytes) -> bytes:
    """Return the least byte string beyond all that start with `key`, which ends with a number."""
    return (int.from_bytes(key) + 1).to_bytes(len(key))


def segment_of_key(table: str, key: bytes) -> tuple[int, int, int]:
    """Return the partition, context and number of the segment that a row belongs to, or raise `DamagedError`."""
    if len(key) < SEGMENT_KEY.size:
        raise DamagedError(f"the key {key.hex()} of table {table} names no segment")
    return SEGMENT_KEY.unpack_from(key)


def index_of_key(key: bytes) -> int:
    """Return the index that is the key of a log's entry."""
    if len(key) != U64.size:
        raise DamagedError(f"the key {key.hex()} of a log is no index")
    return int.from_bytes(key)


def partition_of_key(key: bytes) -> int:
    """Return the partition that is the key of a replica's row."""
    if len(key) != U16.size:
        raise DamagedError(f"the key {key.hex()} of table {RAFT} is no partition")
    return int.from_bytes(key)


def pack_state(key: bytes, state: ReplicaState) -> bytes:
    """Return the value of a replica's row."""
    head = STATE.pack(
        state.replica,
        state.term,
        state.vote,
        state.applied,
        state.membership_index,
        state.previous_index,
        len(state.membership),
    )
    return seal(key, head + state.membership + state.previous_membership)


def unpack_state(key: bytes, value: bytes) -> ReplicaState:
    """Return the state in a replica's row, or raise `DamagedError`."""
    payload = unseal(RAFT, key, value)
    if len(payload) < STATE.size:
        raise DamagedError(f"the row {key.hex()} of table {RAFT} is too short")
    replica, term, vote, applied, membership_index, previous_index, length = STATE.unpack_from(payload)
    membership = payload[STATE.size : STATE.size + length]
    previous = payload[STATE.size + length :]
    return ReplicaState(replica, term, vote, applied, membership, membership_index, previous, previous_index)


def pack_position(partition: int, context: int, row: PositionRow) -> tuple[bytes, bytes]:
    """Return key and value of a row of positions."""
    key = SPACE.pack(partition, context) + U64.pack(row.first_position)
    return key, seal(key, POSITION_ROW.pack(row.index, row.count))


def unpack_position(key: bytes, value: bytes) -> PositionRow:
    """Return a row of positions, or raise `DamagedError`."""
    index, count = _unpack(POSITION_ROW, POSITIONS, key, unseal(POSITIONS, key, value))
    return PositionRow(int.from_bytes(key[-U64.size :]), count, index)


def session_key(partition: int, session: int, first_sequence: int) -> bytes:
    """Return the key of a session's run."""
    return SESSION_KEY.pack(partition, session, first_sequence)


def pack_session_run(partition: int, run: SessionRun) -> tuple[bytes, bytes]:
    """Return key and value of a session's run."""
    key = session_key(partition, run.session, run.first_sequence)
    return key, seal(key, RUN_HEAD.pack(run.count, run.index, run.offset, run.low) + msgpack.packb(run.answer))


def unpack_session_run(key: bytes, value: bytes) -> SessionRun:
    """Return a session's run, or raise `DamagedError`."""
    payload = unseal(SESSIONS, key, value)
    try:
        _, session, first_sequence = SESSION_KEY.unpack(key)
        count, index, offset, low = RUN_HEAD.unpack_from(payload)
        answer = msgpack.unpackb(memoryview(payload)[RUN_HEAD.size :])
    except Exception as error:  # msgpack raises what it likes about bytes that are none of its own
        raise DamagedError(f"the row {key.hex()} of table {SESSIONS} cannot be read: {error}") from error
    return SessionRun(session, first_sequence, count, index, offset, low, answer)


def group_key(partition: int, context: int, group: str) -> bytes:
    """Return the key of a group's row."""
    return SPACE.pack(partition, context) + group.encode()


def pack_group(partition: int, row: GroupRow) -> tuple[bytes, bytes]:
    """Return key and value of a group's row."""
    key = group_key(partition, row.context, row.group)
    return key, seal(key, row.state)


def unpack_group(key: bytes, value: bytes) -> GroupRow:
    """Return a group's row, or raise `DamagedError`."""
    state = unseal(GROUPS, key, value)
    try:
        return GroupRow(SPACE.unpack_from(key)[1], key[SPACE.size :].decode(), state)
    except (StructError, UnicodeDecodeError):
        raise DamagedError(f"the key {key.hex()} of table {GROUPS} names no group") from None


def _unpack(shape: Struct, table: str, key: bytes, payload: bytes) -> tuple[Any, ...]:
    """Return the numbers of an index row, the last of them a count."""
    if len(payload) != shape.size:
        raise DamagedError(f"the row {key.hex()} of table {table} has {len(payload)} bytes, not {shape.size}")
    numbers = shape.unpack(payload)
    if not numbers[-1]:
        raise DamagedError(f"the row {key.hex()} of table {table} covers nothing")
    return numbers
