"""Founding: never two clusters, never a forgotten vote, whatever starts when."""

import itertools

import pytest
from membership_steps import learners

from rewind_node.exits import ForeignClusterError, UsageError


def cluster_ids(cluster):
    return {host.core.cluster_id for host in cluster.hosts if host.node is not None}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_seeds_found_one_cluster_in_any_order_of_start(make_cluster, order):
    cluster = make_cluster(3)

    for number in order:
        cluster.hosts[number].start()
        cluster.turns(500)
    cluster.await_leader(0)

    assert len(cluster_ids(cluster)) == 1
    assert all(len(host.core.replicas) == cluster.partitions + 1 for host in cluster.hosts)


def test_nothing_is_founded_while_a_seed_is_missing(make_cluster):
    cluster = make_cluster(3)
    for host in cluster.hosts[:2]:
        host.start()

    cluster.turns(5000)

    assert cluster_ids(cluster) == {""}
    assert cluster.hosts[0].core.obstacles == [f"seed {cluster.seeds[2]} has not answered yet"]


@pytest.mark.parametrize("crash_at", range(0, 160, 4))
def test_a_founder_that_crashes_at_any_moment_leaves_one_cluster(make_cluster, crash_at):
    cluster = make_cluster(3)
    for host in cluster.hosts:
        host.start()
    cluster.turns(crash_at)
    cluster.hosts[0].crash()
    cluster.turns(300)

    cluster.hosts[0].start()
    cluster.await_leader(0)
    cluster.turns(3000)

    assert len(cluster_ids(cluster)) == 1
    assert "" not in cluster_ids(cluster)


@pytest.mark.parametrize("number", range(3))
def test_a_wiped_seed_joins_the_cluster_it_left_without_a_vote(make_cluster, number):
    cluster = make_cluster(3).start()
    before = cluster_ids(cluster)
    wiped = cluster.hosts[number]
    wiped.wipe()

    wiped.start()
    cluster.turns(5000)

    assert cluster_ids(cluster) == before
    assert wiped.core.replicas == {}
    assert "votes for nothing" in wiped.core.joining


def test_a_wiped_founder_founds_nothing_while_the_others_are_down(make_cluster):
    cluster = make_cluster(3).start()
    for host in cluster.hosts:
        host.crash()
    cluster.hosts[0].wipe()

    cluster.hosts[0].start()
    cluster.turns(5000)

    assert cluster_ids(cluster) == {""}


def test_a_late_node_joins_as_a_learner_of_partition_0(cluster):
    late = cluster.add_host("n4")

    late.start()
    cluster.until(lambda: 0 in late.core.replicas and late.core.map.nodes.get(late.node_id))

    assert len(cluster_ids(cluster)) == 1
    assert late.core.control.raft.replica in learners(cluster.leader(0).core.control.raft.membership)


def test_a_name_that_is_in_use_ends_the_node_that_brings_it(cluster):
    second = cluster.add_host("n1")

    second.start()

    with pytest.raises(UsageError, match="'n1' is in use"):
        cluster.turns(1000)


def test_seeds_with_different_plans_found_nothing(make_cluster):
    cluster = make_cluster(3)
    cluster.hosts[0].start()
    cluster.hosts[1].start()
    cluster.hosts[2].start(partitions=7)

    cluster.turns(3000)

    assert cluster_ids(cluster) == {""}
    assert any("--partitions 7" in line for line in cluster.hosts[0].core.obstacles)


def test_a_node_of_another_cluster_ends_with_an_error_and_harms_nobody(make_cluster):
    cluster = make_cluster(3).start()
    stranger = make_cluster(1, seed=2).start().hosts[0]
    guest = cluster.add_host("stranger")
    guest.engine = stranger.engine

    guest.start()
    with pytest.raises(ForeignClusterError, match="check --data-dir and --seeds"):
        cluster.turns(5000)
    guest.crash()

    assert cluster.leader(1) is not None
    assert len(cluster_ids(cluster)) == 1


def test_leaders_are_spread_from_the_start(make_cluster):
    cluster = make_cluster(3, partitions=6).start()

    leaders = [cluster.leader(partition).name for partition in range(1, 7)]

    assert sorted(leaders.count(host.name) for host in cluster.hosts) == [2, 2, 2]


def test_a_single_node_is_a_cluster(make_cluster, named):
    cluster = make_cluster(1).start()
    client = cluster.client()

    client.append("order-1", named("a"), 0)

    assert client.read("order-1") == ["a"]
