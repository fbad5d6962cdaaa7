"""Elections: Raft paper, section 5.2 and 5.4.1; Ongaro's thesis, sections 4.2.3, 6.2 and 9.6."""

from typing import Any

from rewind_cluster.raft import HardState, Role
from rewind_cluster.raft_messages import Append, AppendReply, Heartbeat, TimeoutNow, Vote, VoteReply


def test_a_replica_that_hears_nobody_is_elected_after_one_to_two_timeouts(make_group: Any) -> None:
    """Paper, 5.2."""
    group = make_group(3)
    group.advance(999)
    assert group.leaders() == []

    group.advance(1100)

    assert len(group.leaders()) == 1
    assert {node.raft.term for node in group.nodes.values()} == {1}


def test_a_sole_voter_leads_at_once_but_only_after_its_vote_is_durable(make_group: Any) -> None:
    group = make_group(1)
    node = group[1]
    node.holds_disk = True

    group.advance(0)

    assert node.raft.role is Role.CANDIDATE
    node.sync()
    assert node.raft.role is Role.LEADER
    assert node.disk.state.term == node.raft.term


def test_a_sole_voter_commits_nothing_before_its_own_disk_has_it(make_group: Any) -> None:
    """Thesis, 10.2.1: the leader's own entry counts once it is durable."""
    group = make_group(1)
    group.advance(0)
    commit = group.raft(1).commit
    group[1].holds_disk = True

    group.propose(1)
    group.settle()

    assert group.raft(1).commit == commit
    group[1].sync()
    assert group.raft(1).commit == commit + 1


def test_votes_are_not_sent_before_they_are_durable(make_group: Any) -> None:
    """Paper, figure 2: persistent state is updated before responding."""
    group = make_group(3)
    for node in group.nodes.values():
        node.holds_disk = True
    group[2].holds_disk = False

    group.put(3, 1, Vote(5, 0, 0, False, False))
    group.settle()

    assert not [envelope for envelope in group.take_sent() if envelope.sender == 1]
    group[1].sync()
    assert [envelope.message for envelope in group.take_sent()] == [VoteReply(5, True, False)]
    assert (group[1].disk.state.term, group[1].disk.state.vote) == (5, 3)


def test_a_candidate_does_not_win_with_the_votes_of_others_before_its_own_is_durable(make_group: Any) -> None:
    group = make_group(3)
    group.raft(1).campaign(group.now_us)
    group[1].turn()
    for envelope in list(group.wire):
        group.deliver(envelope)
    group[2].turn()
    group[1].holds_disk = True
    group.settle()
    assert group.raft(1).role is Role.CANDIDATE

    group.put(2, 1, VoteReply(1, True, False))
    group.put(3, 1, VoteReply(1, True, False))
    group.settle()

    assert group.raft(1).role is Role.CANDIDATE
    group[1].holds_disk = False
    group.settle()
    assert group.raft(1).role is Role.LEADER


def test_a_vote_given_before_a_crash_is_not_given_again_in_the_same_term(make_group: Any) -> None:
    """Paper, 5.2: at most one vote per term."""
    group = make_group(3)
    group.put(3, 1, Vote(5, 0, 0, False, False))
    group.settle()
    group.crash(1)
    group.restart(1)
    group.take_sent()

    group.put(2, 1, Vote(5, 9, 4, False, False))
    group.settle()

    assert VoteReply(5, False, False) in [envelope.message for envelope in group.take_sent()]


def test_a_replica_votes_for_no_log_behind_its_own(make_group: Any) -> None:
    """Paper, 5.4.1: by the last term first, then by length."""
    group = make_group(3)
    group.elect(1)
    for replica in group.nodes:
        group.depose(replica)
    group.take_sent()

    for index, term in ((0, 0), (9, 0), (0, 1), (1, 1)):
        group.put(3, 2, Vote(2, index, term, True, False))
    group.settle()

    replies = [envelope.message for envelope in group.take_sent() if envelope.sender == 2]
    assert [reply.granted for reply in replies] == [False, False, False, True]


def test_a_pre_vote_raises_nobodys_term(make_group: Any) -> None:
    """Thesis, 9.6: it only asks."""
    group = make_group(3)

    group.put(3, 2, Vote(9, 0, 0, True, False))
    group.settle()

    assert (group.raft(2).term, group.raft(2).vote) == (0, 0)
    assert VoteReply(9, True, True) in [envelope.message for envelope in group.take_sent()]


def test_a_replica_that_knows_the_leader_of_a_term_votes_for_no_other_in_it(make_group: Any) -> None:
    group = make_group(3)
    group.put(1, 2, Heartbeat(4, 0, 1))
    group.settle()
    group.take_sent()
    group.now_us += 1_000_000

    group.put(3, 2, Vote(4, 0, 0, False, False))
    group.deliver(group.wire.pop())
    group[2].turn()

    assert VoteReply(4, False, False) in [envelope.message for envelope in group.take_sent()]


def test_a_follower_that_hears_its_leader_refuses_votes_and_keeps_its_term(make_group: Any) -> None:
    """Thesis, 4.2.3: disruptive servers."""
    group = make_group(3)
    group.elect(1)

    group.put(3, 2, Vote(9, 99, 9, False, False))
    group.put(3, 2, Vote(9, 99, 9, True, False))
    group.settle()

    assert group.raft(2).term == 1
    assert group.leaders() == [1]


def test_a_leader_refuses_votes_while_its_followers_answer(make_group: Any) -> None:
    """The other half of the live leader rule: the leader itself must not be deposed by a stranger's term."""
    group = make_group(3)
    group.elect(1)

    group.put(3, 1, Vote(9, 99, 9, False, False))
    group.settle()

    assert group.raft(1).role is Role.LEADER
    assert group.raft(1).term == 1


def test_a_replica_that_was_cut_off_comes_back_without_raising_the_term(make_group: Any) -> None:
    """Thesis, 9.6: pre-vote."""
    group = make_group(3)
    group.elect(1)
    group.isolate(3)
    group.advance(20_000)
    assert group.raft(3).term == 1

    group.heal()
    group.advance(3000)

    assert group.leaders() == [1]
    assert {node.raft.term for node in group.nodes.values()} == {1}


def test_terms_stop_rising_while_one_replica_cannot_be_reached(make_group: Any) -> None:
    """A one-way cut: replica 3 hears nobody, but everybody hears it."""
    group = make_group(3)
    group.elect(1)
    group.cut((1, 3), (2, 3))

    group.advance(30_000)

    assert group.leaders() == [1]
    assert group.raft(1).term == 1


def test_terms_stop_rising_while_a_leader_reaches_only_one_of_its_followers(make_group: Any) -> None:
    """A cut that is not transitive: 1 and 3 do not hear each other, both hear 2."""
    group = make_group(3)
    group.elect(1)
    group.cut((1, 3), (3, 1))

    group.advance(30_000)

    assert group.leaders() == [1]
    assert group.raft(2).term == 1


def test_terms_stop_rising_whatever_link_is_cut_in_one_direction(make_group: Any) -> None:
    for cut in ((1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)):
        group = make_group(3)
        group.elect(1)
        group.cut(cut)
        group.advance(10_000)
        term = max(node.raft.term for node in group.nodes.values())

        group.advance(60_000)

        assert max(node.raft.term for node in group.nodes.values()) == term
        assert len(group.leaders()) == 1


def test_a_leader_that_nobody_answers_steps_down_and_another_one_takes_over(make_group: Any) -> None:
    """Thesis, 6.2: check-quorum, under a cut of one direction that leaves its heartbeats passing."""
    group = make_group(3)
    group.elect(1)
    group.cut((2, 1), (3, 1))

    group.advance(1300)

    assert group.raft(1).role is not Role.LEADER
    group.advance(4000)
    assert len(group.leaders()) == 1
    assert group.leaders() != [1]


def test_a_leader_stays_while_it_hears_just_a_majority(make_group: Any) -> None:
    group = make_group(5)
    group.elect(1)
    group.crash(4)
    group.crash(5)

    group.advance(10_000)

    assert group.leaders() == [1]
    assert group.raft(1).term == 1


def test_learners_do_not_keep_a_leader_in_office(make_group: Any) -> None:
    """Thesis, 4.2.1: non-voting members count in no majority."""
    group = make_group(3, 2)
    group.elect(1)
    group.crash(2)
    group.crash(3)

    group.advance(1500)

    assert group.leaders() == []


def test_a_learner_never_campaigns_and_its_vote_elects_nobody(make_group: Any) -> None:
    group = make_group(2, 2)
    group.crash(2)

    group.advance(20_000)

    assert group.leaders() == []
    assert {group.raft(replica).role for replica in (3, 4)} == {Role.FOLLOWER}


def test_a_replica_stuck_above_the_leaders_term_frees_itself(make_group: Any) -> None:
    """Pre-vote keeps terms from rising but not from being higher already: a lower term must be answered."""
    group = make_group(3)
    group.elect(1)
    group.crash(3)
    group[3].disk.state = HardState(7, 0)
    group.propose(1)
    group.settle()

    group.restart(3)
    group.advance(5000)

    assert len(group.leaders()) == 1
    assert {node.raft.term for node in group.nodes.values()} == {8}
    assert group.raft(3).commit == group.raft(1).commit


def test_a_heartbeat_of_a_lower_term_is_answered_with_ours(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.raft(1).transfer(2, group.now_us)
    group.settle()
    assert group.leaders() == [2]
    group.take_sent()

    group.put(1, 3, Heartbeat(1, 0, 1))
    group.settle()

    answer = next(envelope.message for envelope in group.take_sent() if envelope.sender == 3 and envelope.to == 1)
    assert isinstance(answer, AppendReply)
    assert (answer.term, answer.rejected) == (2, True)


def test_a_candidate_follows_the_leader_of_its_term_and_takes_its_entries(make_group: Any) -> None:
    """Paper, 5.2: it has lost."""
    group = make_group(3)
    group.elect(2)
    group.isolate(1)
    group.raft(1).campaign(group.now_us)
    group.settle()
    assert group.raft(1).role is Role.PRE_CANDIDATE
    group.heal()

    group.put(2, 1, Append(1, 0, 0, 1, tuple(group[2].entries())))
    group.settle()

    assert (group.raft(1).role, group.raft(1).leader, group.raft(1).commit) == (Role.FOLLOWER, 2, 1)


def test_a_candidate_obeys_no_leader_of_an_earlier_term(make_group: Any) -> None:
    group = make_group(3)
    group.elect(2)
    group.isolate(1)
    group.put(2, 1, TimeoutNow(1))
    group.cuts.discard((2, 1))
    group.settle()
    assert group.raft(1).role is Role.CANDIDATE

    group.put(2, 1, Heartbeat(1, 1, 9))
    group.settle()

    assert (group.raft(1).role, group.raft(1).term) == (Role.CANDIDATE, 2)


def test_two_candidates_of_one_term_cannot_both_win(make_group: Any) -> None:
    """Paper, 5.2: a split vote is followed by another try."""
    group = make_group(4)
    for replica in (1, 2):
        group.raft(replica).campaign(group.now_us)
    group.settle()
    assert len(group.leaders()) <= 1

    group.advance(6000)

    assert len(group.leaders()) == 1


def test_a_vote_from_a_replica_outside_the_membership_does_not_count(make_group: Any) -> None:
    group = make_group(3)
    group.isolate(1)
    group.raft(1).campaign(group.now_us)
    group.settle()
    group.heal()

    group.put(9, 1, VoteReply(1, True, True))
    group[1].turn()
    group.deliver(group.wire.popleft())

    assert group.raft(1).role is Role.PRE_CANDIDATE


def test_a_higher_term_in_a_strangers_answer_deposes_nobody(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)

    group.put(9, 1, AppendReply(99, 0, True, 0, 0, False))
    group.put(9, 1, VoteReply(99, False, False))
    group.settle()

    assert group.leaders() == [1]
    assert group.raft(1).term == 1
