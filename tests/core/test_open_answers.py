"""What a deposed leader answers to those who wait: OPEN for what stands in its log, NOT_LEADER for other requests."""

import pytest
from groups_by_hand import CONTEXT, GROUP

from rewind_cluster.client_messages import Code, ContextIs, CreateContext, OpenSession
from rewind_cluster.groups import ClaimGroup, DeleteGroup, ReplayParked, ResetGroup, SettleGroup

NUMBER = 77  # of the request
MEMBER = b"m" * 16
REQUESTS = [
    (0, CreateContext, ("accounts", False)),
    (1, ClaimGroup, (1, CONTEXT, GROUP, MEMBER, 0, 5)),
    (1, SettleGroup, (1, CONTEXT, GROUP, 1, [], [], [], [], False)),
    (1, ResetGroup, (1, CONTEXT, GROUP, 0)),
    (1, DeleteGroup, (1, CONTEXT, GROUP)),
    (1, ReplayParked, (1, CONTEXT, GROUP, None, False)),
    (1, ReplayParked, (1, CONTEXT, GROUP, None, True)),
]


def log_of(host, partition):
    return host.core.replicas[partition].raft.log


def let_propose(cluster, leader, partition):
    """Let a leader log what it was sent and tell its followers, of whom it hears no more; return the entry."""
    log = log_of(leader, partition)
    before = log.last_index
    while log.last_index == before:
        cluster.now_us += 1000
        leader.turn()
    for host in cluster.hosts:
        if host is not leader:
            cluster.cut(leader, host)
    return log.entry(log.last_index)


def hand_over(host, partition):
    """Let a leader begin to hand over in its next turn, after what it was sent before."""
    host.inbox.append(lambda node: node.replicas[partition].raft.transfer(None, node.now_us))


def answer_to(client, number=NUMBER):
    return client.await_message(lambda message: getattr(message, "request", None) == number)[0]


@pytest.mark.parametrize(("partition", "kind", "fields"), [*REQUESTS, (1, OpenSession, (1,))])
def test_what_stands_in_a_deposed_leaders_log_is_open(cluster, partition, kind, fields):
    leader = cluster.await_leader(partition)
    client = cluster.client()
    client.hello(leader)
    cluster.turns(300)

    client.send(leader, kind(NUMBER, *fields, client.deadline_us))
    proposed = let_propose(cluster, leader, partition)
    answer = answer_to(client)
    new = cluster.until(lambda: (host := cluster.leader(partition)) is not leader and host)

    assert answer.code == Code.OPEN
    assert log_of(new, partition).entry(proposed.index).digest == proposed.digest


@pytest.mark.parametrize(("partition", "kind", "fields"), REQUESTS)
def test_what_a_leader_has_not_put_into_its_log_before_it_hands_over_is_refused(cluster, partition, kind, fields):
    leader = cluster.await_leader(partition)
    client = cluster.client()
    client.hello(leader)
    cluster.turns(300)

    client.send(leader, kind(NUMBER, *fields, client.deadline_us))
    hand_over(leader, partition)
    answer = answer_to(client)

    assert answer.code == Code.NOT_LEADER
    assert cluster.await_leader(partition) is not leader


def test_a_context_that_waits_for_another_to_be_created_is_refused_when_their_leader_is_deposed(cluster):
    leader = cluster.await_leader(0)
    client = cluster.client()
    client.hello(leader)
    cluster.turns(300)

    client.send(leader, CreateContext(NUMBER, "first", False, client.deadline_us))
    client.send(leader, CreateContext(NUMBER + 1, "second", False, client.deadline_us))
    let_propose(cluster, leader, 0)

    assert answer_to(client).code == Code.OPEN
    assert answer_to(client, NUMBER + 1).code == Code.NOT_LEADER


def test_a_context_that_was_created_while_its_leader_hands_over_is_told(cluster):
    leader = cluster.await_leader(0)
    client = cluster.client()
    client.hello(leader)
    cluster.turns(300)

    client.send(leader, CreateContext(NUMBER, "accounts", False, client.deadline_us))
    cluster.until(lambda: "accounts" in leader.core.map.context_numbers)
    hand_over(leader, 0)

    assert isinstance(answer_to(client), ContextIs)
