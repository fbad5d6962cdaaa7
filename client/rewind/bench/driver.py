"""How operations are begun and timed: so many under way at once, as fast as they are answered or at a steady rate.

The rule: an operation counts once it was acknowledged, and never otherwise. What a cluster under stress may answer
(a retriable error, an unknown outcome) is counted as a failure; any other error ends the run.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from rewind.bench.latencies import Latencies
from rewind.bench.tasks import Pace
from rewind.errors import OutcomeUnknown, RewindError

LATE_MAX_S = 1.0  # many times what a timer on a busy machine is late, and little beside any run

Begun = tuple[str, int, "asyncio.Future[Any]"]  # an operation's kind, its events, and its future


class Driver:
    """Begins operations at one pace and keeps account of them."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._until_s = pace.begin_s + pace.seconds
        # With a rate what was due before the end may still begin a little after it: a late timer is no overload.
        self._grace_s = 0.0 if pace.rate is None else LATE_MAX_S
        self._under_way = 0
        self._room: asyncio.Future[None] | None = None
        self._fatal: BaseException | None = None
        self.latencies: dict[str, Latencies] = defaultdict(Latencies)
        self.done: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.not_begun = 0
        self.began_s = pace.begin_s
        self.ended_s = pace.begin_s

    async def run(self, begin: Callable[[int], Awaitable[Begun]]) -> None:
        """Begin operation after operation, numbered from 0, and wait until all have ended."""
        pace = self._pace
        await _sleep_until(pace.begin_s)
        self.began_s = time.monotonic()
        for number in range(pace.operations):
            if pace.rate is not None and not await self._wait_for_turn(number, pace.rate):
                break
            while self._under_way >= pace.in_flight:
                await self._wait_for_one()
            now_s = time.monotonic()
            if now_s >= self._until_s + self._grace_s or self._fatal is not None:
                self.not_begun = self._left(number)
                break
            due_s = now_s if pace.rate is None else self._due_s(number, pace.rate)
            kind, events, future = await begin(number)
            self._under_way += 1
            future.add_done_callback(partial(self._ended, kind, events, due_s))
        while self._under_way:
            await self._wait_for_one()
        if self._fatal is not None:
            raise self._fatal

    def _due_s(self, number: int, rate: float) -> float:
        return self._pace.begin_s + number / rate

    async def _wait_for_turn(self, number: int, rate: float) -> bool:
        """Wait until an operation is meant to begin; return False if that is after the end."""
        due_s = self._due_s(number, rate)
        if due_s >= self._until_s:
            return False
        await _sleep_until(due_s)
        return True

    def _left(self, number: int) -> int:
        """Return how many operations the rate asked for from this one on."""
        if self._pace.rate is None:
            return 0
        return max(0, min(self._pace.operations, int(self._pace.seconds * self._pace.rate)) - number)

    async def _wait_for_one(self) -> None:
        self._room = asyncio.get_running_loop().create_future()
        await self._room

    def _ended(self, kind: str, events: int, due_s: float, future: "asyncio.Future[Any]") -> None:
        self._under_way -= 1
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        error = future.exception()
        if error is not None:
            self._failed(error)
            return
        self.ended_s = time.monotonic()
        self.latencies[kind].add(self.ended_s - due_s)
        self.done[kind] += 1
        self.events[kind] += events

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, RewindError) and (error.retriable or isinstance(error, OutcomeUnknown)):
            self.failures[type(error).__name__] += 1
        elif self._fatal is None:
            self._fatal = error


async def _sleep_until(time_s: float) -> None:
    delay_s = time_s - time.monotonic()
    if delay_s > 0:
        await asyncio.sleep(delay_s)
