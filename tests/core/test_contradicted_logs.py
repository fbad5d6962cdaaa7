"""Damage in what a deposed leader wrote and nobody else has: what was committed in its place mends it."""

from dataclasses import replace

import pytest
from appends_by_hand import AppendPart, AppendRequest
from damage_by_hand import chain, flip, on_disk

from rewind_cluster.entry import Entry, EntryKind
from rewind_cluster.errors import ProtocolError
from rewind_cluster.membership import Member, Membership
from rewind_cluster.raft_messages import ReplicaId
from rewind_node import infirmary, repair
from rewind_node.lmdb_engine import LmdbEngine
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


def follow(entry, *terms):
    """Return entries of these terms that follow one."""
    entries = []
    for term in terms:
        fields = {"term": term, "index": entry.index + 1, "timestamp": entry.timestamp + 100}
        entry = Entry.build(EntryKind.NOOP, previous_digest=entry.digest, body=b"", **fields)
        entries.append(entry)
    return entries


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


def test_a_replica_that_applied_another_entry_than_was_committed_must_be_replaced():
    entries = chain(*[EntryKind.NOOP] * 4)
    store, begun = under_repair(entries, applied=2)

    begun.received(2, [another(entries[1]).data])

    assert begun.told == "entry 2 is another than was committed, so it must be replaced under a new ID"
    assert store.farthest_index(0) == 4


def test_what_may_yet_be_committed_is_not_cut_off():
    entries = chain(EntryKind.NOOP)
    ours = follow(entries[0], 3, 3, 3)
    store, begun = under_repair([*entries, *ours])

    begun.received(2, [follow(entries[0], 3)[0].data])

    assert begun.wanted == 4
    assert store.farthest_index(0) == 4


def test_a_tail_of_a_higher_term_than_what_was_committed_in_its_place_is_cut_off_by_what_was_committed_later():
    entries = chain(EntryKind.NOOP)
    store, begun = under_repair([*entries, *follow(entries[0], 3, 3, 3)])
    committed = follow(entries[0], 2, 2, 2, 4)

    begun.received(4, [entry.data for entry in committed[2:]])
    for _ in range(3):
        begun.work()

    assert begun.done
    assert store.last_index(0) == 2, "all but the first of them, of which nothing was told"


def test_acknowledged_entries_behind_older_ones_that_a_disk_shows_again_are_not_cut_off():
    entries = chain(*[EntryKind.NOOP] * 6)
    newer = follow(entries[2], *[2] * 6)
    store, begun = under_repair([*entries[:3], *newer])
    for entry in (*entries[3:6], newer[-1]):
        store.replace_entry(0, entry)
    begun = Repair(store, 0, "a write is lost")
    begun.work()
    wanted = begun.wanted

    begun.received(7, [entry.data for entry in newer[3:]])

    assert wanted == 7
    assert begun.hopeless
    assert store.farthest_index(0) == 9


def test_an_entry_that_is_another_than_it_was_sent_as_is_not_taken():
    entries = chain(*[EntryKind.NOOP] * 4)
    _, begun = under_repair(entries)

    with pytest.raises(ProtocolError, match="sent entry 3 as 4"):
        begun.received(4, [another(entries[2]).data])

    assert begun.wanted == 4


def test_an_entry_that_was_damaged_since_it_was_verified_is_not_taken_for_another():
    entries = chain(*[EntryKind.NOOP] * 4)
    store, begun = under_repair(entries)
    store.engine.put("log:0", [((2).to_bytes(8), b"no entry")])

    begun.received(2, [entries[1].data])

    assert begun.wanted == 4
    assert store.farthest_index(0) == 4


def test_rows_that_a_damaged_key_hides_are_cut_off_with_the_others(tmp_path):
    store, _ = under_repair(chain(*[EntryKind.NOOP] * 900))
    key, value = (850).to_bytes(8), store.entry(0, 850)
    store.engine.put("log:0", [((10).to_bytes(8), b"no entry")])
    on_disk(store.engine, tmp_path).close()
    data = (tmp_path / "data.mdb").read_bytes()
    assert key + value in data
    (tmp_path / "data.mdb").write_bytes(data.replace(key + value, bytes(8) + value))
    store = Store(LmdbEngine.open(tmp_path, map_bytes=1 << 22))
    begun = Repair(store, 0, "an entry is damaged")
    while begun.wanted is None:
        begun.work()

    begun.received(5, [another(Entry.decode(store.entry(0, 5))).data])
    left = store.engine.count("log:0")
    for _ in range(3):
        begun.work()
    store.engine.close()

    assert left == 4
    assert begun.done
