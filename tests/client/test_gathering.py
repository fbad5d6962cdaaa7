"""When a writer sends what waits: at once where nobody gains by waiting, together where a batch saves commits."""

from typing import Any

import pytest

from rewind.appending import BEHIND_US, GATHER_US


def leading(lab: Any) -> Any:
    return lab.cluster.leading(lab.cluster.partition_of("s"))


def batches(lab: Any) -> int:
    """Return how many batches the leader has heard."""
    return len(leading(lab).appends())


@pytest.fixture
def after_ten(lab: Any) -> Any:
    """Return a lab whose last batch held ten appends, all answered."""
    lab.run(lab.append("s"))
    lab.run(*[lab.append("s") for _ in range(10)])
    leading(lab).hears.clear()
    return lab


def test_one_at_a_time_leaves_at_once(lab: Any) -> None:
    lab.run(lab.append("s"))
    began_us = lab.now_us

    for _ in range(5):
        append = lab.append("s")
        lab.settle()
        assert append in lab.ended

    assert lab.now_us == began_us


def test_fewer_than_the_last_batch_held_wait_a_little_for_more(after_ten: Any) -> None:
    lab = after_ten
    early = lab.append("s")
    lab.advance(GATHER_US - 1)
    assert early not in lab.ended

    late = lab.append("s")
    lab.advance(1)

    assert early in lab.ended
    assert late in lab.ended
    assert batches(lab) == 1


def test_as_many_as_the_last_batch_held_leave_at_once(after_ten: Any) -> None:
    lab = after_ten
    began_us = lab.now_us

    appends = [lab.append("s") for _ in range(10)]
    lab.settle()

    assert all(append in lab.ended for append in appends)
    assert lab.now_us == began_us
    assert batches(lab) == 1


def test_who_waited_once_does_not_wait_again(after_ten: Any) -> None:
    lab = after_ten
    lab.append("s")
    lab.advance(GATHER_US)
    began_us = lab.now_us

    alone = lab.append("s")
    lab.settle()

    assert alone in lab.ended
    assert lab.now_us == began_us


def test_behind_a_batch_under_way_fewer_wait_until_it_is_answered(after_ten: Any) -> None:
    lab = after_ten
    leader = leading(lab)
    leader.paused = True
    first = [lab.append("s") for _ in range(10)]
    lab.settle()
    second = lab.append("s")
    lab.advance(GATHER_US * 2)
    assert len(leader.held) == 1

    lab.resume(leader)
    lab.advance(GATHER_US)

    assert all(append in lab.ended for append in (*first, second))
    assert batches(lab) == 2


def test_behind_a_batch_that_takes_long_they_wait_no_longer_than_that(after_ten: Any) -> None:
    lab = after_ten
    leader = leading(lab)
    leader.paused = True
    for _ in range(10):
        lab.append("s")
    lab.settle()
    lab.append("s")
    lab.advance(BEHIND_US - 1)
    assert len(leader.held) == 1

    lab.advance(1)

    assert len(leader.held) == 2


def test_a_third_batch_waits_for_an_answer_however_long_it_takes(after_ten: Any) -> None:
    lab = after_ten
    leader = leading(lab)
    leader.paused = True
    for _ in range(3):
        for _ in range(10):
            lab.append("s")
        lab.advance(BEHIND_US)

    lab.advance(10 * BEHIND_US)

    assert len(leader.held) == 2


def test_appends_that_gather_keep_their_order(after_ten: Any) -> None:
    lab = after_ten
    appends = []
    for _ in range(9):
        appends.append(lab.append("s"))
        lab.advance(GATHER_US // 4)

    lab.run(*appends)

    assert [append.result.version for append in appends] == list(range(12, 21))
