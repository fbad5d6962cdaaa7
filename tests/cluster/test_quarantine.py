"""Quarantined replicas: what they have is not to be trusted, so they promise nothing."""

from typing import Any

from rewind_cluster.raft import Role
from rewind_cluster.raft_messages import Heartbeat, Vote


def test_a_quarantined_replica_neither_votes_nor_campaigns_nor_answers(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.raft(3).quarantine()
    group.settle()
    group.take_sent()

    group.put(2, 3, Vote(9, 99, 9, False, True))
    group.put(2, 3, Vote(9, 99, 9, True, False))
    group.propose(1)
    group.advance(5000)

    group.crash(1)
    group.advance(10_000)

    assert not [envelope for envelope in group.take_sent() if envelope.sender == 3]
    assert group.leaders() == []


def test_a_quarantined_leader_steps_down_and_its_promises_of_this_turn_are_dropped(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.put(1, 2, Heartbeat(1, 0, 5))
    group.deliver(group.wire.pop())

    group.raft(1).quarantine()
    group.raft(2).quarantine()
    output = group.raft(2).take()

    assert group.raft(1).role is Role.FOLLOWER
    assert (output.early, output.late) == ([], [])


def test_a_released_replica_catches_up(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.raft(3).quarantine()
    group.propose(1, b"meanwhile")
    group.advance(1000)
    assert group[3].bodies() == []

    group.raft(3).release()
    group.advance(1000)

    assert group[3].bodies() == [b"meanwhile"]
