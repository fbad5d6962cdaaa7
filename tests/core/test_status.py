"""What a node tells of the cluster: its own state, and what the others have said of theirs."""

import pytest

from rewind_cluster.names import CONTROL
from rewind_cluster.peer_messages import PEER_CODEC, PeerStatus
from rewind_node.peers import REASON_SHOWN_MAX, REASONS_TOLD_MAX

FULL = "too little free disk space: appends are refused; free some"


def reasons_by(host):
    """Return why each node is not ready, by the word of one host."""
    return {row["name"]: row["reasons"] for row in host.core.status()["nodes"]}


def test_every_node_tells_which_nodes_are_not_ready_and_why(cluster):
    full = cluster.hosts[2]

    full.full = True
    cluster.until(lambda: all(reasons_by(host)[full.name] == [FULL] for host in cluster.hosts))
    full.full = False

    cluster.until(lambda: all(set(map(tuple, reasons_by(host).values())) == {()} for host in cluster.hosts))


def test_nobody_knows_why_a_node_that_is_down_would_not_be_ready(cluster):
    gone = cluster.hosts[2]

    gone.crash()

    cluster.until(lambda: reasons_by(cluster.hosts[0])[gone.name] is None)


def test_a_node_that_lost_the_others_says_whom_it_does_not_reach(cluster):
    left, *others = cluster.hosts
    for host in others:
        host.crash()

    cluster.until(lambda: not any(left.core.leaders.of(partition)[1] for partition in left.core.replicas))
    first, *rest = left.core.status()["reasons"]

    names = ", ".join(sorted(host.name for host in others))
    assert first == f"no connection to {names}: see whether they run, and whether the network lets them through"
    assert rest[0] == f"partition {CONTROL} has no leader that this node knows of"


@pytest.mark.parametrize("reason", [5, None, ["x"], b"x"])
def test_a_reason_that_is_no_text_ends_the_connection_and_not_the_node(cluster, reason):
    host, other = cluster.hosts[:2]

    cluster.until(lambda: reasons_by(host)[other.name] == [])
    says(host, other, [reason])

    assert reasons_by(host)[other.name] == []


def test_of_many_long_reasons_a_few_are_kept_and_cut(cluster):
    host, other = cluster.hosts[:2]

    cluster.until(lambda: reasons_by(host)[other.name] == [])
    says(host, other, ["x" * 4000] * 100)

    assert reasons_by(host)[other.name] == ["x" * REASON_SHOWN_MAX] * REASONS_TOLD_MAX


def says(host, other, reasons):
    """Have a host be told of another node's state by that node."""
    route = next(route for route, node_id in host.core.peers.routes.items() if node_id == other.node_id)
    status = PeerStatus(host.core.cluster_id, 1, "up", [], reasons)
    host.core.peer_protocol.received(route, [PEER_CODEC.encode(status)])
