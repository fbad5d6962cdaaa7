"""A steady trickle of appends to every partition, and what became of each: what a lost leader is felt by."""

import asyncio
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import count
from uuid import UUID, uuid4

from rewind.aio import AsyncStore
from rewind.bench.plan import new_tag
from rewind.errors import RewindError
from rewind.events import NewEvent

STREAMS_PER_PARTITION = 8
STREAM_NAMES_MAX = 100_000  # tried until every partition has its streams: for 1,024 partitions some 20,000
EVENT_TYPE = "Happened"


class Trickle:
    """Appends so many a second, each partition in its turn, until `run` is cancelled."""

    def __init__(self, store: AsyncStore, partitions: Sequence[int], rate: float, event_bytes: int) -> None:
        self._store = store
        self._rate = rate
        self._data = bytes(event_bytes)
        self._streams = self._choose_streams(partitions)
        self._pending: set[asyncio.Task[None]] = set()
        self._acknowledged_at_s: dict[int, list[float]] = defaultdict(list)
        self._acknowledged: dict[UUID, tuple[str, int]] = {}
        self.failures: Counter[str] = Counter()

    def _choose_streams(self, partitions: Sequence[int]) -> dict[int, list[str]]:
        streams: dict[int, list[str]] = {partition: [] for partition in partitions}
        tag = new_tag("failover")
        for number in range(STREAM_NAMES_MAX):
            name = f"{tag}-{number}"
            names = streams.get(self._store.partition_of(name))
            if names is not None and len(names) < STREAMS_PER_PARTITION:
                names.append(name)
            if all(len(names) == STREAMS_PER_PARTITION for names in streams.values()):
                break
        return {partition: names for partition, names in streams.items() if names}

    @property
    def partitions(self) -> list[int]:
        """The partitions that it appends to: in an ordered context there is one."""
        return list(self._streams)

    @property
    def acknowledged(self) -> int:
        """How many appends were acknowledged."""
        return len(self._acknowledged)

    async def run(self) -> None:
        """Append until cancelled, however slow the answers are; then see the pending ones to their end."""
        begun_s = time.monotonic()
        try:
            for number in count():
                await asyncio.sleep(max(0.0, begun_s + number / self._rate - time.monotonic()))
                partition = self.partitions[number % len(self._streams)]
                names = self._streams[partition]
                task = asyncio.create_task(self._append(partition, names[number // len(self._streams) % len(names)]))
                self._pending.add(task)
                task.add_done_callback(self._pending.discard)
        finally:
            await asyncio.gather(*self._pending)

    async def _append(self, partition: int, stream: str) -> None:
        event_id = uuid4()
        try:
            result = await self._store.append(stream, NewEvent(EVENT_TYPE, self._data, id=event_id))
        except RewindError as error:
            self.failures[type(error).__name__] += 1
            return
        self._acknowledged_at_s[partition].append(time.monotonic())
        self._acknowledged[event_id] = (stream, result.version)

    def gap_s(self, partition: int, since_s: float) -> float | None:
        """Return the longest time without an acknowledgement since then; None if there was no acknowledgement."""
        times_s = self._acknowledged_at_s[partition]
        times_s = times_s[bisect_right(times_s, since_s) :]
        if not times_s:
            return None
        return max(later - earlier for earlier, later in zip([since_s, *times_s], times_s, strict=False))

    async def lost_and_doubled(self) -> tuple[int, int]:
        """Read everything back: how many acknowledged events are not in their place, and how many came twice."""
        places: dict[UUID, tuple[str, int]] = {}
        doubled = 0
        for stream in (name for names in self._streams.values() for name in names):
            async for event in self._store.read(stream):
                doubled += event.id in places
                places[event.id] = (stream, event.version)
        lost = sum(places.get(event_id) != place for event_id, place in self._acknowledged.items())
        return lost, doubled
