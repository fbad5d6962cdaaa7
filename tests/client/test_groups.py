"""Members of consumer groups, in simulated time: they come, go and die, and each event is dealt with."""

from collections import Counter
from typing import Any

from group_lab import add, places, positions, said

from rewind.beginning import NOW
from rewind.group_member import STOP_PATIENCE_US
from rewind_cluster.groups import (
    GROUP_LEASE_US,
    AttendGroup,
    ClaimGroup,
    ResetGroup,
    SettleGroup,
)

SECOND_US = 1_000_000


def test_a_sole_member_gets_every_event_once_and_in_order_of_its_stream(lab: Any, make_worker: Any) -> None:
    add(lab, *[f"s{number % 10}" for number in range(60)])

    worker = make_worker(lab)
    worker.work_for(SECOND_US)

    assert worker.holds == [1, 2, 3, 4]
    assert len(set(places(worker))) == len(worker.taken) == 60
    for stream in {event.stream for event in worker.events}:
        assert [event.version for event in worker.events if event.stream == stream] == list(range(1, 7))
    assert all(each.attempt == 1 for each in worker.taken)


def test_what_is_acknowledged_is_told_and_not_delivered_to_the_next_member(one: Any, make_worker: Any) -> None:
    add(one, *"abcdef")
    first = make_worker(one)
    one.settle()
    taken = first.take()
    for delivery in (taken[0], taken[2], taken[3]):
        delivery.ack()
    one.advance(SECOND_US)
    first.leave()
    one.advance(SECOND_US)

    second = make_worker(one)
    second.work_for(SECOND_US)

    assert positions(second.taken) == [2, 5, 6]
    assert one.cluster.groups.group("mailer", 1).checkpoint == 6
    assert first.desk.left


def test_members_share_the_partitions_and_no_event_goes_to_both(lab: Any, make_worker: Any) -> None:
    first = make_worker(lab)
    first.work_for(SECOND_US)
    second = make_worker(lab)
    for _ in range(40):
        add(lab, *[f"s{number}" for number in range(12)])
        lab.advance(100_000)
        first.work()
        second.work()
    first.work_for(SECOND_US)
    second.work_for(SECOND_US)

    assert (len(first.holds), len(second.holds)) == (2, 2)
    assert set(first.holds) | set(second.holds) == {1, 2, 3, 4}
    assert first.taken
    assert second.taken
    assert max(Counter(places(first, second)).values()) == 1
    assert len(places(first, second)) == 480


def test_a_dead_members_events_go_to_another_and_count_one_attempt(one: Any, make_worker: Any) -> None:
    add(one, *"abcd")
    first, second = make_worker(one), make_worker(one)
    one.settle()
    first.take(2)[0].ack()
    one.advance(SECOND_US)

    first.die()
    second.work_for(GROUP_LEASE_US + 2 * SECOND_US)

    assert positions(second.taken) == [2, 3, 4]
    assert [each.attempt for each in second.taken] == [2, 1, 1]


def test_a_member_that_leaves_hands_over_at_once(one: Any, make_worker: Any) -> None:
    add(one, *"abcd")
    first, second = make_worker(one), make_worker(one)
    one.settle()
    first.take(3)[1].ack()

    first.leave()
    second.work_for(2 * SECOND_US)

    assert positions(second.taken) == [1, 3, 4]
    assert [each.attempt for each in second.taken] == [1, 1, 1]
    assert not first.taken[0].ack()


def test_only_the_latest_claim_settles(one: Any, make_worker: Any) -> None:
    add(one, *"abc")
    first = make_worker(one)
    one.settle()
    taken = first.take(2)
    group = one.cluster.groups.group("mailer", 1)

    group.epoch += 1  # another took over, and we were not told
    took = taken[0].ack()
    one.advance(100_000)

    assert took  # nobody knew better
    assert not group.settled
    assert not taken[1].ack()
    one.advance(SECOND_US)
    assert positions(first.take()) == [1, 2, 3]


def test_a_lost_answer_is_asked_for_again_and_nothing_is_lost(one: Any, make_worker: Any) -> None:
    add(one, *[f"s{number}" for number in range(10)])
    worker = make_worker(one)
    worker.work_for(200_000)
    leader = one.cluster.leading(1)

    one.lossy.add(leader.address)
    add_later = [one.append(f"t{number}") for number in range(10)]
    worker.work_for(500_000)
    one.lossy.clear()
    one.drop(leader)
    one.run(*add_later)
    worker.work_for(3 * SECOND_US)

    assert sorted(places(worker)) == sorted(set(places(worker)))
    assert one.cluster.groups.group("mailer", 1).checkpoint == 20


def test_settlements_go_on_at_a_new_leader(one: Any, make_worker: Any) -> None:
    worker = make_worker(one)
    for _ in range(6):
        add(one, *"abc")
        worker.work_for(100_000)
        one.push(one.cluster.elect(1, one.cluster.other(one.cluster.leading(1))))
    worker.work_for(SECOND_US)

    assert positions(worker.taken) == list(range(1, 19))
    assert one.cluster.groups.group("mailer", 1).checkpoint == 18
    assert len(said(one, ClaimGroup)) == 1 + sum(
        isinstance(each, ClaimGroup) for node in one.cluster.nodes for _, each in node.held
    )


# ── where it begins, and what it leaves out ──────────────────────────────────────────────────────────────────────────


def test_a_new_group_begins_where_it_is_told_and_an_old_one_where_it_was(one: Any, make_worker: Any) -> None:
    add(one, *"abc")
    first = make_worker(one, after=NOW)
    add(one, *"ab")
    first.work_for(SECOND_US)
    first.leave()
    one.advance(SECOND_US)
    add(one, *"ab")

    second = make_worker(one, after=NOW)
    second.work_for(SECOND_US)

    assert positions(first.taken) == [4, 5]
    assert positions(second.taken) == [6, 7]


def test_what_a_filter_takes_out_is_settled_on_the_way(one: Any, make_worker: Any) -> None:
    worker = make_worker(one, types=["A"])
    one.settle()
    for kind in "ABBABBB":
        add(one, "s", kind=kind)
    worker.work_for(2 * SECOND_US)

    assert positions(worker.taken) == [1, 4]
    assert one.cluster.groups.group("mailer", 1).checkpoint == 7


def test_a_quiet_group_writes_nothing_but_signs_of_life(one: Any, make_worker: Any) -> None:
    worker = make_worker(one)
    worker.work_for(SECOND_US)
    for node in one.cluster.nodes:
        node.hears.clear()

    worker.work_for(10 * SECOND_US)

    settles = said(one, SettleGroup)
    assert 9 <= len(settles) <= 11
    assert not any(each.settled or each.attempts or each.parks for each in settles)
    assert 9 <= len(said(one, AttendGroup)) <= 11


def test_settlements_are_gathered(one: Any, make_worker: Any) -> None:
    add(one, *[f"s{number}" for number in range(200)])
    worker = make_worker(one)

    worker.work_for(2 * SECOND_US)

    assert len(worker.taken) == 200
    assert len([each for each in said(one, SettleGroup) if each.settled]) <= 2


# ── rebalancing ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_partition_changes_hands_only_when_what_is_in_hand_is_settled(lab: Any, make_worker: Any) -> None:
    add(lab, *[f"s{number}" for number in range(40)])
    first = make_worker(lab)
    lab.settle()
    taken = first.take()
    second = make_worker(lab)

    lab.advance(3 * SECOND_US)
    before = second.take()
    told = [delivery.ack() for delivery in taken]
    second.work_for(2 * SECOND_US)

    assert not before
    assert all(told)
    assert len(second.holds) == 2
    assert not second.taken  # nothing is delivered again


def test_a_partition_changes_hands_in_the_end(lab: Any, make_worker: Any) -> None:
    add(lab, *[f"s{number}" for number in range(40)])
    first = make_worker(lab)
    lab.settle()
    taken = first.take()
    second = make_worker(lab)

    second.work_for(STOP_PATIENCE_US + 3 * SECOND_US)
    late = [delivery for delivery in taken if not delivery.ack()]

    assert len(second.holds) == 2
    assert {(each.event.partition, each.event.position) for each in late} == set(places(second))


def test_a_member_that_hears_nothing_stops_handing_out(one: Any, make_worker: Any) -> None:
    add(one, *"abcd")
    worker = make_worker(one)
    one.settle()
    worker.take(1)[0].ack()

    for node in one.cluster.nodes:
        one.lossy.add(node.address)
    one.advance(GROUP_LEASE_US)
    in_doubt = worker.take()
    one.lossy.clear()
    worker.work_for(6 * SECOND_US)

    assert not in_doubt
    assert positions(worker.taken) == [1, 2, 3, 4]


def test_a_reset_delivers_again_from_there(one: Any, make_worker: Any) -> None:
    add(one, *"abcd")
    worker = make_worker(one)
    worker.work_for(SECOND_US)

    one.cluster.groups.handle(ResetGroup(1, 1, 1, "mailer", 2, 0), one.now_us)
    again = worker.work_for(2 * SECOND_US)

    assert positions(again) == [3, 4]
