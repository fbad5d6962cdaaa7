"""How operations are begun and timed: so many under way at once, as fast as they are answered or at a steady rate.

The rule: an operation counts once it was acknowledged, and never otherwise. What a cluster under stress may answer
(a retriable error, an unknown outcome) is counted as a failure; any other error ends the run.
"""

import asyncio
import selectors
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from rewind.bench.latencies import Latencies
from rewind.bench.tasks import Pace
from rewind.errors import OutcomeUnknown, RewindError

LATE_MAX_S = 1.0  # many times what a timer on a busy machine is late, and little beside any run

Begun = tuple[str, int, "asyncio.Future[Any]"]  # an operation's kind, its events, and its future


def paced_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop for processes that keep a rate.

    epoll sleeps whole milliseconds, select microseconds: with epoll a steady rate would come in bursts.
    """
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


class Account:
    """What became of operations: how long they took, how many there were, and what went wrong."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._fatal: BaseException | None = None
        self.latencies: dict[str, Latencies] = defaultdict(Latencies)
        self.done: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.not_begun = 0
        self.began_s = pace.begin_s
        self.ended_s = pace.begin_s

    @property
    def is_over(self) -> bool:
        """Whether an error has ended the run."""
        return self._fatal is not None

    def check(self) -> None:
        """Raise the error that has ended the run, if any has."""
        if self._fatal is not None:
            raise self._fatal

    def left(self, number: int) -> int:
        """Return how many operations the rate asked for from this one on."""
        if self._pace.rate is None:
            return 0
        return max(0, min(self._pace.operations, int(self._pace.seconds * self._pace.rate)) - number)

    def ended(self, kind: str, events: int, due_s: float, now_s: float) -> None:
        """Count an operation that was acknowledged or answered now."""
        self.ended_s = now_s
        self.latencies[kind].add(now_s - due_s)
        self.done[kind] += 1
        self.events[kind] += events

    def failed(self, error: BaseException) -> None:
        """Count a failure, or take it for the end."""
        if isinstance(error, RewindError) and (error.retriable or isinstance(error, OutcomeUnknown)):
            self.failures[type(error).__name__] += 1
        elif self._fatal is None:
            self._fatal = error


class Driver:
    """Begins operations at one pace and keeps account of them."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._loop = asyncio.get_running_loop()  # its clock is the machine's monotonic one
        # With a rate what was due before the end may still begin a little after it: a late timer is no overload.
        self._until_s = pace.begin_s + pace.seconds
        self._last_s = self._until_s if pace.rate is None else self._until_s + LATE_MAX_S
        self._under_way = 0
        self._room: asyncio.Future[None] | None = None
        self.account = Account(pace)

    async def run(self, begin: Callable[[int], Awaitable[Begun]]) -> Account:
        """Begin operation after operation, numbered from 0, wait until all have ended, and return the account."""
        pace, account = self._pace, self.account
        await self._sleep_until(pace.begin_s)
        account.began_s = self._loop.time()
        for number in range(pace.operations):
            if pace.rate is not None and not await self._wait_for_turn(number, pace.rate):
                break
            while self._under_way >= pace.in_flight:
                await self._wait_for_one()
            now_s = self._loop.time()
            if now_s >= self._last_s or account.is_over:
                account.not_begun = account.left(number)
                break
            due_s = now_s if pace.rate is None else self._due_s(number, pace.rate)
            kind, events, future = await begin(number)
            self._under_way += 1
            future.add_done_callback(partial(self._ended, kind, events, due_s))
        while self._under_way:
            await self._wait_for_one()
        account.check()
        return account

    def _due_s(self, number: int, rate: float) -> float:
        return self._pace.begin_s + number / rate

    async def _wait_for_turn(self, number: int, rate: float) -> bool:
        """Wait until an operation is meant to begin; return False if that is after the end."""
        due_s = self._due_s(number, rate)
        if due_s >= self._until_s:
            return False
        await self._sleep_until(due_s)
        return True

    async def _wait_for_one(self) -> None:
        self._room = self._loop.create_future()
        await self._room

    def _ended(self, kind: str, events: int, due_s: float, future: "asyncio.Future[Any]") -> None:
        self._under_way -= 1
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        error = future.exception()
        if error is None:
            self.account.ended(kind, events, due_s, self._loop.time())
        else:
            self.account.failed(error)

    async def _sleep_until(self, time_s: float) -> None:
        delay_s = time_s - self._loop.time()
        if delay_s > 0:
            await asyncio.sleep(delay_s)
