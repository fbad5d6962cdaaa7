"""A client that sends the very same append again, to another leader and to nodes that all ended in between.

It does by hand what the client library does where an answer got lost, so that the moment is no matter of luck.
"""

from uuid import uuid4

import pytest
from appends_by_hand import AppendPart, AppendRequest, pack_batch
from raw_protocol import RawClient
from real_cluster import RealCluster, eventually

from rewind_cluster.client_messages import (
    ANY_VERSION,
    AppendBatch,
    AppendsDone,
    Code,
    ContextIs,
    FindContext,
    GetVersion,
    OpenSession,
    SessionIs,
    VersionIs,
)
from rewind_cluster.columns import Events, pack_events
from rewind_cluster.names import slot
from rewind_node.local_cluster import LocalNode

pytestmark = pytest.mark.processes

PARTITION = 1
FAR_US = 60_000_000


class Retrying:
    """One session and one append, sent as often as asked."""

    def __init__(self, cluster: RealCluster) -> None:
        self._cluster = cluster
        events = pack_events(Events(uuid4().bytes, ["Happened"], [b""], None))
        self.stream = next(name for name in map("s-{}".format, range(1000)) if slot(name) < (1 << 16) // 3 - 1)
        self._frames = pack_batch([AppendRequest(1, True, (AppendPart(self.stream, ANY_VERSION, events),))])
        self._epoch = 0
        with RawClient(self._leader().address) as client:
            deadline_us = client.hello().time_us + FAR_US
            client.send(FindContext(1, "default", deadline_us))
            self._context = client.receive(ContextIs)[0].number
            client.send(OpenSession(2, PARTITION, deadline_us))
            self._session = client.receive(SessionIs)[0].session

    def _leader(self) -> LocalNode:
        return self._cluster.leader(PARTITION)

    def send(self) -> list[object]:
        """Send the append until a leader takes it, and return its answer."""
        answers: list[list[object]] = []
        eventually(lambda: answers.append(self._send()) or answers[-1][1] != Code.NOT_LEADER, "a leader takes it")
        assert answers[-1][:2] == [1, Code.OK], answers
        return answers[-1]

    def _send(self) -> list[object]:
        self._epoch += 1
        with RawClient(self._leader().address) as client:
            deadline_us = client.hello().time_us + FAR_US
            batch = AppendBatch(PARTITION, self._context, self._session, self._epoch, 1, deadline_us, 0)
            client.send(batch, *self._frames)
            done = client.receive(AppendsDone, session=self._session)[0]
        return list(done.answers[0])

    def version(self) -> int:
        """Return the stream's version by its leader's word."""
        with RawClient(self._leader().address) as client:
            deadline_us = client.hello().time_us + FAR_US
            client.send(GetVersion(3, PARTITION, self._context, self.stream, True, 0, deadline_us))
            return int(client.receive(VersionIs)[0].version)


def test_the_same_append_gets_its_first_answer_from_every_leader_and_after_restarts(cluster: RealCluster) -> None:
    retrying = Retrying(cluster)
    answers = [retrying.send(), retrying.send()]

    leader = cluster.leader(PARTITION)
    cluster.kill(leader)
    eventually(lambda: cluster.leaders(but=leader).get(PARTITION) not in (None, leader.name), "another one leads")
    answers.append(retrying.send())
    cluster.start_node(leader)
    cluster.wait_serving()
    cluster.kill_all()
    for node in cluster.nodes:
        cluster.start_node(node)
    cluster.wait_serving()
    answers.append(retrying.send())

    assert answers == [answers[0]] * 4
    assert retrying.version() == 1
