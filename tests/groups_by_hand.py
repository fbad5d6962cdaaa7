"""Consumer groups for tests that speak the protocol by hand: a member, and what operators ask."""

from typing import Any

from rewind_cluster.client_messages import Code, Failed
from rewind_cluster.groups import (
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
    ParkedAre,
    ParkedRow,
    ReplayParked,
    ResetGroup,
    SettledIs,
    SettleGroup,
    unpack_rows_of,
)

GROUP = "mailer"
CONTEXT = 1
PING_TURNS = 500


class ByHand:
    """Requests about one group in one partition, sent to its leader; a refusal is returned as its code."""

    def __init__(self, client: Any, partition: int, group: str = GROUP) -> None:
        self.client = client
        self.partition = partition
        self.group = group
        self.refusal: Failed | None = None

    def ask(self, kind: type[Any], *fields: Any, host: Any = None, partition: int | None = None) -> Any:
        """Send a request to the partition's leader, or another host, and return the answer or a refusal's code."""
        partition = partition or self.partition
        host = host or self.client.cluster.await_leader(partition)
        self.client.hello(host)
        fields = (partition, CONTEXT, *fields, self.client.deadline_us)
        answer, _ = self.client.ask(host, kind, *fields)
        if isinstance(answer, Failed):
            self.refusal = answer
            return Code(answer.code)
        return answer


class Member(ByHand):
    """One member, as far as one partition goes. It remembers its epoch."""

    def __init__(self, client: Any, partition: int, number: int = 1, group: str = GROUP) -> None:
        super().__init__(client, partition, group)
        self.id = bytes([number]) * 16
        self.epoch = 0

    def claim(self, *, start: int = 0, max_attempts: int = 5, host: Any = None) -> ClaimIs | Code:
        """Claim the partition."""
        answer = self.ask(ClaimGroup, self.group, self.id, start, max_attempts, host=host)
        if isinstance(answer, ClaimIs):
            self.epoch = answer.epoch
        return answer  # type: ignore[no-any-return] # what `ask` returns

    def await_claim(self, **wanted: Any) -> ClaimIs:
        """Claim until it is granted."""
        while True:
            answer = self.claim(**wanted)
            if isinstance(answer, ClaimIs):
                return answer
            assert answer is Code.HELD, answer
            self.client.cluster.turns(100)

    def settle(
        self,
        *settled: tuple[int, int],
        attempts: Any = (),
        parks: Any = (),
        replayed: Any = (),
        release: bool = False,
        epoch: int | None = None,
        host: Any = None,
    ) -> SettledIs | Code:
        """Say how deliveries ended."""
        epoch = self.epoch if epoch is None else epoch
        fields = (self.group, epoch, list(settled), list(attempts), list(parks), list(replayed), release)
        return self.ask(SettleGroup, *fields, host=host)  # type: ignore[no-any-return] # the same

    def attend(self, coordinator: int, holds: Any = (), *, leaving: bool = False) -> list[int]:
        """Ask the coordinator what to have."""
        fields = (self.group, self.id, f"member {self.id[0]}", list(holds), leaving)
        answer = self.ask(AttendGroup, *fields, partition=coordinator)
        assert isinstance(answer, AssignmentIs), self.refusal
        return list(answer.partitions)

    def keep_alive(self, turns: int) -> None:
        """Let time pass, with a sign of life each second."""
        for _ in range(turns // PING_TURNS):
            self.client.cluster.turns(PING_TURNS)
            assert isinstance(self.settle(), SettledIs), self.refusal


class Operator(ByHand):
    """What operators ask."""

    def row(self) -> GroupRow | None:
        """Return what is told of the group."""
        answer = self.ask(ListGroups, self.group)
        assert isinstance(answer, GroupsAre), self.refusal
        rows = unpack_rows_of(GroupRow, answer.groups)
        return rows[0] if rows else None

    def names(self) -> list[str]:
        """Return all groups' names."""
        return [row[0] for row in self.ask(ListGroups, None).groups]

    def parked(self, after: int = 0, count_max: int = 100) -> list[ParkedRow] | Code:
        """Return the parked events."""
        answer = self.ask(ListParked, self.group, after, count_max)
        return unpack_rows_of(ParkedRow, answer.parked) if isinstance(answer, ParkedAre) else answer

    def replay(self, positions: Any = None, *, discard: bool = False) -> int | Code:
        """Have parked events delivered once more."""
        answer = self.ask(ReplayParked, self.group, positions, discard)
        return answer.count if isinstance(answer, GroupDone) else answer

    def reset(self, checkpoint: int) -> GroupDone | Code:
        """Put the checkpoint elsewhere."""
        return self.ask(ResetGroup, self.group, checkpoint)  # type: ignore[no-any-return] # what `ask` returns

    def delete(self) -> int | Code:
        """Forget the group."""
        answer = self.ask(DeleteGroup, self.group)
        return answer.count if isinstance(answer, GroupDone) else answer
