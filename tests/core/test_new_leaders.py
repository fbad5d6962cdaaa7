"""When an elected replica begins to take requests: at once, unless it has yet to apply what it holds."""

import pytest

from rewind_cluster.raft import Role
from rewind_node import replica as replica_module


def elected(cluster, partition):
    """Return the replica of a partition that has been elected, whether it serves already or not."""
    found = (host.core.replicas.get(partition) for host in cluster.hosts if host.node is not None)
    return next((replica for replica in found if replica is not None and replica.raft.role is Role.LEADER), None)


def test_a_follower_that_kept_up_takes_requests_as_soon_as_it_is_elected(cluster, named):
    partition = cluster.partition_of("order-1")
    cluster.client().append("order-1", named("a"), 0)
    cluster.leader(partition).crash()

    new = cluster.until(lambda: elected(cluster, partition))

    assert new.leading
    assert not new.raft.committed_in_term


def test_a_replica_that_was_started_with_much_to_apply_takes_requests_when_it_has(make_cluster, named, monkeypatch):
    cluster = make_cluster(1, partitions=1, factor=1).start()
    client = cluster.client()
    for number in range(20):
        client.append("order-1", named(f"e{number}"), number)
    (host,) = cluster.hosts
    last_index = host.core.replicas[1].raft.log.last_index
    host.crash()
    monkeypatch.setattr(replica_module, "APPLY_BYTES_MAX", 1)  # an entry a turn

    host.start()
    new = cluster.until(lambda: elected(cluster, 1))
    at_first = new.applied
    cluster.until(lambda: new.leading)

    assert at_first < last_index
    assert new.applied > last_index
    client.hello(host)
    assert client.version("order-1") == 20


@pytest.fixture
def slow_to_apply(monkeypatch):
    """Let replicas apply an entry a turn, and call five left to apply much."""
    monkeypatch.setattr(replica_module, "APPLY_BYTES_MAX", 1)
    monkeypatch.setattr(replica_module, "BEHIND_ENTRIES_MAX", 5)


def written(cluster, named, count):
    """Append so often to a stream, and return its partition."""
    client = cluster.client()
    for number in range(count):
        client.append("order-1", named(f"e{number}"), number)
    return cluster.partition_of("order-1")


@pytest.mark.usefixtures("slow_to_apply")
def test_a_replica_that_is_elected_with_much_to_apply_hands_over(cluster, named):
    partition = written(cluster, named, 100)
    old = cluster.leader(partition)
    behind = next(host for host in cluster.hosts if host is not old)
    behind.crash()
    behind.start()
    started_us = cluster.now_us
    replica = behind.core.replicas[partition]
    leader = old.core.replicas[partition].raft
    cluster.until(lambda: leader.progress(replica.raft.replica).heard_us > started_us)
    leader.transfer(replica.raft.replica, cluster.now_us)

    cluster.until(lambda: elected(cluster, partition) is replica)
    cluster.until(lambda: (new := elected(cluster, partition)) and new.leading)

    assert elected(cluster, partition) is not replica
    assert replica.applied < replica.raft.commit - 5


@pytest.mark.usefixtures("slow_to_apply")
def test_replicas_that_all_have_much_to_apply_do_not_pass_leadership_round(cluster, named):
    partition = written(cluster, named, 200)
    term = cluster.leader(partition).core.replicas[partition].raft.term
    for host in cluster.hosts:
        host.crash()
    for host in cluster.hosts:
        host.start()

    leader = cluster.until(lambda: (new := elected(cluster, partition)) and new.leading and new)

    assert leader.raft.term <= term + 10


def test_a_node_knows_of_every_replica_when_it_needs_its_next_turn(cluster, named):
    """It asks each of them after its own turns only: nothing but a turn may change what it is told."""
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0, sequence=1)
    old = cluster.leader(partition)

    def turns(count):
        for _ in range(count):
            cluster.turns(1)
            for host in cluster.hosts:
                if host.node is not None:
                    replicas = host.core.replicas
                    assert host.core._deadlines == {number: replicas[number].deadline_us for number in replicas}

    turns(500)
    old.crash()
    turns(3000)
    new = cluster.await_leader(partition)
    client.hello(new)
    client.append("order-1", named("b"), 1, sequence=2, host=new, epoch=2)
    old.start()
    turns(1500)
    new.core.drain()
    turns(1500)
