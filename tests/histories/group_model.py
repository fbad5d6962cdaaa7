"""What the log makes of consumer groups: a plain second opinion on `rewind_node.group_state`, position by position.

The final log says which claims were granted, in what order, and which settlements count: those with the newest epoch,
as long as it was neither released nor reset. All else about groups is held against that. A *reign* is what came of one
claim.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from histories.logs import GroupView, GroupViews, StoredEntry
from rewind_cluster.group_records import Claim, Delete, Operation, Replay, Reset, Settle

Key = tuple[int, str]  # context and group


@dataclass(slots=True)
class Reign:
    """One claim from its granting on. `checkpoint`, `settled` and `failed`: what it began with, `parks` what it parked.

    `usurped`: the epoch of the owner that it replaced without a release, 0 for none. `end`: the index at which it was
    over, None if it is the newest, and `ended_by` what. `settles`: those that count, with their indexes; `acked` and
    `replayed`: positions that they name.
    """

    epoch: int
    claim: Claim
    checkpoint: int
    settled: frozenset[int]
    failed: dict[int, int]
    usurped: int
    settles: list[tuple[int, Settle]] = field(default_factory=list)
    acked: set[int] = field(default_factory=set)
    parks: set[int] = field(default_factory=set)
    replayed: set[int] = field(default_factory=set)
    end: int | None = None
    ended_by: Operation | None = None

    @property
    def released(self) -> bool:
        """Whether its member has given it up."""
        return isinstance(self.ended_by, Settle)

    def had_settled(self, position: int) -> bool:
        """Return whether a position was settled when it began."""
        return position <= self.checkpoint or position in self.settled


@dataclass(slots=True)
class Group:
    """A group: `settled` are positions beyond `base`, where it began or was put."""

    base: int
    owner: str = ""
    epoch: int = 0
    max_attempts: int = 0
    settled: set[int] = field(default_factory=set)
    failed: dict[int, tuple[int, bool]] = field(default_factory=dict)
    parked: dict[int, tuple[int, int]] = field(default_factory=dict)

    def is_settled(self, position: int) -> bool:
        """Return whether a position needs no delivery."""
        return position <= self.base or position in self.settled

    @property
    def checkpoint(self) -> int:
        """The position up to which all are settled."""
        while self.base + 1 in self.settled:
            self.base += 1
            self.settled.remove(self.base)
        return self.base

    def settle(self, positions: Iterable[int]) -> None:
        """Take in that positions need no delivery any more."""
        self.settled.update(position for position in positions if position > self.base)
        self.failed = {each: failures for each, failures in self.failed.items() if not self.is_settled(each)}

    def charge(self, head: int) -> None:
        """Count an attempt against what the vanished owner may have died of."""
        waiting = {position for position, (_, waits) in self.failed.items() if waits}
        positions = range(self.base + 1, head + 1)
        suspect = next((each for each in positions if not self.is_settled(each) and each not in waiting), None)
        if suspect is not None:
            attempts = self.failed.get(suspect, (0, False))[0] + 1
            if attempts >= self.max_attempts:
                self.parked[suspect] = (attempts, 0)
                self.settle([suspect])
            else:
                self.failed[suspect] = (attempts, False)
        replaying = min((position for position, (_, replay) in self.parked.items() if replay), default=None)
        if replaying is not None:
            attempts, replay = self.parked[replaying]
            self.parked[replaying] = (attempts, 0 if replay >= self.max_attempts else replay + 1)

    def view(self) -> GroupView:
        """Return it as a replica's state is shown."""
        checkpoint = self.checkpoint
        spans: list[tuple[int, int]] = []
        for position in sorted(self.settled):
            joins = spans and spans[-1][1] + 1 == position
            spans[-1:] = [(spans[-1][0], position)] if joins else [*spans[-1:], (position, position)]
        failed, parked = dict(sorted(self.failed.items())), dict(sorted(self.parked.items()))
        return GroupView(checkpoint, self.owner, self.epoch, self.max_attempts, tuple(spans), failed, parked)


class GroupModel:
    """All groups of one partition. `looks`: the indexes at which all views are kept, in `views`."""

    def __init__(self, entries: Sequence[StoredEntry], looks: Iterable[int]) -> None:
        self.reigns: dict[Key, dict[int, Reign]] = {}  # by epoch
        self.operations: dict[Key, list[Operation]] = {}  # all that stand in the log, whether or not they count
        self.views: dict[int, GroupViews] = {}
        self._groups: dict[Key, Group] = {}
        self._heads: Counter[int] = Counter()
        wanted = set(looks)
        self._look(0, wanted)
        for entry in entries:
            for append in entry.appends:
                self._heads[entry.context] += len(append.ids)
            for operation in entry.groups:
                key = (operation.context, operation.group)
                self.operations.setdefault(key, []).append(operation)
                self._apply(key, entry.index, operation)
            self._look(entry.index, wanted)

    def _look(self, index: int, wanted: set[int]) -> None:
        if index in wanted:
            self.views[index] = {key: group.view() for key, group in sorted(self._groups.items())}

    def reign(self, key: Key, epoch: int) -> Reign | None:
        """Return what came of a claim, or None if none of this epoch was granted."""
        return self.reigns.get(key, {}).get(epoch)

    def _apply(self, key: Key, index: int, operation: Operation) -> None:
        group = self._groups.get(key)
        if isinstance(operation, Claim):
            self._claim(key, index, operation, group)
        elif isinstance(operation, Reset):
            self._reset(key, index, operation, group)
        elif group is None:
            return
        elif isinstance(operation, Settle):
            self._settle(key, index, operation, group)
        elif isinstance(operation, Delete):
            if not group.owner or group.epoch == operation.from_epoch:
                self._end(key, group.epoch, index, operation)
                del self._groups[key]
        else:
            _replay(group, operation)

    def _end(self, key: Key, epoch: int, index: int, operation: Operation) -> None:
        reign = self.reign(key, epoch)
        if reign is not None and reign.end is None:
            reign.end, reign.ended_by = index, operation

    def _claim(self, key: Key, index: int, claim: Claim, group: Group | None) -> None:
        head = self._heads[key[0]]
        if group is None:
            if claim.start > head:
                return
            group = self._groups[key] = Group(claim.start)
        member = claim.member.hex()
        vanished = group.owner not in ("", member)
        if vanished and group.epoch != claim.from_epoch:
            return
        usurped = group.epoch if vanished else 0
        self._end(key, group.epoch, index, claim)
        group.owner, group.epoch, group.max_attempts = member, index, claim.max_attempts
        if vanished:
            group.charge(head)
        group.failed = {position: (attempts, True) for position, (attempts, _) in group.failed.items()}
        failed = {position: attempts for position, (attempts, _) in group.failed.items()}
        checkpoint = group.checkpoint
        self.reigns.setdefault(key, {})[index] = Reign(
            index, claim, checkpoint, frozenset(group.settled), failed, usurped
        )

    def _settle(self, key: Key, index: int, settle: Settle, group: Group) -> None:
        if settle.epoch != group.epoch or not (group.owner or settle.release):
            return
        acked = {position for first, last in settle.settled for position in range(first, last + 1)}
        named = [*acked, *(each.position for each in settle.attempts), *(park.position for park in settle.parks)]
        if max(named, default=0) > self._heads[key[0]]:
            return
        parks = {
            park.position: park
            for park in settle.parks
            if park.position in group.parked or not group.is_settled(park.position)
        }
        for position, attempts, waiting in settle.attempts:
            if group.failed.get(position, (0, False))[0] <= attempts and not group.is_settled(position):
                group.failed[position] = (attempts, waiting)
        group.settle(acked | parks.keys())
        group.parked |= {position: (park.attempts, 0) for position, park in parks.items()}
        for position in settle.replayed:
            group.parked.pop(position, None)
        reign = self.reign(key, settle.epoch)
        if reign is not None:  # else it names the epoch of a reset, which is nobody's claim
            reign.settles.append((index, settle))
            reign.acked |= acked
            reign.parks |= parks.keys()
            reign.replayed.update(settle.replayed)
        if settle.release:
            group.owner = ""
            self._end(key, settle.epoch, index, settle)

    def _reset(self, key: Key, index: int, reset: Reset, group: Group | None) -> None:
        if reset.checkpoint > self._heads[key[0]]:
            return
        parked = {} if group is None else group.parked
        if group is not None:
            self._end(key, group.epoch, index, reset)
        kept = {position: each for position, each in parked.items() if position <= reset.checkpoint}
        most = 0 if group is None else group.max_attempts
        self._groups[key] = Group(reset.checkpoint, epoch=index, max_attempts=most, parked=kept)


def _replay(group: Group, replay: Replay) -> None:
    chosen = list(group.parked) if replay.positions is None else group.parked.keys() & set(replay.positions)
    for position in chosen:
        if replay.discard:
            del group.parked[position]
        else:
            group.parked[position] = (group.parked[position][0], 1)
