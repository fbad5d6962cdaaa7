"""Subscribers of every kind under load: what they were given, when, and whether it is exactly what is stored."""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from uuid import UUID, uuid4

from real_cluster import eventually

import rewind
from rewind import Event, NewEvent

TYPES = ("Opened", "Changed", "Closed")
STREAMS = 40
DATA = bytes(range(256))
SLOWLY_S = 0.02  # at an event: half as fast as the load comes, until it hurries
PATIENCE_S = 45.0

Place = tuple[int, UUID]  # position and ID


@dataclass(frozen=True, slots=True)
class Wish:
    """What a watcher subscribes to, and how."""

    context: str
    types: tuple[str, ...] | None = None
    prefix: str = ""
    slow: bool = False

    def takes(self, event: Event) -> bool:
        """Whether it wants an event."""
        return (self.types is None or event.type in self.types) and event.stream.startswith(self.prefix)


class Watcher:
    """One subscriber, on a thread of its own, and what it was given. Until `hurry` is set it may be slow."""

    def __init__(self, url: str, wish: Wish, hurry: threading.Event) -> None:
        self.wish = wish
        self.given: dict[int, list[Place]] = defaultdict(list)  # by partition, in order
        self.times: dict[UUID, float] = {}
        self.failure: BaseException | None = None
        self._url = url
        self._hurry = hurry
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._close: Callable[[], object] = bool  # its subscription

    def start(self) -> None:
        """Subscribe from the start, and return once that has begun."""
        self._thread.start()
        assert self._begun.wait(PATIENCE_S)

    def stop(self) -> None:
        """End, and fail if it had ended before."""
        self._close()
        self._thread.join(PATIENCE_S)
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            self._watch()
        except BaseException as error:  # noqa: BLE001 - told by `stop`, in the test's own thread
            self.failure = error

    def _watch(self) -> None:
        wish = self.wish
        with (
            rewind.connect(self._url, context=wish.context, timeout=PATIENCE_S) as store,
            store.subscribe(types=wish.types, prefix=wish.prefix) as subscription,
        ):
            self._close = subscription.close
            self._begun.set()
            for event in subscription:
                self.take(event)
                if wish.slow and not self._hurry.is_set():
                    time.sleep(SLOWLY_S)

    def take(self, event: Event) -> None:
        """Note an event."""
        self.times.setdefault(event.id, time.monotonic())
        self.given[event.partition].append((event.position, event.id))

    @property
    def count(self) -> int:
        """How many it was given."""
        return sum(map(len, self.given.values()))

    def longest_wait_s(self, acknowledged: dict[UUID, float], since: float) -> float:
        """Return how long an event took at most to come, from its acknowledgement or from `since`, if that is later."""
        waits = [
            delivered - max(acknowledged[event_id], since)
            for event_id, delivered in self.times.items()
            if event_id in acknowledged
        ]
        return max(waits, default=0.0)


class AsyncWatcher(Watcher):
    """The same through the asyncio client, with an event loop on its thread."""

    def _watch(self) -> None:
        asyncio.run(self._watch_async())

    async def _watch_async(self) -> None:
        wish = self.wish
        async with (
            rewind.connect_async(self._url, context=wish.context, timeout=PATIENCE_S) as store,
            store.subscribe(types=wish.types, prefix=wish.prefix) as subscription,
        ):
            loop = asyncio.get_running_loop()
            self._close = lambda: asyncio.run_coroutine_threadsafe(subscription.close(), loop)
            self._begun.set()
            async for event in subscription:
                self.take(event)
                if wish.slow and not self._hurry.is_set():
                    await asyncio.sleep(SLOWLY_S)


@dataclass(slots=True)
class Load:
    """Appends to one context at a steady rate, and what was acknowledged: when, and at which stream and version."""

    store: rewind.AsyncStore
    rate: int
    times: dict[UUID, float] = field(default_factory=dict)
    places: dict[UUID, tuple[str, int]] = field(default_factory=dict)
    stopping: bool = False

    async def run(self) -> None:
        """Append until told to stop, however slow the answers are, and wait for them."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as appends:
            for number in count():
                await asyncio.sleep(max(0.0, begun + number / self.rate - time.monotonic()))
                if self.stopping:
                    return
                appends.create_task(self._append(f"{'even' if number % 2 else 'odd'}-{number % STREAMS}", number))

    async def _append(self, stream: str, number: int) -> None:
        event_id = uuid4()
        result = await self.store.append(stream, NewEvent(TYPES[number % len(TYPES)], DATA, id=event_id))
        self.times[event_id] = time.monotonic()
        self.places[event_id] = (stream, result.version)


@contextmanager
def watching(url: str, wishes: list[tuple[type[Watcher], Wish]], hurry: threading.Event) -> Iterator[list[Watcher]]:
    """Have watchers while the context lasts."""
    watchers = [kind(url, wish, hurry) for kind, wish in wishes]
    for watcher in watchers:
        watcher.start()
    yield watchers
    for watcher in watchers:
        watcher.stop()


def check(url: str, context: str, load: Load, watchers: list[Watcher]) -> None:
    """Wait until each watcher has as many events as it should, and hold what it was given against what is stored."""
    with rewind.connect(url, context=context, timeout=PATIENCE_S) as store:
        stored = list(store.read_all())
    places = {event.id: (event.stream, event.version) for event in stored}
    assert len(places) == len(stored), "an event is stored twice"
    assert {event_id: places.get(event_id) for event_id in load.places} == load.places, "acknowledged, and not there"
    for watcher in watchers:
        wanted: dict[int, list[Place]] = defaultdict(list)
        for event in stored:
            if watcher.wish.takes(event):
                wanted[event.partition].append((event.position, event.id))
        number = sum(map(len, wanted.values()))
        eventually(lambda: watcher.count >= number or watcher.failure is not None, f"{watcher.wish} has all")  # noqa: B023 - called here
        assert watcher.given == wanted, f"{watcher.wish} was given something else than what is stored"
