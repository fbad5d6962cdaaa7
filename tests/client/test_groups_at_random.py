"""Members of a group through whatever comes: drawn at random, in simulated time, and held against what must be true."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from rewind.events import ANY, NewEvent
from rewind_cluster.groups import GROUP_LEASE_US, GroupRow

SECOND_US = 1_000_000
STREAMS = 6
PARTITIONS = 2
MEMBERS_MAX = 4
STEPS = 200
SEEDS = 40
ACTIONS = (
    *("append", "take", "ack", "wait") * 3,
    *("nack", "park", "join", "leave", "die", "lose", "pause", "elect", "replay"),
)


class Story:
    """What happens in one example, and what it was found to be."""

    def __init__(self, lab: Any, make_worker: Any, chance: random.Random) -> None:
        self.lab = lab
        self.members: list[Any] = []
        self.in_hand: dict[Any, list[Any]] = {}
        self.handed: dict[str, int] = {}  # the newest version of each stream that was ever handed out
        self.parked: dict[int, set[int]] = {partition: set() for partition in range(1, PARTITIONS + 1)}
        self.count = 0
        self._make_worker = make_worker
        self._chance = chance

    def state(self, partition: int) -> Any:
        return self.lab.cluster.groups.by_place.get((1, "mailer", partition))

    def step(self, action: str) -> None:
        getattr(self, action)()
        self.lab.settle()
        for partition, parked in self.parked.items():
            state = self.state(partition)
            parked.update(() if state is None else state.parked)

    def draw(self, most: int) -> int:
        return self._chance.randint(0, most)

    def member(self) -> Any:
        return self.members[self.draw(len(self.members) - 1)] if self.members else None

    # ── what happens ────────────────────────────────────────────────────────────────────────────────────────────────

    def append(self) -> None:
        for _ in range(self.draw(5) + 1):
            stream = f"s{self.draw(STREAMS - 1)}"
            append = self.lab.calls.append(stream, NewEvent("T", b""), ANY, 60)
            self.lab.session.append(append, self.lab.now_us)
            self.count += 1

    def join(self) -> None:
        if len(self.members) < MEMBERS_MAX:
            made = self._make_worker(self.lab, max_attempts=3)
            self.members.append(made)
            self.in_hand[made] = []

    def take(self) -> None:
        member = self.member()
        if member is None:
            return
        for delivery in member.take(self.draw(4) + 1):
            self.handed_out(member, delivery)

    def handed_out(self, member: Any, delivery: Any) -> None:
        event, claim = delivery.event, delivery._held.claim
        state = self.state(event.partition)
        self.parked[event.partition].update(state.parked)
        if not delivery._held.replayed:
            if state.epoch == claim.epoch:
                assert event.position not in state.settled, "the cluster knows that it is settled"
            reached = self.handed.get(event.stream, 0)
            stored = self.lab.cluster.streams[1, event.stream]
            # Owners may have died just when they were about to hand an event out, so often that it was parked.
            overtaken = [stored[version - 1].first_position for version in range(reached + 1, event.version)]
            assert all(position in self.parked[event.partition] for position in overtaken), "it overtook one before it"
            self.handed[event.stream] = max(reached, event.version)
        theirs = [each for each in self.in_hand[member] if each._held.claim is claim]
        assert event.stream not in [each.event.stream for each in theirs], "two of a stream are in hand"
        self.in_hand[member].append(delivery)

    def verdict(self, say: Callable[[Any], bool]) -> None:
        member = self.member()
        if member is None or not self.in_hand[member]:
            return
        deliveries = self.in_hand[member]
        say(deliveries.pop(self.draw(len(deliveries) - 1)))

    def ack(self) -> None:
        self.verdict(lambda delivery: delivery.ack())

    def nack(self) -> None:
        self.verdict(lambda delivery: delivery.nack(retry_after=self.draw(30) / 10))

    def park(self) -> None:
        self.verdict(lambda delivery: delivery.park("hopeless"))

    def leave(self) -> None:
        member = self.member()
        if member is not None:
            member.leave()
            self.members.remove(member)
            del self.in_hand[member]

    def die(self) -> None:
        member = self.member()
        if member is not None:
            member.die()
            self.members.remove(member)
            for delivery in self.in_hand.pop(member):
                assert not delivery.ack()

    def lose(self) -> None:
        node = self.lab.cluster.nodes[self.draw(2)]
        if node.address in self.lab.lossy:
            self.lab.lossy.clear()
            self.lab.drop(node)
        else:
            self.lab.lossy.add(node.address)

    def pause(self) -> None:
        node = self.lab.cluster.nodes[self.draw(2)]
        if node.paused:
            self.lab.resume(node)
        else:
            node.paused = True

    def elect(self) -> None:
        partition = self.draw(PARTITIONS - 1) + 1
        self.lab.push(self.lab.cluster.elect(partition, self.lab.cluster.nodes[self.draw(2)]))

    def replay(self) -> None:
        for group in self.lab.cluster.groups.by_place.values():
            for parked in group.parked.values():
                parked.replaying = True

    def wait(self) -> None:
        self.lab.advance((self.draw(30) + 1) * 100_000)

    # ── how it ends ─────────────────────────────────────────────────────────────────────────────────────────────────

    def heal(self) -> None:
        self.lab.lossy.clear()
        for node in self.lab.cluster.nodes:
            if node.paused:
                self.lab.resume(node)
            self.lab.drop(node)
        self.lab.settle()

    def finish(self) -> None:
        """Let one last member deal with all that is left."""
        self.heal()
        self.lab.advance(10 * SECOND_US)
        while self.members:
            self.leave()
        last = self._make_worker(self.lab, max_attempts=3)
        self.in_hand[last] = []
        for _ in range((GROUP_LEASE_US + 20 * SECOND_US) // 200_000):
            self.lab.advance(200_000)
            while taken := last.take(1):
                self.handed_out(last, taken[0])
                self.in_hand[last].clear()
                assert taken[0].ack()
                self.lab.settle()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_to_members_each_event_is_dealt_with_in_order(
    make_lab: Callable[..., Any], make_worker: Any, seed: int
) -> None:
    chance = random.Random(seed)
    story = Story(make_lab(partitions=PARTITIONS).connect(), make_worker, chance)
    story.join()

    for _ in range(STEPS):
        story.step(chance.choice(ACTIONS))
    story.finish()

    rows: list[GroupRow] = [
        story.lab.cluster.groups._row("mailer", group, story.lab.cluster.positions.get((1, partition), 0))
        for (_, _, partition), group in story.lab.cluster.groups.by_place.items()
    ]
    assert sum(row.head for row in rows) == story.count, "the load was not all appended"
    assert all(row.lag == 0 for row in rows)
    assert all(row.replaying == 0 for row in rows)
