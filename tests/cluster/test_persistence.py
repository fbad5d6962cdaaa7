"""What counts and what may be said before and after the disk: Raft paper, figure 2; Ongaro's thesis, section 10.2.1."""

from typing import Any

from rewind_cluster.raft import Mark
from rewind_cluster.raft_messages import Append, AppendReply, Heartbeat


def test_appends_leave_before_the_leaders_disk_but_its_own_copy_counts_only_after(make_group: Any) -> None:
    """Thesis, 10.2.1: writing to the leader's disk in parallel."""
    group = make_group(3)
    group.elect(1)
    group.crash(3)
    commit = group.raft(1).commit
    group[1].holds_disk = True

    group.propose(1)
    group.settle()

    assert group.raft(2).log.last_index == commit + 1
    assert group.raft(1).progress(2).match == commit + 1
    assert group.raft(1).commit == commit
    group[1].sync()
    assert group.raft(1).commit == commit + 1


def test_followers_alone_can_commit_while_the_leaders_disk_is_slow(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group[1].holds_disk = True

    entry = group.propose(1)
    group.settle()

    assert group.raft(1).commit == entry.index
    assert len(group[1].disk.log) < entry.index


def test_an_acknowledgement_does_not_leave_before_the_entries_are_durable(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.take_sent()
    group[2].holds_disk = True

    group.propose(1)
    group.settle()

    assert group.messages(AppendReply, sender=2) == []
    group[2].sync()
    assert [reply.index for reply in group.messages(AppendReply, sender=2)] == [2]


def test_a_turns_acknowledgements_are_one(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group[2].holds_disk = True
    for _ in range(3):
        group.propose(1)
        group.settle()
    group.take_sent()

    group.crash(2)
    group.restart(2)
    for index in (1, 2, 3):
        group.put(1, 2, Append(1, index, 1, 1, (group[1].entries()[index],)))
        group.deliver(group.wire.pop())
    group[2].turn()

    assert [reply.index for reply in group.messages(AppendReply, sender=2)] == [4]


def test_acknowledgements_to_a_deposed_leader_are_dropped_with_the_entries(make_group: Any) -> None:
    """What was acknowledged in the turn may be truncated before it is written."""
    group = make_group(3)
    group.elect(1)
    entry = group.propose(1)
    old = Append(1, 1, 1, 1, (entry,))
    group.isolate(1)
    group.settle()
    group.heal()
    group.take_sent()

    group.put(1, 3, old)
    group.put(2, 3, Heartbeat(2, 1, 1))
    while group.wire:
        group.deliver(group.wire.popleft())
    group[3].turn()

    assert group.messages(AppendReply, sender=3) == []


def test_a_persistence_mark_for_an_entry_that_was_truncated_and_replaced_does_not_count(make_group: Any) -> None:
    """The ABA problem: index 2 is written, truncated, and written again before the first write is reported."""
    group = make_group(2)
    group.elect(1)
    group.isolate(1)
    group[1].holds_disk = True
    group.propose(1, b"first")
    group[1].turn()
    (first,) = [output.mark for output in group[1].owed]
    group.depose(1)
    group.put(2, 1, Append(3, 1, 1, 1, (group.replacement(3, b"second"),)))
    group.heal()
    group.deliver(group.wire.pop())

    group.raft(1).persisted(first)

    assert group.raft(1).log.last_index == first.index
    assert group.raft(1).log.persisted < first.index


def test_a_mark_of_an_earlier_term_does_not_count_although_its_entry_has_come_back(make_group: Any) -> None:
    """The same entry is written, replaced by one leader and put back by the next; only the last write keeps it."""
    group = make_group(3)
    group.elect(2)
    entry = group.propose(2)
    other = group.replacement(3, b"between")
    node = group[1]
    node.holds_disk = True
    marks = []
    for sender, append in (
        (2, Append(1, 1, 1, 1, (entry,))),
        (3, Append(3, 1, 1, 1, (other,))),
        (2, Append(4, 1, 1, 1, (entry,))),
    ):
        group.put(sender, 1, append)
        group.deliver(group.wire.pop())
        marks.append(node.raft.take().mark)

    node.raft.persisted(marks[0])

    assert (marks[0].index, marks[0].index_term) == (marks[2].index, marks[2].index_term)
    assert node.raft.log.persisted < entry.index
    node.raft.persisted(marks[2])
    assert node.raft.log.persisted == entry.index


def test_within_a_term_a_mark_counts_only_if_index_and_term_still_name_an_entry(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group[1].holds_disk = True
    entry = group.propose(1)
    group.raft(1).take()

    group.raft(1).persisted(Mark(1, 1, entry.index, 9))

    assert group.raft(1).log.persisted < entry.index


def test_an_untouched_group_has_nothing_to_say(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)

    output = group.raft(1).take()

    assert output is group.raft(2).take()
    assert not output.writes
    assert (output.early, output.late, output.reads) == ([], [], [])
