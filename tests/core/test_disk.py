"""Disks that fill up and bytes that are not what they were."""

import pytest
from damage_by_hand import flip

from rewind_cluster.client_messages import Code


def stored(host, partition):
    return [data for _, data in host.engine.scan(f"log:{partition}", b"", b"\xff" * 9)]


def test_a_leader_whose_disk_is_full_hands_over_and_appends_go_on(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0)
    full = cluster.leader(partition)

    full.full = True
    new = cluster.until(lambda: (host := cluster.leader(partition)) and host is not full and host)
    client.hello(new)
    answer = client.append("order-1", named("b"), 1, host=new)

    assert answer[0] == Code.OK
    assert all(cluster.leader(number) is not full for number in range(cluster.partitions + 1))


def test_when_all_disks_are_full_appends_are_refused_and_reads_go_on(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0)
    for host in cluster.hosts:
        host.full = True
    cluster.turns(1000)
    leader = cluster.await_leader(partition)
    client.hello(leader)

    refused = client.append("order-1", named("b"), 1, host=leader)
    read = client.read("order-1")
    for host in cluster.hosts:
        host.full = False
    cluster.turns(1000)
    leader = cluster.await_leader(partition)
    client.hello(leader)
    taken = client.append("order-1", named("b"), 1, host=leader, epoch=2)

    assert refused[0] == Code.STORAGE_FULL
    assert read == ["a"]
    assert taken[0] == Code.OK


def test_nodes_whose_disks_are_all_full_do_not_pass_leaderships_round(cluster):
    for host in cluster.hosts:
        host.full = True
    cluster.turns(1500)
    before = [cluster.await_leader(partition).core.leaders.of(partition) for partition in range(cluster.partitions + 1)]

    cluster.turns(5000)

    after = [cluster.await_leader(partition).core.leaders.of(partition) for partition in range(cluster.partitions + 1)]
    assert after == before


def test_when_followers_disks_are_full_the_leader_refuses_before_it_writes(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0)
    leader = cluster.leader(partition)
    for host in cluster.hosts:
        host.full = host is not leader
    cluster.turns(300)
    last = leader.core.replicas[partition].raft.log.last_index

    refused = client.append("order-1", named("b"), 1, host=leader)

    assert refused[0] == Code.STORAGE_FULL
    assert leader.core.replicas[partition].raft.log.last_index == last


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_damaged_entry_is_not_served_and_is_repaired_from_a_peer(cluster, named, role):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    for number in range(5):
        client.append("order-1", named(f"e{number}"), number)
    leader = cluster.leader(partition)
    victim = leader if role == "leader" else next(host for host in cluster.hosts if host is not leader)
    cluster.turns(300)
    good = stored(victim, partition)
    victim.crash()
    flip(victim, f"log:{partition}", (3).to_bytes(8))
    victim.start()
    new = cluster.await_leader(partition)
    client.hello(new)
    client.hello(victim)

    with pytest.raises(AssertionError, match=r"DAMAGED|NOT_READY"):
        client.read("order-1", host=victim, fresh=False)
    cluster.until(lambda: partition in victim.core.replicas and not victim.core.infirmary.repairs)
    cluster.until(lambda: victim.core.replicas[partition].applied >= len(good))

    assert stored(victim, partition)[: len(good)] == good
    assert client.read("order-1", host=victim, fresh=False) == [f"e{number}" for number in range(5)]


def test_a_replica_whose_vote_is_damaged_never_votes_again(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0)
    victim = next(host for host in cluster.hosts if host is not cluster.leader(partition))
    victim.crash()
    flip(victim, "raft", partition.to_bytes(2))
    victim.start()
    cluster.turns(2000)
    cluster.leader(partition).crash()

    cluster.turns(5000)

    assert cluster.leader(partition) is None
    assert victim.core.infirmary.repairs[partition].hopeless
    assert any("must be replaced" in line for line in victim.core.status()["reasons"])


def test_damaged_index_rows_are_derived_again(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a", "b"), 0)
    cluster.turns(12_000)
    victim = next(host for host in cluster.hosts if host is not cluster.leader(partition))
    victim.engine.commit()
    key = next(key for key, _ in victim.engine.scan("streams", b"", b"\xff" * 300))
    flip(victim, "streams", key)
    client.hello(victim)

    with pytest.raises(AssertionError, match=r"NOT_READY|DAMAGED"):
        client.read("order-1", host=victim, fresh=False)
    cluster.until(lambda: partition in victim.core.replicas and victim.core.replicas[partition].applied > 1)
    cluster.turns(500)

    assert client.read("order-1", host=victim, fresh=False) == ["a", "b"]


def test_a_crash_loses_nothing_that_was_acknowledged(make_cluster, named, places_of):
    cluster = make_cluster(3).start()
    client = cluster.client()
    acknowledged = []
    for number in range(30):
        answer = client.append("order-1", named(f"e{number}"), number)
        acknowledged.append(places_of(answer))
        if number % 10 == 9:
            for host in cluster.hosts:
                host.crash()
            for host in cluster.hosts:
                host.start()
            client.hello(cluster.await_leader(cluster.partition_of("order-1")))

    assert acknowledged == [[[number + 1, number + 1]] for number in range(30)]
    assert client.read("order-1") == [f"e{number}" for number in range(30)]


@pytest.mark.parametrize("elsewhere", [33, None])
def test_a_replica_whose_state_is_lost_with_its_key_never_votes_again_and_its_node_starts(cluster, named, elsewhere):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0)
    victim = next(host for host in cluster.hosts if host is not cluster.leader(partition))
    victim.crash()
    value = victim.engine.get("raft", partition.to_bytes(2))
    victim.engine.delete("raft", [partition.to_bytes(2)])
    if elsewhere is not None:
        victim.engine.put("raft", [(elsewhere.to_bytes(2), value)])
    victim.engine.commit()

    victim.start()
    cluster.turns(2000)
    cluster.leader(partition).crash()
    cluster.turns(5000)

    assert list(victim.core.infirmary.repairs) == [partition]
    assert victim.core.infirmary.repairs[partition].hopeless
    assert victim.core.control is not None
    assert cluster.leader(partition) is None
    assert any("must be replaced" in line for line in victim.core.status()["reasons"])
