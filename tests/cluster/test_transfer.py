"""Leadership transfer: Ongaro's thesis, section 3.10."""

from typing import Any

import pytest
from membership_steps import remove

from rewind_cluster.errors import NotLeaderError
from rewind_cluster.raft import RaftOptions, Role
from rewind_cluster.raft_messages import Append, AppendReply, ReplicaId, TimeoutNow, Vote


def test_a_transfer_hands_over_at_once_although_the_leader_is_live(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)

    assert group.raft(1).transfer(ReplicaId(3), group.now_us)
    group.settle()

    assert group.leaders() == [3]
    assert group.raft(3).term == 2


def test_without_a_name_the_voter_that_has_most_takes_over(make_group: Any) -> None:
    group = make_group(3, 1)
    group.elect(1)
    group.lost = lambda envelope: envelope.to == 2 and isinstance(envelope.message, Append)
    group.propose(1)
    group.settle()

    assert group.raft(1).transfer(None, group.now_us)
    group.settle()

    assert group.leaders() == [3]


def test_a_transfer_waits_until_the_heir_has_everything(make_group: Any) -> None:
    """Thesis, 3.10, step 2."""
    group = make_group(3)
    group.elect(1)
    group.lost = lambda envelope: envelope.to == 3 and isinstance(envelope.message, Append)
    group.propose(1, b"last")
    group.settle()

    group.raft(1).transfer(ReplicaId(3), group.now_us)
    group.settle()
    assert group.leaders() == [1]
    group.heal()
    group.advance(900)

    assert group.leaders() == [3]
    assert group[3].bodies() == [b"last"]


def test_the_heir_is_asked_only_once_it_has_everything(make_group: Any) -> None:
    group = make_group(3, options=RaftOptions(append_bytes_max=1, inflight_appends_max=1))
    group.elect(1)
    for _ in range(5):
        group.propose(1)
    group.take_sent()

    group.raft(1).transfer(ReplicaId(3), group.now_us)
    group.settle()

    sent = [envelope for envelope in group.take_sent() if 3 in {envelope.sender, envelope.to}]
    asked = next(place for place, envelope in enumerate(sent) if isinstance(envelope.message, TimeoutNow))
    assert AppendReply(1, 6, False, 0, 0, False) in [envelope.message for envelope in sent[:asked]]


def test_nothing_is_proposed_during_a_transfer(make_group: Any) -> None:
    """Thesis, 3.10, step 1."""
    group = make_group(3)
    group.elect(1)
    group.raft(1).transfer(ReplicaId(3), group.now_us)

    assert group.raft(1).transferring
    with pytest.raises(NotLeaderError):
        group.propose(1)
    with pytest.raises(NotLeaderError):
        group.raft(1).propose_membership(remove(group.membership, 2))


def test_a_transfer_that_gets_nowhere_is_given_up_after_an_election_timeout(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.isolate(3)
    group.raft(1).transfer(ReplicaId(3), group.now_us)

    group.advance(999)
    assert group.raft(1).transferring
    group.advance(1)

    assert not group.raft(1).transferring
    group.propose(1)
    assert group.leaders() == [1]


def test_a_transfer_to_a_replica_whose_connection_drops_is_given_up_at_once(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.isolate(3)
    group.raft(1).transfer(ReplicaId(3), group.now_us)

    group.raft(1).peer_dropped(ReplicaId(3), group.now_us)

    assert not group.raft(1).transferring


def test_a_lost_request_to_take_over_is_repeated(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.lost = lambda envelope: isinstance(envelope.message, TimeoutNow)
    group.raft(1).transfer(ReplicaId(3), group.now_us)
    group.settle()
    group.heal()

    group.advance(300)

    assert group.leaders() == [3]


def test_a_request_to_take_over_of_an_earlier_term_is_ignored(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.raft(1).transfer(ReplicaId(2), group.now_us)
    group.settle()

    group.put(1, 3, TimeoutNow(1))
    group.settle()

    assert group.leaders() == [2]
    assert group.raft(2).term == 2


def test_a_learner_does_not_take_over(make_group: Any) -> None:
    group = make_group(3, 1)
    group.elect(1)

    assert not group.raft(1).transfer(ReplicaId(4), group.now_us)
    group.put(1, 4, TimeoutNow(1))
    group.settle()

    assert group.leaders() == [1]


def test_nobody_takes_over_who_cannot(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.raft(2).storage_full = True
    group.crash(3)
    group.propose(1)
    group.advance(1500)

    for replica in (1, 2, 3, 9):
        assert not group.raft(1).transfer(ReplicaId(replica), group.now_us)
    assert not group.raft(1).transfer(None, group.now_us)
    assert not group.raft(2).transfer(None, group.now_us)


def test_one_transfer_at_a_time(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    assert group.raft(1).transfer(ReplicaId(3), group.now_us)

    assert not group.raft(1).transfer(ReplicaId(2), group.now_us)


def test_the_heir_waits_for_its_disk_before_it_asks_for_votes(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group[3].holds_disk = True
    group.take_sent()

    group.raft(1).transfer(ReplicaId(3), group.now_us)
    group.settle()

    assert group.raft(3).role is Role.CANDIDATE
    assert not [envelope for envelope in group.take_sent() if isinstance(envelope.message, Vote)]
    group[3].holds_disk = False
    group.settle()
    assert group.leaders() == [3]
