"""The asyncio subscription: the one of `rewind.subscription`, awaited."""

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from rewind.beginning import Beginning
from rewind.engine import now_us
from rewind.errors import InvalidArgument, RewindError
from rewind.events import Event
from rewind.feed import Batch, Tail
from rewind.inbox import Inbox
from rewind.loop_engine import LoopEngine

EVENTS_IN_A_ROW = 256  # that a consumer gets without waiting: then other tasks have their turn


class AsyncSubscription(AsyncIterator[Event]):
    """Every event of the context after a checkpoint, from `AsyncStore.subscribe`: first the past, then live.

    Use it as an async context manager, or `close` it. It begins when it is entered, awaited, or first asked for an
    event; that is what `NOW` means. Events of one partition come in order, those of several as they arrive. It goes on
    through anything but `ContextNotFound`, `InvalidArgument`, `AccessDenied`, and the end of its store (`Closed`); what
    it cannot get for long it complains of in the log.
    """

    def __init__(self, engine: LoopEngine, beginning: Beginning) -> None:
        self._engine = engine
        self._beginning = beginning
        self._begun = asyncio.Lock()
        self._tail: Tail | None = None
        self._waiting: _Waiting | None = None
        self._closed = False
        self._in_a_row = 0

    @property
    def checkpoint(self) -> str:
        """What was seen, the event just yielded included, as plain text: give it to `subscribe` as `after` to go on."""
        if self._waiting is None:
            raise InvalidArgument("the subscription has not begun: enter it, await it, or ask it for an event")
        return self._waiting.inbox.checkpoint

    @property
    def caught_up(self) -> bool:
        """Whether all was yielded that was there when a replica of each partition was (last) asked for its events.

        It turns true with the last event of the past, or, if the past has none, while the first is waited for: so a
        loop may stop at an event that finds it true. To know which is the last, that event may be held back until all
        partitions were heard, but no longer than a second after the last news of the past: then it comes unknowing.
        """
        return self._waiting is not None and self._waiting.inbox.caught_up

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _begin(self) -> "_Waiting | None":
        async with self._begun:
            if self._waiting is None and not self._closed:
                self._engine.check_open()
                asked = [(partition, self._engine.start(request)) for partition, request in self._beginning.wanted()]
                await asyncio.gather(*(future for _, future in asked))
                for partition, future in asked:
                    self._beginning.take(partition, future.result())
                self._start()
        return self._waiting

    def _start(self) -> None:
        self._engine.check_open()
        if self._closed:
            return
        engine, feeds = self._engine, self._engine.session.feeds
        self._tail = self._beginning.tail()
        inbox = Inbox(
            self._tail.origin, self._tail.positions, lambda batch: engine.tell(partial(feeds.consumed, batch))
        )
        self._tail.consumer = self._waiting = _Waiting(inbox)
        engine.attend(self._waiting, partial(feeds.add, self._tail))

    async def __anext__(self) -> Event:
        self._engine.check_here()
        waiting = self._waiting or await self._begin()
        if waiting is None:
            raise StopAsyncIteration
        self._in_a_row += 1
        if self._in_a_row % EVENTS_IN_A_ROW == 0:
            await asyncio.sleep(0)
        event = await waiting.take()
        if event is None:
            raise StopAsyncIteration
        return event

    async def close(self) -> None:
        """End the iteration, in whichever task it waits. More than once does no harm."""
        if not self._engine.is_ours:
            return
        self._engine.check_here()
        self._closed = True
        if self._waiting is not None and self._tail is not None:
            self._waiting.end(None)
            self._engine.tell(partial(self._engine.session.feeds.remove, self._tail))


class _Waiting:
    """An inbox that the engine fills and tasks empty."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self._changed = asyncio.Event()

    def put(self, batch: Batch) -> None:
        self.inbox.put(batch)
        self._changed.set()

    def end(self, error: RewindError | None) -> None:
        self.inbox.end(error)
        self._changed.set()

    async def take(self) -> Event | None:
        """Wait for the next event and return it, or None at the end."""
        while not self.inbox.ended:
            event = self.inbox.pop()
            if event is not None:
                return event
            self._changed.clear()
            wait_us = self.inbox.wait_us(now_us())
            with suppress(TimeoutError):
                async with asyncio.timeout(None if wait_us is None else wait_us / 1e6):
                    await self._changed.wait()
        if self.inbox.error is not None:
            raise self.inbox.error
        return None
