"""What should not happen, and what comes too late to matter: nothing follows from it, or damage is told."""

from typing import Any

import pytest

from rewind_cluster.entry import NO_DIGEST, Entry, EntryKind
from rewind_cluster.errors import DamagedError
from rewind_cluster.raft_log import RaftLog
from rewind_cluster.raft_messages import Heartbeat, ReplicaId


def test_a_leader_that_is_told_to_campaign_goes_on_leading(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)

    group.raft(1).campaign(group.now_us)
    group.settle()

    assert (group.leaders(), group.raft(1).term) == ([1], 1)


def test_a_leader_obeys_nobody_of_its_own_term(make_group: Any) -> None:
    """Election safety, section 5.2 of the paper: there is no other leader in its term, whoever says so."""
    group = make_group(3)
    group.elect(1)
    commit = group.raft(1).commit

    group.put(2, 1, Heartbeat(1, commit + 5, 1))
    group.settle()

    assert group.leaders() == [1]
    assert (group.raft(1).commit, group[1].damage) == (commit, None)


def test_connections_of_strangers_mean_nothing_to_a_leader(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)

    group.raft(1).peer_dropped(ReplicaId(77), group.now_us)
    group.raft(1).peer_connected(ReplicaId(77), group.now_us)
    group.propose(1, b"on")
    group.settle()

    assert [group[number].bodies() for number in (1, 2, 3)] == [[b"on"]] * 3


def test_a_stored_entry_that_is_not_handed_out_is_damage(make_group: Any) -> None:
    store = make_group(3)[1].disk
    entry = Entry.build(EntryKind.NOOP, term=1, index=1, timestamp=1, previous_digest=NO_DIGEST, body=b"")
    store.log.append(entry.data)
    log = RaftLog(store, 1000)
    store.entries = lambda *_: []

    with pytest.raises(DamagedError, match="missing"):
        log.slice(1, 1, 1000)
