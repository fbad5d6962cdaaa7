"""Coordinating consumer groups: who is a member, and which partitions each should have.

The leader of the partition that owns the slot of a group's name does this for the group, in memory alone. It only
advises. That a partition is with one member at a time is the claims' business, see `rewind_node.group_desk`; so
nothing is lost with this state, nor when two nodes both think they lead for a moment.

A new leader knows nobody. Until everyone had time to attend it leaves members what they say they hold and gives
nothing away, so that a change of leaders moves no partitions.
"""

from collections.abc import Collection
from dataclasses import dataclass

from rewind_cluster.client_messages import Code, Failed
from rewind_cluster.groups import (
    COORDINATED_MAX,
    COORDINATOR_PATIENCE_US,
    MEMBER_EXPIRY_US,
    MEMBERS_MAX,
    AssignmentIs,
    AttendGroup,
    MemberRow,
    unpack_numbers,
)
from rewind_node.assigning import assign
from rewind_node.groups import GroupKey


@dataclass(slots=True)
class Member:
    """One member of a group, as it last described itself. `assigned`: what it was last told to have."""

    label: str
    holds: list[int]
    assigned: list[int]
    heard_us: int


class Coordinator:
    """The members of the groups that one partition coordinates. `since_us`: when this replica began to lead it."""

    def __init__(self, since_us: int) -> None:
        self._since_us = since_us
        self._groups: dict[GroupKey, dict[bytes, Member]] = {}

    def attend(self, message: AttendGroup, partitions: Collection[int], now_us: int) -> AssignmentIs | Failed:
        """Take in that a member is there, or leaves, and return what it should have of the context's `partitions`."""
        holds = [partition for partition in unpack_numbers(message.holds) if partition in partitions]
        key = (message.context, message.group)
        members = self._living(key, now_us)
        if message.leaving:
            members.pop(message.member, None)
            self._keep(key, members)
            return AssignmentIs(message.request, [], len(members))
        if message.member not in members:
            full = self._refusal(key, members, now_us)
            if full is not None:
                return Failed(message.request, Code.OVERLOADED, full, "", 0)
        known = members.get(message.member)
        assigned = holds if known is None else known.assigned
        members[message.member] = Member(message.label, holds, assigned, now_us)
        self._keep(key, members)
        if now_us - self._since_us >= COORDINATOR_PATIENCE_US:
            shares = assign(partitions, {member: each.assigned for member, each in members.items()})
            for member, share in shares.items():
                members[member].assigned = share
        return AssignmentIs(message.request, members[message.member].assigned, len(members))

    def rows(self, key: GroupKey, now_us: int) -> list[MemberRow]:
        """Return the members of a group."""
        members = self._living(key, now_us)
        return [MemberRow(member, each.label, each.holds, each.assigned) for member, each in members.items()]

    def _living(self, key: GroupKey, now_us: int) -> dict[bytes, Member]:
        members = self._groups.get(key, {})
        return {member: each for member, each in members.items() if now_us - each.heard_us < MEMBER_EXPIRY_US}

    def _keep(self, key: GroupKey, members: dict[bytes, Member]) -> None:
        if members:
            self._groups[key] = members
        else:
            self._groups.pop(key, None)

    def _refusal(self, key: GroupKey, members: dict[bytes, Member], now_us: int) -> str | None:
        """Return why a group can have no further member, or None."""
        if len(members) >= MEMBERS_MAX:
            return f"{MEMBERS_MAX} members are the limit of a group"
        if key not in self._groups and len(self._groups) >= COORDINATED_MAX:
            for other in list(self._groups):
                self._keep(other, self._living(other, now_us))
            if len(self._groups) >= COORDINATED_MAX:
                return f"{COORDINATED_MAX} groups with members are the limit of a coordinator"
        return None
