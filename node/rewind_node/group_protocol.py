"""The part of the clients' protocol that is about consumer groups: what is asked is checked and taken to its leader."""

from collections.abc import Callable, Collection, Sized
from typing import TYPE_CHECKING

from rewind_cluster.client_messages import Code
from rewind_cluster.cluster_map import ContextInfo
from rewind_cluster.errors import InvalidArgumentError, TooLargeError
from rewind_cluster.groups import (
    ATTEMPTS_MAX,
    LABEL_CHARACTERS_MAX,
    MEMBER_BYTES,
    PARKED_MAX,
    REASON_CHARACTERS_MAX,
    SETTLE_ATTEMPTS_MAX,
    SETTLE_PARKS_MAX,
    SETTLE_RANGES_MAX,
    SETTLE_REPLAYS_MAX,
    AttendGroup,
    ClaimGroup,
    DeleteGroup,
    ListGroups,
    ListParked,
    Park,
    ReplayParked,
    ResetGroup,
    SettleGroup,
    check_group_name,
    unpack_rows_of,
)
from rewind_cluster.names import PARTITIONS_MAX, slot
from rewind_node.connections import Client
from rewind_node.group_desk import GroupDesk
from rewind_node.replica import PendingRead

if TYPE_CHECKING:
    from rewind_node.data_partition import DataPartition
    from rewind_node.node import Node

GroupRequest = (
    AttendGroup | ClaimGroup | SettleGroup | ResetGroup | DeleteGroup | ReplayParked | ListGroups | ListParked
)


class GroupProtocol:
    """What a node does with requests about groups. `fail` answers a request that is refused."""

    def __init__(self, node: "Node", fail: Callable[[Client, int, Code, str, int], None]) -> None:
        self._node = node
        self._fail = fail

    def take(self, client: Client, message: GroupRequest, replica: "DataPartition") -> None:
        """Take a request to the leader's desk, or refuse it."""
        node = self._node
        desk = replica.group_desk
        context = None if node.map is None else node.map.contexts.get(message.context)
        try:
            _check(message)
        except InvalidArgumentError as error:
            code = Code.TOO_LARGE if isinstance(error, TooLargeError) else Code.INVALID
            self._fail(client, message.request, code, str(error), message.partition)
            return
        if desk is None:
            text = f"this node does not lead partition {message.partition}"
            self._fail(client, message.request, Code.NOT_LEADER, text, message.partition)
        elif context is None:
            text = "this node has not heard of the context yet"
            self._fail(client, message.request, Code.CONTEXT_LAGGING, text, message.partition)
        elif message.partition not in self._partitions(message, context):
            text = f"partition {message.partition} has no part in it, or does not coordinate group {message.group}"
            self._fail(client, message.request, Code.WRONG_PARTITION, text, message.partition)
        else:
            node.touch(replica)
            self._dispatch(client, message, replica, desk)

    def _partitions(self, message: GroupRequest, context: ContextInfo) -> Collection[int]:
        """Return the partitions that a request may go to."""
        assert self._node.map is not None
        if context.partition is not None:
            return (context.partition,)
        if isinstance(message, AttendGroup):
            return (self._node.map.partition_of_slot(slot(message.group)),)
        return self._node.map.partitions

    def _dispatch(self, client: Client, message: GroupRequest, replica: "DataPartition", desk: GroupDesk) -> None:
        match message:
            case AttendGroup():
                desk.attend(client, message, self._shared(message.context))
            case ClaimGroup():
                desk.claim(client, message)
            case SettleGroup():
                desk.settle(client, message)
            case ResetGroup():
                desk.reset(client, message)
            case DeleteGroup():
                desk.delete(client, message)
            case ReplayParked():
                desk.replay(client, message)
            case ListGroups():
                self._read(client, message, replica, lambda: desk.list(client, message))
            case ListParked():
                self._read(client, message, replica, lambda: desk.list_parked(client, message))

    def _shared(self, number: int) -> Collection[int]:
        """Return the partitions that the members of a context's groups share."""
        assert self._node.map is not None
        partition = self._node.map.contexts[number].partition
        return self._node.map.partitions if partition is None else (partition,)

    def _read(
        self, client: Client, message: ListGroups | ListParked, replica: "DataPartition", serve: Callable[[], None]
    ) -> None:
        """Let an operator's question wait until it is certain that this replica still leads."""

        def fail(why: str) -> None:
            self._fail(client, message.request, Code.NOT_READY, why, message.partition)

        if not replica.add_read(PendingRead(0, message.deadline_us, lambda: True, serve, fail), fresh=True):
            text = "too many reads are waiting; retry later"
            self._fail(client, message.request, Code.OVERLOADED, text, message.partition)


def _check(message: GroupRequest) -> None:
    """Raise `InvalidArgumentError` where a request is outside the rules, `ProtocolError` where it is none."""
    if not isinstance(message, ListGroups) or message.group is not None:
        check_group_name(message.group)
    match message:
        case AttendGroup():
            _check_member(message.member)
            _check_size("label", message.label, LABEL_CHARACTERS_MAX)
            _check_size("list of partitions", message.holds, PARTITIONS_MAX)
        case ClaimGroup():
            _check_member(message.member)
            if not 1 <= message.max_attempts <= ATTEMPTS_MAX:
                raise InvalidArgumentError(f"max_attempts is {message.max_attempts}, not 1 to {ATTEMPTS_MAX}")
        case SettleGroup():
            _check_size("list of settled ranges", message.settled, SETTLE_RANGES_MAX)
            _check_size("list of attempts", message.attempts, SETTLE_ATTEMPTS_MAX)
            _check_size("list of parked events", message.parks, SETTLE_PARKS_MAX)
            _check_size("list of replayed events", message.replayed, SETTLE_REPLAYS_MAX)
            for park in unpack_rows_of(Park, message.parks):
                _check_size("reason", park.reason, REASON_CHARACTERS_MAX)
        case ReplayParked():
            _check_size("list of parked events", message.positions or (), PARKED_MAX)


def _check_member(member: bytes) -> None:
    if len(member) != MEMBER_BYTES:
        raise InvalidArgumentError(f"a member's ID has {len(member)} bytes, not {MEMBER_BYTES}")


def _check_size(what: str, value: Sized, size_max: int) -> None:
    if len(value) > size_max:
        raise TooLargeError(f"a {what} of {len(value)} is over the limit of {size_max}")
