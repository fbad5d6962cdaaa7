"""What a client process does that subscribes: it notes when each event comes, until it has come where it was told to.

Both shells are there, for a program waits differently in each: on an event loop, or in a thread.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial

from rewind.aio import AsyncStore
from rewind.beginning import NOW
from rewind.bench.sightings import Sightings
from rewind.blocking import Store
from rewind.events import Event
from rewind.urls import Target

KIND = "delivery"
PATIENCE_S = 30.0  # for what was acknowledged and has not come; then it counts as never delivered
POLL_S = 0.01

Heads = dict[int, int]
Told = Callable[[], Awaitable[Heads]]


class Listener:
    """Notes events as they come."""

    def __init__(self) -> None:
        self.sightings = Sightings()
        self._seen: Heads = {}

    def take(self, event: Event) -> None:
        """Note an event."""
        self.sightings.add(event.partition, event.position)
        self._seen[event.partition] = event.position

    async def until(self, heads: Heads) -> None:
        """Return once everything up to these positions has come, or patience ends."""
        give_up = time.monotonic() + PATIENCE_S
        while any(self._seen.get(partition, 0) < head for partition, head in heads.items()):
            if time.monotonic() > give_up:
                return
            await asyncio.sleep(POLL_S)

    @property
    def count(self) -> int:
        """How many events have come."""
        return self.sightings.count


async def subscribe(store: AsyncStore, ready: Callable[[], None], told: Told) -> Listener:
    """Subscribe on the event loop from now on, say so, and listen until `told` says where to stop."""
    listener = Listener()

    async def listen() -> None:
        async for event in subscription:
            listener.take(event)

    async with store.subscribe(after=NOW) as subscription:
        listening = asyncio.create_task(listen())
        ready()
        await listener.until(await told())
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    return listener


async def subscribe_blocking(target: Target, ready: Callable[[], None], told: Told) -> Listener:
    """Do the same in a thread, as a program does that uses the blocking store."""
    listener = Listener()
    with Store(target) as store:
        await asyncio.to_thread(store.open_context)
        subscription = await asyncio.to_thread(partial(store.subscribe, after=NOW))

        def listen() -> None:
            for event in subscription:
                listener.take(event)

        listening = threading.Thread(target=listen, name="listener")
        listening.start()
        try:
            ready()
            await listener.until(await told())
        finally:
            subscription.close()
            await asyncio.to_thread(listening.join)
    return listener
