"""How long the client waits before it tries again, and that a node which is overloaded is left alone for a while."""

import random
from itertools import pairwise
from typing import Any

import pytest

from rewind.backoff import BACKOFF_FIRST_US, BACKOFF_MAX_US, Backoff
from rewind.errors import DeadlineExceeded, Overloaded
from rewind_cluster.client_messages import AppendBatch, Code, Failed, GetVersion

STREAM = "s"


def times_of(lab: Any, kind: type) -> list[int]:
    """Return a list that gathers when nodes hear messages of a kind."""
    times: list[int] = []
    for node in lab.cluster.nodes:
        node.answer = lambda message, _: times.append(lab.now_us) if isinstance(message, kind) else None
    return times


def gaps_of(times: list[int]) -> list[int]:
    return [later - earlier for earlier, later in pairwise(times)]


def leading(lab: Any) -> Any:
    return lab.cluster.leading(lab.cluster.partition_of(STREAM))


def test_delays_double_up_to_the_most_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(lambda: 1.0)

    delays = [backoff.next_us() for _ in range(8)]
    backoff.reset()

    assert delays == [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 250_000, 250_000]
    assert backoff.next_us() == BACKOFF_FIRST_US


def test_delays_lie_at_random_between_half_and_all() -> None:
    draw = random.Random(7).random

    delays = [Backoff(draw).next_us() for _ in range(1000)]

    assert BACKOFF_FIRST_US / 2 <= min(delays) < BACKOFF_FIRST_US * 0.55
    assert BACKOFF_FIRST_US * 0.95 < max(delays) <= BACKOFF_FIRST_US


def test_appends_refused_for_load_are_sent_ever_more_slowly_and_taken_in_the_end(lab: Any) -> None:
    lab.run(lab.append(STREAM))
    tries = times_of(lab, AppendBatch)
    leading(lab).refuse = lambda _: Code.OVERLOADED
    append = lab.append(STREAM, timeout=10.0)

    lab.advance(5_000_000)
    leading(lab).refuse = None
    lab.run(append)

    gaps = gaps_of(tries)
    assert append.result.version == 2
    assert gaps[0] < BACKOFF_FIRST_US * 2
    assert all(gap >= BACKOFF_MAX_US / 2 for gap in gaps[8:-1])
    assert len(tries) < 5_000_000 / (BACKOFF_MAX_US / 2) + 8
    assert len(set(gaps[8:])) > len(gaps[8:]) / 2, "without jitter clients would come back together"


def test_an_append_refused_for_load_to_the_last_says_so_at_its_deadline(lab: Any) -> None:
    lab.run(lab.append(STREAM))
    leading(lab).refuse = lambda _: Code.OVERLOADED
    began_us = lab.now_us
    append = lab.append(STREAM, timeout=3.0)

    lab.run(append)

    assert isinstance(append.error, Overloaded)
    assert "more slowly" in str(append.error)
    assert 3_000_000 <= lab.now_us - began_us < 3_100_000


def test_a_read_refused_for_load_backs_off_though_others_are_answered(lab: Any) -> None:
    refused: list[int] = []

    def refuse(message: Any, _: Any) -> list[Any] | None:
        if not isinstance(message, GetVersion) or message.stream != STREAM:
            return None
        refused.append(lab.now_us)
        return [Failed(message.request, Code.OVERLOADED, "too many reads are waiting", "", 0)]

    for node in lab.cluster.nodes:
        node.answer = refuse
    request = lab.calls.version(STREAM, "linearizable", None, 3.0)
    lab.session.request(request, lab.now_us)

    while request not in lab.ended:
        lab.ask(lab.calls.version("other", "linearizable", None, 3.0))
        lab.advance(10_000)

    assert isinstance(request.error, DeadlineExceeded)
    assert "too many reads are waiting" in str(request.error)
    assert all(gap >= BACKOFF_MAX_US / 2 for gap in gaps_of(refused)[8:])
    assert len(refused) < 40


@pytest.mark.parametrize("code", [Code.NOT_LEADER, Code.NOT_READY])
def test_a_read_that_backs_off_goes_to_a_new_leader_at_once(lab: Any, code: Code) -> None:
    partition = lab.cluster.partition_of(STREAM)
    for node in lab.cluster.nodes:
        node.answer = lambda message, _: (
            [Failed(message.request, code, "not now", "", 0)] if isinstance(message, GetVersion) else None
        )
    request = lab.calls.version(STREAM, "linearizable", None, 10.0)
    lab.session.request(request, lab.now_us)
    lab.advance(1_000_000)
    for node in lab.cluster.nodes:
        node.answer = None
    began_us = lab.now_us

    lab.push(lab.cluster.elect(partition, lab.cluster.other(lab.cluster.leading(partition))))
    lab.run(request)

    assert request.error is None
    assert lab.now_us == began_us
