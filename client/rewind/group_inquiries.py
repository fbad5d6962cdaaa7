"""A group's member, and its requests: attend, claim, settle, read a parked event."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewind.events import Event
from rewind.group_claim import Claim, Granted
from rewind.group_report import Report
from rewind.inquiries import Range, View, read_range
from rewind.requests import Place, Request
from rewind.rows import Filter
from rewind.tokens import Origin
from rewind_cluster.errors import ProtocolError
from rewind_cluster.groups import (
    AssignmentIs,
    AttendGroup,
    ClaimGroup,
    ClaimIs,
    SettledIs,
    SettleGroup,
    unpack_numbers,
    unpack_ranges,
)
from rewind_cluster.ranges import AllIs
from rewind_cluster.wire import Frame, check_shape

ATTEND_TIMEOUT_US = 3_000_000  # within a member's expiry: then it tells of what it holds by now
EVENT_BYTES_MAX = 1024 * 1024
CLAIM_TIMEOUT_US = 5_000_000
SETTLE_TIMEOUT_US = 5_000_000  # then all that happened meanwhile goes with it

Frames = Sequence[Frame]


@dataclass(frozen=True, slots=True)
class Membership:
    """Who takes part in what. `label`: the member for people; `starts`: where a new group begins, by partition."""

    origin: Origin
    group: str
    member: bytes
    label: str
    coordinator: int
    starts: Mapping[int, int]
    wanted: Filter
    max_attempts: int


@dataclass(frozen=True, slots=True)
class Settled:
    """How a report was taken. `unparked`: for what there was no room; `replays`: those that are wanted."""

    unparked: list[int]
    replays: list[int]


def attend(who: Membership, holds: Sequence[int], *, leaving: bool) -> Request:
    """Return a request for the partitions that a member should have, a tuple."""

    def make(number: int, deadline_us: int) -> AttendGroup:
        return AttendGroup(
            number,
            who.coordinator,
            who.origin.context,
            who.group,
            who.member,
            who.label,
            list(holds),
            leaving,
            deadline_us,
        )

    def take(message: AssignmentIs, _: Frames) -> tuple[int, ...]:
        return tuple(unpack_numbers(message.partitions))

    text = f"attending group {who.group!r}"
    return _to_leader(text, ATTEND_TIMEOUT_US, make, AssignmentIs, take, who.coordinator)


def claim(who: Membership, partition: int) -> Request:
    """Return a request for the claim on a partition, a `Granted`."""

    def make(number: int, deadline_us: int) -> ClaimGroup:
        return ClaimGroup(
            number,
            partition,
            who.origin.context,
            who.group,
            who.member,
            who.starts[partition],
            who.max_attempts,
            deadline_us,
        )

    def take(message: ClaimIs, _: Frames) -> Granted:
        _check_partition(message.partition, partition)
        attempts = [check_shape("an attempt", row, int, int)[:2] for row in message.attempts]
        return Granted(
            message.epoch,
            message.checkpoint,
            unpack_ranges(message.settled),
            [(position, count) for position, count in attempts],
            unpack_numbers(message.replays),
        )

    text = f"claiming partition {partition} for group {who.group!r}"
    return _to_leader(text, CLAIM_TIMEOUT_US, make, ClaimIs, take, partition)


def settle(who: Membership, held: Claim, report: Report, *, release: bool) -> Request:
    """Return a request that tells a report, a `Settled`."""
    partition = held.partition

    def make(number: int, deadline_us: int) -> SettleGroup:
        return SettleGroup(
            number,
            partition,
            who.origin.context,
            who.group,
            held.epoch,
            report.settled,
            report.attempts,
            report.parks,
            report.replayed,
            release,
            deadline_us,
        )

    def take(message: SettledIs, _: Frames) -> Settled:
        _check_partition(message.partition, partition)
        return Settled(unpack_numbers(message.unparked), unpack_numbers(message.replays))

    text = f"settling partition {partition} of group {who.group!r}"
    return _to_leader(text, SETTLE_TIMEOUT_US, make, SettledIs, take, partition)


def read_event(origin: Origin, partition: int, position: int, timeout_us: int) -> Request:
    """Return a request for one event, by its position, to any replica."""
    found = read_range(
        origin,
        partition,
        View(fresh=False, at_least=position),
        timeout_us,
        Filter(),
        after=position - 1,
        count_max=1,
        bytes_max=EVENT_BYTES_MAX,
        reverse=False,
    )
    take_range = found.take

    def take(message: AllIs, frames: Frames) -> Event:
        taken: Range = take_range(message, frames)
        for event in taken.rows.events():
            if event.position == position:
                return event
        raise ProtocolError(f"a node does not send position {position}")

    found.take = take
    return found


def _to_leader(text: str, timeout_us: int, make: Any, answer: type[Any], take: Any, partition: int) -> Request:
    return Request(text, timeout_us, make, answer, take, place=Place.LEADER, partition=partition)


def _check_partition(told: int, asked: int) -> None:
    if told != asked:
        raise ProtocolError(f"a node answered for partition {told}, not {asked}")
