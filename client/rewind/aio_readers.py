"""What reads of the asyncio store return: the readers of `rewind.readers`, awaited."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from rewind.events import Event
from rewind.inquiries import Chunk
from rewind.listing import StreamList
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
        if self._next is not None:
            self._next.add_done_callback(_notice)

    async def __anext__(self) -> Event:
        while not self._events:
            if self._next is None:
                self._ask()
            if self._next is None:
                raise StopAsyncIteration
            self._engine.check_here()
            self._events.extend(self._read.take(await self._answer(self._next)))
            self._ask()
        return self._events.popleft()

    async def _answer(self, future: asyncio.Future[Any]) -> Chunk:
        try:
            # Shielded: a caller who gives up and comes back later finds this chunk where it was.
            return await asyncio.shield(future)
        finally:
            if future.done():
                self._next = None


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
            try:
                future = self._engine.start(request)
            except BaseException:
                self._read.put_back(partition)
                raise
            future.add_done_callback(_notice)
            self._asked.append((partition, future))

    async def __anext__(self) -> Event:
        while (event := self._read.pop()) is None:
            self._ask()
            if not self._asked or self._read.full:
                raise StopAsyncIteration
            self._engine.check_here()
            await self._take_next()
            self._ask()
        return event

    async def _take_next(self) -> None:
        partition, future = self._asked[0]
        try:
            self._read.take(partition, await asyncio.shield(future))
        except BaseException:
            if future.done():  # else the caller has given up, and the chunk is still on its way
                self._asked.popleft()
                self._read.put_back(partition)
            raise
        self._asked.popleft()


class AsyncNameReader(AsyncIterator[str]):
    """An async iterator over the names of streams."""

    def __init__(self, engine: LoopEngine, listing: StreamList) -> None:
        self._engine = engine
        self._listing = listing
        self._names: deque[str] = deque()

    async def __anext__(self) -> str:
        while not self._names:
            asked = [(partition, self._engine.start(request)) for partition, request in self._listing.wanted()]
            await asyncio.gather(*(future for _, future in asked))
            for partition, future in asked:
                self._listing.take(partition, future.result())
            self._names.extend(self._listing.pop())
            if not self._names and not asked:
                raise StopAsyncIteration
        return self._names.popleft()


def _notice(future: asyncio.Future[Any]) -> None:
    # A reader may end, by its limit or an error, while more is on its way, and nobody will ask how that went.
    if not future.cancelled():
        future.exception()
