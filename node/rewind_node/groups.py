"""The consumer groups of one partition: their states in memory, and on their way into the store.

The table is a function of the log alone, like the sessions: every replica that has applied the same index holds the
same groups and has refused the same operations, whatever its clock says. States go to the store with the checkpoint,
a row a group.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from rewind_cluster.client_messages import Code
from rewind_cluster.group_records import Claim, Delete, Operation, Reset, Settle, unpack_operation
from rewind_cluster.groups import GROUPS_MAX, NO_MEMBER
from rewind_node.group_state import GroupState, RefusedError
from rewind_node.store import GroupRow

GroupKey = tuple[int, str]  # context, group
Heads = Callable[[int], int]  # context → its newest position


class Outcome(NamedTuple):
    """How an operation ended. `unparked` and `concerned` are what `SettledIs` and `GroupDone` tell."""

    code: Code = Code.OK
    text: str = ""
    unparked: Sequence[int] = ()
    concerned: int = 0


DONE = Outcome()


class GroupTable:
    """The applied groups of one partition."""

    def __init__(self, rows: Iterable[GroupRow] = ()) -> None:
        self._states = {(row.context, row.group): GroupState.unpack(row.state) for row in rows}
        self._changed: set[GroupKey] = set()  # since the last checkpoint

    def items(self) -> Iterable[tuple[GroupKey, GroupState]]:
        """Return all groups, to look at."""
        return self._states.items()

    def find(self, context: int, group: str) -> GroupState | None:
        """Return a group's state, or None if it has none here."""
        return self._states.get((context, group))

    def names(self, context: int) -> list[str]:
        """Return the groups of a context, in order."""
        return sorted(group for number, group in self._states if number == context)

    # Applying.

    def apply(self, index: int, payload: Sequence[Any], head: Heads) -> Outcome:
        """Take in one record, and say how it ended. `head` gives a context's newest position at this place."""
        operation = unpack_operation(payload)
        try:
            outcome = self._apply(operation, index, head(operation.context))
        except RefusedError as refusal:
            return Outcome(refusal.code, str(refusal))
        self._changed.add((operation.context, operation.group))
        return outcome

    def _apply(self, operation: Operation, index: int, head: int) -> Outcome:
        if isinstance(operation, Claim):
            self._made(operation, operation.start, head).claim(operation, index, head)
            return DONE
        if isinstance(operation, Reset):
            _check_not_beyond(operation.checkpoint, head)
            self._made(operation, operation.checkpoint, head).reset(operation.checkpoint, index)
            return DONE
        state = self._states.get((operation.context, operation.group))
        if isinstance(operation, Delete):
            return self._delete(operation, state)
        if isinstance(operation, Settle):
            if state is None:
                raise RefusedError(Code.FENCED, f"group {operation.group} was deleted; claim anew or end")
            return Outcome(unparked=state.settle(operation, head))
        if state is None:
            raise RefusedError(Code.GROUP_NOT_FOUND, f"there is no group {operation.group} in this partition")
        return Outcome(concerned=state.replay(operation))

    def _made(self, operation: Claim | Reset, checkpoint: int, head: int) -> GroupState:
        """Return a group's state, made if there is none."""
        key = (operation.context, operation.group)
        state = self._states.get(key)
        if state is None:
            if len(self._states) >= GROUPS_MAX:
                text = f"{GROUPS_MAX} groups are the limit of a partition; delete one that is not used"
                raise RefusedError(Code.TOO_LARGE, text)
            _check_not_beyond(checkpoint, head)
            state = self._states[key] = GroupState(checkpoint)
        return state

    def _delete(self, operation: Delete, state: GroupState | None) -> Outcome:
        if state is None:
            return DONE
        if state.owner != NO_MEMBER and state.epoch != operation.from_epoch:
            raise RefusedError(Code.HELD, f"member {state.owner.hex()} has claimed the partition meanwhile")
        del self._states[operation.context, operation.group]
        return Outcome(concerned=1)

    # Checkpoints.

    def take_rows(self) -> tuple[list[GroupRow], list[GroupKey]]:
        """Return the rows to put into the store and the keys of those to delete, since the last call."""
        changed, self._changed = self._changed, set()
        put = [GroupRow(*key, self._states[key].pack()) for key in sorted(changed) if key in self._states]
        return put, [key for key in sorted(changed) if key not in self._states]


def _check_not_beyond(checkpoint: int, head: int) -> None:
    if checkpoint > head:
        raise RefusedError(Code.BEYOND_HEAD, f"position {checkpoint} is beyond the newest event, {head}")
