"""What damage met at awkward moments must not do to a cluster, nor to a vote."""

from dataclasses import replace

import pytest
from appends_by_hand import AppendPart, AppendRequest
from strangers import peer_hello, peer_says

from rewind_cluster.client_messages import (
    Code,
    CreateContext,
    Failed,
    GetVersion,
)
from rewind_cluster.cluster_map import NodeInfo
from rewind_cluster.entry import NO_DIGEST, Entry, EntryKind
from rewind_cluster.membership import Member, Membership
from rewind_cluster.peer_messages import FetchEntries
from rewind_cluster.raft_messages import ReplicaId
from rewind_cluster.ranges import Subscribe, SubscriptionEnded
from rewind_node import repair
from rewind_node.memory_engine import MemoryEngine
from rewind_node.repair import Repair
from rewind_node.store import ReplicaState, Store


def flip(host, table, key):
    """Flip one bit of a stored value, behind the node's back."""
    value = bytearray(host.engine.get(table, key))
    value[len(value) // 2] ^= 1
    host.engine.put(table, [(key, bytes(value))])
    host.engine.commit()


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


def test_every_append_that_waits_to_be_refused_is_answered_when_one_of_them_meets_damage(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0, sequence=1)
    cluster.turns(12_000)
    restart_all(cluster, client)
    leader = cluster.leader(partition)
    log = leader.core.replicas[partition].raft.log
    (stored,) = (entry for entry in log.slice(1, log.last_index, 1 << 20) if entry.event_count)
    flip(leader, f"log:{partition}", stored.index.to_bytes(8))

    late = [AppendRequest(number, False, (AppendPart("order-1", 0, named("b")),)) for number in (2, 3, 4)]
    client.send_append(leader, partition, late)
    answers = [client.answer(partition, number) for number in (2, 3, 4)]

    assert [answer[0] for answer in answers] == [Code.OPEN] * 3
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
