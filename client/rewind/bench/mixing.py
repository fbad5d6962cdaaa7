"""What a client process does in a mixed load: appends, and streams read back that it has appended to."""

import asyncio
from random import Random

from rewind.aio import AsyncStore
from rewind.bench.appending import Appends, Submitting
from rewind.bench.driver import Account, Begun, Driver
from rewind.bench.tasks import MixedTask

KIND = "read"
READ_EVENTS_MAX = 100  # of a stream: its newest, as an application reads on from a snapshot


async def mix(store: AsyncStore, task: MixedTask) -> tuple[Account, Appends]:
    """Do the task."""
    appends = Appends(task.events)
    submitting = Submitting(store, appends, noting=True)
    random = Random(task.seed)  # noqa: S311 - which stream is read is no secret
    read_share = task.reads_percent / 100

    async def begin(number: int) -> Begun:
        if not appends.recent or random.random() >= read_share:
            return await submitting.begin(number)
        return KIND, 1, asyncio.ensure_future(_read(store, random.choice(appends.recent)))

    return await Driver(task.pace).run(begin), appends


async def _read(store: AsyncStore, stream: str) -> int:
    """Read a stream's newest events; return how many there were."""
    return len([event async for event in store.read(stream, reverse=True, limit=READ_EVENTS_MAX)])
