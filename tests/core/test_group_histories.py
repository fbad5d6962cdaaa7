"""Members of a group under misfortune: hosts crash, links are cut, answers are lost, and members go on regardless.

What is checked is what members rely on. An acknowledged settlement stays, an epoch is one claim's, and once a claim was
granted nothing that is said later under an older epoch is taken. In the end all replicas hold the same.
"""

import random

import pytest
from groups_by_hand import CONTEXT, GROUP
from ranges_by_hand import append_parts

from rewind_cluster.client_messages import Code, Failed, Hello
from rewind_cluster.groups import ClaimGroup, ClaimIs, SettledIs, SettleGroup

STREAM = "{all}a"
EVENTS = 200
STEPS = 400
STEP_TURNS = 25
ANSWER_TURNS = 400
MEMBERS = 3


class History:
    """What was granted and acknowledged, and when, in milliseconds of simulated time."""

    def __init__(self):
        self.granted = {}  # epoch → member, and when its answer came
        self.settled = set()  # positions

    def claimed(self, member, answer, now):
        owner, _ = self.granted.setdefault(answer.epoch, (member.id, now))
        assert owner == member.id, f"epoch {answer.epoch} was granted to two members"

    def acknowledged(self, message, sent):
        later = [epoch for epoch, (_, when) in self.granted.items() if epoch > message.epoch and when < sent]
        assert not later, f"what was said under epoch {message.epoch} was taken after {later} had been granted"
        for first, last in message.settled:
            self.settled.update(range(first, last + 1))


class Restless:
    """A member that claims, settles and releases at whim; one request at a time, sent again when unanswered."""

    def __init__(self, cluster, partition, number, history):
        self.cluster, self.partition, self.history = cluster, partition, history
        self.client = cluster.client(f"restless{number}")
        self.id = bytes([number]) * 16
        self.epoch = 0
        self.asked = None  # message and when it was first sent
        self.again = 0

    def step(self, chance):
        """Take in answers, then ask or ask again."""
        now = self.cluster.now_us // 1000
        received, self.client.received[:] = list(self.client.received), []
        for _, answer, _ in received:
            if self.asked is not None and getattr(answer, "request", 0) == self.asked[0].request:
                self.take(answer, now)
        if self.asked is None:
            self.asked = (self.next(chance), now)
            self.again = 0
        if self.again <= now:
            self.again = now + ANSWER_TURNS
            host = chance.choice([host for host in self.cluster.hosts if host.node is not None])
            leader = self.cluster.leader(self.partition)
            host = leader if leader is not None and chance.random() < 0.8 else host
            self.client.send(host, Hello([1], "", "restless", 0, {}, None))
            self.client.send(host, self.asked[0])

    def next(self, chance):
        self.client.requests += 1
        head = (self.client.requests, self.partition, CONTEXT, GROUP)
        deadline_us = self.cluster.now_us + 60_000_000
        if not self.epoch:
            return ClaimGroup(*head, self.id, 0, 1000, deadline_us)
        first = chance.randint(1, EVENTS)
        settled = [[first, min(EVENTS, first + chance.randint(0, 5))]] if chance.random() < 0.8 else []
        release = chance.random() < 0.1
        return SettleGroup(*head, self.epoch, settled, [], [], [], release, deadline_us)

    def take(self, answer, now):
        message, sent = self.asked
        if isinstance(answer, Failed) and answer.code not in (Code.FENCED, Code.HELD):
            self.again = min(self.again, now + 50)
            return
        self.asked = None
        if isinstance(answer, ClaimIs):
            self.history.claimed(self, answer, now)
            self.epoch = answer.epoch
        elif isinstance(answer, SettledIs):
            self.history.acknowledged(message, sent)
            self.epoch = 0 if message.release else self.epoch
        else:
            self.epoch = 0


def stop(cluster, chance):
    host = chance.choice(cluster.hosts)
    host.core.finish()
    host.crash()


def hand_over(cluster):
    for host in cluster.hosts:
        for replica in host.core.replicas.values() if host.node is not None else ():
            if replica.leading and not replica.raft.transferring:
                replica.raft.transfer(None, cluster.now_us)


def misfortune(cluster, chance):
    """Crash or stop a host, start one, cut or heal, hand over: at most one host is down at a time."""
    down = [host for host in cluster.hosts if host.node is None]
    match chance.choice(["crash", "stop", "cut", "heal", "heal", "transfer", "start", "start", "start"]), bool(down):
        case "crash", False:
            chance.choice(cluster.hosts).crash()
        case "stop", False:
            stop(cluster, chance)
        case "start", True:
            down[0].start()
        case "cut", False:
            cluster.cut(*chance.sample(cluster.hosts, 2))
        case "heal", _:
            cluster.heal()
        case "transfer", _:
            hand_over(cluster)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_befalls_a_group_what_was_acknowledged_stays_and_no_older_claim_is_heard(make_cluster, seed):
    cluster = make_cluster(3, seed=seed).start()
    chance = random.Random(seed)
    partition = cluster.partition_of(STREAM)
    append_parts(cluster.client(), partition, [(STREAM, [("Happened", f"event {n}") for n in range(EVENTS)])])
    history = History()
    members = [Restless(cluster, partition, number, history) for number in range(1, MEMBERS + 1)]

    for step in range(STEPS):
        if step % 16 == 15:
            misfortune(cluster, chance)
        for member in members:
            member.step(chance)
        cluster.turns(STEP_TURNS)

    cluster.heal()
    for host in cluster.hosts:
        if host.node is None:
            host.start()
    leader = cluster.await_leader(partition)
    applied = leader.core.replicas[partition].raft.commit
    cluster.until(lambda: all(host.core.replicas[partition].applied >= applied for host in cluster.hosts))
    states = [host.core.replicas[partition].index.groups.find(CONTEXT, GROUP) for host in cluster.hosts]
    assert len({state.pack() for state in states}) == 1
    assert len(history.granted) >= 5
    assert len(history.settled) >= 20
    assert not [position for position in history.settled if not states[0].is_settled(position)]
