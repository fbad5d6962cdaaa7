"""Messages that are lost, repeated, late or stale, and how they are made good: Raft paper, section 5.3."""

from typing import Any

import pytest

from rewind_cluster.progress import ProgressState
from rewind_cluster.raft_messages import Append, AppendReply, Heartbeat


def test_duplicated_and_reordered_appends_change_nothing(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    for number in range(5):
        group.propose(1, b"%d" % number)
        group.settle()
    appends = [envelope for envelope in group.take_sent() if isinstance(envelope.message, Append)]

    for envelope in [*reversed(appends), *appends]:
        group.wire.append(envelope)
    group.settle()

    assert {tuple(node.bodies()) for node in group.nodes.values()} == {(b"0", b"1", b"2", b"3", b"4")}
    assert group.leaders() == [1]


def test_an_older_append_does_not_truncate_what_came_after_it(make_group: Any) -> None:
    """Paper, 5.3: only a conflicting entry truncates; a shorter message is no conflict."""
    group = make_group(3)
    group.elect(1)
    for _ in range(3):
        group.propose(1)
    group.settle()
    entries = group[1].entries()

    group.put(1, 2, Append(1, 1, 1, 1, (entries[1],)))
    group.settle()

    assert group.raft(2).log.last_index == 4


def test_heartbeats_never_tell_more_than_the_follower_is_known_to_have(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.lost = lambda envelope: envelope.to == 3 and isinstance(envelope.message, Append)
    group.propose(1)
    group.settle()
    group.take_sent()

    group.advance(200)

    assert {heartbeat.commit for heartbeat in group.messages(Heartbeat, to=3)} == {1}


@pytest.mark.parametrize("kind", [Append, AppendReply])
def test_lost_messages_with_no_traffic_after_them_are_made_good(make_group: Any, kind: type) -> None:
    group = make_group(3)
    group.elect(1)
    group.lost = lambda envelope: isinstance(envelope.message, kind)
    entry = group.propose(1)
    group.settle()
    group.lost = lambda _: False

    group.advance(700)

    assert {node.raft.commit for node in group.nodes.values()} == {entry.index}
    assert group.raft(1).progress(2).match == entry.index


def test_a_lost_probe_is_repeated(make_group: Any) -> None:
    group = make_group(3)
    group.lost = lambda envelope: isinstance(envelope.message, Append)
    group.raft(1).campaign(group.now_us)
    group.settle()
    group.heal()

    group.advance(700)

    assert {node.raft.commit for node in group.nodes.values()} == {1}


def test_a_lost_commit_advance_is_made_good_by_the_next_heartbeat(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.lost = lambda envelope: isinstance(envelope.message, Heartbeat)
    entry = group.propose(1)
    group.settle()
    assert group.raft(2).commit < entry.index
    group.heal()

    group.advance(200)

    assert group.raft(2).commit == entry.index


def test_an_unanswered_probe_is_not_repeated_with_every_round_of_heartbeats(make_group: Any) -> None:
    """Reads bring a heartbeat every turn; a follower with a slow disk must not be sent its probe each time."""
    group = make_group(3)
    group.elect(1)
    group[3].holds_disk = True
    group.raft(1).peer_dropped(3, group.now_us)
    group.raft(1).peer_connected(3, group.now_us)
    group.propose(1)
    group.settle()
    group.advance(1000)
    group.take_sent()

    for _ in range(20):
        group.raft(1).read()
        group.settle()

    sent = group.take_sent()
    assert len([envelope for envelope in sent if envelope.sender == 3]) == 20
    assert len([envelope for envelope in sent if envelope.to == 3 and isinstance(envelope.message, Append)]) <= 1


def test_a_dropped_connection_puts_the_follower_to_probe_and_a_new_one_resumes_it(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.isolate(3)
    group.propose(1, b"a")
    group.settle()
    group.raft(1).peer_dropped(3, group.now_us)
    progress = group.raft(1).progress(3)
    assert (progress.state, progress.next) == (ProgressState.PROBE, progress.match + 1)
    group.heal()

    group.raft(1).peer_connected(3, group.now_us)
    group.settle()

    assert group[3].bodies() == [b"a"]


def test_a_follower_whose_connection_comes_up_hears_from_its_leader_at_once(make_group: Any) -> None:
    """Otherwise it would go on asking for votes until the next heartbeat."""
    group = make_group(3)
    group.elect(1)
    group.take_sent()

    group.raft(1).peer_connected(3, group.now_us)
    group.settle()

    assert len(group.messages(Heartbeat, to=3)) == 1


def test_a_stale_refusal_does_not_slow_a_follower_down(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.propose(1)
    group.settle()

    group.put(2, 1, AppendReply(1, 1, True, 0, 0, False))
    group.put(2, 1, AppendReply(1, 0, False, 0, 0, False))
    group.settle()

    assert group.raft(1).progress(2).state is ProgressState.REPLICATE
    assert group.raft(1).progress(2).match == 2


def test_an_acknowledgement_beyond_the_log_is_ignored(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)

    group.put(2, 1, AppendReply(1, 99, False, 0, 0, False))
    group.settle()

    assert group.raft(1).commit == 1
    assert group.raft(1).progress(2).match == 1


def test_an_acknowledgement_of_an_earlier_term_does_not_count(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    group.depose(1)
    group.advance(1000)
    group.lost = lambda envelope: isinstance(envelope.message, Append)
    group.raft(1).campaign(group.now_us)
    group.settle()
    assert group.raft(1).term == 2

    group.put(2, 1, AppendReply(1, 2, False, 0, 0, False))
    group.put(3, 1, AppendReply(1, 2, False, 0, 0, False))
    group.settle()

    assert group.raft(1).commit == 1


def test_messages_for_another_partition_or_incarnation_are_dropped(make_group: Any) -> None:
    group = make_group(3)
    group.elect(1)
    envelope = next(iter(group.sent))
    for partition, to in ((4, 2), (3, 22)):
        stranger = type(envelope)(partition, 1, to, Heartbeat(9, 0, 1))
        group.raft(2).step(stranger, group.now_us)

    assert group.raft(2).term == 1
