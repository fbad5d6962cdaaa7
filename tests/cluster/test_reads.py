"""Read-index: Ongaro's thesis, section 6.4."""

from typing import Any

import pytest

from rewind_cluster.errors import NotLeaderError
from rewind_cluster.raft import Role
from rewind_cluster.raft_messages import Append, Heartbeat, HeartbeatReply


def test_a_read_is_served_after_a_majority_has_answered_its_round(make_group: Any) -> None:
    group = make_group(3)
    leader = group.elect(1)

    number = leader.read()
    group[1].turn()
    assert group[1].reads == []
    group.settle()

    assert group[1].reads == [(number, leader.commit)]


def test_all_reads_of_a_turn_share_a_round_and_later_ones_get_the_next(make_group: Any) -> None:
    group = make_group(3)
    leader = group.elect(1)

    first, second = leader.read(), leader.read()
    group[1].turn()
    third = leader.read()

    assert first == second
    assert third == first + 1


def test_an_answer_to_an_earlier_round_does_not_serve_a_later_read(make_group: Any) -> None:
    """The follower may have left this leader between the two."""
    group = make_group(3)
    leader = group.elect(1)
    group.isolate(1)
    first = leader.read()
    group.settle()
    second = leader.read()
    group.settle()
    group.heal()

    group.put(2, 1, HeartbeatReply(leader.term, first))
    group.settle()

    assert [number for number, _ in group[1].reads] == [first]
    group.put(3, 1, HeartbeatReply(leader.term, second))
    group.settle()
    assert [number for number, _ in group[1].reads] == [first, second]


def test_an_answer_of_an_earlier_term_confirms_nothing(make_group: Any) -> None:
    group = make_group(3)
    leader = group.elect(1)
    for _ in range(5):
        leader.read()
        group.settle()
    group.depose(1)
    group.advance(1000)
    group.elect(1)
    group[1].reads.clear()
    group.isolate(1)
    leader.read()
    group.settle()
    group.heal()

    for number in range(9):
        group.put(2, 1, HeartbeatReply(1, number))
        group.put(3, 1, HeartbeatReply(1, number))
    while group.wire:
        group.deliver(group.wire.popleft())
    group[1].turn()

    assert group[1].reads == []


def test_a_new_leader_serves_no_read_before_a_commit_in_its_own_term(make_group: Any) -> None:
    """Thesis, 6.4, step 1: it may not know yet what is committed."""
    group = make_group(3)
    group.lost = lambda envelope: isinstance(envelope.message, Append)
    group.raft(1).campaign(group.now_us)
    group.settle()
    leader = group.raft(1)

    number = leader.read()
    group.advance(100)

    assert group[1].reads == []
    group.heal()
    group.advance(1000)
    assert group[1].reads == [(number, 1)]


def test_a_deposed_leader_that_does_not_know_it_yet_serves_no_read(make_group: Any) -> None:
    group = make_group(3)
    old = group.elect(1)
    group.cut((2, 1), (3, 1), (1, 2), (1, 3))
    group.raft(2).peer_dropped(1, group.now_us)
    group.raft(3).peer_dropped(1, group.now_us)
    group.advance(300)
    assert len(group.leaders()) == 2

    old.read()
    group.advance(100)
    group.heal()
    group.advance(1000)

    assert group[1].reads == []


def test_a_paused_leader_serves_no_read_with_the_answers_that_were_waiting_for_it(make_group: Any) -> None:
    """It wakes up after others were elected; what lies in its queues answers rounds begun before the pause."""
    group = make_group(3)
    leader = group.elect(1)
    before = leader.read()
    group[1].turn()
    waiting = list(group.wire)
    group.wire.clear()
    for envelope in waiting:
        group.deliver(envelope)
    for replica in (2, 3):
        group[replica].turn()
    answers = list(group.wire)
    group.wire.clear()
    group.crash(1)
    group.advance(4000)
    assert group.leaders() != []
    group[1].up = True

    after = leader.read()
    for envelope in answers:
        group.deliver(envelope)
    group[1].turn()

    assert all(number < after for number, _ in group[1].reads)
    assert before < after


def test_answers_of_learners_confirm_nothing(make_group: Any) -> None:
    group = make_group(3, 2)
    leader = group.elect(1)
    group.crash(2)
    group.crash(3)

    leader.read()
    group.advance(300)

    assert group[1].reads == []


def test_a_sole_voter_confirms_its_round_at_once(make_group: Any) -> None:
    group = make_group(1)
    group.advance(10)

    number = group.raft(1).read()
    group[1].turn()

    assert group[1].reads == [(number, 1)]


def test_a_lost_round_is_made_good_by_the_next_heartbeat(make_group: Any) -> None:
    group = make_group(3)
    leader = group.elect(1)
    group.lost = lambda envelope: isinstance(envelope.message, Heartbeat | HeartbeatReply)
    number = leader.read()
    group.settle()
    group.heal()

    group.advance(200)

    assert [served for served, _ in group[1].reads] == [number]


def test_followers_answer_a_round_before_their_disk(make_group: Any) -> None:
    group = make_group(3)
    leader = group.elect(1)
    group[2].holds_disk = group[3].holds_disk = True

    group.propose(1)
    number = leader.read()
    group.settle()

    assert [served for served, _ in group[1].reads] == [number]


def test_a_read_waits_for_everything_committed_when_it_came(make_group: Any) -> None:
    group = make_group(3)
    leader = group.elect(1)
    for _ in range(3):
        group.propose(1)
    group.settle()
    commit = leader.commit

    leader.read()
    group.settle()

    assert group[1].reads[-1][1] >= commit


def test_only_a_leader_begins_rounds(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)

    with pytest.raises(NotLeaderError):
        group.raft(2).read()

    assert group.raft(2).role is Role.FOLLOWER


def test_a_turns_heartbeats_are_answered_once_with_the_highest_round(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.take_sent()

    for number in (4, 6, 5):
        group.put(1, 2, Heartbeat(1, 1, number))
        group.deliver(group.wire.pop())
    group[2].turn()

    assert [envelope.message for envelope in group.take_sent()] == [HeartbeatReply(1, 6)]


def test_a_commit_advance_asks_for_no_answer(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.take_sent()

    group.propose(1)
    group.settle()

    kinds = [type(envelope.message) for envelope in group.take_sent()]
    assert kinds.count(Heartbeat) == 2
    assert HeartbeatReply not in kinds
