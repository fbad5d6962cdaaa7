"""Contested leaderships: trouble that keeps to one partition and to the moments around its elections.

The dangerous moments of consensus are short, and faults at random times hardly ever hit two of them in a row. What no
single fault does: leaders that alternate with minorities, voters that restart between two candidates, changes of
membership that overlap, votes that split.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from simulator import changes
from simulator.promises import memberships

if TYPE_CHECKING:
    from simulator.host import Host
    from simulator.misfortunes import Misfortune


class Contest:
    """Trouble for one partition, for a while."""

    LASTS_US = 4_000_000  # beyond what the fault says: elections take their time

    def __init__(self, it: "Misfortune") -> None:
        self.world = it.world
        self.random = it.random
        self.partition = it.random.randint(1, it.world.shape.partitions)
        self._healings = it.world.healings
        self._end_us = it.world.now_us + it.fault.for_us + self.LASTS_US

    @property
    def over(self) -> bool:
        """Whether it has ended, or all faults have."""
        return self.world.now_us >= self._end_us or self.world.healings != self._healings

    def later(self, span_us: tuple[int, int], action: Callable[..., None], *arguments: Any) -> None:
        """Do something after a while, unless all faults have been ended by then."""

        def act() -> None:
            if self.world.healings == self._healings:
                action(*arguments)

        self.world.at(self.world.now_us + self.random.randint(*span_us), act)

    def crash(self, host: "Host", down_us: tuple[int, int]) -> None:
        """Crash a host for a while, if it is up."""
        if host.up:
            host.crash(notice=self.random.random() < 0.8, torn=self.random.random() < 0.5)
            host.stay_down(self.random.randint(*down_us))

    def part(self, some: Sequence["Host"], others: Sequence["Host"], apart_us: tuple[int, int]) -> Callable[[], None]:
        """Cut hosts off from others for a while; clients reach them all. Return what ends it before its time."""
        network = self.world.network
        cuts = [pair for one in some for other in others for pair in ((one, other), (other, one))]
        for sender, receiver in cuts:
            network.cut(sender, receiver)

        def mend() -> None:
            for sender, receiver in cuts:
                network.mend(sender, receiver)
            cuts.clear()

        self.later(apart_us, mend)
        return mend


class Hounding(Contest):
    """Hosts that campaign, or have just come to lead, are hit at once, or others are.

    Where memberships are changed, a new leader is told to change one before it has committed anything. A `revolving`
    hounding only cuts each new leader off with some of the others, and lets those before it come back as it does.
    """

    AT_ONCE_US = (0, 500)
    AFTER_US = (0, 6_000)  # in the time of a message and a commit
    DOWN_US = (1_000, 400_000)
    APART_US = (20_000, 2_500_000)
    CHANCES = {"campaigning": 0.5, "leader": 0.7}  # noqa: RUF012 - never changed
    MOVES = ("crash", "crash", "crash-other", "crash-other", "part", "part", "part", "strand", "strand", "shake")

    def begin(self) -> None:
        """Begin to listen."""
        self._revolving = self.random.random() < 0.5
        self._come_back: Callable[[], None] | None = None
        self.world.listeners.append(self._heard)

    def _heard(self, host: "Host", event: str, facts: dict[str, Any]) -> None:
        """Take in what a node says; whoever is the news is hit shortly after."""
        if self.over or facts.get("partition") != self.partition or event not in self.CHANCES:
            return
        if event == "leader" and facts["leader"] != host.node_name:
            return
        if event == "leader":
            self.later(self.AT_ONCE_US, self._change_membership, host)
        if self._revolving and event == "campaigning":
            return
        if self.random.random() < self.CHANCES[event]:
            self.later(self.AFTER_US, self._hit, host)

    def _change_membership(self, host: "Host") -> None:
        replica = self.world.replica(host, self.partition)
        if self.world.shape.memberships and replica is not None and replica.leading and not host.paused:
            changes.propose_step(self.world, self.random, host, replica)

    def _hit(self, host: "Host") -> None:
        if not host.up:
            return
        if self._revolving:
            if self._come_back is not None:
                self._come_back()
            self._come_back = self._part(host)
            return
        for _ in range(self.random.randint(1, 2)):
            self._move(host, self.random.choice(self.MOVES))

    def _move(self, host: "Host", move: str) -> None:
        others = [other for other in self.world.hosts if other is not host]
        self.world.note("hit", host=host.name, move=move)
        if move == "crash":
            self.crash(host, self.DOWN_US)
        elif move == "crash-other":
            self.crash(self.random.choice(others), self.DOWN_US)
        elif move == "shake":
            for other in others:
                self.world.network.drop(host, other)
        else:
            self._part(host, alone=move == "strand")

    def _part(self, host: "Host", *, alone: bool = False) -> Callable[[], None]:
        others = [other for other in self.world.hosts if other is not host]
        with_it = self.random.sample(others, 0 if alone else self.random.randint(0, len(others) - 1))
        return self.part([host, *with_it], [other for other in others if other not in with_it], self.APART_US)


class Swing(Contest):
    """Two halves of a partition's voters do not see one another, and the voter in between comes and goes.

    So who leads hangs on one voter alone, who is also the only one to tell either half of the other's terms. It likes
    to crash as soon as it has voted, and to come back where only the other half sees it.
    """

    EVERY_US = (20_000, 500_000)
    DOWN_US = (1_000, 60_000)
    APART_US = (50_000, 1_500_000)
    STEPS = ("crash", "left", "right", "both")
    AFTER_US = (1_000, 7_000)  # in the time of two messages and a commit
    VOTED_CHANCE = 0.6
    FORGOTTEN_CHANCE = 0.8
    FORGOTTEN_US = (400_000, 2_000_000)  # longer than most waits of the other half for a leader

    def begin(self) -> None:
        """Part the halves."""
        places = {host.node_id: host for host in self.world.hosts}
        known = max(memberships(self.world, self.partition), key=lambda membership: len(membership.voters))
        nodes = [known.members[voter].node for voter in known.voters]
        voters = [places[node] for node in nodes if node in places]
        if not voters:
            return  # all of them have been wiped and are somebody else
        self.random.shuffle(voters)
        self._middle, *others = voters
        self._left, self._right = others[::2], others[1::2]
        left_us = self._end_us - self.world.now_us
        self.part(self._left, self._right, (left_us, left_us))
        self.world.listeners.append(self._heard)
        self._step()

    def _step(self) -> None:
        if self.over:
            return
        step = self.random.choice(self.STEPS)
        self.world.note("swing", host=self._middle.name, step=step)
        if step == "crash":
            self.crash(self._middle, self.DOWN_US)
        if step in ("left", "both"):
            self.part([self._middle], self._left, self.APART_US)
        if step in ("right", "both"):
            self.part([self._middle], self._right, self.APART_US)
        self.later(self.EVERY_US, self._step)

    def _heard(self, host: "Host", event: str, facts: dict[str, Any]) -> None:
        """Take in that somebody campaigns, whom the one in the middle will vote for."""
        if self.over or event != "campaigning" or facts["partition"] != self.partition or host is self._middle:
            return
        if self.random.random() < self.VOTED_CHANCE:
            self.later(self.AFTER_US, self._vote_and_forget, host)

    def _vote_and_forget(self, host: "Host") -> None:
        self.world.note("swing", host=self._middle.name, step="vote", candidate=host.name)
        self.crash(self._middle, self.DOWN_US)
        if self.random.random() < self.FORGOTTEN_CHANCE:
            self.part([self._middle], self._left if host in self._left else self._right, self.FORGOTTEN_US)
