"""Replicas whose disk lied or was damaged: they take part in nothing until they are repaired."""

from typing import Any

import pytest

from rewind_cluster.entry import EntryKind
from rewind_cluster.errors import DamagedError
from rewind_cluster.raft import HardState
from rewind_cluster.raft_messages import Append, Heartbeat


def test_a_replica_that_lost_what_it_acknowledged_quarantines_itself(make_group: Any) -> None:
    """Its disk lied; from now on its vote would be a lie as well."""
    group = make_group(3)
    group.elect(1)

    group.put(1, 2, Heartbeat(1, 77, 1))
    group.settle()

    assert group.raft(2).quarantined
    assert isinstance(group[2].damage, DamagedError)


def test_a_leader_that_finds_a_damaged_entry_steps_down_and_serves_nothing_of_it(make_group: Any) -> None:
    group = make_group(3, cache_bytes_max=500)
    group.elect(1)
    group.crash(3)
    for number in range(60):
        group.propose(1, b"%d" % number)
        group.settle()
    group[1].disk.log[20] = group[1].disk.log[20][:-1] + b"?"

    group.restart(3)
    group.advance(6000)

    assert isinstance(group[1].damage, DamagedError)
    assert group.raft(1).quarantined
    assert group.leaders() == [2]
    assert group[3].disk.log == group[2].disk.log


def test_a_leader_whose_history_differs_under_the_same_terms_is_not_followed(make_group: Any) -> None:
    """The digest chain: equal index and term, other bytes. That is damage, not a conflict."""
    group = make_group(3)
    group.elect(1)
    entry = group.replacement(1, b"forged")
    forged = type(entry).build(
        EntryKind.RECORDS, term=1, index=3, timestamp=99, previous_digest=entry.digest, body=b"next", event_count=1
    )
    group.propose(1)
    group.settle()

    group.put(1, 2, Append(1, 2, 1, 2, (forged,)))
    group.settle()

    assert group.raft(2).quarantined
    assert group.raft(2).log.last_index == 2


def test_what_is_committed_is_never_truncated(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.propose(1, b"kept")
    group.settle()

    group.put(3, 2, Append(9, 1, 1, 1, (group.replacement(9, b"other"),)))
    group.settle()

    assert group[2].bodies() == [b"kept"]
    assert group.raft(2).quarantined


def test_what_was_committed_before_a_restart_is_not_truncated_after_it(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.propose(1, b"kept")
    group.settle()
    group.crash(2)
    group[2].disk.applied = 2
    group.restart(2)

    group.put(3, 2, Append(9, 1, 1, 1, (group.replacement(9, b"other"),)))
    group.settle()

    assert group[2].bodies() == [b"kept"]
    assert group.raft(2).quarantined


def test_a_restarted_replica_that_applied_more_than_its_log_has_is_refused(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.crash(2)
    group[2].disk.applied = 5

    with pytest.raises(DamagedError):
        group.restart(2)


def test_a_log_of_a_higher_term_than_the_one_remembered_is_refused(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.crash(2)
    group[2].disk.state = HardState(0, 0)

    with pytest.raises(DamagedError):
        group.restart(2)
