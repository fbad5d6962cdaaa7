"""Consumer groups in the session, in simulated time: members come, go and die, and each event is dealt with."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from rewind.beginning import NOW
from rewind.errors import AccessDenied, Closed, InvalidArgument
from rewind.events import ANY, NewEvent
from rewind.group_claim import CAREFUL_US, UNPARKED_RETRY_US
from rewind.group_member import FULL_US, REPLAYS_MAX, STOP_PATIENCE_US
from rewind.patience import PATIENCE_US
from rewind_cluster.client_messages import CLIENT_CODEC, Code, Failed, Refused
from rewind_cluster.groups import (
    GROUP_LEASE_US,
    GROUP_WINDOW,
    AttendGroup,
    ClaimGroup,
    ResetGroup,
    SettledIs,
    SettleGroup,
)
from rewind_cluster.ranges import ReadAll

SECOND_US = 1_000_000


@pytest.fixture
def one(make_lab: Callable[..., Any]) -> Any:
    """Return a session with three nodes and one partition."""
    return make_lab(partitions=1).connect()


def add(lab: Any, *streams: str, kind: str = "T", data: bytes = b"") -> None:
    """Append an event to each of these streams."""
    appends = [lab.calls.append(stream, NewEvent(kind, data), ANY, None) for stream in streams]
    for append in appends:
        lab.session.append(append, lab.now_us)
    lab.run(*appends)


def said(lab: Any, kind: type[Any]) -> list[Any]:
    """Return what nodes heard of a kind."""
    return [message for node in lab.cluster.nodes for message in node.hears if isinstance(message, kind)]


def positions(deliveries: Iterable[Any]) -> list[int]:
    return [each.event.position for each in deliveries]


def places(*workers: Any) -> list[tuple[int, int]]:
    return [(event.partition, event.position) for worker in workers for event in worker.events]


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


# ── order ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_of_each_stream_one_event_is_in_hand(one: Any, make_worker: Any) -> None:
    add(one, *"aabbab")
    worker = make_worker(one)
    one.settle()

    first = worker.take()
    first[0].ack()
    second = worker.take()

    assert positions(first) == [1, 3]
    assert positions(second) == [2]


def test_an_event_that_waits_holds_its_own_stream_alone(one: Any, make_worker: Any) -> None:
    add(one, *"abaab")
    worker = make_worker(one)
    one.settle()

    worker.take(1)[0].nack(retry_after=0.5)
    before = worker.work_for(400_000)
    after = worker.work_for(300_000)

    assert positions(before) == [2, 5]
    assert positions(after) == [1, 3, 4]
    assert [each.attempt for each in after] == [2, 1, 1]


def test_a_delay_begins_when_the_event_is_given_back(one: Any, make_worker: Any) -> None:
    add(one, "a")
    worker = make_worker(one)
    one.settle()
    (delivery,) = worker.take()
    one.advance(SECOND_US)

    delivery.nack(retry_after=2.0)
    one.advance(1_990_000)
    early = worker.take()
    one.advance(20_000)

    assert not early
    assert positions(worker.take()) == [1]


def test_an_event_that_fails_too_often_is_parked_and_its_stream_goes_on(one: Any, make_worker: Any) -> None:
    add(one, *"aab")
    worker = make_worker(one, max_attempts=3)
    attempts = []
    for _ in range(3):
        one.advance(100_000)
        (delivery,) = [each for each in worker.take() if each.event.position == 1]
        attempts.append(delivery.attempt)
        delivery.nack(retry_after=0)

    one.advance(100_000)

    assert attempts == [1, 2, 3]
    assert positions(worker.take()) == [2]
    parked = one.cluster.groups.group("mailer", 1).parked
    assert {position: (each.attempts, each.reason) for position, each in parked.items()} == {
        1: (3, "given back 3 times")
    }


def test_an_event_is_parked_at_once_where_the_application_says_so(one: Any, make_worker: Any) -> None:
    add(one, *"aa")
    worker = make_worker(one)
    one.settle()

    worker.take(1)[0].park("no such customer" * 100)
    one.settle()

    assert positions(worker.take()) == [2]
    assert one.cluster.groups.group("mailer", 1).parked[1].reason == ("no such customer" * 100)[:200]


def test_an_event_that_is_to_be_parked_waits_for_room(
    one: Any, make_worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    add(one, *"aab")
    one.cluster.groups.parked_max = 0
    worker = make_worker(one)
    one.settle()

    worker.take(1)[0].park("hopeless")
    done = worker.work_for(SECOND_US)
    one.cluster.groups.parked_max = 1
    worker.work_for(UNPARKED_RETRY_US, 100_000)

    assert positions(done) == [3]
    assert "no room to park position 1" in caplog.text
    assert positions(worker.taken) == [1, 3, 2]
    assert list(one.cluster.groups.group("mailer", 1).parked) == [1]


def test_only_the_first_verdict_counts(one: Any, make_worker: Any) -> None:
    add(one, "a")
    worker = make_worker(one)
    one.settle()
    (first,) = worker.take()
    first.nack(retry_after=0)
    one.settle()
    (second,) = worker.take()

    late = [first.ack(), first.nack(), first.park("x")]
    said_now = second.ack()

    assert late == [False, False, False]
    assert said_now
    assert not second.ack()


# ── events that kill ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_event_that_kills_its_consumers_is_parked_and_no_other(one: Any, make_worker: Any) -> None:
    add(one, *[f"s{number}" for number in range(20)])
    handled: list[int] = []
    crashes = 0
    for _ in range(10):
        worker = make_worker(one, max_attempts=3)
        for _ in range(800):
            one.advance(10_000)
            while found := worker.take(1):
                if found[0].event.position == 8:
                    break
                handled += positions(found)
                found[0].ack()
            if found:
                break
        else:
            break
        worker.die()  # with what it acknowledged a moment ago untold
        crashes += 1

    group = one.cluster.groups.group("mailer", 1)
    assert list(group.parked) == [8]
    assert group.checkpoint == 20
    assert set(handled) == set(range(1, 21)) - {8}
    assert crashes == 4  # the first may have been any event's fault


def test_an_event_is_handed_out_again_only_when_the_cluster_knows(one: Any, make_worker: Any) -> None:
    add(one, *"ab")
    worker = make_worker(one)
    one.settle()
    worker.take(1)[0].nack(retry_after=0.1)
    one.advance(90_000)
    leader = one.cluster.leading(1)

    leader.paused = True
    one.advance(200_000)
    unknown = positions(worker.take())
    leader.paused = False
    one.resume(leader)
    one.settle()

    assert unknown == [2]
    assert positions(worker.take()) == [1]
    assert one.cluster.groups.group("mailer", 1).attempts == {1: (1, False)}


def test_a_new_owner_is_careful_for_a_moment_only(one: Any, make_worker: Any) -> None:
    add(one, *"abcd")
    first = make_worker(one)
    one.settle()
    first.take(1)
    first.die()
    second = make_worker(one)

    one.advance(GROUP_LEASE_US + SECOND_US)
    second.take()  # which first has the cluster told
    one.settle()
    at_once = second.take()
    one.advance(CAREFUL_US)
    later = second.take()

    assert positions(at_once) == [1]
    assert positions(later) == [2, 3, 4]


@pytest.mark.parametrize("verdict", ["ack", "nack", "park"])
def test_nothing_else_is_handed_out_until_the_end_of_a_suspect_is_known(
    one: Any, make_worker: Any, verdict: str
) -> None:
    add(one, *"abc")
    worker = make_worker(one)
    one.settle()
    worker.take(1)[0].nack(retry_after=0)
    one.settle()
    suspect, other = worker.take(2)
    leader = one.cluster.leading(1)

    leader.paused = True
    other.ack()
    one.advance(100_000)  # a report is under way, and it does not tell of the suspect
    getattr(suspect, verdict)(*["why"][: verdict == "park"])
    one.settle()
    before = worker.take()
    one.resume(leader)
    still = worker.take()
    one.settle()

    assert (suspect.attempt, other.attempt) == (2, 1)
    assert not before
    assert not still
    assert positions(worker.take()) == [3]


# ── replays ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_parked_event_is_replayed_and_then_no_longer_parked(one: Any, make_worker: Any) -> None:
    add(one, *"ab")
    worker = make_worker(one)
    one.settle()
    worker.take(1)[0].park("later")
    worker.work_for(100_000)
    group = one.cluster.groups.group("mailer", 1)

    group.parked[1].replaying = True
    replayed = worker.work_for(3 * SECOND_US)

    assert [(each.event.position, each.attempt) for each in replayed] == [(1, 1)]
    assert not group.parked


def test_many_parked_events_are_replayed_a_few_at_a_time_and_again(one: Any, make_worker: Any) -> None:
    count = REPLAYS_MAX * 2 + 3
    add(one, *[f"s{number}" for number in range(count)])
    worker = make_worker(one)
    one.settle()
    for delivery in worker.take():
        delivery.park("later")
    one.advance(SECOND_US)
    group = one.cluster.groups.group("mailer", 1)
    for parked in group.parked.values():
        parked.replaying = True

    one.advance(2 * SECOND_US)
    first = worker.take()
    for delivery in first[1:]:
        delivery.ack()
    first[0].park("later still")
    rest = worker.work_for(5 * SECOND_US)
    group.parked[first[0].event.position].replaying = True
    again = worker.work_for(2 * SECOND_US)

    assert len(first) == REPLAYS_MAX
    assert len(rest) == count - REPLAYS_MAX
    assert positions(again) == positions(first[:1])
    assert not group.parked


def test_a_replay_that_fails_is_parked_again(one: Any, make_worker: Any) -> None:
    add(one, "a")
    worker = make_worker(one, max_attempts=2)
    one.settle()
    worker.take(1)[0].park("later")
    one.advance(100_000)
    group = one.cluster.groups.group("mailer", 1)

    group.parked[1].replaying = True
    attempts = []
    for _ in range(4):
        one.advance(SECOND_US)
        for delivery in worker.take():
            attempts.append(delivery.attempt)
            delivery.nack(retry_after=0)

    assert attempts == [1, 2]
    assert (group.parked[1].reason, group.parked[1].replaying) == ("given back 2 times", False)
    assert group.checkpoint == 1


def test_a_replay_goes_to_whoever_has_the_partition(one: Any, make_worker: Any) -> None:
    add(one, "a")
    first = make_worker(one)
    one.settle()
    first.take(1)[0].park("later")
    one.advance(100_000)
    one.cluster.groups.group("mailer", 1).parked[1].replaying = True
    one.advance(SECOND_US)
    first.take()
    first.die()

    second = make_worker(one)
    done = second.work_for(GROUP_LEASE_US + 2 * SECOND_US)

    assert positions(done) == [1]


# ── where it begins, and what it leaves out ─────────────────────────────────────────────────────────────────────────


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


# ── bounds ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_in_hand_is_bounded_and_a_full_window_is_complained_of(
    one: Any, make_worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    add(one, *[f"s{number}" for number in range(GROUP_WINDOW + 50)])
    worker = make_worker(one)
    one.settle()

    taken = worker.take()
    one.advance(FULL_US + SECOND_US)
    complaints = caplog.text
    taken[7].ack()
    one.settle()
    more = worker.take()

    assert len(taken) == GROUP_WINDOW
    assert "neither acknowledged, given back nor parked" in complaints
    assert positions(more) == [GROUP_WINDOW + 1]


def test_large_events_in_hand_are_bounded_by_their_bytes(one: Any, make_worker: Any) -> None:
    for number in range(12):
        add(one, f"s{number}", data=bytes(1_000_000))
    worker = make_worker(one)
    one.settle()

    assert len(worker.take()) == 5
    assert len(worker.work_for(SECOND_US)) == 0
    worker.taken[0].ack()
    assert len(worker.work_for(SECOND_US)) > 0


# ── rebalancing ─────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── what goes wrong for long, or for good ───────────────────────────────────────────────────────────────────────────


def test_an_unheard_coordinator_is_complained_of_and_what_is_held_is_kept(
    one: Any, make_worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    worker = make_worker(one)
    worker.work_for(SECOND_US)
    for node in one.cluster.nodes:
        node.answer = lambda message, _: [] if isinstance(message, AttendGroup) else None

    add(one, *"ab")
    worker.work_for(PATIENCE_US + 5 * SECOND_US)

    assert positions(worker.taken) == [1, 2]
    assert worker.holds == [1]
    assert "attending at partition 1 has failed for" in caplog.text


def test_a_claim_that_another_holds_for_long_is_complained_of(
    one: Any, make_worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for node in one.cluster.nodes:
        node.answer = lambda message, _: (
            [Failed(message.request, Code.HELD, "held by worker-7:123", "", 0)]
            if isinstance(message, ClaimGroup)
            else None
        )
    worker = make_worker(one)

    worker.work_for(PATIENCE_US + 2 * SECOND_US)
    asked = len(said(one, ClaimGroup))
    for node in one.cluster.nodes:
        node.answer = None
    worker.work_for(SECOND_US)

    assert 25 < asked < 65
    assert "held by worker-7:123" in caplog.text
    assert worker.holds == [1]
    assert "claiming partition 1 works again" in caplog.text


def test_a_node_that_answers_nonsense_is_not_believed_nor_asked_without_pause(one: Any, make_worker: Any) -> None:
    add(one, *"ab")
    nonsense = SettledIs(0, 9, 0, [], [])
    worker = make_worker(one)
    one.settle()
    for node in one.cluster.nodes:
        node.answer = lambda message, _: (
            [SettledIs(message.request, nonsense.partition, 0, [], [])] if isinstance(message, SettleGroup) else None
        )

    worker.take(1)[0].ack()
    one.advance(SECOND_US)
    asked = len(said(one, SettleGroup))
    worker.leave()
    one.advance(SECOND_US)
    asked_to_release = len(said(one, SettleGroup)) - asked
    for node in one.cluster.nodes:
        node.answer = None
    one.advance(SECOND_US)

    assert asked < 10
    assert asked_to_release < 10
    assert one.cluster.groups.group("mailer", 1).checkpoint == 1
    assert worker.desk.left


def test_a_parked_event_that_cannot_be_read_stops_nothing_else(one: Any, make_worker: Any) -> None:
    add(one, *"ab")
    worker = make_worker(one)
    one.settle()
    worker.take(1)[0].park("later")
    worker.work_for(100_000)
    for node in one.cluster.nodes:
        node.answer = lambda message, _: (
            [Failed(message.request, Code.BEYOND_HEAD, "not here", "", 0)] if isinstance(message, ReadAll) else None
        )

    one.cluster.groups.group("mailer", 1).parked[1].replaying = True
    add(one, "c")
    during = worker.work_for(3 * SECOND_US)
    asked = len(said(one, ReadAll))
    for node in one.cluster.nodes:
        node.answer = None
    after = worker.work_for(2 * SECOND_US)

    assert positions(during) == [3]
    assert asked < 10
    assert positions(after) == [1]


@pytest.mark.parametrize("kind", [AttendGroup, ClaimGroup, SettleGroup])
def test_an_answer_that_no_other_node_would_change_ends_the_membership(one: Any, make_worker: Any, kind: Any) -> None:
    for node in one.cluster.nodes:
        node.answer = lambda message, _: (
            [Failed(message.request, Code.INVALID, "not like this", "", 0)] if isinstance(message, kind) else None
        )
    worker = make_worker(one)

    worker.work_for(2 * SECOND_US)

    assert worker.desk.ended
    assert isinstance(worker.desk.error, InvalidArgument)
    assert worker.desk.left


def test_members_end_with_their_session(lab: Any, make_worker: Any) -> None:
    worker = make_worker(lab)
    worker.work_for(SECOND_US)

    lab.session.abandon()
    lab.settle()

    assert isinstance(worker.desk.error, Closed)
    assert worker.desk.left


def test_members_whom_every_node_refuses_are_told(one: Any, make_worker: Any) -> None:
    worker = make_worker(one)
    worker.work_for(SECOND_US)

    for node in one.cluster.nodes:
        one.session.received(node.address, [CLIENT_CODEC.encode(Refused("access", "no"))], one.now_us)
    one.settle()

    assert isinstance(worker.desk.error, AccessDenied)


def test_a_claim_granted_after_the_member_left_is_released(one: Any, make_worker: Any) -> None:
    worker = make_worker(one)
    leader = one.cluster.leading(1)
    leader.answer = lambda message, _: [] if isinstance(message, ClaimGroup) else None
    one.advance(100_000)
    leader.answer = None

    worker.leave()
    one.drop(leader)  # what it was asked is asked again
    one.advance(2 * SECOND_US)

    assert worker.desk.left
    assert one.cluster.groups.group("mailer", 1).owner == b""
