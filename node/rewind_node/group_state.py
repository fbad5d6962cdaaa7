"""The state of one consumer group in one partition: what is settled, what has failed, what is parked, and who holds it.

It changes by the operations of the log alone, so every replica that has applied the same index holds the same. An
operation takes effect as a whole, or raises `RefusedError` and changes nothing.

Invariants: settled ranges are beyond the checkpoint, ascend, and touch neither it nor each other; what has failed is
not settled; what is parked is settled.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import msgpack

from rewind_cluster.client_messages import Code
from rewind_cluster.errors import ClusterError, DamagedError
from rewind_cluster.group_records import Claim, Replay, Settle
from rewind_cluster.groups import ATTEMPTS_MAX, GROUP_WINDOW, NO_MEMBER, PARKED_MAX, Park

Range = tuple[int, int]  # first and last position


class RefusedError(ClusterError):
    """An operation does not take effect. `code` and the text are the answer to who asked."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class Failures(NamedTuple):
    """How often an unsettled position has failed, and whether it waits to be delivered again."""

    attempts: int
    waiting: bool


class Parked(NamedTuple):
    """A parked event. `replay`: 0, or once its replay was asked for 1 and the owners that have vanished since."""

    attempts: int
    reason: str
    replay: int


@dataclass(slots=True)
class GroupState:
    """One group in one partition. `epoch` is the index of the entry that granted the newest claim, or reset it all."""

    checkpoint: int
    owner: bytes = NO_MEMBER
    epoch: int = 0
    max_attempts: int = 0
    settled: list[Range] = field(default_factory=list)
    failed: dict[int, Failures] = field(default_factory=dict)
    parked: dict[int, Parked] = field(default_factory=dict)

    @property
    def replays(self) -> list[int]:
        """The parked positions that are to be delivered once more."""
        return sorted(position for position, parked in self.parked.items() if parked.replay)

    @property
    def settled_count(self) -> int:
        """How many positions beyond the checkpoint are settled."""
        return sum(last - first + 1 for first, last in self.settled)

    def is_settled(self, position: int) -> bool:
        """Return whether a position needs no delivery."""
        return _covers(self.checkpoint, self.settled, position)

    # Claims.

    def claim(self, claim: Claim, index: int, head: int) -> None:
        """Grant a claim, unless somebody holds the partition whom its leader did not mean to replace.

        A new owner has nothing in hand: what has failed waits until it says that it delivers it again.
        """
        vanished = self.owner not in (NO_MEMBER, claim.member)
        if vanished and self.epoch != claim.from_epoch:
            raise RefusedError(Code.HELD, f"member {self.owner.hex()} has claimed the partition meanwhile; ask again")
        self.owner, self.epoch, self.max_attempts = claim.member, index, claim.max_attempts
        if vanished:
            self._charge_delivery(head)
            self._charge_replay()
        self.failed = {position: Failures(failures.attempts, True) for position, failures in self.failed.items()}

    def _charge_delivery(self, head: int) -> None:
        """Count an attempt against the event that the vanished owner may have died of, and park it in the end.

        The first count of an event is a guess. Each further one is not: only what its owner has said to deliver does
        not wait. So owners that die before they deliver anything have no event parked.
        """
        position = self._lowest_in_hand(head)
        if position is None or (position not in self.failed and len(self.failed) >= GROUP_WINDOW):
            return
        attempts = min(ATTEMPTS_MAX, self.failed.get(position, Failures(0, False)).attempts + 1)
        if attempts >= self.max_attempts and len(self.parked) < PARKED_MAX:
            self._park(Park(position, attempts, f"its consumer vanished; {attempts} attempts in all"))
            self._settle([(position, position)])
        else:
            self.failed[position] = Failures(attempts, False)

    def _lowest_in_hand(self, head: int) -> int | None:
        """Return the lowest position that needs delivery and did not wait for a later one, or None."""
        position = self.checkpoint + 1
        for first, last in (*self.settled, (head + 1, head + 1)):
            while position < first:
                if position not in self.failed or not self.failed[position].waiting:
                    return position
                position += 1
            position = last + 1
        return None

    def _charge_replay(self) -> None:
        """Count a vanished owner against the lowest replay, and withdraw it in the end."""
        position = next(iter(self.replays), None)
        if position is None:
            return
        parked = self.parked[position]
        if parked.replay >= self.max_attempts:
            reason = f"its consumer vanished {parked.replay} times in its replay"
            self.parked[position] = Parked(parked.attempts, reason, 0)
        else:
            self.parked[position] = parked._replace(replay=parked.replay + 1)

    # What owners and operators say.

    def settle(self, settle: Settle, head: int) -> list[int]:
        """Take in how deliveries ended, and return the positions for which there was no room among the parked."""
        if settle.epoch != self.epoch or (self.owner == NO_MEMBER and not settle.release):
            raise RefusedError(Code.FENCED, f"the claim with epoch {settle.epoch} is over; the newest is {self.epoch}")
        told = [*(span[1] for span in settle.settled), *(each.position for each in settle.attempts)]
        highest = max((*told, *(park.position for park in settle.parks)), default=0)
        if highest > head:
            raise RefusedError(Code.BEYOND_HEAD, f"position {highest} is beyond the newest event, {head}")
        parks, unparked = self._parks_with_room(settle.parks)
        checkpoint, settled = _union(
            self.checkpoint, self.settled, settle.settled, ((park.position, park.position) for park in parks)
        )
        failed = dict(self.failed)
        for position, attempts, waiting in settle.attempts:
            if position not in failed or failed[position].attempts <= attempts:
                failed[position] = Failures(min(ATTEMPTS_MAX, attempts), waiting)
        failed = {each: failures for each, failures in failed.items() if not _covers(checkpoint, settled, each)}
        if len(settled) > max(GROUP_WINDOW, len(self.settled)) or len(failed) > max(GROUP_WINDOW, len(self.failed)):
            raise RefusedError(Code.TOO_LARGE, f"more than {GROUP_WINDOW} positions are unsettled among settled ones")
        for park in parks:
            self._park(park)
        for position in settle.replayed:
            self.parked.pop(position, None)
        self.checkpoint, self.settled, self.failed = checkpoint, settled, failed
        if settle.release:
            self.owner = NO_MEMBER
        return unparked

    def _parks_with_room(self, parks: Sequence[Park]) -> tuple[list[Park], list[int]]:
        """Return what can be parked, and the positions for which there is no room.

        A position that was acknowledged before is neither; one that is parked already, whose replay has failed, needs
        no room.
        """
        taken: dict[int, Park] = {}
        unparked: list[int] = []
        room = PARKED_MAX - len(self.parked)
        for park in parks:
            if park.position in self.parked or park.position in taken:
                taken[park.position] = park
            elif self.is_settled(park.position):
                continue
            elif room:
                taken[park.position] = park
                room -= 1
            else:
                unparked.append(park.position)
        return list(taken.values()), unparked

    def _park(self, park: Park) -> None:
        self.parked[park.position] = Parked(min(ATTEMPTS_MAX, park.attempts), park.reason, 0)

    def _settle(self, ranges: Sequence[Range]) -> None:
        self.checkpoint, self.settled = _union(self.checkpoint, self.settled, ranges)
        self.failed = {position: each for position, each in self.failed.items() if not self.is_settled(position)}

    def reset(self, checkpoint: int, index: int) -> None:
        """Put the checkpoint elsewhere, end the claim, and forget what will be delivered anew."""
        self.checkpoint, self.owner, self.epoch = checkpoint, NO_MEMBER, index
        self.settled, self.failed = [], {}
        self.parked = {position: parked for position, parked in self.parked.items() if position <= checkpoint}

    def replay(self, replay: Replay) -> int:
        """Mark parked positions as to be delivered once more, or forget them, and return how many."""
        chosen = list(self.parked) if replay.positions is None else self.parked.keys() & set(replay.positions)
        for position in chosen:
            if replay.discard:
                del self.parked[position]
            else:
                self.parked[position] = self.parked[position]._replace(replay=1)
        return len(chosen)

    # As it is stored.

    def pack(self) -> bytes:
        """Return the state's bytes."""
        failed = [(position, *failures) for position, failures in self.failed.items()]
        parked = [(position, *parked) for position, parked in self.parked.items()]
        fields = (self.checkpoint, self.owner, self.epoch, self.max_attempts, self.settled, failed, parked)
        packed: bytes = msgpack.packb(fields)
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> "GroupState":
        """Return a stored state, or raise `DamagedError`."""
        try:
            checkpoint, owner, epoch, max_attempts, settled, failed, parked = msgpack.unpackb(packed)[:7]
            return cls(
                checkpoint,
                owner,
                epoch,
                max_attempts,
                [(first, last) for first, last in settled],
                {position: Failures(*failures) for position, *failures in failed},
                {position: Parked(*row) for position, *row in parked},
            )
        except Exception as error:  # its checksum was right, so this is a bug or a later version's
            raise DamagedError(f"a group's state cannot be read: {error}") from error


def _first(span: Range) -> int:
    return span[0]


def _covers(checkpoint: int, spans: Sequence[Range], position: int) -> bool:
    place = bisect_right(spans, position, key=_first)
    return position <= checkpoint or (place > 0 and position <= spans[place - 1][1])


def _union(checkpoint: int, *runs: Iterable[Range]) -> tuple[int, list[Range]]:
    """Return the checkpoint and the ranges beyond it that all these ranges come to."""
    spans: list[Range] = []
    for first, last in sorted(chain.from_iterable(runs)):
        if first <= checkpoint + 1:
            checkpoint = max(checkpoint, last)
        elif spans and first <= spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], max(spans[-1][1], last))
        else:
            spans.append((first, last))
    return checkpoint, spans
