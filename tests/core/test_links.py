"""Nodes that dial each other under two addresses, because seeds are spelled otherwise than advertised."""

import pytest
from appends_by_hand import AppendPart, AppendRequest

from rewind_cluster.client_messages import Code
from rewind_node.status import report

APPEND_PATIENCE_TURNS = 50  # a quarter of a heartbeat interval: what was lost is not waited for
FAILOVER_TURNS = 500  # half of the shortest election timeout: silence is not what replaces a leader


def seed_addresses(cluster):
    """Return the addresses under which nodes are seeds: their machines' other ones."""
    return [host.address for host in cluster.hosts]


def advertised_addresses(cluster):
    """Return the addresses that nodes advertise."""
    return [host.peer_address for host in cluster.hosts]


@pytest.fixture
def doubled(make_cluster):
    """Return a cluster whose nodes have two links to each other node."""
    cluster = make_cluster(3)
    cluster.seeds = tuple(seed_addresses(cluster))
    cluster.start()
    cluster.until(lambda: all(connected_twice(cluster, host) for host in cluster.hosts))
    cluster.turns(2000)
    return cluster


def connected_twice(cluster, host):
    links = host.core.peers.links.values()
    return sorted(link.node.name for link in links if link.node) == sorted(
        2 * [other.name for other in cluster.hosts if other is not host]
    )


def elections(cluster):
    return sum(host.core.metrics.elections_started for host in cluster.hosts)


def all_reached(cluster):
    pairs = [(host, other) for host in cluster.hosts for other in cluster.hosts if other is not host]
    return all((link := host.core.peers.link_to(other.node_id)) and link.up for host, other in pairs)


@pytest.mark.parametrize("lost", [seed_addresses, advertised_addresses])
def test_while_each_node_is_reached_under_one_address_the_loss_of_the_other_costs_no_election(doubled, named, lost):
    before = elections(doubled)

    doubled.lose(*lost(doubled))
    doubled.turns(5000)

    assert elections(doubled) == before
    assert all_reached(doubled)
    assert doubled.client().append("order-1", named("a"), 0)[0] == Code.OK


def test_addresses_that_are_lost_in_turn_cost_no_election(doubled):
    before = elections(doubled)

    doubled.lose(*seed_addresses(doubled))
    doubled.turns(1000)
    doubled.lost_addresses.clear()
    doubled.until(lambda: all(connected_twice(doubled, host) for host in doubled.hosts))
    doubled.lose(*advertised_addresses(doubled))
    doubled.turns(3000)

    assert elections(doubled) == before
    assert all_reached(doubled)


def test_entries_lost_with_one_connection_are_sent_on_the_other_at_once(doubled, named):
    client = doubled.client()
    client.append("order-1", named("a"), 0)
    partition = doubled.partition_of("order-1")
    leader = doubled.leader(partition)
    others = [host for host in doubled.hosts if host is not leader]
    for other in others:
        doubled.cut(leader, other)
    client.send_append(leader, partition, [AppendRequest(2, False, (AppendPart("order-1", -1, named("b")),))])
    doubled.turns(5)
    raft = leader.core.replicas[partition].raft
    uncommitted = raft.log.last_index - raft.commit

    doubled.heal()
    doubled.lose(*(leader.core.peers.link_to(other.node_id).address for other in others))
    doubled.turns(APPEND_PATIENCE_TURNS)

    assert uncommitted == 1
    assert raft.commit == raft.log.last_index


def test_a_leader_that_dies_with_both_connections_is_replaced_at_once(doubled):
    leader = doubled.leader(1)

    leader.crash()
    new = doubled.until(lambda: doubled.leader(1), FAILOVER_TURNS)

    assert new is not leader


def test_a_node_is_told_everything_once_however_often_it_is_dialled(doubled):
    host = doubled.hosts[0]

    host.core.peer_protocol.report(report(host.core))
    to_links, _ = host.core.peers.take()

    assert len(to_links) == 2
