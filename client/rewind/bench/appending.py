"""What a client process appends: events of one size, to new streams or to some in turn."""

import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from rewind.aio import AsyncStore
from rewind.bench.driver import Account, Begun, Driver
from rewind.bench.sightings import Sightings
from rewind.bench.tasks import AppendTask, Events
from rewind.events import ANY, NO_STREAM, AppendResult, NewEvent

if TYPE_CHECKING:
    import asyncio

RECENT_MAX = 1024  # streams that a mixed load reads back: enough that reads do not meet at one of them
EVENT_TYPE = "Happened"
KIND = "append"


class Appends:
    """Which streams come next, and where what was appended came to stand."""

    def __init__(self, events: Events, sightings: Sightings | None = None) -> None:
        self._events = events
        self._sightings = sightings
        # Random bytes: what is stored must not be easier to store than what people store.
        self.batch = [NewEvent(EVENT_TYPE, os.urandom(events.event_bytes)) for _ in range(events.events_per_append)]
        self._idle = deque((f"{events.tag}-{number}", 0) for number in range(events.streams))
        self.heads: dict[int, int] = {}
        self.recent: deque[str] = deque(maxlen=RECENT_MAX)

    def next(self, number: int) -> tuple[str, int]:
        """Return the stream of the append of this number, and the version that it expects."""
        match self._events.expected:
            case "none":
                return f"{self._events.tag}-{number}", NO_STREAM
            case "any":
                return f"{self._events.tag}-{number % self._events.streams}", ANY
            case "exact":
                # A stream is out of turn while an append to it is under way: its version is not known until then.
                return self._idle.popleft()

    def acknowledged(self, stream: str, result: AppendResult) -> None:
        """Take in where an append's last event stands."""
        if self._events.expected == "exact":
            self._idle.append((stream, result.version))
        self.recent.append(stream)
        self.heads[result.partition] = max(result.position, self.heads.get(result.partition, 0))
        if self._sightings is not None:
            self._sightings.add(result.partition, result.position)

    def failed(self, stream: str) -> None:
        """Let another stream take its place where nobody knows its version now."""
        if self._events.expected == "exact":
            self._idle.append((f"{stream}+", 0))


class Submitting:
    """Begins appends through the asyncio client. `noting`: what became of each is noted for whoever needs it.

    Where nobody does it is left out: at full load every microsecond of a client is a twentieth of its rate.
    """

    def __init__(self, store: AsyncStore, appends: Appends, *, noting: bool) -> None:
        self._submit = store.submit
        self._appends = appends
        self._batch = appends.batch
        self._noting = noting

    async def begin(self, number: int) -> Begun:
        """Begin the append of this number."""
        stream, expected = self._appends.next(number)
        future = await self._submit(stream, self._batch, expected)
        if self._noting:
            future.add_done_callback(partial(self._ended, stream))
        return KIND, len(self._batch), future

    def _ended(self, stream: str, future: "asyncio.Future[AppendResult]") -> None:
        if future.exception() is None:
            self._appends.acknowledged(stream, future.result())
        else:
            self._appends.failed(stream)


async def append(store: AsyncStore, task: AppendTask) -> tuple[Account, Appends, Sightings]:
    """Do the task."""
    sightings = Sightings()
    appends = Appends(task.events, sightings if task.sightings else None)
    noting = task.sightings or task.events.expected == "exact"
    account = await Driver(task.pace).run(Submitting(store, appends, noting=noting).begin)
    return account, appends, sightings
