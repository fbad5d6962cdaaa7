"""What damage met at awkward moments must not do to a cluster, nor to a vote."""

from dataclasses import replace

import pytest
from appends_by_hand import AppendPart, AppendRequest
from damage_by_hand import chain, flip, flip_last_key, on_disk
from strangers import peer_hello, peer_says

from rewind_cluster.client_messages import (
    Code,
    CreateContext,
    Failed,
    GetVersion,
)
from rewind_cluster.cluster_map import NodeInfo
from rewind_cluster.entry import EntryKind
from rewind_cluster.errors import DamagedError
from rewind_cluster.membership import Member, Membership
from rewind_cluster.peer_messages import FetchEntries
from rewind_cluster.raft_messages import ReplicaId
from rewind_cluster.ranges import Subscribe, SubscriptionEnded
from rewind_node import infirmary, repair
from rewind_node import node as node_module
from rewind_node.memory_engine import MemoryEngine
from rewind_node.placing import load_replica
from rewind_node.repair import Repair
from rewind_node.store import ReplicaState, Store


def restart_all(cluster, client):
    for host in cluster.hosts:
        host.crash()
    for host in cluster.hosts:
        host.start()
    cluster.turns(3000)
    for host in cluster.hosts:
        client.hello(host)


@pytest.fixture
def restarted(cluster, named):
    """Return a client and the partition of a stream with one event, which all nodes, started anew, read from disk."""
    client = cluster.client()
    client.append("order-1", named("a"), 0, sequence=1)
    cluster.turns(12_000)  # a checkpoint
    restart_all(cluster, client)
    return client, cluster.partition_of("order-1")


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


def test_a_replica_whose_last_key_is_damaged_has_forgotten_nothing_that_it_acknowledged(cluster, named, tmp_path):
    victim = cluster.hosts[2]
    client = cluster.client()
    client.append("order-1", named("a"), 0)
    partition = cluster.partition_of("order-1")
    for number in range(1, 40):
        client.append("order-1", named(f"e{number}"), number)
    cluster.turns(300)
    last = victim.core.replicas[partition].raft.log.last_index
    table, rows = f"log:{partition}", list(victim.engine.scan(f"log:{partition}", b"", b"\xff" * 9))
    victim.crash()
    victim.engine = on_disk(victim.engine, tmp_path)
    flip_last_key(victim, tmp_path, table, bit=last.bit_length() - 1)
    for other in cluster.hosts[:2]:
        cluster.cut(victim, other)

    victim.start()
    cluster.turns(500)
    before = partition in victim.core.replicas
    cluster.heal()
    cluster.until(lambda: partition in victim.core.replicas)
    ends = victim.core.replicas[partition].raft.log.last_index
    found = list(victim.engine.scan(table, b"", b"\xff" * 9))
    victim.engine.close()

    assert (before, ends) == (True, last), "what is whole and only out of order needs no leader"
    assert found[: len(rows)] == rows


# Damage at awkward moments.


def test_damage_that_an_append_meets_quarantines_the_replica_and_the_append_stays_open(
    cluster, restarted, named, places_of
):
    client, partition = restarted
    leader = cluster.leader(partition)
    flip(leader, "positions", next(key for key, _ in leader.engine.scan("positions", b"", b"\xff" * 20)))

    answer = client.append("order-1", named("b"), 1, sequence=2, host=leader)
    cluster.turns(3000)
    new = cluster.await_leader(partition)
    client.hello(new)
    retried = client.append("order-1", named("b"), 1, sequence=2, is_open=True, host=new, epoch=2)

    assert answer[0] in {Code.OPEN, Code.NOT_READY, Code.DAMAGED}
    assert places_of(retried) == [[2, 2]]


def test_damage_of_a_streams_row_is_no_fault_of_the_append_that_meets_it(cluster, restarted, named):
    client, partition = restarted
    leader = cluster.leader(partition)
    flip(leader, "streams", next(key for key, _ in leader.engine.scan("streams", b"", b"\xff" * 300)))

    answer = client.append("order-1", named("b"), 1, sequence=2, host=leader)
    cluster.turns(5)

    assert answer[0] in {Code.OPEN, Code.NOT_READY, Code.DAMAGED}
    assert partition in leader.core.infirmary.repairs


def test_every_append_that_waits_to_be_refused_is_answered_when_one_of_them_meets_damage(cluster, restarted, named):
    client, partition = restarted
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


def test_damage_met_while_news_for_a_subscription_is_looked_for_ends_it_and_not_the_node(cluster, restarted):
    client, partition = restarted
    leader = cluster.await_leader(partition)
    host = next(host for host in cluster.hosts if host is not leader)
    client.hello(host)
    flip(host, "positions", next(key for key, _ in host.engine.scan("positions", b"", b"\xff" * 20)))
    client.send(host, Subscribe(1, partition, 1, 0, None, "", 1 << 20))

    ended, _ = client.await_message(lambda message: isinstance(message, SubscriptionEnded), host)

    assert ended.code == Code.DAMAGED
    cluster.until(lambda: partition in host.core.replicas and host.core.replicas[partition].index.position(1) == 1)


def test_damage_met_while_a_read_waits_fails_the_read_and_not_the_node(cluster, restarted):
    client, partition = restarted
    host = next(host for host in cluster.hosts if host is not cluster.leader(partition))
    flip(host, "positions", next(key for key, _ in host.engine.scan("positions", b"", b"\xff" * 20)))

    answer, _ = client.ask(host, GetVersion, partition, 1, "order-1", False, 1, client.deadline_us)

    assert isinstance(answer, Failed)
    assert partition in host.core.infirmary.repairs


def test_every_read_that_waits_is_answered_when_one_of_them_meets_damage(cluster, restarted):
    client, partition = restarted
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


def forbid(monkeypatch, victim, partition, method):
    """Let a host meet a damaged page whenever it calls a method of its store for a partition."""
    sound = getattr(Store, method)

    def meet_damage(store, number, *others):
        if store is victim.core.store and number == partition:
            raise DamagedError("a page is damaged")
        return sound(store, number, *others)

    monkeypatch.setattr(Store, method, meet_damage)


def test_a_follower_that_cannot_store_an_entry_does_not_acknowledge_it_and_its_node_goes_on(
    cluster, named, places_of, monkeypatch
):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0)
    leader = cluster.leader(partition)
    victim, third = (host for host in cluster.hosts if host is not leader)
    third.crash()
    forbid(monkeypatch, victim, partition, "append_entries")
    before = set(victim.core.replicas)
    commit = leader.core.replicas[partition].raft.commit

    client.send_append(leader, partition, [AppendRequest(2, False, (AppendPart("order-1", 1, named("b")),))])
    cluster.until(lambda: partition not in victim.core.replicas)
    committed = leader.core.replicas[partition].raft.commit
    in_service = set(victim.core.replicas)
    monkeypatch.undo()
    third.start()
    answer = client.answer(partition, 2)

    assert committed == commit
    assert in_service == before - {partition}
    assert places_of(answer) == [[2, 2]]


def test_a_follower_that_cannot_store_its_vote_does_not_give_it_and_its_node_goes_on(cluster, monkeypatch):
    partition = cluster.partition_of("order-1")
    leader = cluster.leader(partition)
    victim, third = (host for host in cluster.hosts if host is not leader)
    cluster.turns(300)
    before = set(victim.core.replicas)
    stored = victim.core.store.replica_state(partition)
    forbid(monkeypatch, victim, partition, "put_replica_state")

    leader.crash()
    cluster.until(lambda: partition not in victim.core.replicas)
    cluster.turns(3000)

    assert cluster.leader(partition) is None
    assert set(victim.core.replicas) == before - {partition}
    assert third.core.replicas[partition].damage is None
    assert victim.core.store.replica_state(partition) == stored


def test_a_replica_that_is_damaged_after_each_repair_is_given_up(cluster, named, monkeypatch):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0)
    victim = next(host for host in cluster.hosts if host is not cluster.leader(partition))
    loads = []

    def fail(node, number):
        if node is victim.core and number == partition:
            loads.append(number)
            cluster.now_us += infirmary.SERVED_US  # the next repair takes as long
            raise DamagedError("it begins at position 1, not after this replica's last")
        return load_replica(node, number)

    monkeypatch.setattr(node_module, "load_replica", fail)
    victim.core.replicas[partition].quarantine("the first complaint")
    victim.core.touch(victim.core.replicas[partition])

    cluster.until(lambda: partition in victim.core.infirmary.repairs)
    cluster.until(lambda: victim.core.infirmary.repairs[partition].hopeless)
    cluster.turns(3000)

    assert len(loads) == infirmary.REPAIRS_MAX
    told = next(line for line in victim.core.status()["reasons"] if "must be replaced" in line)
    assert "not after this replica's last" in told
    assert "repairs have not mended" in told


def test_damage_now_and_then_is_repaired_however_often_it_comes(cluster, named):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0)
    victim = next(host for host in cluster.hosts if host is not cluster.leader(partition))

    for _ in range(infirmary.REPAIRS_MAX + 1):
        cluster.now_us += infirmary.SERVED_US
        cluster.until(lambda: partition in victim.core.replicas)
        victim.core.touch(victim.core.replicas[partition]).quarantine("damaged")
        cluster.until(lambda: partition in victim.core.infirmary.repairs)
        cluster.until(lambda: not victim.core.infirmary.repairs, turns=3000)

    assert partition in victim.core.replicas


def test_a_repair_that_meets_more_damage_on_its_way_ends_no_other_replica_of_the_node(cluster, named, monkeypatch):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    for number in range(3):
        client.append("order-1", named(f"e{number}"), number)
    cluster.turns(300)
    victim = next(host for host in cluster.hosts if host is not cluster.leader(partition))
    victim.crash()
    flip(victim, f"log:{partition}", (2).to_bytes(8))

    run = victim.engine.run

    def fail_in_logs(table, *rest):
        if table.startswith("log:"):
            raise DamagedError("a page is damaged")
        return run(table, *rest)

    monkeypatch.setattr(victim.engine, "run", fail_in_logs)
    victim.start()
    cluster.until(lambda: partition in victim.core.infirmary.repairs)
    cluster.until(lambda: victim.core.infirmary.repairs[partition].hopeless)

    others = {number for number in range(cluster.partitions + 1) if number != partition}
    assert set(victim.core.replicas) == others
    assert any("must be replaced" in line for line in victim.core.status()["reasons"])


@pytest.mark.parametrize("known_index", [0, 4])
def test_memberships_that_a_repair_brings_or_takes_survive_a_crash_in_its_midst_together_with_their_entries(
    known_index,
):
    first = Membership({ReplicaId(1): Member("n1", voter=True)})
    second = first.add_learner(ReplicaId(1001), "n4")
    store = Store(MemoryEngine())
    store.create_partition(0)
    kind = EntryKind.NOOP if known_index else EntryKind.MEMBERSHIP
    entries = chain(EntryKind.NOOP, EntryKind.NOOP, EntryKind.NOOP, kind, body=b"" if known_index else second.pack())
    store.append_entries(0, entries[:3])
    state = ReplicaState(1, 1, 1, 0, first.pack(), 0, b"", 0)
    if known_index:
        state = replace(state, membership=second.pack(), membership_index=4, previous_membership=first.pack())
    store.put_replica_state(0, state)
    store.engine.delete("log:0", [(2).to_bytes(8)])
    store.commit()

    repair = Repair(store, 0, "an entry is lost")
    while repair.wanted is None:
        repair.work()
    repair.received(2, [entry.data for entry in entries[1:]])
    store.commit()
    store.engine.crash()
    after = store.replica_state(0)

    assert store.last_index(0) == 4
    assert (after.membership_index, after.membership) == ((0, first.pack()) if known_index else (4, second.pack()))
    assert (after.replica, after.term, after.vote, after.applied) == (1, 1, 1, 0)


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
