"""What hostile frames and unlucky timing must not do to a cluster."""

import msgpack
import pytest
from appends_by_hand import AppendPart, AppendRequest
from strangers import peer_hello, peer_says, stranger

from rewind_cluster.client_messages import (
    CLIENT_CODEC,
    Code,
    CreateContext,
    Failed,
    FindContext,
    GetStatus,
    Hello,
    ListContexts,
    ListStreams,
    Ping,
    Refused,
    StatusIs,
    Welcome,
)
from rewind_cluster.cluster_map import Founding, NodeInfo
from rewind_cluster.names import APPEND_EVENTS_MAX
from rewind_cluster.peer_messages import PeerStatus, RaftBatch
from rewind_cluster.raft import Role

UINT_MAX = (1 << 64) - 1


# Frames that no sound peer or client sends.


def test_a_hello_whose_versions_are_no_numbers_ends_the_connection_only(cluster):
    client = cluster.client()
    host = cluster.hosts[0]

    client.send_raw(host, [msgpack.packb((1, [[1]], "", "client", 0, {}, None))])
    peer_says(host, (1, [[1]], "", stranger(), b"n", [], 1, 1, None, 0))
    refused, _ = client.await_message(lambda message: isinstance(message, Refused))

    assert refused.code in {"malformed", "version"}
    assert isinstance(client.hello(host), Welcome)


def test_a_client_that_dials_an_address_for_nodes_is_told_where_clients_are_served(cluster):
    core = cluster.hosts[0].core

    core.peer_protocol.received(b"lost", [CLIENT_CODEC.encode(Hello([1], "", "client", 0, {}, None))])

    [(_, [frame])] = [(route, frames) for route, frames in core.peers.to_routes if route == b"lost"]
    refused = CLIENT_CODEC.decode(frame)
    assert isinstance(refused, Refused)
    assert core.me.address in refused.text


@pytest.mark.parametrize(("prefix", "after"), [("a" * 600, None), ("", "a" * 600), ("a\x00", None)])
def test_a_listing_from_no_possible_name_is_refused(cluster, prefix, after):
    client = cluster.client()
    leader = cluster.leader(1)
    client.hello(leader)

    answer, _ = client.ask(leader, ListStreams, 1, 1, prefix, after, 10, True, 0, client.deadline_us)

    assert (type(answer), answer.code) in {(Failed, Code.INVALID), (Failed, Code.TOO_LARGE)}


def test_a_peer_whose_clock_is_at_the_end_of_time_stops_no_clock(cluster, named):
    client = cluster.client()
    client.append("order-1", named("a"), 0)
    for host in cluster.hosts:
        peer_says(host, peer_hello(cluster, stranger(), clock=UINT_MAX))
    cluster.turns(1000)

    answer = client.append("order-1", named("b"), 1)

    assert answer[0] == Code.OK


@pytest.mark.parametrize(
    "row",
    [
        [[], "leader", "x", 1, 1, 1, []],
        [1, "leader", "x", "one", 1, 1, []],
        [1, "leader", [], 99, 1, 1, []],
        [1, "leader", "x", 99, 1, 1, [5]],
        [1, "leader", "x", 99, None, 1, [["x", 1]]],
        [1, "leader", "x", 99, 1, 1, [[[], 1]]],
    ],
)
def test_a_report_of_nonsense_leaves_the_status_standing(cluster, row):
    client = cluster.client()
    host = cluster.hosts[0]
    client.hello(host)
    node_id = cluster.hosts[1].node_id
    node = NodeInfo(node_id, "n2", "host2:7070", "host2:7071", "host2:7070", {}).pack()

    peer_says(host, peer_hello(cluster, node), PeerStatus(host.core.cluster_id, 1, "up", [row], []))
    answer, _ = client.ask(host, GetStatus)

    assert isinstance(answer, StatusIs)


@pytest.mark.parametrize(
    "node", [stranger(node_id="9" * 300), stranger(peer_address="nowhere"), stranger(peer_address="h:0x1")]
)
def test_a_node_that_cannot_be_one_never_gets_into_the_map(cluster, node):
    for host in cluster.hosts:
        peer_says(host, peer_hello(cluster, node))

    cluster.turns(1000)

    assert all(len(host.core.map.nodes) == 3 for host in cluster.hosts)


def test_the_map_takes_no_more_nodes_than_its_limit(cluster, monkeypatch):
    monkeypatch.setattr("rewind_node.control_partition.NODES_MAX", 4)
    for number in range(10, 20):
        node = NodeInfo(f"{number:032x}", f"x{number}", "h:1", "h:2", "h:3", {}).pack()
        for host in cluster.hosts:
            peer_says(host, peer_hello(cluster, node), route=b"%d" % number)

    cluster.turns(1000)

    assert all(len(host.core.map.nodes) == 4 for host in cluster.hosts)


def test_what_strangers_tell_of_themselves_is_not_kept(cluster, monkeypatch):
    monkeypatch.setattr("rewind_node.control_partition.NODES_MAX", 3)
    host = cluster.hosts[0]
    cluster.until(lambda: len(host.core.peers.reports) == 2)
    told = RaftBatch(host.core.cluster_id, 0, True, []), PeerStatus(host.core.cluster_id, 1, "up", [], [])
    for number in range(10, 20):
        peer_says(host, peer_hello(cluster, stranger(f"x{number}", f"{number:032x}")), *told, route=b"%d" % number)

    cluster.turns(100)

    assert host.core.peers.reports.keys() == {other.node_id for other in cluster.hosts[1:]}
    assert not host.core.peers.full


def test_a_hello_that_contradicts_its_founding_record_founds_nothing(make_cluster):
    cluster = make_cluster(3)
    host = cluster.hosts[0]
    host.start()
    founding = Founding("other", 1, 1, (NodeInfo.unpack(stranger()),)).pack()

    peer_says(host, peer_hello(cluster, stranger(), cluster_id="another", founding=founding))
    cluster.turns(10)

    assert host.core.cluster_id == ""


def test_an_append_of_too_many_events_in_all_is_refused(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("{tag}")
    client.session(partition)
    half = named(*(f"e{number}" for number in range(APPEND_EVENTS_MAX // 2 + 1)))
    parts = (AppendPart("{tag}-a", -1, half), AppendPart("{tag}-b", -1, half))

    client.send_append(cluster.leader(partition), partition, [AppendRequest(1, False, parts)])

    assert client.answer(partition, 1)[0] == Code.TOO_LARGE


def test_refusals_for_partitions_that_do_not_exist_are_not_remembered(cluster, named):
    client = cluster.client()
    host = cluster.hosts[0]
    client.hello(host)
    client.sessions.update(dict.fromkeys(range(1000, 1100), 1))
    for partition in range(1000, 1100):
        client.send_append(host, partition, [AppendRequest(1, False, (AppendPart("s", -1, named("a")),))])
    cluster.turns(10)

    (state,) = host.core.client_protocol._clients.values()

    assert not state.refused


# Unlucky timing.


def test_a_leader_of_partition_0_that_hands_over_while_a_node_is_new_goes_on_living(cluster):
    leader = cluster.leader(0)
    others = [host for host in cluster.hosts if host is not leader]
    node = stranger()
    peer_says(leader, peer_hello(cluster, node))
    cluster.until(lambda: "9" * 32 in leader.core.map.nodes)
    for host in others:
        host.paused = True
    control = leader.core.control

    control.raft.transfer(None, cluster.now_us)
    control.adopt_nodes()

    assert control.raft.transferring


def test_after_an_open_answer_the_rest_of_an_epoch_is_refused(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0, sequence=1)
    old = cluster.leader(partition)
    for host in cluster.hosts:
        if host is not old:
            cluster.cut(old, host)
    requests = [AppendRequest(n, False, (AppendPart("order-1", -1, named(f"e{n}")),)) for n in (2, 3)]
    client.send_append(old, partition, requests[:1])
    first = client.answer(partition, 2)
    cluster.until(lambda: (host := cluster.leader(partition)) and host is not old)
    cluster.heal()
    client.send(old, Ping(0))
    raft = old.core.replicas[partition].raft
    new = cluster.leader(partition).core.replicas[partition].raft
    cluster.until(lambda: raft.leader == new.replica)
    cluster.until(lambda: raft.role is Role.LEADER or new.transfer(raft.replica, cluster.now_us))
    cluster.until(lambda: raft.role is Role.LEADER and raft.committed_in_term)

    client.send_append(old, partition, requests[1:])
    second = client.answer(partition, 3)

    assert first[0] == Code.OPEN
    assert second[0] == Code.EPOCH


@pytest.mark.parametrize(
    ("kind", "fields"), [(CreateContext, ("late", False)), (FindContext, ("default",)), (ListContexts, ())]
)
def test_a_request_about_contexts_that_arrives_after_its_deadline_is_not_looked_at(cluster, kind, fields):
    client = cluster.client()
    leader = cluster.leader(0)
    client.hello(leader)

    late, _ = client.ask(leader, kind, *fields, cluster.now_us)
    cluster.turns(300)

    assert late.code == Code.DEADLINE_PAST
    assert "late" not in leader.core.map.context_numbers


def test_contexts_waiting_to_be_created_are_bounded(cluster, monkeypatch):
    monkeypatch.setattr("rewind_node.control_partition.CREATING_MAX", 5)
    client = cluster.client()
    leader = cluster.leader(0)
    client.hello(leader)
    for number in range(500, 520):
        client.send(leader, CreateContext(number, f"c{number}", False, client.deadline_us))

    answers = [client.await_message(lambda m, n=n: getattr(m, "request", 0) == n)[0] for n in range(500, 520)]

    assert sum(isinstance(answer, Failed) and answer.code == Code.OVERLOADED for answer in answers) == 15


def test_an_append_whose_types_are_no_texts_is_refused(cluster):
    client = cluster.client()

    answer = client.append("order-1", msgpack.packb((b"i" * 16, [[]], [b""], [None])))

    assert answer[0] == Code.INVALID


def test_a_hello_that_was_lost_is_said_again(make_cluster):
    cluster = make_cluster(3)
    for host in cluster.hosts:
        host.start()
        for other in cluster.hosts:
            cluster.cut(host, other)
    cluster.turns(1500)

    cluster.heal()

    assert cluster.await_leader(1)
