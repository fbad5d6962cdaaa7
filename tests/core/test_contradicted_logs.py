"""Damage in what a deposed leader wrote and nobody else has: what was committed in its place mends it."""

from dataclasses import replace

import pytest
from appends_by_hand import AppendPart, AppendRequest
from damage_by_hand import chain, flip

from rewind_cluster.entry import Entry, EntryKind
from rewind_cluster.errors import ProtocolError
from rewind_cluster.membership import Member, Membership
from rewind_cluster.raft_messages import ReplicaId
from rewind_node import infirmary, repair
from rewind_node.memory_engine import MemoryEngine
from rewind_node.repair import Repair
from rewind_node.store import ReplicaState, Store

MEMBERS = Membership({ReplicaId(1): Member("n1", voter=True)})


@pytest.mark.parametrize("fetched", [1, 3, 256])
@pytest.mark.parametrize("committed", [0, 3, 20], ids="{} since".format)
def test_a_damaged_entry_behind_others_that_were_never_committed_is_repaired(
    cluster, named, monkeypatch, fetched, committed
):
    monkeypatch.setattr(repair, "FETCH_ENTRIES", fetched)
    monkeypatch.setattr(infirmary, "FETCH_ENTRIES", fetched)
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0, sequence=1)
    victim = cluster.leader(partition)
    others = [host for host in cluster.hosts if host is not victim]
    for host in others:
        cluster.cut(victim, host)
    for number in range(8):
        request = AppendRequest(2 + number, False, (AppendPart(f"{{order-1}}{number}", 0, named("never")),))
        client.send_append(victim, partition, [request])
        cluster.turns(3)
    tail = victim.core.replicas[partition].raft.log.last_index
    new = cluster.until(lambda: (host := cluster.leader(partition)) in others and host)
    client.hello(new)
    for number in range(committed):
        client.append("order-1", named(f"e{number}"), 1 + number, sequence=2 + number, host=new)
    victim.crash()
    flip(victim, f"log:{partition}", tail.to_bytes(8))
    victim.start()

    cluster.heal()
    cluster.until(lambda: partition in victim.core.infirmary.repairs)
    cluster.until(lambda: partition in victim.core.replicas)
    cluster.until(lambda: victim.core.replicas[partition].applied == new.core.replicas[partition].applied)

    assert list(victim.engine.scan(f"log:{partition}", b"", b"\xff" * 9)) == list(
        new.engine.scan(f"log:{partition}", b"", b"\xff" * 9)
    )


def under_repair(entries, **state):
    """Return a store whose log has lost the body of its last entry, and its repair, which waits for that one."""
    store = Store(MemoryEngine())
    store.create_partition(0)
    store.append_entries(0, entries)
    store.put_replica_state(0, replace(ReplicaState(1, 1, 1, 0, MEMBERS.pack(), 0, b"", 0), **state))
    store.engine.put("log:0", [(len(entries).to_bytes(8), b"no entry")])
    store.commit()
    begun = Repair(store, 0, "an entry is lost")
    begun.work()
    assert begun.wanted == len(entries)
    return store, begun


def another(entry):
    """Return what was committed in the place of an entry."""
    fields = {"term": 2, "index": entry.index, "timestamp": 7, "previous_digest": entry.previous_digest}
    return Entry.build(EntryKind.NOOP, body=b"", **fields)


@pytest.mark.parametrize("place", [2, 3, 4])
def test_a_membership_among_what_is_cut_off_gives_way_to_the_former_one(place):
    later = MEMBERS.add_learner(ReplicaId(1001), "n4").pack()
    kinds = [EntryKind.NOOP] * 4
    kinds[place - 1] = EntryKind.MEMBERSHIP
    entries = chain(*kinds)
    store, begun = under_repair(entries, membership=later, membership_index=place, previous_membership=MEMBERS.pack())

    begun.received(2, [another(entries[1]).data])
    for _ in range(3):
        begun.work()
    store.commit()
    store.engine.crash()
    after = store.replica_state(0)

    assert begun.done
    assert store.last_index(0) == 1
    assert (after.membership, after.membership_index) == (MEMBERS.pack(), 0)


def test_nothing_is_cut_off_while_the_leader_has_committed_what_is_here():
    entries = chain(*[EntryKind.NOOP] * 4)
    store, begun = under_repair(entries)

    begun.received(2, [entries[1].data])

    assert begun.wanted == 4
    assert store.farthest_index(0) == 4


def test_what_was_applied_is_never_cut_off():
    entries = chain(*[EntryKind.NOOP] * 4)
    store, begun = under_repair(entries, applied=2)

    with pytest.raises(ProtocolError, match="entry 2 was applied here"):
        begun.received(2, [another(entries[1]).data])

    assert store.farthest_index(0) == 4


def test_an_entry_that_is_another_than_it_was_sent_as_is_not_taken():
    entries = chain(*[EntryKind.NOOP] * 4)
    _, begun = under_repair(entries)

    with pytest.raises(ProtocolError, match="sent entry 3 as 4"):
        begun.received(4, [another(entries[2]).data])

    assert begun.wanted == 4


def test_damage_of_what_was_verified_is_looked_for_again():
    entries = chain(*[EntryKind.NOOP] * 4)
    store, begun = under_repair(entries)
    store.engine.put("log:0", [((2).to_bytes(8), b"no entry")])

    begun.received(2, [entries[1].data])
    begun.work()

    assert begun.wanted == 2
