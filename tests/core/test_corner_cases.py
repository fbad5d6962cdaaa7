"""What hostile frames, damage at awkward moments and unlucky timing must not do to a cluster."""

from dataclasses import replace

import msgpack
import pytest
from appends_by_hand import AppendPart, AppendRequest

from rewind_cluster.client_messages import (
    Code,
    CreateContext,
    Failed,
    GetStatus,
    GetVersion,
    ListStreams,
    Ping,
    Refused,
    StatusIs,
    Welcome,
)
from rewind_cluster.cluster_map import Founding, NodeInfo
from rewind_cluster.entry import NO_DIGEST, Entry, EntryKind
from rewind_cluster.membership import Member, Membership
from rewind_cluster.names import APPEND_EVENTS_MAX
from rewind_cluster.peer_messages import PEER_CODEC, FetchEntries, PeerHello, PeerStatus
from rewind_cluster.raft import Role
from rewind_cluster.raft_messages import ReplicaId
from rewind_cluster.ranges import Subscribe, SubscriptionEnded
from rewind_node import repair
from rewind_node.memory_engine import MemoryEngine
from rewind_node.repair import Repair
from rewind_node.store import ReplicaState, Store

UINT_MAX = (1 << 64) - 1


def flip(host, table, key):
    """Flip one bit of a stored value, behind the node's back."""
    value = bytearray(host.engine.get(table, key))
    value[len(value) // 2] ^= 1
    host.engine.put(table, [(key, bytes(value))])
    host.engine.commit()


def peer_says(host, *messages, route=b"stranger"):
    """Let an unknown peer send messages to a host; a tuple is a header frame in the raw."""
    for message in messages:
        frame = msgpack.packb(message) if isinstance(message, tuple) else PEER_CODEC.encode(message)
        host.inbox.append(lambda node, frame=frame: node.peer_protocol.received(route, [frame]))


def peer_hello(cluster, node, *, clock=0, founding=None, cluster_id=None, seeds=None):
    """Return the hello of a node that was started beside the cluster."""
    own = cluster.hosts[0].core.cluster_id if cluster_id is None else cluster_id
    seeds = list(cluster.seeds) if seeds is None else seeds
    return PeerHello([1], own, node, b"its-nonce", seeds, cluster.partitions, cluster.factor, founding, clock)


def stranger(name="n9", node_id="9" * 32, peer_address="host9:7071"):
    return NodeInfo(node_id, name, "host9:7070", peer_address, "host9:7072", {}).pack()


def chain(*kinds, body=b""):
    """Return entries of these kinds that follow one another, the last of them with a body."""
    entries = []
    digest = NO_DIGEST
    for index, kind in enumerate(kinds, start=1):
        last = body if index == len(kinds) else b""
        entries.append(Entry.build(kind, term=1, index=index, timestamp=index, previous_digest=digest, body=last))
        digest = entries[-1].digest
    return entries


def restart_all(cluster, client):
    for host in cluster.hosts:
        host.crash()
    for host in cluster.hosts:
        host.start()
    cluster.turns(3000)
    for host in cluster.hosts:
        client.hello(host)


# Votes.


def test_a_vote_of_partition_0_that_is_damaged_is_never_replaced_by_an_empty_one(cluster):
    victim = next(host for host in cluster.hosts if host is not cluster.leader(0))
    victim.crash()
    flip(victim, "raft", (0).to_bytes(2))
    victim.start()

    cluster.turns(3000)

    assert victim.core.control is None
    assert victim.core.infirmary.repairs[0].hopeless


def test_a_node_whose_vote_in_partition_0_is_lost_still_learns_of_contexts(cluster):
    client = cluster.client()
    client.hello(cluster.leader(0))
    client.ask(cluster.leader(0), CreateContext, "before", False, client.deadline_us)
    victim = next(host for host in cluster.hosts if host is not cluster.leader(0))
    victim.crash()
    flip(victim, "raft", (0).to_bytes(2))
    victim.start()
    leader = cluster.await_leader(0)
    client.hello(leader)
    created, _ = client.ask(leader, CreateContext, "after", True, client.deadline_us)
    client.hello(victim)

    cluster.until(lambda: "after" in victim.core.map.context_numbers)
    question = created.partition, created.number, "order-1", False, 0, client.deadline_us
    version, _ = client.ask(victim, GetVersion, *question)

    assert victim.core.infirmary.repairs[0].hopeless
    assert victim.core.map.contexts == leader.core.map.contexts
    assert version.version == 0


def test_a_replica_of_partition_0_under_repair_keeps_term_and_vote(cluster):
    client = cluster.client()
    leader = cluster.leader(0)
    client.hello(leader)
    for name in ("one", "two", "three"):
        client.ask(leader, CreateContext, name, False, client.deadline_us)
    cluster.turns(300)
    victim = next(host for host in cluster.hosts if host is not leader)
    before = victim.core.store.replica_state(0)
    victim.crash()
    flip(victim, "log:0", (2).to_bytes(8))

    victim.start()
    during = cluster.until(lambda: 0 in victim.core.infirmary.repairs and victim.core.store.replica_state(0))
    cluster.turns(5)
    then = victim.core.store.replica_state(0)
    cluster.until(lambda: victim.core.control is not None)

    assert before.vote
    assert (during.replica, during.term, during.vote) == (before.replica, before.term, before.vote)
    assert (then.replica, then.term, then.vote) == (before.replica, before.term, before.vote)
    assert victim.core.control.raft.membership.voters == leader.core.control.raft.membership.voters


def test_a_vote_that_is_damaged_while_its_replica_is_under_repair_is_kept_as_it_was_read(cluster, monkeypatch):
    monkeypatch.setattr(repair, "DROP_ROWS", 1)  # several slices
    client = cluster.client()
    leader = cluster.leader(0)
    client.hello(leader)
    client.ask(leader, CreateContext, "one", False, client.deadline_us)
    cluster.turns(300)
    victim = next(host for host in cluster.hosts if host is not leader)
    before = victim.core.store.replica_state(0)
    victim.crash()
    flip(victim, "log:0", (2).to_bytes(8))
    victim.start()
    treated = cluster.until(lambda: victim.core.infirmary.repairs.get(0))

    cluster.until(lambda: treated._verified)
    flip(victim, "raft", (0).to_bytes(2))
    cluster.until(lambda: victim.core.control is not None)

    after = victim.core.store.replica_state(0)
    assert (after.replica, after.term, after.vote) == (before.replica, before.term, before.vote)


# Frames that no sound peer or client sends.


def test_a_hello_whose_versions_are_no_numbers_ends_the_connection_only(cluster):
    client = cluster.client()
    host = cluster.hosts[0]

    client.send_raw(host, [msgpack.packb((1, [[1]], "", "client", 0, {}, None))])
    peer_says(host, (1, [[1]], "", stranger(), b"n", [], 1, 1, None, 0))
    refused, _ = client.await_message(lambda message: isinstance(message, Refused))

    assert refused.code in {"malformed", "version"}
    assert isinstance(client.hello(host), Welcome)


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


# Damage at awkward moments.


def test_damage_that_an_append_meets_quarantines_the_replica_and_the_append_stays_open(cluster, named, places_of):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0, sequence=1)
    cluster.turns(12_000)
    restart_all(cluster, client)
    leader = cluster.leader(partition)
    flip(leader, "positions", next(key for key, _ in leader.engine.scan("positions", b"", b"\xff" * 20)))

    answer = client.append("order-1", named("b"), 1, sequence=2, host=leader)
    cluster.turns(3000)
    new = cluster.await_leader(partition)
    client.hello(new)
    retried = client.append("order-1", named("b"), 1, sequence=2, is_open=True, host=new, epoch=2)

    assert answer[0] in {Code.OPEN, Code.NOT_READY, Code.DAMAGED}
    assert places_of(retried) == [[2, 2]]


def test_damage_of_a_streams_row_is_no_fault_of_the_append_that_meets_it(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0, sequence=1)
    cluster.turns(12_000)
    restart_all(cluster, client)
    leader = cluster.leader(partition)
    flip(leader, "streams", next(key for key, _ in leader.engine.scan("streams", b"", b"\xff" * 300)))

    answer = client.append("order-1", named("b"), 1, sequence=2, host=leader)
    cluster.turns(5)

    assert answer[0] in {Code.OPEN, Code.NOT_READY, Code.DAMAGED}
    assert partition in leader.core.infirmary.repairs


def test_a_node_that_meets_damage_while_it_stores_its_last_checkpoint_stops_all_the_same(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0, sequence=1)
    cluster.turns(12_000)
    victim = next(host for host in cluster.hosts if host is not cluster.leader(partition))
    client.hello(cluster.leader(partition))
    client.append("order-1", named("b"), 1, sequence=2)
    cluster.turns(50)
    flip(victim, "streams", next(key for key, _ in victim.engine.scan("streams", b"", b"\xff" * 300)))

    victim.core.finish()

    assert victim.core.replicas[partition].damage is not None
    assert all(replica.damage is None for number, replica in victim.core.replicas.items() if number != partition)


def test_damage_met_while_news_for_a_subscription_is_looked_for_ends_it_and_not_the_node(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0, sequence=1)
    cluster.turns(12_000)
    restart_all(cluster, client)
    leader = cluster.await_leader(partition)
    host = next(host for host in cluster.hosts if host is not leader)
    client.hello(host)
    flip(host, "positions", next(key for key, _ in host.engine.scan("positions", b"", b"\xff" * 20)))
    client.send(host, Subscribe(1, partition, 1, 0, None, "", 1 << 20))

    ended, _ = client.await_message(lambda message: isinstance(message, SubscriptionEnded), host)

    assert ended.code == Code.DAMAGED
    cluster.until(lambda: partition in host.core.replicas and host.core.replicas[partition].index.position(1) == 1)


def test_damage_met_while_a_read_waits_fails_the_read_and_not_the_node(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0)
    cluster.turns(12_000)
    restart_all(cluster, client)
    host = next(host for host in cluster.hosts if host is not cluster.leader(partition))
    flip(host, "positions", next(key for key, _ in host.engine.scan("positions", b"", b"\xff" * 20)))

    answer, _ = client.ask(host, GetVersion, partition, 1, "order-1", False, 1, client.deadline_us)

    assert isinstance(answer, Failed)
    assert partition in host.core.infirmary.repairs


def test_every_read_that_waits_is_answered_when_one_of_them_meets_damage(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0)
    cluster.turns(12_000)
    restart_all(cluster, client)
    host = next(host for host in cluster.hosts if host is not cluster.leader(partition))
    flip(host, "streams", next(key for key, _ in host.engine.scan("streams", b"", b"\xff" * 300)))

    for number in (901, 902, 903):
        client.send(host, GetVersion(number, partition, 1, "order-1", False, 0, client.deadline_us))
    answers = [client.await_message(lambda m, n=n: getattr(m, "request", 0) == n)[0] for n in (901, 902, 903)]

    assert all(isinstance(answer, Failed) for answer in answers)


def test_a_leader_that_finds_its_own_log_damaged_while_it_helps_another_goes_on_living(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    for number in range(5):
        client.append("order-1", named(f"e{number}"), number)
    cluster.turns(12_000)
    restart_all(cluster, client)
    leader = cluster.leader(partition)
    other = next(host for host in cluster.hosts if host is not leader)
    flip(leader, f"log:{partition}", (3).to_bytes(8))
    node = NodeInfo(other.node_id, other.name, other.address, other.peer_address, other.address, {}).pack()

    peer_says(leader, peer_hello(cluster, node), FetchEntries(leader.core.cluster_id, partition, 1, 1, 256))
    cluster.turns(2)

    assert partition in leader.core.infirmary.repairs


@pytest.mark.parametrize("known_index", [0, 3])
def test_a_repair_that_brings_or_takes_a_membership_changes_the_stored_one(known_index):
    first = Membership({ReplicaId(1): Member("n1", voter=True)})
    second = first.add_learner(ReplicaId(1001), "n4")
    store = Store(MemoryEngine())
    store.create_partition(0)
    entries = chain(EntryKind.NOOP, EntryKind.NOOP)
    store.append_entries(0, entries)
    state = ReplicaState(1, 5, 1, 3, first.pack(), 0, b"", 0)
    if known_index:
        state = replace(state, membership=second.pack(), membership_index=3, previous_membership=first.pack())
    store.put_replica_state(0, state)
    kind = EntryKind.NOOP if known_index else EntryKind.MEMBERSHIP
    lost = chain(EntryKind.NOOP, EntryKind.NOOP, kind, body=b"" if known_index else second.pack())[2]

    repair = Repair(store, 0, "its end is lost")
    repair.work()
    repair.received(3, [lost.data])
    for _ in range(3):
        repair.work()
    after = store.replica_state(0)

    assert repair.done
    assert (after.membership_index, after.membership) == ((0, first.pack()) if known_index else (3, second.pack()))
    assert (after.term, after.vote) == (5, 1)


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
