"""What a client process appends: events of one size, to new streams or to some in turn."""

import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from rewind.aio import AsyncStore
from rewind.bench.driver import Begun, Driver
from rewind.bench.sightings import Sightings
from rewind.bench.tasks import AppendTask, Events
from rewind.events import ANY, NO_STREAM, AppendResult, NewEvent

if TYPE_CHECKING:
    import asyncio

RECENT_MAX = 1024  # streams that a mixed load reads back: enough that reads do not meet at one of them
EVENT_TYPE = "Happened"
KIND = "append"


class Appends:
    """Begins appends and remembers where they came to stand."""

    def __init__(self, store: AsyncStore, events: Events, sightings: Sightings | None = None) -> None:
        self._store = store
        self._events = events
        self._sightings = sightings
        # Random bytes: what is stored must not be easier to store than what people store.
        self._batch = [NewEvent(EVENT_TYPE, os.urandom(events.event_bytes)) for _ in range(events.events_per_append)]
        self._idle = deque((f"{events.tag}-{number}", 0) for number in range(events.streams))
        self.heads: dict[int, int] = {}
        self.recent: deque[str] = deque(maxlen=RECENT_MAX)

    async def begin(self, number: int) -> Begun:
        """Begin the append of this number."""
        stream, expected = self._next(number)
        future = await self._store.submit(stream, self._batch, expected)
        future.add_done_callback(partial(self._ended, stream))
        return KIND, len(self._batch), future

    def _next(self, number: int) -> tuple[str, int]:
        match self._events.expected:
            case "none":
                return f"{self._events.tag}-{number}", NO_STREAM
            case "any":
                return f"{self._events.tag}-{number % self._events.streams}", ANY
            case "exact":
                # A stream is out of turn while an append to it is under way: its version is not known until then.
                return self._idle.popleft()

    def _ended(self, stream: str, future: "asyncio.Future[Any]") -> None:
        failed = future.exception() is not None
        if self._events.expected == "exact":
            # Where it failed nobody knows the stream's version now: another takes its place.
            self._idle.append((f"{stream}+", 0) if failed else (stream, future.result().version))
        if failed:
            return
        result: AppendResult = future.result()
        self.recent.append(stream)
        self.heads[result.partition] = max(result.position, self.heads.get(result.partition, 0))
        if self._sightings is not None:
            self._sightings.add(result.partition, result.position)


async def append(store: AsyncStore, task: AppendTask) -> tuple[Driver, Appends, Sightings]:
    """Do the task."""
    sightings = Sightings()
    appends = Appends(store, task.events, sightings if task.sightings else None)
    driver = Driver(task.pace)
    await driver.run(appends.begin)
    return driver, appends, sightings
