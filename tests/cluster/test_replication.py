"""Replication and commitment: Raft paper, sections 5.3, 5.4.2 and figure 8; Ongaro's thesis, section 10.2.2."""

from typing import Any

import pytest

from rewind_cluster.entry import EntryKind
from rewind_cluster.errors import NotLeaderError
from rewind_cluster.progress import ProgressState
from rewind_cluster.raft import RaftOptions, Role
from rewind_cluster.raft_messages import Append, AppendReply


def test_an_entry_is_committed_everywhere_without_waiting_for_a_heartbeat(make_group: Any) -> None:
    """Paper, 5.3; the commit advance is sent at once."""
    group = make_group(3, 1)
    group.elect(1)

    entry = group.propose(1, b"event")
    group.settle()

    assert {node.raft.commit for node in group.nodes.values()} == {entry.index}
    assert {tuple(node.bodies()) for node in group.nodes.values()} == {(b"event",)}


def test_a_new_leader_first_commits_an_empty_entry_right_after_the_last_timestamp(make_group: Any) -> None:
    """Thesis, 6.4 and 3.6.2: only an entry of its own term tells a leader what is committed."""
    group = make_group(3)
    group.elect(1)
    group.propose(1)
    group.settle()

    group.depose(1)
    group.advance(1000)
    group.elect(2)

    last = group[2].entries()[-1]
    assert (last.kind, last.term, last.context) == (EntryKind.NOOP, 2, 0)
    assert last.timestamp == group[2].entries()[-2].last_timestamp + 1


def test_followers_and_learners_that_are_no_majority_commit_nothing(make_group: Any) -> None:
    group = make_group(3, 2)
    group.elect(1)
    commit = group.raft(1).commit
    group.crash(2)
    group.crash(3)

    group.propose(1)
    group.settle()

    assert group.raft(4).log.last_index == group.raft(1).log.last_index
    assert group.raft(1).commit == commit


def test_only_the_leader_takes_proposals(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)

    with pytest.raises(NotLeaderError):
        group.propose(2)


def test_a_deposed_leader_truncates_its_unacknowledged_tail(make_group: Any) -> None:
    """Paper, 5.3 and figure 7."""
    group = make_group(3)
    group.elect(1)
    group.isolate(1)
    group.propose(1, b"lost")
    group.settle()
    group.advance(4000)
    leader = group.leaders()[0]
    group.propose(leader, b"kept")
    group.settle()

    group.heal()
    group.advance(1000)

    assert {tuple(node.bodies()) for node in group.nodes.values()} == {(b"kept",)}
    assert group[1].disk.log == group[leader].disk.log


def test_a_follower_long_behind_is_found_with_few_probes(make_group: Any) -> None:
    """Paper, 5.3: conflicts are skipped a term at a time, not an entry at a time."""
    group = make_group(3)
    group.elect(1)
    group.isolate(1)
    for _ in range(40):
        group.propose(1, b"lost")
    group.settle()
    group.advance(4000)
    leader = group.leaders()[0]
    for _ in range(40):
        group.propose(leader, b"kept")
        group.settle()
    group.raft(leader).transfer(None, group.now_us)
    group.settle()
    (leader,) = [replica for replica in group.leaders() if replica != 1]
    group.take_sent()

    group.heal()
    group.advance(1000)

    refused = [reply for reply in group.messages(AppendReply, sender=1, to=leader) if reply.rejected]
    assert 1 <= len(refused) <= 3
    assert group[1].bodies() == [b"kept"] * 40


def test_a_follower_hints_at_its_last_entry_of_a_term_that_may_match(make_group: Any) -> None:
    """Its own entries of higher terms cannot match, so that the leader need not ask for each of them."""
    group = make_group(3)
    group.elect(1)
    tail = [group.replacement(5, b"5")]
    for index in range(3, 42):
        tail.append(
            type(tail[0]).build(
                EntryKind.NOOP, term=5, index=index, timestamp=99 + index, previous_digest=tail[-1].digest
            )
        )
    group.put(3, 2, Append(5, 1, 1, 1, tuple(tail)))
    group.settle()
    group.take_sent()

    group.put(1, 2, Append(6, 41, 3, 1, ()))
    group.settle()

    assert AppendReply(6, 41, True, 1, 1, False) in group.messages(AppendReply, sender=2)


def test_an_entry_of_an_earlier_term_is_not_committed_by_counting(make_group: Any) -> None:
    """Paper, 5.4.2 and figure 8: (c), where S1 has replicated the old entry on a majority."""
    group = make_group(5)
    group.elect(1)
    group.lost = lambda envelope: envelope.to in {3, 4, 5} and isinstance(envelope.message, Append)
    old = group.propose(1, b"figure 8")
    group.settle()
    group.depose(1)
    group.heal()
    group.advance(1000)
    group.lost = lambda envelope: (
        isinstance(envelope.message, Append) and any(entry.term > 1 for entry in envelope.message.entries)
    )
    group.raft(1).campaign(group.now_us)
    group.settle()
    assert group.raft(1).role is Role.LEADER
    term = group.raft(1).term

    for replica in (2, 3, 4):
        group.put(replica, 1, AppendReply(term, old.index, False, 0, 0, False))
    group.settle()

    assert group.raft(1).commit < old.index
    group.heal()
    group.advance(1000)
    assert group.raft(1).commit > old.index


def test_a_commit_index_is_taken_over_only_as_far_as_the_logs_are_known_to_match(make_group: Any) -> None:
    """Paper, figure 2: min(leaderCommit, index of last new entry)."""
    group = make_group(3)
    group.elect(1)
    group.propose(1, b"not known to match")
    group.cut((2, 1), (3, 1))
    group.settle()
    assert group.raft(2).log.last_index == 2

    group.put(3, 2, Append(2, 1, 1, 99, ()))
    group.settle()

    assert group.raft(2).commit == 1


def test_a_follower_is_sent_a_window_ahead_and_no_more(make_group: Any) -> None:
    """Thesis, 10.2.2: pipelining, with limits."""
    options = RaftOptions(append_bytes_max=1, inflight_appends_max=4)
    group = make_group(3, options=options)
    group.elect(1)
    group[3].holds_disk = True
    group.take_sent()

    for _ in range(10):
        group.propose(1)
    group.settle()

    assert len(group.messages(Append, to=3)) == 4
    assert group.raft(2).log.last_index == 11
    group[3].holds_disk = False
    group.settle()
    assert group.raft(3).log.last_index == 11


def test_a_follower_is_sent_no_more_bytes_ahead_than_the_window_has(make_group: Any) -> None:
    options = RaftOptions(append_bytes_max=1, inflight_bytes_max=2500)
    group = make_group(3, options=options)
    group.elect(1)
    group[3].holds_disk = True
    group.take_sent()

    for _ in range(10):
        group.propose(1, bytes(1000))
    group.settle()

    assert len(group.messages(Append, to=3)) == 3


def test_the_entries_of_a_turn_travel_in_one_message_per_follower(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.take_sent()

    for _ in range(50):
        group.propose(1)
    group[1].turn()

    appends = [envelope for envelope in group.take_sent() if isinstance(envelope.message, Append)]
    assert {envelope.to: len(envelope.message.entries) for envelope in appends} == {2: 50, 3: 50}
    assert appends[0].message is appends[1].message


def test_after_a_refusal_a_follower_is_probed_one_message_at_a_time(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.crash(3)
    for _ in range(5):
        group.propose(1)
        group.settle()
    progress = group.raft(1).progress(3)
    assert progress.state is ProgressState.REPLICATE

    group.put(3, 1, AppendReply(1, 6, True, 1, 1, False))
    group.settle()
    group.propose(1)
    group.take_sent()
    group.settle()

    assert progress.state is ProgressState.PROBE
    assert group.messages(Append, to=3) == []


def test_a_follower_catches_up_from_disk(make_group: Any) -> None:
    group = make_group(3, cache_bytes_max=500, options=RaftOptions(append_bytes_max=400, probe_bytes_max=1))
    group.elect(1)
    group.crash(3)
    for number in range(60):
        group.propose(1, b"%d" % number)
        group.settle()
    assert group.raft(1).log.first_cached > 50
    reads_per_turn: list[int] = []
    send = group.send

    def count(batch: list[Any]) -> None:
        old = [one for one in batch if isinstance(one.message, Append) and one.message.prev_index < 50]
        reads_per_turn.append(len(old))
        send(batch)

    group.send = count
    group.restart(3)
    group.advance(2000)

    assert group[3].disk.log == group[1].disk.log
    assert max(reads_per_turn) == 1  # A turn is not held up by more than one read.
