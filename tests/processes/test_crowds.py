"""One store, a crowd of callers: a hundred threads, or ten thousand tasks. All come right, and nothing piles up."""

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from real_cluster import RealCluster

import rewind
from rewind import NewEvent
from rewind.room import APPENDS_MAX, Room

pytestmark = pytest.mark.processes

THREADS = 100
ONE_BY_ONE = 10  # appends of a thread that waits for each
AT_ONCE = 300  # appends of a thread that waits for none: of all threads, twice what a store takes
TASKS = 10_000
ROUNDS = 4
GROWTH_MAX = 24 << 20  # between rounds alike: far less than one round's appends, answers and tasks take
TIMEOUT_S = 60.0
SHARED = "shared"


def anonymous_bytes() -> int:
    """Return this process's memory that is not a mapped file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


@pytest.fixture
def most_under_way(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Note how many appends a store had under way at most."""
    most: Counter[str] = Counter()
    enter = Room.enter

    def noting(room: Room, append: Any) -> None:
        enter(room, append)
        most["appends"] = max(most["appends"], room._appends)

    monkeypatch.setattr(Room, "enter", noting)
    return most


def test_a_hundred_threads_share_a_blocking_store(cluster: RealCluster, most_under_way: Counter[str]) -> None:
    together = threading.Barrier(THREADS)

    def work(store: rewind.Store, number: int) -> list[int]:
        own = f"own-{number}"
        together.wait(TIMEOUT_S)
        for version in range(ONE_BY_ONE):
            assert store.append(own, NewEvent("T", b"%d" % version), version).version == version + 1
        futures = [store.submit(own, NewEvent("T", b"%d" % (ONE_BY_ONE + each))) for each in range(AT_ONCE)]
        assert [future.result().version for future in futures] == list(range(ONE_BY_ONE + 1, ONE_BY_ONE + AT_ONCE + 1))
        assert [event.data for event in store.read(own)] == [b"%d" % each for each in range(ONE_BY_ONE + AT_ONCE)]
        return [store.append(SHARED, NewEvent("T", own.encode())).version for _ in range(ONE_BY_ONE)]

    with rewind.connect(cluster.url, timeout=TIMEOUT_S) as store, ThreadPoolExecutor(THREADS) as pool:
        shared = list(pool.map(lambda number: work(store, number), range(THREADS)))
        stored = list(store.read(SHARED))
        everything = Counter(event.stream for event in store.read_all())

    assert sorted(chain.from_iterable(shared)) == list(range(1, THREADS * ONE_BY_ONE + 1))
    for number, versions in enumerate(shared):
        assert [event.version for event in stored if event.data == b"own-%d" % number] == versions
    assert everything == {SHARED: THREADS * ONE_BY_ONE} | {
        f"own-{number}": ONE_BY_ONE + AT_ONCE for number in range(THREADS)
    }
    assert AT_ONCE < most_under_way["appends"] <= APPENDS_MAX


@pytest.mark.asyncio
async def test_ten_thousand_tasks_share_an_asyncio_store(cluster: RealCluster, most_under_way: Counter[str]) -> None:
    async def work(store: rewind.AsyncStore, number: int, version: int) -> bool:
        stream = f"task-{number}"
        result = await store.append(stream, [NewEvent("T", b""), NewEvent("T", b"")], version)
        return result.version == version + 2 == await store.version(stream)

    held = []
    async with rewind.connect_async(cluster.url, timeout=TIMEOUT_S) as store:
        for turn in range(ROUNDS):
            tasks = [asyncio.create_task(work(store, number, 2 * turn)) for number in range(TASKS)]
            assert all(await asyncio.gather(*tasks))
            del tasks
            held.append(anonymous_bytes())
        everything = Counter([event.stream async for event in store.read_all()])

    assert everything == {f"task-{number}": 2 * ROUNDS for number in range(TASKS)}
    assert TASKS // 2 < most_under_way["appends"] <= APPENDS_MAX
    assert max(held[1:]) - held[0] <= GROWTH_MAX


@pytest.mark.asyncio
async def test_twice_as_many_tasks_as_a_store_takes_wait_their_turn(
    cluster: RealCluster, most_under_way: Counter[str]
) -> None:
    async with rewind.connect_async(cluster.url, timeout=TIMEOUT_S) as store:
        appends = [store.append(f"task-{number}", NewEvent("T", b"")) for number in range(2 * APPENDS_MAX)]
        results = await asyncio.gather(*appends)

    assert [result.version for result in results] == [1] * len(appends)
    assert most_under_way["appends"] == APPENDS_MAX
