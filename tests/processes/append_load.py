"""Steady load from the asyncio client, recorded: the client's side of every check."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from recorded import Record, RecordedAsyncStore

import rewind
from rewind import NewEvent

PATIENCE_S = 45.0
POLL_S = 0.005
DATA = bytes(range(256))
READ_EVERY = 16  # appends to a stream; what is read is checked like what is written


class AppendLoad:
    """Workers that append one event after the other, each to streams of its own, every fourth one with `expected`."""

    def __init__(self, store: RecordedAsyncStore, record: Record, workers: int, timeout_s: float) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._stopping = False
        self.record = record
        self.tasks = [asyncio.create_task(self._work(number)) for number in range(workers)]

    async def _work(self, number: int) -> None:
        while not self._stopping:
            await self._fill(f"load-{number}-{uuid4().hex[:8]}", expects=number % 4 == 1)

    async def _fill(self, stream: str, *, expects: bool) -> None:
        """Append to one stream until the end, or until an outcome is unknown: then nobody knows its version."""
        version = 0
        while not self._stopping:
            event = NewEvent("Happened", DATA)
            expected = version if expects else rewind.ANY
            try:
                result = await self._store.append(stream, event, expected, timeout_s=self._timeout_s)
            except rewind.OutcomeUnknown:
                return
            except (rewind.Unavailable, rewind.Overloaded, rewind.StorageFull):
                continue
            assert result.version == version + 1, f"{stream} was at {version}, the append says {result.version}"
            version = result.version
            if version % READ_EVERY == 1:
                with suppress(rewind.DeadlineExceeded):
                    await self._store.read(stream, after=version - 1, timeout_s=self._timeout_s)

    async def go_on(self, count: int) -> None:
        """Wait until so many more appends have been acknowledged."""
        goal = self.record.acknowledged + count
        await self.until(lambda: self.record.acknowledged >= goal, f"{count} more appends are acknowledged")

    async def until(self, condition: Callable[[], bool], complaint: str) -> None:
        """Wait until a condition holds while the load goes on; fail if a worker does, or if it never holds."""
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            for task in self.tasks:
                if task.done():
                    task.result()
            assert time.monotonic() < give_up, f"it never came to this: {complaint}; {self._newest_refusal()}"
            await asyncio.sleep(POLL_S)

    def _newest_refusal(self) -> str:
        failures = self.record.failures
        return f"{type(failures[-1]).__name__}: {failures[-1]}" if failures else "none was refused"

    async def stop(self) -> None:
        """Let each worker finish its append, and fail if one met what it should not have."""
        self._stopping = True
        await asyncio.gather(*self.tasks)


@asynccontextmanager
async def append_load(
    url: str, record: Record, workers: int = 32, timeout_s: float = 30.0
) -> AsyncIterator[AppendLoad]:
    """Append to a cluster while the context lasts."""
    async with rewind.connect_async(url, timeout=PATIENCE_S) as store:
        load = AppendLoad(await RecordedAsyncStore.open(store, record), record, workers, timeout_s)
        try:
            yield load
            await load.stop()
        finally:
            for task in load.tasks:
                task.cancel()
            await asyncio.gather(*load.tasks, return_exceptions=True)
