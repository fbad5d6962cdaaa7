"""What happens to consumer groups as a log records it: the payloads of records of the kind `GROUP`.

A payload is an array `[operation, context, group, …]`, the rest by operation. A leader logs what members and operators
ask for; whether it takes effect is decided where it is applied, by the state that the log has led to, so that every
replica decides the same. Readers accept longer arrays than they know.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from rewind_cluster.errors import DamagedError, InvalidArgumentError, ProtocolError
from rewind_cluster.groups import Attempt, Park, check_group_name, unpack_numbers, unpack_ranges, unpack_rows_of
from rewind_cluster.names import CONTEXTS_MAX
from rewind_cluster.records import RecordKind, pack_record
from rewind_cluster.wire import UINT_MAX, check_shape


class GroupOperation(IntEnum):
    """What an operation is. One that a replica does not know stops that replica with a clear error."""

    CLAIM = 1
    SETTLE = 2
    RESET = 3
    DELETE = 4
    REPLAY = 5


class Claim(NamedTuple):
    """A member takes the partition: where nobody owns it, where it does itself, or from the claim `from_epoch`."""

    context: int
    group: str
    member: bytes
    start: int
    max_attempts: int
    from_epoch: int


class Settle(NamedTuple):
    """How deliveries ended under the claim `epoch`; see `SettleGroup`."""

    context: int
    group: str
    epoch: int
    settled: Sequence[tuple[int, int]]
    attempts: Sequence[Attempt]
    parks: Sequence[Park]
    replayed: Sequence[int]
    release: bool


class Reset(NamedTuple):
    """The checkpoint is put elsewhere, and the claim ends."""

    context: int
    group: str
    checkpoint: int


class Delete(NamedTuple):
    """The group is forgotten, unless another claim than `from_epoch` was granted meanwhile."""

    context: int
    group: str
    from_epoch: int


class Replay(NamedTuple):
    """Parked positions, None for all, are to be delivered once more, or forgotten."""

    context: int
    group: str
    positions: Sequence[int] | None
    discard: bool


Operation = Claim | Settle | Reset | Delete | Replay

_SHAPES: dict[int, tuple[type[Any], tuple[type, ...]]] = {
    GroupOperation.CLAIM: (Claim, (int, str, bytes, int, int, int)),
    GroupOperation.SETTLE: (Settle, (int, str, int, list, list, list, list, bool)),
    GroupOperation.RESET: (Reset, (int, str, int)),
    GroupOperation.DELETE: (Delete, (int, str, int)),
    GroupOperation.REPLAY: (Replay, (int, str, list, bool, bool)),  # positions, and whether all are meant, see below
}
_CODES = {made: GroupOperation(code) for code, (made, _) in _SHAPES.items()}


def pack_operation(operation: Operation) -> bytes:
    """Return the record of an operation."""
    fields: tuple[Any, ...] = operation
    if isinstance(operation, Replay):
        every = operation.positions is None
        fields = (operation.context, operation.group, [] if every else operation.positions, every, operation.discard)
    return pack_record(RecordKind.GROUP, (int(_CODES[type(operation)]), *fields))


def unpack_operation(payload: Sequence[Any]) -> Operation:
    """Return the operation in a record's payload, or raise `DamagedError`."""
    try:
        code = check_shape("a group's record", payload, int)[0]
        if code not in _SHAPES:
            raise DamagedError(f"a group's record holds the unknown operation {code}; upgrade this node")
        return _unpack(*_SHAPES[code], payload[1:])
    except (ProtocolError, InvalidArgumentError) as error:
        raise DamagedError(f"a group's record cannot be read: {error}") from error


def _unpack(made: type[Any], kinds: tuple[type, ...], payload: Sequence[Any]) -> Operation:
    fields = check_shape(made.__name__, payload, *kinds)[: len(kinds)]
    if any(type(field) is int and not 0 <= field <= UINT_MAX for field in fields):
        raise ProtocolError(f"{made.__name__} holds a number below 0")
    if not 1 <= fields[0] <= CONTEXTS_MAX:
        raise ProtocolError(f"{made.__name__} is about the context {fields[0]}, beyond the limit of {CONTEXTS_MAX}")
    check_group_name(fields[1])
    if made is Settle:
        context, group, epoch, settled, attempts, parks, replayed, release = fields
        return Settle(
            context,
            group,
            epoch,
            unpack_ranges(settled),
            unpack_rows_of(Attempt, attempts),
            unpack_rows_of(Park, parks),
            unpack_numbers(replayed),
            release,
        )
    if made is Replay:
        context, group, positions, every, discard = fields
        return Replay(context, group, None if every else unpack_numbers(positions), discard)
    operation: Operation = made(*fields)
    return operation
