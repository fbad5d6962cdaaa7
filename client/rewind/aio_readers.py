"""What reads of the asyncio store return: the readers of `rewind.readers`, awaited."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from rewind.events import Event
from rewind.loop_engine import LoopEngine
from rewind.reading import StreamRead
from rewind.scanning import ContextRead


class AsyncEventReader(AsyncIterator[Event]):
    """An async iterator over events. While one chunk is consumed the next is on its way."""

    def __init__(self, engine: LoopEngine, read: StreamRead) -> None:
        self._engine = engine
        self._read = read
        self._events: deque[Event] = deque()
        self._next: asyncio.Future[Any] | None = None
        self._ask()

    @property
    def token(self) -> str:
        """A token for `at_least`: a read with it sees all that this one has seen."""
        return self._read.token

    def _ask(self) -> None:
        request = self._read.next_request()
        self._next = None if request is None else self._engine.start(request)

    async def __anext__(self) -> Event:
        while not self._events:
            if self._next is None:
                raise StopAsyncIteration
            self._engine.check_here()
            future, self._next = self._next, None
            self._events.extend(self._read.take(await future))
            self._ask()
        return self._events.popleft()


class AsyncContextReader(AsyncIterator[Event]):
    """An async iterator over a context's events. While one chunk is consumed a few more are on their way."""

    def __init__(self, engine: LoopEngine, read: ContextRead) -> None:
        self._engine = engine
        self._read = read
        self._asked: deque[tuple[int, asyncio.Future[Any]]] = deque()
        self._ask()

    @property
    def checkpoint(self) -> str:
        """What was read so far, the event just yielded included, as plain text; in reverse, the newest there was."""
        return self._read.checkpoint

    def _ask(self) -> None:
        while (wanted := self._read.next_request()) is not None:
            partition, request = wanted
            future = self._engine.start(request)
            future.add_done_callback(_notice)
            self._asked.append((partition, future))

    async def __anext__(self) -> Event:
        while (event := self._read.pop()) is None:
            if not self._asked or self._read.full:
                raise StopAsyncIteration
            self._engine.check_here()
            partition, future = self._asked[0]
            # Shielded: a caller who gives up and comes back later finds this chunk where it was.
            self._read.take(partition, await asyncio.shield(future))
            self._asked.popleft()
            self._ask()
        return event


def _notice(future: asyncio.Future[Any]) -> None:
    # A reader may end, by its limit or an error, while more is on its way, and nobody will ask how that went.
    if not future.cancelled():
        future.exception()
