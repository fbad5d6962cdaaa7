"""How operations are begun, timed and counted, on virtual time."""

import asyncio
from collections.abc import Callable

import pytest
import virtual_time

from rewind import InvalidArgument, OutcomeUnknown, RewindError, Unavailable
from rewind.bench.driver import Account, Begun, Driver
from rewind.bench.tasks import Pace

Service = Callable[[int], float]  # how long the operation of a number takes, in seconds
ENDLESS = 1 << 62


def drive(pace: Pace, service: Service, error: RewindError | None = None) -> Account:
    """Drive operations that take as long as `service` says, and fail with an error if one is given."""

    async def operate(number: int) -> None:
        await asyncio.sleep(service(number))
        if error is not None:
            raise error

    async def begin(number: int) -> Begun:
        return "append", 1, asyncio.ensure_future(operate(number))

    async def run() -> Account:
        return await Driver(pace).run(begin)

    return virtual_time.run(run())


def slower_than(account: Account, milliseconds: float) -> int:
    """Return how many operations took longer."""
    histogram = account.latencies["append"].histogram()
    counts = [histogram.quantile_ms(100 * (number + 1) / histogram.count) for number in range(histogram.count)]
    return sum(each > milliseconds for each in counts)


def stall(number: int) -> float:
    """Take a millisecond, but for one operation that takes a second."""
    return 1.0 if number == 100 else 0.001


def test_a_stall_is_felt_by_every_operation_that_was_due_meanwhile() -> None:
    pace = Pace(begin_s=0.0, seconds=5.0, operations=ENDLESS, in_flight=1, rate=100.0)

    account = drive(pace, stall)

    assert account.done["append"] == 500
    # Due every 10 ms during a stall of 1 s, answered one by one after it: half of the hundred wait for half a second.
    assert slower_than(account, 500.0) == pytest.approx(56, abs=3)


def test_without_a_rate_a_stall_is_one_slow_operation() -> None:
    pace = Pace(begin_s=0.0, seconds=5.0, operations=ENDLESS, in_flight=1)

    account = drive(pace, stall)

    assert slower_than(account, 500.0) == 1


def test_what_a_rate_asked_for_and_never_began_is_told() -> None:
    pace = Pace(begin_s=0.0, seconds=5.0, operations=ENDLESS, in_flight=2, rate=10.0)

    account = drive(pace, lambda _: 100.0)

    assert account.done["append"] == 2
    assert account.not_begun == 48


def test_no_more_than_allowed_are_under_way() -> None:
    under_way = most = 0

    async def operate() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1

    async def begin(_: int) -> Begun:
        return "append", 1, asyncio.ensure_future(operate())

    async def run() -> None:
        await Driver(Pace(begin_s=0.0, seconds=60.0, operations=1000, in_flight=7)).run(begin)

    virtual_time.run(run())

    assert most == 7


def test_a_count_ends_a_run_as_exactly_as_it_is_given() -> None:
    account = drive(Pace(begin_s=0.0, seconds=1e9, operations=123, in_flight=10), lambda _: 0.01)

    assert account.done["append"] == account.events["append"] == 123
    assert account.ended_s == pytest.approx(0.13)


@pytest.mark.parametrize("error", [Unavailable("no"), OutcomeUnknown("who knows")])
def test_what_was_not_acknowledged_is_counted_as_a_failure_and_as_nothing_else(error: RewindError) -> None:
    account = drive(Pace(begin_s=0.0, seconds=1e9, operations=5, in_flight=2), lambda _: 0.01, error)

    assert account.failures == {type(error).__name__: 5}
    assert not account.done
    assert not account.events
    assert not account.latencies


def test_an_error_that_is_the_benchmarks_own_ends_it() -> None:
    with pytest.raises(InvalidArgument):
        drive(Pace(begin_s=0.0, seconds=1e9, operations=5, in_flight=2), lambda _: 0.01, InvalidArgument("wrong"))
