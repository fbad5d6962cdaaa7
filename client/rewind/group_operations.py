"""The requests of a group's operator: what there is, where it stands, what is parked, and putting it right."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewind.requests import Kind, Place, Request
from rewind.tokens import Origin
from rewind_cluster.client_messages import Code
from rewind_cluster.groups import (
    DeleteGroup,
    GroupDone,
    GroupRow,
    GroupsAre,
    ListGroups,
    ListParked,
    MemberRow,
    ParkedAre,
    ParkedRow,
    ReplayParked,
    ResetGroup,
    unpack_rows_of,
)
from rewind_cluster.wire import Frame

Frames = Sequence[Frame]
CLASHES = frozenset({Code.HELD})  # another claim was under way at the moment


@dataclass(frozen=True, slots=True)
class Listing:
    """The groups with a state in one partition; members, where it coordinates the one that was asked for."""

    groups: list[GroupRow]
    members: list[MemberRow]


@dataclass(frozen=True, slots=True)
class ParkedPage:
    """Parked events of one partition, ascending, and whether there are more."""

    rows: list[ParkedRow]
    more: bool


def list_groups(origin: Origin, partition: int, group: str | None, timeout_us: int) -> Request:
    """Return a request for the groups in one partition, all or one, a `Listing`."""

    def take(message: GroupsAre, _: Frames) -> Listing:
        return Listing(unpack_rows_of(GroupRow, message.groups), unpack_rows_of(MemberRow, message.members))

    return Request(
        f"listing groups (partition {partition})",
        timeout_us,
        lambda number, deadline_us: ListGroups(number, partition, origin.context, group, deadline_us),
        GroupsAre,
        take,
        place=Place.LEADER,
        partition=partition,
    )


def list_parked(origin: Origin, partition: int, group: str, timeout_us: int, *, after: int, count_max: int) -> Request:
    """Return a request for parked events of one partition, a `ParkedPage`; empty where the group has no state."""

    def take(message: ParkedAre, _: Frames) -> ParkedPage:
        return ParkedPage(unpack_rows_of(ParkedRow, message.parked), message.more)

    return Request(
        f"listing the parked events of group {group!r} (partition {partition})",
        timeout_us,
        lambda number, deadline_us: ListParked(number, partition, origin.context, group, after, count_max, deadline_us),
        ParkedAre,
        take,
        place=Place.LEADER,
        partition=partition,
    )


def reset_group(origin: Origin, partition: int, group: str, timeout_us: int, *, checkpoint: int) -> Request:
    """Return a request to put a group's checkpoint elsewhere in one partition."""
    return _change(
        f"resetting group {group!r} (partition {partition})",
        partition,
        timeout_us,
        lambda number, deadline_us: ResetGroup(number, partition, origin.context, group, checkpoint, deadline_us),
        patient_with=CLASHES,
    )


def delete_group(origin: Origin, partition: int, group: str, timeout_us: int) -> Request:
    """Return a request to forget a group in one partition."""
    return _change(
        f"deleting group {group!r} (partition {partition})",
        partition,
        timeout_us,
        lambda number, deadline_us: DeleteGroup(number, partition, origin.context, group, deadline_us),
    )


def replay_parked(
    origin: Origin, partition: int, group: str, timeout_us: int, *, positions: Sequence[int] | None, discard: bool
) -> Request:
    """Return a request to replay, or discard, parked events of one partition; `positions`: None for all."""

    def make(number: int, deadline_us: int) -> ReplayParked:
        wanted = None if positions is None else list(positions)
        return ReplayParked(number, partition, origin.context, group, wanted, discard, deadline_us)

    what = "discarding" if discard else "replaying"
    text = f"{what} parked events of group {group!r} (partition {partition})"
    return _change(text, partition, timeout_us, make, patient_with=CLASHES)


def _change(
    text: str, partition: int, timeout_us: int, make: Any, patient_with: frozenset[int] = frozenset()
) -> Request:
    def take(message: GroupDone, _: Frames) -> int:
        return message.count

    return Request(
        text,
        timeout_us,
        make,
        GroupDone,
        take,
        place=Place.LEADER,
        partition=partition,
        kind=Kind.WRITE,
        patient_with=patient_with,
    )
