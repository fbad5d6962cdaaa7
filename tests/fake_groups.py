"""Consumer groups in the fake cluster: one state per partition, changed at once, shared by all nodes."""

from dataclasses import dataclass, field
from typing import Any

from rewind_cluster.client_messages import CLIENT_CODEC, Code, Failed
from rewind_cluster.groups import (
    GROUP_LEASE_US,
    MEMBER_EXPIRY_US,
    NO_MEMBER,
    AssignmentIs,
    AttendGroup,
    ClaimGroup,
    ClaimIs,
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
    SettledIs,
    SettleGroup,
    unpack_ranges,
)

GroupRequest = (
    AttendGroup | ClaimGroup | SettleGroup | ListGroups | ListParked | ReplayParked | ResetGroup | DeleteGroup
)
Frames = list[bytes]


@dataclass
class FakeParked:
    attempts: int
    reason: str
    replaying: bool = False


@dataclass
class FakeGroup:
    """A group in one partition."""

    owner: bytes = NO_MEMBER
    epoch: int = 0
    heard_us: int = 0
    max_attempts: int = 5
    settled: set[int] = field(default_factory=set)
    attempts: dict[int, tuple[int, bool]] = field(default_factory=dict)
    parked: dict[int, FakeParked] = field(default_factory=dict)

    @property
    def checkpoint(self) -> int:
        return next(number for number in range(1, len(self.settled) + 2) if number not in self.settled) - 1

    def ranges(self) -> list[list[int]]:
        made: list[list[int]] = []
        for number in sorted(self.settled):
            if made and made[-1][1] == number - 1:
                made[-1][1] = number
            else:
                made.append([number, number])
        return made[1:] if made and made[0][0] == 1 else made

    def settle(self, positions: Any) -> None:
        self.settled.update(positions)
        self.attempts = {each: count for each, count in self.attempts.items() if each not in self.settled}

    def charge(self, head: int) -> None:
        """Count a failure against what the last owner may have had in hand; the next has nothing in hand yet."""
        suspects = (each for each in range(1, head + 1) if each not in self.settled)
        found = next((each for each in suspects if not self.attempts.get(each, (0, False))[1]), None)
        if found is not None:
            self.attempts[found] = (self.attempts.get(found, (0, False))[0] + 1, True)
            if self.attempts[found][0] >= self.max_attempts:
                self.parked[found] = FakeParked(self.attempts[found][0], "its consumers vanished")
                self.settle([found])


@dataclass
class FakeMember:
    label: str
    holds: list[int]
    heard_us: int


class FakeGroups:
    """All groups of the cluster."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.by_place: dict[tuple[int, str, int], FakeGroup] = {}
        self.members: dict[tuple[int, str], dict[bytes, FakeMember]] = {}
        self.parked_max = 1000
        self._epoch = 1000

    def group(self, name: str, partition: int, context: int = 1) -> FakeGroup:
        return self.by_place[context, name, partition]

    def handle(self, message: GroupRequest, now_us: int) -> Frames:
        answer = getattr(self, "_on_" + type(message).__name__)(message, now_us)
        if isinstance(answer, Code):
            answer = Failed(message.request, answer, answer.name.lower(), "", 0)
        return [CLIENT_CODEC.encode(answer)]

    # ── members ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_AttendGroup(self, message: AttendGroup, now_us: int) -> AssignmentIs:  # noqa: N802 - the message's name
        members = self.members.setdefault((message.context, message.group), {})
        members[message.member] = FakeMember(message.label, message.holds, now_us)
        for member, known in list(members.items()):
            if now_us - known.heard_us >= MEMBER_EXPIRY_US or (member == message.member and message.leaving):
                del members[member]
        assigned = self.assignment(message.context, message.group).get(message.member, [])
        return AssignmentIs(message.request, sorted(assigned), len(members))

    def assignment(self, context: int, name: str) -> dict[bytes, list[int]]:
        """Return who should have what: fair shares, and whoever has something keeps it within its share."""
        members = self.members.get((context, name), {})
        owned = next((at for number, at in self._cluster.contexts.values() if number == context), None)
        partitions = list(self._cluster.partitions) if owned is None else [owned]
        shares: dict[bytes, list[int]] = {}
        for place, (member, known) in enumerate(members.items()):
            share = len(partitions) // len(members) + (place < len(partitions) % len(members))
            shares[member] = [each for each in known.holds if each in partitions][:share]
        left = [each for each in partitions if not any(each in share for share in shares.values())]
        for place, member in enumerate(members):
            share = len(partitions) // len(members) + (place < len(partitions) % len(members))
            while len(shares[member]) < share and left:
                shares[member].append(left.pop(0))
        return shares

    def _on_ClaimGroup(self, message: ClaimGroup, now_us: int) -> ClaimIs | Code:  # noqa: N802 - the message's name
        key = (message.context, message.group, message.partition)
        group = self.by_place.get(key)
        if group is None:
            group = self.by_place[key] = FakeGroup(settled=set(range(1, message.start + 1)))
        group.max_attempts = message.max_attempts
        if group.owner not in (NO_MEMBER, message.member):
            if now_us - group.heard_us < GROUP_LEASE_US:
                return Code.HELD
            group.charge(self._cluster.positions.get((message.context, message.partition), 0))
        group.attempts = {each: (count, True) for each, (count, _) in group.attempts.items()}
        self._epoch += 1
        group.owner, group.epoch, group.heard_us = message.member, self._epoch, now_us
        attempts = [[each, count] for each, (count, _) in sorted(group.attempts.items())]
        return ClaimIs(
            message.request,
            message.partition,
            group.epoch,
            group.checkpoint,
            group.ranges(),
            attempts,
            self._replays(group),
        )

    def _on_SettleGroup(self, message: SettleGroup, now_us: int) -> SettledIs | Code:  # noqa: N802 - the message's name
        group = self.by_place.get((message.context, message.group, message.partition))
        if group is None or group.epoch != message.epoch:
            return Code.FENCED
        group.heard_us = now_us
        for first, last in unpack_ranges(message.settled):
            group.settle(range(first, last + 1))
        for position, count, waiting in message.attempts:
            if position not in group.settled:
                group.attempts[position] = (max(count, group.attempts.get(position, (0, False))[0]), waiting)
        unparked = []
        for position, attempts, reason in message.parks:
            if position not in group.parked and len(group.parked) >= self.parked_max:
                unparked.append(position)
            else:
                group.parked[position] = FakeParked(attempts, reason)
                group.settle([position])
        for position in message.replayed:
            group.parked.pop(position, None)
        if message.release:
            group.owner = NO_MEMBER
        return SettledIs(message.request, message.partition, group.checkpoint, unparked, self._replays(group))

    @staticmethod
    def _replays(group: FakeGroup) -> list[int]:
        return sorted(position for position, parked in group.parked.items() if parked.replaying)

    # ── operators ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_ListGroups(self, message: ListGroups, _: int) -> GroupsAre:  # noqa: N802 - the message's name
        rows = [
            self._row(name, group, self._cluster.positions.get((context, partition), 0))
            for (context, name, partition), group in self.by_place.items()
            if (context, partition) == (message.context, message.partition) and message.group in (None, name)
        ]
        members = []
        if message.group is not None and self._cluster.partition_of(message.group) == message.partition:
            assigned = self.assignment(message.context, message.group)
            members = [
                MemberRow(member, known.label, known.holds, assigned.get(member, []))
                for member, known in self.members.get((message.context, message.group), {}).items()
            ]
        return GroupsAre(message.request, rows, members)

    @staticmethod
    def _row(name: str, group: FakeGroup, head: int) -> GroupRow:
        beyond = len(group.settled) - group.checkpoint
        replaying = sum(parked.replaying for parked in group.parked.values())
        waiting = len(group.attempts)
        return GroupRow(
            name, group.owner, group.epoch, group.checkpoint, head, beyond, waiting, len(group.parked), replaying
        )

    def _on_ListParked(self, message: ListParked, _: int) -> ParkedAre | Code:  # noqa: N802 - the message's name
        group = self.by_place.get((message.context, message.group, message.partition))
        if group is None:
            return Code.GROUP_NOT_FOUND
        rows = [
            ParkedRow(position, parked.attempts, parked.reason, parked.replaying)
            for position, parked in sorted(group.parked.items())
            if position > message.after
        ]
        return ParkedAre(message.request, rows[: message.count_max], len(rows) > message.count_max)

    def _on_ReplayParked(self, message: ReplayParked, _: int) -> GroupDone | Code:  # noqa: N802 - the message's name
        group = self.by_place.get((message.context, message.group, message.partition))
        if group is None:
            return Code.GROUP_NOT_FOUND
        wanted = [each for each in group.parked if message.positions is None or each in message.positions]
        for position in wanted:
            if message.discard:
                del group.parked[position]
            else:
                group.parked[position].replaying = True
        return GroupDone(message.request, len(wanted))

    def _on_ResetGroup(self, message: ResetGroup, _: int) -> GroupDone:  # noqa: N802 - the message's name
        group = self.by_place.setdefault((message.context, message.group, message.partition), FakeGroup())
        self._epoch += 1
        group.owner, group.epoch = NO_MEMBER, self._epoch
        group.settled, group.attempts = set(range(1, message.checkpoint + 1)), {}
        group.parked = {each: parked for each, parked in group.parked.items() if each <= message.checkpoint}
        return GroupDone(message.request, 1)

    def _on_DeleteGroup(self, message: DeleteGroup, now_us: int) -> GroupDone | Code:  # noqa: N802 - the message's name
        key = (message.context, message.group, message.partition)
        group = self.by_place.get(key)
        if group is not None and group.owner != NO_MEMBER and now_us - group.heard_us < GROUP_LEASE_US:
            return Code.HELD
        return GroupDone(message.request, int(self.by_place.pop(key, None) is not None))
