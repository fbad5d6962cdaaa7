"""What a member of a group is handed, in simulated time: in order, again, as a suspect, or as a replay."""

from typing import Any

import pytest
from group_lab import add, positions

from rewind.group_claim import CAREFUL_US, UNPARKED_RETRY_US
from rewind.group_member import REPLAYS_MAX
from rewind_cluster.groups import (
    GROUP_LEASE_US,
)

SECOND_US = 1_000_000


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


# ── events that kill ─────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── replays ──────────────────────────────────────────────────────────────────────────────────────────────────────────


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
