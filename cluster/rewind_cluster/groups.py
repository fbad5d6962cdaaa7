"""Consumer groups: the messages of members and operators, and every limit and time of groups.

Members of a group share the partitions of a context. Three kinds of requests, each to the leader of the partition it
names:

* `AttendGroup` goes to the group's coordinator, the partition that owns the slot of the group's name, and asks which
  partitions a member should have. It only advises: nothing is lost where two members are told of the same one.
* `ClaimGroup` takes a partition. Whoever is granted the claim gets an epoch, the index of the log's entry that granted
  it, and every later word about the partition carries it. A word with an older epoch is refused as FENCED and changes
  nothing, so one member's work cannot undo another's, whatever clocks say.
* `SettleGroup` says how deliveries ended, and by the same that the member lives. It is logged, and answered when it is
  applied. Saying the same twice is saying it once, so all of these may be sent again after a lost answer.

A position is *settled* when it needs no delivery any more: it was acknowledged, parked, or a filter took it out. The
*checkpoint* is the position up to which all are settled. A *parked* event waits for an operator and holds nothing up.

Theory: Gray and Cheriton, "Leases", 1989, for who may claim when; the epoch is the sequencer of Burrows, "The Chubby
lock service for loosely-coupled distributed systems", 2006, so that safety does not rest on the lease.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from rewind_cluster.client_messages import CLIENT_CODEC
from rewind_cluster.errors import InvalidArgumentError, ProtocolError
from rewind_cluster.names import CONTEXT_NAME
from rewind_cluster.wire import UINT_MAX, check_shape, message

MEMBER_BYTES = 16  # a member's ID is random: two never meet
NO_MEMBER = b""
LABEL_CHARACTERS_MAX = 100  # of what a member calls itself, for operators: a host's name and a process ID
REASON_CHARACTERS_MAX = 200  # why an event was parked: a line; the whole story belongs in the application's log
ATTEMPTS_MAX = 1000  # counted of one event, and so what `max_attempts` can be: beyond it nothing will change

GROUPS_MAX = 100  # with a state in one partition, all contexts together; each may take 1 MB where all is parked
GROUP_WINDOW = 1024  # unsettled positions that a member keeps in hand: so many holes can be between settled ranges
PARKED_MAX = 1000  # of one group in one partition: who parks more should be repaired before
SETTLE_RANGES_MAX = GROUP_WINDOW  # in one message; with the limits below it stays within a request's 64 KiB
SETTLE_ATTEMPTS_MAX = 256
SETTLE_PARKS_MAX = 20
SETTLE_REPLAYS_MAX = 256
MEMBERS_MAX = 1024  # of one group: there are no more partitions
COORDINATED_MAX = 1000  # groups with members at one coordinator
LISTED_MAX = 500  # parked events in one answer

GROUP_HEARTBEAT_US = 1_000_000  # a member attends, and settles what it holds, at least so often
GROUP_LEASE_US = 5_000_000  # a claim whose member was silent for so long may be taken over; five heartbeats
MEMBER_EXPIRY_US = 5_000_000  # a coordinator forgets a member that did not attend for so long
COORDINATOR_PATIENCE_US = 3_000_000  # a new coordinator moves nothing until all members had time to attend


@message(CLIENT_CODEC, 60)
class AttendGroup:
    """Asks the coordinator which partitions a member should have, and tells it which it holds or is claiming.

    `leaving`: the member is about to end and wants none. `member` is its ID, `label` its name for operators.
    """

    request: int
    partition: int
    context: int
    group: str
    member: bytes
    label: str
    holds: list[Any]
    leaving: bool
    deadline_us: int


@message(CLIENT_CODEC, 61)
class AssignmentIs:
    """The partitions that a member should have now, ascending. Those it holds beside them it MUST release soon."""

    request: int
    partitions: list[Any]
    members: int


@message(CLIENT_CODEC, 62)
class ClaimGroup:
    """Claims a partition for a member. A group that is new to it begins after position `start`.

    An event whose consumers vanish `max_attempts` times is parked when the last of them is replaced.
    """

    request: int
    partition: int
    context: int
    group: str
    member: bytes
    start: int
    max_attempts: int
    deadline_us: int


@message(CLIENT_CODEC, 63)
class ClaimIs:
    """The claim was granted: deliver what is beyond the checkpoint and not settled.

    `settled`: `[[first, last], …]` beyond the checkpoint; `attempts`: `[[position, attempts], …]` of unsettled ones;
    `replays`: parked positions that are to be delivered once more. All that has failed waits now: it MUST be said that
    one does not wait any more, and the answer be there, before it is delivered again.
    """

    request: int
    partition: int
    epoch: int
    checkpoint: int
    settled: list[Any]
    attempts: list[Any]
    replays: list[Any]


@message(CLIENT_CODEC, 64)
class SettleGroup:
    """Says what has happened since; all lists may be empty, and it is then a sign of life.

    `settled`: `[[first, last], …]`, ascending, that were acknowledged or filtered out. `attempts`: `[[position, count,
    waiting], …]` that failed so often; `waiting`: not in the application's hands until its delay is over. `parks`:
    `[[position, attempts, reason], …]`; parking settles. `replayed`: parked positions whose replay was acknowledged.
    `release`: all of it is said, and the claim is given up.
    """

    request: int
    partition: int
    context: int
    group: str
    epoch: int
    settled: list[Any]
    attempts: list[Any]
    parks: list[Any]
    replayed: list[Any]
    release: bool
    deadline_us: int


@message(CLIENT_CODEC, 65)
class SettledIs:
    """Everything said was taken, but what is in `unparked`: positions for which there is no room among the parked.

    Those are as unsettled as before. `replays` as in `ClaimIs`: those asked for and not yet acknowledged.
    """

    request: int
    partition: int
    checkpoint: int
    unparked: list[Any]
    replays: list[Any]


@message(CLIENT_CODEC, 66)
class ListGroups:
    """Asks for the groups that have a state in a partition, or for one of them where `group` is not None."""

    request: int
    partition: int
    context: int
    group: str | None
    deadline_us: int


@message(CLIENT_CODEC, 67)
class GroupsAre:
    """Rows as `GroupRow`; and as `MemberRow`, where one group was asked for and this is its coordinator."""

    request: int
    groups: list[Any]
    members: list[Any]


@message(CLIENT_CODEC, 68)
class ResetGroup:
    """Puts a group's checkpoint elsewhere: what is beyond is delivered (again). Ends the claim; makes the group if new.

    Parked positions up to it stay parked; those beyond are forgotten, because they will be delivered.
    """

    request: int
    partition: int
    context: int
    group: str
    checkpoint: int
    deadline_us: int


@message(CLIENT_CODEC, 69)
class DeleteGroup:
    """Forgets a group in a partition. HELD while a member is alive; done if there is none of this name."""

    request: int
    partition: int
    context: int
    group: str
    deadline_us: int


@message(CLIENT_CODEC, 70)
class ListParked:
    """Asks for the parked events of a group beyond position `after`, ascending."""

    request: int
    partition: int
    context: int
    group: str
    after: int
    count_max: int
    deadline_us: int


@message(CLIENT_CODEC, 71)
class ParkedAre:
    """Rows as `ParkedRow`. `more`: ask again after the last."""

    request: int
    parked: list[Any]
    more: bool


@message(CLIENT_CODEC, 72)
class ReplayParked:
    """Has parked events delivered once more, out of their stream's order; or, with `discard`, forgets them.

    `positions`: which, None for all. Those that are not parked are passed over. An event stays parked until its replay
    is acknowledged.
    """

    request: int
    partition: int
    context: int
    group: str
    positions: list[Any] | None
    discard: bool
    deadline_us: int


@message(CLIENT_CODEC, 73)
class GroupDone:
    """A reset, a deletion or a replay was taken; `count`: how many parked events, or groups, it concerned."""

    request: int
    count: int


class Attempt(NamedTuple):
    """How often an unsettled position has failed. `waiting`: it is to be delivered again later, not yet."""

    position: int
    attempts: int
    waiting: bool


class Park(NamedTuple):
    """A position that is given up, and why."""

    position: int
    attempts: int
    reason: str


class ParkedRow(NamedTuple):
    """A row of `ParkedAre`. `replaying`: its replay was asked for and not yet acknowledged."""

    position: int
    attempts: int
    reason: str
    replaying: bool


class GroupRow(NamedTuple):
    """A row of `GroupsAre`: a group in one partition. `owner` is empty while nobody holds it.

    `head` is the context's newest position; `settled` counts positions beyond the checkpoint; `waiting` those that have
    failed and are not settled; `parked` and `replaying` count events.
    """

    group: str
    owner: bytes
    epoch: int
    checkpoint: int
    head: int
    settled: int
    waiting: int
    parked: int
    replaying: int

    @property
    def lag(self) -> int:
        """How many positions are not settled."""
        return self.head - self.checkpoint - self.settled


class MemberRow(NamedTuple):
    """A member as its coordinator knows it: the partitions it said it holds, and those it should have."""

    member: bytes
    label: str
    holds: Sequence[int]
    assigned: Sequence[int]


R = TypeVar("R", Attempt, Park, ParkedRow, GroupRow, MemberRow)
_KINDS: dict[type[Any], tuple[type, ...]] = {
    Attempt: (int, int, bool),
    Park: (int, int, str),
    ParkedRow: (int, int, str, bool),
    GroupRow: (str, bytes, int, int, int, int, int, int, int),
    MemberRow: (bytes, str, list, list),
}


def check_group_name(name: object) -> str:
    """Return `name` if it may name a group, else raise `InvalidArgumentError`."""
    if not isinstance(name, str) or not CONTEXT_NAME.match(name):
        shown = repr(name) if isinstance(name, str) else f"of type {type(name).__name__}"
        raise InvalidArgumentError(f"group name {shown} is not 1 to 64 characters of A-Z a-z 0-9 . _ -")
    return name


def unpack_rows_of(kind: type[R], rows: Sequence[Any]) -> list[R]:
    """Return what a message's list holds as rows of this kind, or raise `ProtocolError`. Numbers are unsigned."""
    kinds = _KINDS[kind]
    made: list[R] = []
    for row in rows:
        fields = check_shape(f"a row of {kind.__name__}", row, *kinds)[: len(kinds)]
        if any(type(field) is int and not 0 <= field <= UINT_MAX for field in fields):
            raise ProtocolError(f"a row of {kind.__name__} holds a number below 0")
        made.append(kind(*fields))
    return made


def unpack_ranges(pairs: Sequence[Any]) -> list[tuple[int, int]]:
    """Return `[[first, last], …]` as pairs; they must ascend and not overlap, else `ProtocolError`."""
    ranges: list[tuple[int, int]] = []
    before = 0
    for pair in pairs:
        first, last = check_shape("a range of positions", pair, int, int)[:2]
        if not before < first <= last <= UINT_MAX:
            raise ProtocolError(f"positions {first} to {last} do not ascend from {before}")
        ranges.append((first, last))
        before = last
    return ranges


def unpack_numbers(numbers: Sequence[Any]) -> list[int]:
    """Return a list of numbers, none below 0 and none twice, ascending; else raise `ProtocolError`."""
    if not all(type(number) is int and 0 <= number <= UINT_MAX for number in numbers):
        raise ProtocolError("a list of numbers holds something else")
    if any(before >= after for before, after in pairwise(numbers)):
        raise ProtocolError("a list of numbers does not ascend")
    return list(numbers)
