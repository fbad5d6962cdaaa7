"""Reads through a whole cluster of node cores: fresh by default, from any replica on request."""

import pytest

from rewind_cluster.client_messages import Code, Failed, GetVersion, Hello, VersionIs


def test_a_leader_that_was_cut_off_answers_no_read(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0)
    old = cluster.leader(partition)
    client.hello(old)
    for host in cluster.hosts:
        if host is not old:
            cluster.cut(old, host)

    client.send(old, GetVersion(77, partition, 1, "order-1", True, 0, client.deadline_us))
    answer, _ = client.await_message(lambda message: getattr(message, "request", 0) == 77)

    assert isinstance(answer, Failed)


def test_a_read_sees_every_append_acknowledged_before_it(cluster, named):
    client = cluster.client()
    for number in range(20):
        client.append("order-1", named(f"e{number}"), number)

        assert client.version("order-1") == number + 1


def test_a_new_leader_serves_no_read_before_it_has_committed_in_its_term(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0)
    cluster.leader(partition).crash()

    new = cluster.until(
        lambda: next(
            (h for h in cluster.hosts if h.node and h.node.replicas[partition].raft.role.name == "LEADER"), None
        )
    )
    client.send(new, Hello([1], "", "c", 0, {}, None))
    client.send(new, GetVersion(78, partition, 1, "order-1", True, 0, client.deadline_us))
    committed_first = new.core.replicas[partition].raft.committed_in_term
    answer, _ = client.await_message(lambda message: getattr(message, "request", 0) == 78)

    assert not committed_first
    assert answer == VersionIs(78, 1, 1)
    assert new.core.replicas[partition].raft.committed_in_term


def test_any_replica_serves_what_it_has_and_waits_for_what_is_asked(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0)
    leader = cluster.leader(partition)
    follower = next(host for host in cluster.hosts if host is not leader)
    cluster.until(lambda: follower.core.replicas[partition].applied == leader.core.replicas[partition].applied)
    client.hello(follower)
    cluster.cut(leader, follower)
    other = next(host for host in cluster.hosts if host not in (leader, follower))
    client.append("order-1", named("b"), 1, host=leader)

    stale = client.read("order-1", host=follower, fresh=False)
    client.send(follower, GetVersion(79, partition, 1, "order-1", False, 2, client.deadline_us))
    cluster.turns(50)
    waits = not any(getattr(message, "request", 0) == 79 for _, message, _ in client.received)
    cluster.heal()
    answer, _ = client.await_message(lambda message: getattr(message, "request", 0) == 79)

    assert other is not None
    assert stale == ["a"]
    assert waits
    assert answer.version == 2


@pytest.mark.parametrize("fresh", [True, False])
def test_a_token_beyond_the_head_is_refused_by_the_leader(cluster, named, fresh):
    client = cluster.client()
    client.append("order-1", named("a"), 0)

    with pytest.raises(AssertionError, match=Code.BEYOND_HEAD.name):
        client.read("order-1", at_least=5, fresh=fresh)


def test_a_deposed_leader_does_not_say_that_a_token_of_its_successor_is_beyond_the_head(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0)
    old = cluster.leader(partition)
    others = [host for host in cluster.hosts if host is not old]
    client.hello(old)
    for other in others:
        cluster.cut(old, other)
    old.paused = True
    new = cluster.until(lambda: next((host for host in others if host.core.replicas[partition].leading), None))
    client.hello(new)
    client.append("order-1", named("b"), 1, host=new)
    client.send(old, GetVersion(79, partition, 1, "order-1", False, 2, client.deadline_us))

    old.paused = False
    cluster.turns(50)
    cluster.heal()
    answer, _ = client.await_message(lambda message: getattr(message, "request", 0) == 79)

    assert not isinstance(answer, Failed) or answer.code != Code.BEYOND_HEAD


def test_a_read_of_a_missing_stream_is_empty(cluster):
    assert cluster.client().read("nobody") == []
