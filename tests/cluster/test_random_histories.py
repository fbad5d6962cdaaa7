"""Random histories against the properties of Raft (paper, figure 3), each reproduced by its seed.

Messages are lost, repeated, delayed and overtaken, links cut in one direction, disks hold back, replicas crash and
lose what was not synced, memberships and leaders change. At every step:

- election safety: at most one leader per term;
- leader append-only and log matching: entries of equal index and term are equal, and so is all before them;
- leader completeness and state machine safety: what one replica has committed, no other replica's commit contradicts;
- acknowledged means durable: what is committed is on the disks of a majority, whatever crashes;
- reads: a round confirmed after a read began tells an index that covers all that was committed then.

At the end all faults end, and the group has to come to one log that holds new events.
"""

from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from membership_steps import demote, promote

from rewind_cluster.errors import ChangeRefusedError, InvalidArgumentError, NotLeaderError
from rewind_cluster.raft import RaftOptions, Role
from rewind_cluster.raft_messages import Envelope, ReplicaId

STEPS = 1200
Fault = Callable[[], None]

OPTIONS = RaftOptions(append_bytes_max=600, probe_bytes_max=300, inflight_appends_max=4)


class History:
    """One seeded run of a group, with what must hold of it."""

    def __init__(self, make_group: Any, replicas: int, seed: int) -> None:
        self.random = Random(seed)
        self.group = make_group(replicas, options=OPTIONS, seed=seed, cache_bytes_max=1500)
        self.leaders: dict[int, int] = {}  # by term
        self.committed: list[bytes] = []
        self.checked: dict[int, int] = dict.fromkeys(self.group.nodes, 0)
        self.reads: dict[tuple[int, int, int], int] = {}  # what was committed when the round was asked for
        self.group.observers.append(self.check)
        self.bodies = 0
        self.loss = self.random.choice([0.0, 0.02, 0.15])
        self.repeat = self.random.choice([0.0, 0.02, 0.15])
        self.pace = self.random.choice([4, 8, 16])  # messages delivered per step, at most
        self.calm = self.random.choice([0.3, 1.0, 2.0])  # how much rarer faults are
        self.changes = self.random.random() < 0.5
        self.faults: list[tuple[float, Fault]] = [
            (0.02, self.crash),
            (0.20, self.restart),
            (0.01, self.cut),
            (0.02, self.group.cuts.clear),
            (0.10, self.hold_disk),
            (0.50, self.release_disk),
            (0.01, self.drop_connection),
            (0.01, self.transfer),
            (0.03, self.change_membership),
            (0.01, self.fill_storage),
            (0.20, self.empty_storage),
        ]

    def run(self) -> None:
        for _ in range(STEPS):
            self.step()
        self.recover()

    def step(self) -> None:
        self.group.now_us += self.random.choice([0, 1_000, 5_000, 30_000])
        for chance, fault in self.faults:
            if self.random.random() * self.calm < chance:
                fault()
        node = self.pick_node()
        if self.random.random() < 0.4:
            self.propose(node)
        if self.random.random() < 0.2:
            self.read(node)
        for _ in range(self.random.randint(0, self.pace)):
            self.deliver()
        for other in self.group.nodes.values():
            if other.up and self.random.random() < 0.7:
                other.raft.tick(self.group.now_us)
                other.turn()
                self.check(other)

    def deliver(self) -> None:
        """Hand over a message, usually an old one, sometimes any, sometimes not at all, sometimes twice."""
        wire = self.group.wire
        if not wire:
            return
        place = 0 if self.random.random() < 0.7 else self.random.randrange(len(wire))
        envelope: Envelope = wire[place]
        if self.random.random() >= self.repeat:
            del wire[place]
        if self.random.random() >= self.loss:
            self.group.deliver(envelope)
            self.check(self.group.nodes[envelope.to])

    def pick_node(self) -> Any:
        return self.group.nodes[self.random.choice(list(self.group.nodes))]

    # What may happen.

    def crash(self) -> None:
        node = self.pick_node()
        if node.up:
            self.group.crash(node.replica, noticed=self.random.random() < 0.5)

    def restart(self) -> None:
        node = self.pick_node()
        if not node.up:
            self.group.restart(node.replica)
            self.checked[node.replica] = 0

    def cut(self) -> None:
        self.group.cut((self.pick_node().replica, self.pick_node().replica))

    def hold_disk(self) -> None:
        self.pick_node().holds_disk = True

    def release_disk(self) -> None:
        node = self.pick_node()
        node.holds_disk = False
        if node.up:
            node.turn()

    def drop_connection(self) -> None:
        node, other = self.pick_node(), self.pick_node()
        if node.up and node is not other:
            node.raft.peer_dropped(other.replica, self.group.now_us)
            node.raft.peer_connected(other.replica, self.group.now_us)

    def transfer(self) -> None:
        self.pick_node().raft.transfer(None, self.group.now_us)

    def fill_storage(self) -> None:
        self.pick_node().raft.storage_full = True

    def empty_storage(self) -> None:
        self.pick_node().raft.storage_full = False

    def change_membership(self) -> None:
        raft = self.pick_node().raft
        replica = ReplicaId(self.random.choice(list(self.group.nodes)))
        if not self.changes:
            return
        step = demote if replica in raft.membership.voters else promote
        with suppress(NotLeaderError, ChangeRefusedError, InvalidArgumentError):
            raft.propose_membership(step(raft.membership, replica))

    def propose(self, node: Any) -> None:
        if node.up and node.raft.role is Role.LEADER and not node.raft.transferring:
            self.bodies += 1
            self.group.propose(node.replica, b"%d" % self.bodies + bytes(self.random.randint(0, 200)))

    def read(self, node: Any) -> None:
        if node.up and node.raft.role is Role.LEADER:
            number = node.raft.read()
            self.reads.setdefault((node.replica, node.raft.term, number), len(self.committed))

    # What must hold.

    def check(self, node: Any) -> None:
        if not node.up:
            return
        raft = node.raft
        assert node.damage is None
        if raft.role is Role.LEADER:
            assert self.leaders.setdefault(raft.term, node.replica) == node.replica
        for index in range(self.checked[node.replica] + 1, raft.commit + 1):
            data = raft.log.entry(index).data
            if index > len(self.committed):
                assert index == len(self.committed) + 1
                self.check_durable(index, data)
                self.committed.append(data)
            assert self.committed[index - 1] == data
        self.checked[node.replica] = raft.commit
        self.check_reads(node)

    def check_durable(self, index: int, data: bytes) -> None:
        """Check that a majority has an entry on disk: of one of the memberships that are in use."""
        holders = {
            replica
            for replica, node in self.group.nodes.items()
            if index <= len(node.disk.log) and node.disk.log[index - 1] == data
        }
        memberships = [node.raft.membership for node in self.group.nodes.values()]
        assert any(2 * len(holders & set(membership.voters)) > len(membership.voters) for membership in memberships)

    def check_reads(self, node: Any) -> None:
        for number, index in node.reads:
            for key in [key for key in self.reads if key[:2] == (node.replica, node.raft.term) and key[2] <= number]:
                assert index >= self.reads.pop(key)
        node.reads.clear()

    def check_logs(self) -> None:
        """Log matching, over whole logs: entries of equal index and term are equal, and so is what precedes them."""
        logs = [node.entries() for node in self.group.nodes.values()]
        for one, other in pairwise(logs):
            same = [a.data == b.data for a, b in zip(one, other, strict=False)]
            terms = [a.term == b.term for a, b in zip(one, other, strict=False)]
            assert same == terms
            assert terms == sorted(terms, reverse=True)

    def recover(self) -> None:
        """End all faults; the group has to elect a leader, take events and agree."""
        self.check_logs()
        self.group.heal()
        for replica, node in self.group.nodes.items():
            node.holds_disk = False
            node.raft.storage_full = False
            if not node.up:
                self.group.restart(replica)
                self.checked[replica] = 0
        self.group.advance(6000)
        (leader,) = self.group.leaders()
        entry = self.group.propose(leader, b"at the end")
        self.group.advance(1000)
        assert {node.raft.commit for node in self.group.nodes.values()} == {entry.index}
        assert len({tuple(node.disk.log) for node in self.group.nodes.values()}) == 1
        self.check_logs()


@pytest.mark.parametrize("replicas", [3, 5])
@pytest.mark.parametrize("block", range(10))
def test_no_history_breaks_a_promise_and_every_one_recovers(make_group: Any, replicas: int, block: int) -> None:
    for seed in range(block * 10, block * 10 + 10):
        History(make_group, replicas, seed).run()
