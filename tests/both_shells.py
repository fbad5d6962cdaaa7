"""The blocking and the asyncio store behind one set of names, so that a contract suite is written once.

A suite adds what it calls besides. `pause` lets a moment pass, in loops that end by a condition or a deadline.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import rewind

PAUSE_S = 0.005


class BlockingShell:
    """The blocking store."""

    def __init__(self, addresses: list[str], **options: Any) -> None:
        self.store = rewind.connect(addresses, **options)

    def take(self, consumer: Any, count: int) -> list[Any]:
        return [next(consumer) for _ in range(count)]

    def rest(self, consumer: Any) -> list[Any]:
        return list(consumer)

    def pause(self) -> None:
        time.sleep(PAUSE_S)

    def end(self, consumer: Any) -> None:
        consumer.close()

    def close(self) -> None:
        self.store.close()


class AsyncioShell:
    """The asyncio store, whose loop runs for as long as each call takes."""

    def __init__(self, addresses: list[str], **options: Any) -> None:
        self.runner = asyncio.Runner()
        try:
            self.store = self.run(self._connect(addresses, options))
        except BaseException:
            self.runner.close()
            raise

    async def _connect(self, addresses: list[str], options: Any) -> rewind.AsyncStore:
        return await rewind.connect_async(addresses, **options)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def take(self, consumer: Any, count: int) -> list[Any]:
        async def run() -> list[Any]:
            return [await anext(consumer) for _ in range(count)]

        return self.run(run())  # type: ignore[no-any-return] # a list of what the consumer gives

    def rest(self, consumer: Any) -> list[Any]:
        async def run() -> list[Any]:
            return [each async for each in consumer]

        return self.run(run())  # type: ignore[no-any-return] # the same

    def pause(self) -> None:
        self.run(asyncio.sleep(PAUSE_S))

    def end(self, consumer: Any) -> None:
        self.run(consumer.close())

    def close(self) -> None:
        self.run(self.store.close())
        self.runner.close()
