"""Membership changes: Ongaro's thesis, chapter 4."""

from typing import Any

import msgpack
import pytest
from membership_steps import demote, learners, promote, remove

from rewind_cluster.errors import ChangeRefusedError, DamagedError, InvalidArgumentError, NotLeaderError
from rewind_cluster.membership import MEMBERS_MAX, Member, Membership, MembershipHistory
from rewind_cluster.raft import Role
from rewind_cluster.raft_messages import Append, AppendReply, Heartbeat, ReplicaId, TimeoutNow, Vote


def membership(voters: str = "", learners: str = "") -> Membership:
    """Return a membership with one replica per digit."""
    members = {ReplicaId(int(digit)): Member(f"node-{digit}", voter=digit in voters) for digit in voters + learners}
    return Membership(members)


# The value.


def test_a_replica_is_added_as_a_learner() -> None:
    assert membership("123").add_learner(ReplicaId(4), "node-4") == membership("123", "4")
    assert membership("31", "2").voters == (1, 3)


@pytest.mark.parametrize("replica", [0, 1, 2])
def test_an_id_in_use_or_that_is_none_is_not_added(replica: int) -> None:
    with pytest.raises(InvalidArgumentError):
        membership("1", "2").add_learner(ReplicaId(replica), "node-9")


def test_a_partition_has_a_limit_of_replicas() -> None:
    full = Membership({ReplicaId(number): Member("node", voter=True) for number in range(1, MEMBERS_MAX + 1)})

    with pytest.raises(InvalidArgumentError):
        full.add_learner(ReplicaId(MEMBERS_MAX + 1), "node")


def test_what_is_packed_is_what_is_unpacked() -> None:
    for group in (membership(), membership("123", "4")):
        assert Membership.unpack(group.pack()) == group


@pytest.mark.parametrize(
    "rows",
    [
        None,
        7,
        [[1, "node"]],
        [7],
        [[0, "node", True]],
        [[-1, "node", True]],
        [[1 << 63, "node", True], [1 << 63, "node", False]],
        [["1", "node", True]],
        [[True, "node", True]],
        [[1, b"node", True]],
        [[1, "", True]],
        [[1, "n" * 256, True]],
        [[1, "node", 1]],
    ],
)
def test_a_malformed_membership_is_damage(rows: Any) -> None:
    with pytest.raises(DamagedError):
        Membership.unpack(msgpack.packb(rows))


@pytest.mark.parametrize("packed", [b"", b"\xc1", b"\x91", b"\x90\x90"])
def test_bytes_that_are_no_membership_are_damage(packed: bytes) -> None:
    with pytest.raises(DamagedError):
        Membership.unpack(packed)


def test_history_returns_to_the_membership_before_the_truncated_one() -> None:
    history = MembershipHistory(membership("123"), 0)
    history.adopt(membership("12"), 5)

    history.truncate(6)
    kept = history.newest
    history.truncate(5)

    assert kept == membership("12")
    assert (history.newest, history.newest_index, history.previous) == (membership("123"), 0, None)
    with pytest.raises(DamagedError):
        history.truncate(0)


# The group.


def test_a_new_replica_becomes_a_voter_in_two_steps(make_group: Any) -> None:
    """Thesis, 4.2.1: it catches up as a learner first."""
    group = make_group(3)
    leader = group.elect(1)
    for _ in range(20):
        group.propose(1)
    group.settle()
    group.join(4)

    leader.propose_membership(leader.membership.add_learner(ReplicaId(4), "node-4"))
    group.advance(1000)
    assert leader.progress(4).match == leader.log.last_index
    leader.propose_membership(promote(leader.membership, 4))
    group.settle()

    assert all(node.raft.membership == leader.membership for node in group.nodes.values())
    assert leader.membership.voters == (1, 2, 3, 4)
    group.crash(1)
    group.crash(2)
    group.advance(5000)
    assert group.leaders() == []
    group.restart(2)
    group.advance(5000)
    assert len(group.leaders()) == 1


def test_a_membership_counts_from_its_appending_on(make_group: Any) -> None:
    """Thesis, 4.1: the new majority is needed for the change itself."""
    group = make_group(3, 1)
    leader = group.elect(1)
    group.crash(3)
    group.crash(4)

    entry = leader.propose_membership(promote(leader.membership, 4))
    group.settle()

    assert leader.commit < entry.index
    group.restart(4)
    group.advance(1000)
    assert leader.commit >= entry.index


def test_no_change_before_a_commit_in_the_leaders_own_term(make_group: Any) -> None:
    """The bug in single-server changes that Ongaro made known in 2015."""
    group = make_group(3)
    group.lost = lambda envelope: isinstance(envelope.message, Append)
    group.raft(1).campaign(group.now_us)
    group.settle()
    leader = group.raft(1)

    with pytest.raises(ChangeRefusedError):
        leader.propose_membership(remove(leader.membership, 3))

    group.heal()
    group.advance(1000)
    leader.propose_membership(remove(leader.membership, 3))


def test_no_change_before_the_one_before_it_is_committed(make_group: Any) -> None:
    group = make_group(3)
    leader = group.elect(1)
    leader.propose_membership(leader.membership.add_learner(ReplicaId(4), "node-4"))

    with pytest.raises(ChangeRefusedError):
        leader.propose_membership(leader.membership.add_learner(ReplicaId(5), "node-5"))

    group.settle()
    leader.propose_membership(leader.membership.add_learner(ReplicaId(5), "node-5"))


@pytest.mark.parametrize("change", [membership("1"), membership("12345"), membership("124"), membership("", "123")])
def test_no_change_of_more_than_one_voter(make_group: Any, change: Membership) -> None:
    group = make_group(3)
    leader = group.elect(1)

    with pytest.raises(InvalidArgumentError):
        leader.propose_membership(change)

    assert leader.log.last_index == 1


def test_no_change_moves_a_replica_to_another_node(make_group: Any) -> None:
    group = make_group(3)
    leader = group.elect(1)
    moved = Membership({**leader.membership.members, ReplicaId(3): Member("node-9", voter=True)})

    with pytest.raises(InvalidArgumentError):
        leader.propose_membership(moved)


def test_only_a_leader_changes_the_membership(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)

    with pytest.raises(NotLeaderError):
        group.raft(2).propose_membership(remove(group.membership, 3))


def test_a_truncated_change_is_undone_also_on_disk(make_group: Any) -> None:
    """Thesis, 4.1: a server may have to fall back to the previous configuration."""
    group = make_group(3)
    leader = group.elect(1)
    group.isolate(1)
    leader.propose_membership(remove(leader.membership, 3))
    group.settle()
    assert group[1].disk.membership.voters == (1, 2)

    group.advance(5000)
    group.heal()
    group.advance(2000)

    assert group.raft(1).membership.voters == (1, 2, 3)
    assert group[1].disk.membership.voters == (1, 2, 3)
    assert group[1].disk.membership_index == 0


def test_a_change_is_undone_also_after_a_restart(make_group: Any) -> None:
    group = make_group(3)
    leader = group.elect(1)
    group.isolate(1)
    leader.propose_membership(remove(leader.membership, 3))
    group.settle()
    group.crash(1)
    group.advance(5000)

    group.restart(1)
    assert group.raft(1).membership.voters == (1, 2)
    group.heal()
    group.advance(2000)

    assert group.raft(1).membership.voters == (1, 2, 3)


def test_a_learner_that_does_not_know_of_its_promotion_votes(make_group: Any) -> None:
    """Thesis, 4.2.1 and 4.1: the voter's own view of the configuration does not matter."""
    group = make_group(2, 1)
    leader = group.elect(1)
    group.cut((1, 3))
    leader.propose_membership(promote(leader.membership, 3))
    group.settle()
    assert learners(group.raft(3).membership) == (3,)
    assert leader.commit == leader.log.last_index

    group.crash(1)
    group.advance(5000)

    assert group.leaders() == [2]


def test_a_candidate_outside_a_voters_membership_is_answered(make_group: Any) -> None:
    group = make_group(3)

    group.put(9, 2, Vote(5, 0, 0, False, False))
    group.settle()

    assert group.raft(2).vote == 9


def test_a_leader_outside_a_followers_membership_is_followed(make_group: Any) -> None:
    group = make_group(3)

    group.put(9, 2, Heartbeat(5, 0, 1))
    group.settle()

    assert (group.raft(2).leader, group.raft(2).term) == (9, 5)


def test_a_removed_replica_disturbs_nobody(make_group: Any) -> None:
    """Thesis, 4.2.3."""
    group = make_group(3)
    leader = group.elect(1)
    group.cut((1, 3))
    leader.propose_membership(remove(leader.membership, 3))
    group.settle()
    group.heal()

    group.advance(20_000)

    assert group.leaders() == [1]
    assert leader.term == 1
    assert leader.progress(3) is None


@pytest.mark.parametrize("step", [remove, demote])
def test_a_leader_that_is_no_voter_any_more_leads_until_that_is_committed(make_group: Any, step: Any) -> None:
    """Thesis, 4.2.2; and it does not count itself: with 2 and 3 left, both are needed."""
    group = make_group(3)
    leader = group.elect(1)
    group.crash(3)
    entry = leader.propose_membership(step(leader.membership, 1))
    group.settle()
    assert (leader.role, leader.commit) == (Role.LEADER, entry.index - 1)

    group.restart(3)
    group.advance(500)

    assert leader.role is Role.FOLLOWER
    assert group.leaders() in ([2], [3])
    assert group.raft(group.leaders()[0]).membership.voters == (2, 3)


def test_a_leader_that_retires_names_an_heir_so_that_there_is_no_gap(make_group: Any) -> None:
    group = make_group(3)
    leader = group.elect(1)
    group.take_sent()

    leader.propose_membership(remove(leader.membership, 1))
    group.settle()

    assert len(group.leaders()) == 1
    assert [envelope.sender for envelope in group.take_sent() if isinstance(envelope.message, TimeoutNow)] == [1]


def test_a_leader_that_goes_before_the_change_is_committed_can_come_back_to_commit_it(make_group: Any) -> None:
    """Thesis, 4.2.2 and figure 4.6: from two voters to one, where only the one that leaves has the change."""
    group = make_group(2)
    leader = group.elect(1)
    group.cut((1, 2))
    leader.propose_membership(demote(leader.membership, 1))
    group.settle()
    group.crash(1)
    group.heal()

    group.restart(1)
    group.advance(6000)

    assert group.leaders() == [2]
    assert group.raft(2).membership.voters == (2,)
    assert group.raft(1).commit == group.raft(2).commit


def test_a_removed_leader_elects_itself_no_more(make_group: Any) -> None:
    group = make_group(2)
    leader = group.elect(1)
    leader.propose_membership(remove(leader.membership, 1))
    group.settle()
    group.crash(2)

    group.advance(20_000)

    assert group.leaders() == []


def test_down_to_one_voter_and_up_again(make_group: Any) -> None:
    group = make_group(3)
    leader = group.elect(1)
    for replica in (3, 2):
        leader.propose_membership(remove(leader.membership, replica))
        group.settle()
    assert leader.membership.voters == (1,)
    group.propose(1, b"alone")
    group.settle()
    group.join(7)

    leader.propose_membership(leader.membership.add_learner(ReplicaId(7), "node-7"))
    group.advance(1000)
    leader.propose_membership(promote(leader.membership, 7))
    group.settle()

    assert group[7].bodies() == [b"alone"]
    assert group.raft(7).membership.voters == (1, 7)


def test_an_unreadable_membership_quarantines_the_replica(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    last = group[1].entries()[-1]
    group.take_sent()
    bad = type(last).build(
        last.kind.MEMBERSHIP, term=1, index=2, timestamp=9, previous_digest=last.digest, body=b"\xc1"
    )

    group.put(1, 2, Append(1, 1, 1, 1, (bad,)))
    group.settle()

    assert group.raft(2).quarantined
    assert not [envelope for envelope in group.take_sent() if isinstance(envelope.message, AppendReply)]
