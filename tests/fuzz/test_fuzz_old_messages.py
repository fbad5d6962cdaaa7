"""What was once said in earnest comes again, later, in another order, across crashes: nothing acknowledged is lost."""

import random
from typing import Any

import pytest
import structlog
from appends_by_hand import AppendPart, AppendRequest, answers_by_number
from fuzzing.borrowed import core
from fuzzing.material import LONG

from rewind_cluster.client_messages import AppendsDone, Code, Hello
from rewind_cluster.raft import Role

STREAM = "order-1"
KEPT_MAX = 3000  # recorded messages; the oldest are the most interesting, so the middle is thinned out
QUIET_TURNS = 2500


@pytest.fixture(autouse=True)
def quiet_logs() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


class RecordingCluster(core.Cluster):
    """A cluster whose network keeps what it carried between nodes, and delivers it again when asked."""

    def __init__(self, seed: int) -> None:
        super().__init__(3, partitions=1, seed=seed)
        self.recorded: list[tuple[core.Host, str, list[bytes]]] = []
        self.leaders: dict[tuple[int, int], str] = {}  # by partition and term: never two

    def carry(self, host: core.Host) -> None:
        self.recorded += [(host, address, list(frames)) for address, frames in host.core.peers.to_links]
        if len(self.recorded) > KEPT_MAX:
            del self.recorded[KEPT_MAX // 3 : -KEPT_MAX // 3]
        for number, replica in host.core.replicas.items():
            if replica.raft.role is Role.LEADER:
                assert self.leaders.setdefault((number, replica.raft.term), host.name) == host.name
        super().carry(host)

    def repeat(self, choose: random.Random, count: int) -> None:
        """Deliver messages that were sent before, in any order, on the connections that there are now."""
        for sender, address, frames in choose.sample(self.recorded, min(count, len(self.recorded))):
            route = self._links.get((sender.name + sender.peer_address, address))
            receiver = self.host_at(address)
            if route is not None and receiver is not None and receiver.node is not None:
                receiver.inbox.append(lambda node, r=route, f=frames: node.peer_protocol.received(r, f))

    def committed(self, host: core.Host, partition: int) -> list[bytes]:
        raft = host.core.replicas[partition].raft
        return [raft.log.entry(index).data for index in range(1, raft.commit + 1)]


def isolate(cluster: RecordingCluster, host: core.Host | None) -> None:
    """Cut a host off from both others."""
    cluster.heal()
    for other in cluster.hosts:
        if host not in (None, other):
            cluster.cut(host, other)


def send(client: core.TestClient, host: core.Host, sequence: int) -> None:
    """Send an append of one event to a node, whether it leads or not, and wait for nothing."""
    client.send(host, Hello([1], "", client.name, 0, {}, None))
    request = AppendRequest(sequence, True, (AppendPart(STREAM, -1, core.events_named(f"event {sequence}")),))
    client.send_append(host, 1, [request], epoch=sequence)


def answers(client: core.TestClient) -> dict[int, list[Any]]:
    """Return the last answer to each append that was not left open."""
    told: dict[int, list[Any]] = {}
    for _, message, _ in client.received:
        if isinstance(message, AppendsDone):
            for sequence, *answer in answers_by_number(message.answers):
                if told.get(sequence, [None])[0] == Code.OK:
                    assert answer[0] != Code.OK or answer == told[sequence], "answered twice, differently"
                else:
                    told[sequence] = answer
    return told


STEPS = {  # what happens, and how often
    "append": 12,
    "retry": 6,
    "repeat": 12,
    "turns": 8,
    "crash": 3,
    "crash the leader": 3,
    "isolate the leader": 2,
    "cut": 2,
    "heal": 4,
}


class Story:
    """One run: steps drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.choose = random.Random(seed)
        self.cluster = RecordingCluster(seed)
        self.cluster.start()
        self.client = self.cluster.client()
        self.client.session(1)
        self.sequence = 0

    def run(self, steps: int) -> None:
        for step in self.choose.choices(list(STEPS), list(STEPS.values()), k=steps):
            self.step(step)
        self.cluster.heal()
        self.cluster.repeat(self.choose, 100)
        self.cluster.turns(QUIET_TURNS)
        for sequence in range(1, self.sequence + 1):
            send(self.client, self.cluster.await_leader(1), sequence)
            self.cluster.turns(1)
        self.cluster.turns(QUIET_TURNS)

    def step(self, step: str) -> None:
        cluster, choose = self.cluster, self.choose
        leader = cluster.leader(1) or choose.choice(cluster.hosts)
        match step:
            case "append" | "retry":
                self.send(leader, again=step == "retry")
            case "repeat":
                self.echo(choose.choice([1, 10, 100]), choose.randint(1, 20))
            case "turns":
                cluster.turns(choose.choice([1, 2, 5, 30]))
            case "crash" | "crash the leader":
                host = leader if "leader" in step else choose.choice(cluster.hosts)
                host.crash()
                self.echo(choose.choice([0, 3, 400]))
                host.start()
            case "isolate the leader":
                isolate(cluster, leader)
                self.echo(choose.choice([100, 1500]))
            case "cut":
                cluster.cut(*choose.sample(cluster.hosts, 2))
            case _:
                cluster.heal()

    def send(self, host: core.Host, *, again: bool) -> None:
        if again and self.sequence:
            send(self.client, host, self.choose.randint(1, self.sequence))
            return
        for _ in range(self.choose.randint(1, 4)):
            self.sequence += 1
            send(self.client, host, self.sequence)

    def echo(self, turns: int, count: int = 2) -> None:
        """Let time pass, elections perhaps, among echoes of what was said before."""
        for _ in range(turns):
            self.cluster.repeat(self.choose, count)
            self.cluster.turns(1)


@pytest.mark.parametrize("seed", range(1500 if LONG else 10))
def test_messages_that_come_again_harm_nothing(seed: int) -> None:
    story = Story(seed)

    story.run(60)

    assert len(story.cluster.leaders) > 2
    check(story.cluster, story.client)


def check(cluster: RecordingCluster, client: core.TestClient) -> None:
    """Assert that all replicas have committed the same, that it holds what was acknowledged, and nothing twice."""
    for partition in (0, 1):
        leader = cluster.await_leader(partition)
        logs = [cluster.committed(host, partition) for host in cluster.hosts]
        longest = max(logs, key=len)
        assert all(log == longest[: len(log)] for log in logs)
        assert len(cluster.committed(leader, partition)) == len(longest)
    stored = client.read(STREAM)
    assert len(set(stored)) == len(stored)
    for sequence, answer in answers(client).items():
        if answer[0] == Code.OK:
            ((version, _, _),) = answer[1]
            assert stored[version - 1] == f"event {sequence}"
