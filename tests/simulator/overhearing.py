"""What goes between a client machine and leaders about consumer groups, overheard on the wire.

Each claim, each settlement that says something, and what operators ask is recorded when it leaves, and again when it is
answered. So the checker need not believe the client library about what it has told the cluster, and when.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from histories.group_history import GroupSaid, Said

from rewind_cluster.client_messages import CLIENT_CODEC, Code, Failed, Hello
from rewind_cluster.group_records import Claim, Replay, Reset, Settle
from rewind_cluster.groups import (
    Attempt,
    ClaimGroup,
    ClaimIs,
    GroupDone,
    Park,
    ReplayParked,
    ResetGroup,
    SettledIs,
    SettleGroup,
    unpack_ranges,
    unpack_rows_of,
)

ASKED = (ClaimGroup, SettleGroup, ResetGroup, ReplayParked)
ANSWERED = (ClaimIs, SettledIs, GroupDone, Failed)
REFUSALS = frozenset(
    {
        Code.NOT_LEADER,
        Code.NOT_READY,
        Code.DAMAGED,
        Code.OVERLOADED,
        Code.STORAGE_FULL,
        Code.DEADLINE_PAST,
        Code.CONTEXT_LAGGING,
    }
)  # with these nothing was logged; others may tell how what was logged has ended
NUMBERS_FROM = 10_000_000  # far from those of a machine's operations


def _code(kind: type[Any]) -> int:
    """Return the byte that stands second in every message of a kind: its code, after the header of a short array."""
    return int(CLIENT_CODEC.encode(kind(*[0] * len(kind.__dataclass_fields__)))[1])


CODES = frozenset(map(_code, (Hello, *ASKED, *ANSWERED)))


class Eavesdropper:
    """Overhears one machine. `said` is where records go; `now_us` tells the time, `client` who it is at the moment."""

    def __init__(self, said: list[GroupSaid], now_us: Callable[[], int], client: Callable[[], int]) -> None:
        self._said = said
        self._now_us = now_us
        self._client = client
        self._under_way: dict[tuple[str, int], int] = {}  # by address and request, where it is in `said`

    def overhear(self, address: str, frame: bytes) -> None:
        """Take in the first frame of a message to or from a node."""
        if frame[1] not in CODES:
            return
        message = CLIENT_CODEC.decode(frame)
        if isinstance(message, Hello):  # from here on requests count anew, those too that are not about groups
            self._under_way = {at: place for at, place in self._under_way.items() if at[0] != address}
        elif isinstance(message, ASKED):
            said = _said(message)
            if said is not None:
                self._under_way[address, message.request] = len(self._said)
                who = self._client(), NUMBERS_FROM + message.request, message.context, message.partition
                self._said.append(GroupSaid(*who, self._now_us(), None, said))
        elif isinstance(message, ANSWERED):
            place = self._under_way.pop((address, message.request), None)
            if place is not None:
                self._said[place] = self._answered(self._said[place], message)

    def _answered(self, asked: GroupSaid, message: Any) -> GroupSaid:
        if isinstance(message, Failed):
            is_over = message.code == Code.FENCED and isinstance(asked.said, Settle)
            refused = message.code in REFUSALS
            return replace(asked, ended_us=self._now_us(), refused=refused) if is_over or refused else asked
        if isinstance(message, SettledIs) and message.unparked:
            return asked  # taken but for these
        answered = replace(asked, ended_us=self._now_us(), taken=True)
        if not isinstance(message, ClaimIs):
            return answered
        attempts = tuple((position, count) for position, count in message.attempts)
        return replace(answered, epoch=message.epoch, attempts=attempts)


def _said(message: Any) -> Said | None:
    """Return what a message says as the log would have it, or None if it only says that a member lives."""
    key = message.context, message.group
    if isinstance(message, ClaimGroup):
        return Claim(*key, message.member, message.start, message.max_attempts, 0)
    if isinstance(message, ResetGroup):
        return Reset(*key, message.checkpoint)
    if isinstance(message, ReplayParked):
        return Replay(*key, message.positions, message.discard)
    attempts, parks = unpack_rows_of(Attempt, message.attempts), unpack_rows_of(Park, message.parks)
    settled = unpack_ranges(message.settled)
    if not (settled or attempts or parks or message.replayed or message.release):
        return None
    return Settle(*key, message.epoch, settled, attempts, parks, list(message.replayed), message.release)
