"""Followers and leaders without space: they take no events, yet vote, answer and serve reads."""

from typing import Any

from rewind_cluster.raft_messages import Append, Heartbeat, HeartbeatReply


def test_a_full_follower_takes_no_events_but_votes_and_answers_heartbeats(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.raft(3).storage_full = True
    before = group.raft(3).log.last_index

    entry = group.propose(1)
    group.settle()
    group.take_sent()
    group.advance(1000)

    assert group.raft(1).commit == entry.index
    assert group.raft(3).log.last_index == before
    assert group.raft(1).progress(3).full
    assert group.raft(1).progress(3).recently_active
    assert group.messages(HeartbeatReply, sender=3)
    group.crash(1)
    group.advance(4000)
    assert group.leaders() == [2]


def test_a_full_follower_is_asked_again_only_now_and_then(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.raft(3).storage_full = True
    group.propose(1)
    group.settle()
    group.take_sent()

    for _ in range(100):
        group.propose(1)
        group.settle()
    group.advance(2000)

    asked = group.messages(Append, to=3)
    assert 3 <= len(asked) <= 10
    assert all(append.entries == () for append in asked)


def test_a_follower_whose_storage_has_space_again_catches_up(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.raft(3).storage_full = True
    group.propose(1, b"a")
    group.settle()

    group.raft(3).storage_full = False
    group.advance(1000)

    assert group[3].bodies() == [b"a"]
    assert not group.raft(1).progress(3).full


def test_a_leader_knows_when_no_majority_takes_events(make_group: Any) -> None:
    group = make_group(3)
    leader = group.elect(1)
    for replica in (2, 3):
        assert not leader.quorum_full()
        group.raft(replica).storage_full = True
        group.propose(1)
        group.settle()

    assert leader.quorum_full()
    group.raft(2).storage_full = False
    group.advance(1000)
    assert not leader.quorum_full()
    leader.storage_full = True
    assert leader.quorum_full()


def test_a_group_with_full_storage_still_elects_a_leader_that_can_serve_reads(make_group: Any) -> None:
    """Its first entry holds no events, and reads need it committed."""
    group = make_group(3)
    group.elect(1)
    for node in group.nodes.values():
        node.raft.storage_full = True
    group.crash(1)

    group.advance(4000)

    (leader,) = group.leaders()
    assert group.raft(leader).committed_in_term


def test_a_full_follower_still_learns_of_commits_it_has(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.lost = lambda envelope: isinstance(envelope.message, Heartbeat)
    entry = group.propose(1)
    group.settle()
    group.raft(3).storage_full = True
    group.heal()

    group.advance(500)

    assert group.raft(3).commit == entry.index
