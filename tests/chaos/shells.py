"""The blocking and the asyncio store behind one set of names, so that the workload is written once.

The workload consists of coroutines. With the asyncio store all of them share one event loop. With the blocking store
each has a thread, and an event loop of its own that waits whenever the store does.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

import rewind
from rewind import AppendResult, Event, NewEvent
from rewind.tokens import Origin

CLOSING_S = 10.0
Part = tuple[str, list[NewEvent], int]
Job = Callable[[], Coroutine[Any, Any, None]]


class Shell(Protocol):
    """One context of a cluster."""

    store: Any

    async def append(self, stream: str, events: list[NewEvent], expected: int, timeout_s: float) -> AppendResult: ...
    async def append_many(self, parts: Sequence[Part], timeout_s: float) -> list[AppendResult]: ...
    async def submit(
        self, stream: str, events: list[NewEvent], expected: int, timeout_s: float
    ) -> Awaitable[AppendResult]: ...
    async def read(self, stream: str, **options: Any) -> tuple[list[Event], str]: ...
    async def version(self, stream: str, **options: Any) -> int: ...
    async def next_of(self, reader: Any) -> Any: ...
    async def subscribe(self, **options: Any) -> Any: ...
    async def join(self, name: str, **options: Any) -> Any: ...
    def close_soon(self, consumer: Any) -> None: ...
    async def close(self) -> None: ...


def origin_of(shell: Shell) -> Origin:
    """Return the context that a store's tokens and checkpoints belong to."""
    origin: Origin = shell.store._calls.origin
    return origin


def partitions_of(shell: Shell) -> tuple[int, ...]:
    """Return the partitions of a store's context."""
    partitions: tuple[int, ...] = shell.store._calls.partitions
    return partitions


class BlockingShell:
    """The blocking store. What waits here holds up the calling thread, which has nothing else to do."""

    def __init__(self, store: rewind.Store) -> None:
        self.store = store

    async def append(self, stream: str, events: list[NewEvent], expected: int, timeout_s: float) -> AppendResult:
        return self.store.append(stream, events, expected, timeout=timeout_s)

    async def append_many(self, parts: Sequence[Part], timeout_s: float) -> list[AppendResult]:
        return self.store.append_many(parts, timeout=timeout_s)

    async def submit(
        self, stream: str, events: list[NewEvent], expected: int, timeout_s: float
    ) -> Awaitable[AppendResult]:
        return asyncio.wrap_future(self.store.submit(stream, events, expected, timeout=timeout_s))

    async def read(self, stream: str, **options: Any) -> tuple[list[Event], str]:
        reader = self.store.read(stream, **options)
        return list(reader), reader.token

    async def version(self, stream: str, **options: Any) -> int:
        return self.store.version(stream, **options)

    async def next_of(self, reader: Any) -> Any:
        return next(reader, None)

    async def subscribe(self, **options: Any) -> Any:
        return self.store.subscribe(**options)

    async def join(self, name: str, **options: Any) -> Any:
        return self.store.group(name, **options)

    def close_soon(self, consumer: Any) -> None:
        threading.Thread(target=consumer.close, daemon=True).start()

    async def close(self) -> None:
        self.store.close(CLOSING_S)


class AsyncioShell:
    """The asyncio store. Make it on the event loop that uses it."""

    def __init__(self, store: rewind.AsyncStore) -> None:
        self.store = store
        self._loop = asyncio.get_running_loop()

    async def append(self, stream: str, events: list[NewEvent], expected: int, timeout_s: float) -> AppendResult:
        return await self.store.append(stream, events, expected, timeout=timeout_s)

    async def append_many(self, parts: Sequence[Part], timeout_s: float) -> list[AppendResult]:
        return await self.store.append_many(parts, timeout=timeout_s)

    async def submit(
        self, stream: str, events: list[NewEvent], expected: int, timeout_s: float
    ) -> Awaitable[AppendResult]:
        return await self.store.submit(stream, events, expected, timeout=timeout_s)

    async def read(self, stream: str, **options: Any) -> tuple[list[Event], str]:
        reader = self.store.read(stream, **options)
        return [event async for event in reader], reader.token

    async def version(self, stream: str, **options: Any) -> int:
        return await self.store.version(stream, **options)

    async def next_of(self, reader: Any) -> Any:
        return await anext(reader, None)

    async def subscribe(self, **options: Any) -> Any:
        return await self.store.subscribe(**options)

    async def join(self, name: str, **options: Any) -> Any:
        group = self.store.group(name, **options)
        await group.__aenter__()
        return group

    def close_soon(self, consumer: Any) -> None:
        asyncio.run_coroutine_threadsafe(consumer.close(), self._loop)

    async def close(self) -> None:
        await self.store.close(CLOSING_S)


def run_blocking(jobs: Sequence[Job]) -> None:
    """Run jobs of blocking stores to their end, each on a thread of its own; raise what one of them raises."""
    failures: list[BaseException] = []

    def run(job: Job) -> None:
        try:
            asyncio.run(job())
        except BaseException as error:  # noqa: BLE001 - raised below, in the main thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


async def run_asyncio(jobs: Sequence[Job]) -> None:
    """Run jobs of asyncio stores to their end on this event loop."""
    async with asyncio.TaskGroup() as tasks:
        for job in jobs:
            tasks.create_task(job())
