"""Where the leader of a data partition takes what members and operators of consumer groups ask for.

What changes a group's state is logged, and answered when it has been applied: the state decides, on every replica
alike. A claim that the applied state knows to be over is refused at once: an epoch never comes back. One that it does
not know yet may stand in what is left to apply after an election, so its settlement goes through the log whatever it
says. Else a settlement that says nothing is a sign of life and not logged.

The lease is the only thing here that knows of time: a claim is taken over from an owner that was silent for
`GROUP_LEASE_US`, counted at the earliest from when this replica began to lead. It may be wrong about that. Then two
members deliver the same events for a moment, and the epoch sees to it that one of them settles nothing.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from rewind_cluster.client_messages import Code, Failed
from rewind_cluster.group_records import Claim, Delete, Operation, Replay, Reset, Settle, pack_operation
from rewind_cluster.groups import (
    GROUP_LEASE_US,
    LISTED_MAX,
    NO_MEMBER,
    Attempt,
    AttendGroup,
    ClaimGroup,
    ClaimIs,
    DeleteGroup,
    GroupDone,
    GroupRow,
    GroupsAre,
    ListGroups,
    ListParked,
    Park,
    ParkedAre,
    ParkedRow,
    ReplayParked,
    ResetGroup,
    SettledIs,
    SettleGroup,
    unpack_numbers,
    unpack_ranges,
    unpack_rows_of,
)
from rewind_node.applying import EventIndex
from rewind_node.connections import Client, Outbox
from rewind_node.coordinator import Coordinator
from rewind_node.group_state import GroupState
from rewind_node.groups import GroupKey, Outcome
from rewind_node.leadership import ENTRY_BODY_BYTES_TARGET

WAITING_MAX = 4096  # operations that are not applied yet; each has a client that waits for it

Change = ClaimGroup | SettleGroup | ResetGroup | DeleteGroup | ReplayParked
Obstacle = Callable[[], tuple[Code, str] | None]


@dataclass(slots=True)
class Waiting:
    """Who asked for an operation that is on its way through the log."""

    client: Client
    message: Change
    operation: Operation

    @property
    def key(self) -> GroupKey:
        """The group it is about."""
        return self.operation.context, self.operation.group


class GroupDesk:
    """One term's leader, as far as groups are concerned. `obstacle`: why nothing can be logged now, if it cannot."""

    def __init__(self, index: EventIndex, outbox: Outbox, obstacle: Obstacle, now_us: Callable[[], int]) -> None:
        self._index = index
        self._outbox = outbox
        self._obstacle = obstacle
        self._now_us = now_us
        self._since_us = now_us()
        self._heard_us: dict[GroupKey, int] = {}  # when a claim was granted, or its owner last spoke
        self._gathered: list[Waiting] = []
        self._logged: dict[int, list[Waiting]] = {}  # by entry
        self._ending: set[GroupKey] = set()  # groups of which a claim is being granted or ended
        self._waiting = 0
        self.coordinator = Coordinator(self._since_us)

    @property
    def wants_turn(self) -> bool:
        """Whether operations wait to be logged."""
        return bool(self._gathered)

    # Members and operators ask.

    def attend(self, client: Client, message: AttendGroup, partitions: Collection[int]) -> None:
        """Tell a member what it should have of the context's partitions."""
        self._outbox.send(client, self.coordinator.attend(message, partitions, self._now_us()))

    def claim(self, client: Client, message: ClaimGroup) -> None:
        """Log a claim, unless somebody else holds the partition and is alive."""
        key = (message.context, message.group)
        state = self._index.groups.find(*key)
        from_epoch = 0
        if state is not None:
            from_epoch = state.epoch
            if state.owner not in (NO_MEMBER, message.member) and self.is_alive(key):
                silent_ms = (self._now_us() - self._heard(key)) // 1000
                text = f"member {state.owner.hex()} holds the partition and was heard {silent_ms} ms ago; ask again"
                self._fail(client, message, Code.HELD, text)
                return
        claim = Claim(*key, message.member, message.start, message.max_attempts, from_epoch)
        self._log(client, message, claim)

    def settle(self, client: Client, message: SettleGroup) -> None:
        """Log how deliveries ended; take what says nothing as a sign of life."""
        key = (message.context, message.group)
        settle = Settle(
            *key,
            message.epoch,
            unpack_ranges(message.settled),
            unpack_rows_of(Attempt, message.attempts),
            unpack_rows_of(Park, message.parks),
            unpack_numbers(message.replayed),
            message.release,
        )
        state = self._index.groups.find(*key)
        if state is not None and self._is_over(state, settle):
            text = f"the claim with epoch {message.epoch} is over; the newest is {state.epoch}"
            self._fail(client, message, Code.FENCED, text)
            return
        known = state is not None and state.epoch == message.epoch
        if known:
            self._heard_us[key] = self._now_us()
        if known and not (settle.settled or settle.attempts or settle.parks or settle.replayed or settle.release):
            self._answer(client, message, key, Outcome(), 0)
        else:
            self._log(client, message, settle)

    def _is_over(self, state: GroupState, settle: Settle) -> bool:
        released = state.owner == NO_MEMBER and not settle.release
        return state.epoch > settle.epoch or (state.epoch == settle.epoch and released)

    def reset(self, client: Client, message: ResetGroup) -> None:
        """Log a reset."""
        self._log(client, message, Reset(message.context, message.group, message.checkpoint))

    def delete(self, client: Client, message: DeleteGroup) -> None:
        """Log that a group is forgotten, unless a member lives."""
        key = (message.context, message.group)
        state = self._index.groups.find(*key)
        if state is not None and state.owner != NO_MEMBER and self.is_alive(key):
            text = f"member {state.owner.hex()} of group {message.group} is alive; end its members first"
            self._fail(client, message, Code.HELD, text)
        else:
            self._log(client, message, Delete(*key, 0 if state is None else state.epoch))

    def replay(self, client: Client, message: ReplayParked) -> None:
        """Log that parked events are to be delivered once more, or to be forgotten."""
        positions = None if message.positions is None else unpack_numbers(message.positions)
        self._log(client, message, Replay(message.context, message.group, positions, message.discard))

    # The lease.

    def _heard(self, key: GroupKey) -> int:
        return max(self._heard_us.get(key, 0), self._since_us)

    def is_alive(self, key: GroupKey) -> bool:
        """Return whether a group's owner may be alive, for all that this leader knows."""
        return self._now_us() - self._heard(key) < GROUP_LEASE_US

    # Through the log.

    def _log(self, client: Client, message: Change, operation: Operation) -> None:
        key = (operation.context, operation.group)
        obstacle = self._obstacle()
        if obstacle is None and self._waiting >= WAITING_MAX:
            obstacle = (Code.OVERLOADED, f"{WAITING_MAX} requests about groups wait to be committed; retry later")
        ends = isinstance(operation, Claim | Reset | Delete)
        if obstacle is None and ends and key in self._ending:
            obstacle = (Code.HELD, "another claim, reset or deletion of the group is under way; ask again")
        if obstacle is not None:
            self._fail(client, message, *obstacle)
            return
        if ends:
            self._ending.add(key)  # so that an entry grants one claim of a group at most, and its index is an epoch
        self._waiting += 1
        self._gathered.append(Waiting(client, message, operation))

    def close_turn(self, propose: Callable[[bytes], int]) -> None:
        """Log what was gathered. `propose` puts a body into the log and returns its entry's index."""
        gathered, self._gathered = self._gathered, []
        body, waiting = b"", list[Waiting]()
        for each in gathered:
            record = pack_operation(each.operation)
            if body and len(body) + len(record) > ENTRY_BODY_BYTES_TARGET:
                self._logged[propose(body)] = waiting
                body, waiting = b"", []
            body += record
            waiting.append(each)
        if waiting:
            self._logged[propose(body)] = waiting

    def applied(self, index: int, outcomes: Sequence[Outcome]) -> None:
        """Answer those who waited for an entry that has been applied."""
        waiting = self._logged.pop(index, None)
        if waiting is None:
            return
        self._waiting -= len(waiting)
        for each, outcome in zip(waiting, outcomes, strict=True):
            if isinstance(each.operation, Claim | Reset | Delete):
                self._ending.discard(each.key)
            self._answer(each.client, each.message, each.key, outcome, index)

    def resign(self) -> None:
        """Tell all who wait that this replica leads no more; what stands in the log may yet be committed."""
        logged = [each for waiting in self._logged.values() for each in waiting]
        for code, waiting in ((Code.OPEN, logged), (Code.NOT_LEADER, self._gathered)):
            for each in waiting:
                self._fail(each.client, each.message, code, "the partition's leader has changed; ask again")

    # Answers.

    def _answer(self, client: Client, message: Change, key: GroupKey, outcome: Outcome, index: int) -> None:
        if outcome.code is not Code.OK:
            self._fail(client, message, outcome.code, outcome.text)
        elif isinstance(message, ClaimGroup):
            self._heard_us[key] = self._now_us()
            self._outbox.send(client, self._claim_is(message, key, index))
        elif isinstance(message, SettleGroup):
            state = self._index.groups.find(*key)
            checkpoint, replays = (0, []) if state is None else (state.checkpoint, state.replays)
            answer = SettledIs(message.request, message.partition, checkpoint, list(outcome.unparked), replays)
            self._outbox.send(client, answer)
        else:
            if isinstance(message, DeleteGroup):
                self._heard_us.pop(key, None)
            self._outbox.send(client, GroupDone(message.request, outcome.concerned))

    def _claim_is(self, message: ClaimGroup, key: GroupKey, epoch: int) -> ClaimIs:
        state = self._index.groups.find(*key)
        assert state is not None
        return ClaimIs(
            message.request,
            message.partition,
            epoch,
            state.checkpoint,
            [list(span) for span in state.settled],
            [[position, failures.attempts] for position, failures in sorted(state.failed.items())],
            state.replays,
        )

    def _fail(self, client: Client, message: Any, code: Code, text: str) -> None:
        self._outbox.send(client, Failed(message.request, code, text, "", 0))

    # Operators look.

    def list(self, client: Client, message: ListGroups) -> None:
        """Tell of the groups of a context, or of one and its members."""
        now_us = self._now_us()
        names = self._index.groups.names(message.context) if message.group is None else [message.group]
        rows = [row for name in names if (row := self._row(message.context, name)) is not None]
        members = [] if message.group is None else self.coordinator.rows((message.context, message.group), now_us)
        self._outbox.send(
            client, GroupsAre(message.request, [list(row) for row in rows], [list(row) for row in members])
        )

    def _row(self, context: int, group: str) -> GroupRow | None:
        state = self._index.groups.find(context, group)
        if state is None:
            return None
        return GroupRow(
            group,
            state.owner,
            state.epoch,
            state.checkpoint,
            self._index.position(context),
            state.settled_count,
            len(state.failed),
            len(state.parked),
            len(state.replays),
        )

    def list_parked(self, client: Client, message: ListParked) -> None:
        """Tell of the parked events of a group."""
        state = self._index.groups.find(message.context, message.group)
        if state is None:
            text = f"there is no group {message.group} in partition {message.partition}"
            self._fail(client, message, Code.GROUP_NOT_FOUND, text)
            return
        positions = sorted(position for position in state.parked if position > message.after)
        count = max(1, min(message.count_max, LISTED_MAX))
        rows = []
        for position in positions[:count]:
            attempts, reason, replay = state.parked[position]
            rows.append(list(ParkedRow(position, attempts, reason, replay > 0)))
        self._outbox.send(client, ParkedAre(message.request, rows, len(positions) > count))
