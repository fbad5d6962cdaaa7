"""What a drop of a connection does: a follower that loses its leader asks at once, in haste, but not for ever."""

from typing import Any

from rewind_cluster.raft import RaftOptions, Role
from rewind_cluster.raft_messages import Heartbeat, Vote, VoteReply


def test_a_crashed_leader_is_replaced_in_about_a_tenth_of_a_second(make_group: Any) -> None:
    for seed in range(30):
        group = make_group(3, seed=seed)
        group.elect(1)
        group.crash(1, noticed=True)

        group.advance(250)

        assert len(group.leaders()) == 1


def test_a_dropped_connection_makes_a_follower_ask_within_30_ms_and_every_50_ms_after(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.take_sent()
    group.raft(3).peer_dropped(1, group.now_us)

    group.advance(30)

    asked = [envelope for envelope in group.take_sent() if isinstance(envelope.message, Vote)]
    assert {(envelope.sender, envelope.message.pre) for envelope in asked} == {(3, True)}
    group.advance(400)
    rounds = [envelope for envelope in group.take_sent() if isinstance(envelope.message, Vote) and envelope.to == 2]
    assert 6 <= len(rounds) <= 8
    assert group.leaders() == [1]


def test_after_a_drop_votes_are_given_although_the_leader_was_heard_just_now(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)

    group.raft(2).peer_dropped(1, group.now_us)
    group.raft(3).peer_dropped(1, group.now_us)
    group.crash(1)
    group.advance(250)

    assert len(group.leaders()) == 1


def test_a_vote_asked_for_right_after_a_drop_is_given(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.crash(1)
    group.take_sent()

    group.raft(2).peer_dropped(1, group.now_us)
    group.put(3, 2, Vote(2, 1, 1, False, False))
    group.settle()

    assert VoteReply(2, True, False) in [envelope.message for envelope in group.take_sent()]


def test_messages_of_a_leader_read_after_its_connection_dropped_do_not_bring_it_back(make_group: Any) -> None:
    """They were in the queue when it died."""
    group = make_group(3)
    group.elect(1)
    group.crash(1, noticed=True)

    group.put(1, 2, Heartbeat(1, 0, 1))
    group.put(1, 3, Heartbeat(1, 0, 1))
    group.advance(250)

    assert len(group.leaders()) == 1


def test_a_leader_that_reconnects_and_is_heard_ends_the_haste(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    for replica in (2, 3):
        group.raft(replica).peer_dropped(1, group.now_us)
        group.raft(replica).peer_connected(1, group.now_us)
    group.put(1, 2, Heartbeat(1, 0, 1))
    group.put(1, 3, Heartbeat(1, 0, 1))
    group.settle()
    group.take_sent()

    group.advance(5000)

    assert group.leaders() == [1]
    assert not [envelope for envelope in group.take_sent() if isinstance(envelope.message, Vote)]


def test_a_leader_that_falls_silent_after_it_reconnected_is_judged_by_the_timeout_again(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.raft(2).peer_dropped(1, group.now_us)
    group.raft(2).peer_connected(1, group.now_us)
    group.put(1, 2, Heartbeat(1, 0, 1))
    group.settle()
    group.take_sent()

    group.isolate(2)
    group.advance(1990)

    asked = [envelope for envelope in group.take_sent() if isinstance(envelope.message, Vote) and envelope.to == 3]
    assert len(asked) <= 1


def test_haste_ends_when_no_leader_can_be_elected(make_group: Any) -> None:
    """A lost quorum is not asked for twenty times a second for ever."""
    group = make_group(3)
    group.elect(1)
    group.crash(1, noticed=True)
    group.crash(2)
    group.advance(4000)
    group.take_sent()

    group.advance(10_000)

    assert len([envelope for envelope in group.take_sent() if envelope.to == 2]) <= 10


def test_a_connection_that_drops_where_no_leader_is_lost_changes_nothing(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.take_sent()

    group.raft(2).peer_dropped(3, group.now_us)
    group.raft(1).peer_dropped(3, group.now_us)
    group.advance(3000)

    assert group.leaders() == [1]
    assert not [envelope for envelope in group.take_sent() if isinstance(envelope.message, Vote)]


def test_a_slow_candidate_waits_longer_with_every_try(make_group: Any) -> None:
    """Votes wait for disks; a candidate that gave up every 50 ms would never win where they take 100."""
    group = make_group(3, options=RaftOptions(drop_repeat_ms=50))
    group.elect(1)
    group.crash(1, noticed=True)
    delayed: list[Any] = []
    group.lost = lambda envelope: delayed.append((group.now_us + 60_000, envelope)) is None

    while not group.leaders() and group.now_us < 1_000_000_000 + 3_000_000:
        group.advance(5)
        due = [envelope for at, envelope in delayed if at <= group.now_us]
        delayed[:] = [(at, envelope) for at, envelope in delayed if at > group.now_us]
        lost, group.lost = group.lost, lambda _: False
        for envelope in due:
            group.deliver(envelope)
        group.lost = lost

    assert len(group.leaders()) == 1
    assert group.now_us < 1_000_000_000 + 1_500_000


def test_a_leader_probes_at_once_a_follower_that_is_reached_another_way(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.isolate(3)
    group.propose(1, b"lost on its way")
    group.settle()
    group.heal()

    group.raft(1).peer_rerouted(3, group.now_us)
    group.settle()

    assert group.raft(3).log.last_index == group.raft(1).log.last_index
    assert group.raft(1).role is Role.LEADER


def test_nobody_doubts_a_leader_that_is_reached_another_way(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.take_sent()

    group.raft(2).peer_rerouted(1, group.now_us)
    group.raft(3).peer_rerouted(1, group.now_us)
    group.advance(3000)

    assert group.leaders() == [1]
    assert not [envelope for envelope in group.take_sent() if isinstance(envelope.message, Vote)]
