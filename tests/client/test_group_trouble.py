"""A member of a group whose window is full, or that nobody answers, in simulated time: bounded, and never silent."""

import logging
from typing import Any

import pytest
from group_lab import add, positions, said

from rewind.errors import AccessDenied, Closed, InvalidArgument
from rewind.group_member import FULL_US
from rewind.patience import PATIENCE_US
from rewind_cluster.client_messages import CLIENT_CODEC, Code, Failed, Refused
from rewind_cluster.groups import (
    GROUP_WINDOW,
    AttendGroup,
    ClaimGroup,
    SettledIs,
    SettleGroup,
)
from rewind_cluster.ranges import ReadAll

SECOND_US = 1_000_000


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


# ── what goes wrong for long, or for good ────────────────────────────────────────────────────────────────────────────


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
