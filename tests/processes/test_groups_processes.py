"""Consumer groups of real processes on a real cluster: members and nodes are killed, and every event is dealt with.

`SOAK_KILLS` says how many leaders are killed under load, and twice as many members: `tox -e soak` has twenty.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from group_worker import POISON
from real_cluster import RealCluster, eventually

import rewind
from rewind import NewEvent
from rewind.group_operator import GroupOperator
from rewind.urls import parse_target
from rewind_node.parent_death import dying_with_this_process

pytestmark = pytest.mark.processes

WORKER = Path(__file__).with_name("group_worker.py")
STREAMS = 40
TURNS = 2 * int(os.environ.get("SOAK_KILLS", "2"))
TURN_S = 4.0
IDLE_TURNS_MAX = 5  # of a partition: a lease, the patience of a new coordinator, and more deaths meanwhile
RATE = 400  # events a second: the nodes and the workers share the machine


class Workers:
    """Members of a group as processes, which write into one file."""

    def __init__(self, url: str, group: str, path: Path, *, max_attempts: int = 5) -> None:
        self.path = path
        self._url = url
        self._group = group
        self._max_attempts = max_attempts
        self._running: list[subprocess.Popen[bytes]] = []
        self.path.touch()

    def start(self, client: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(WORKER), self._url, self._group, str(self.path), client, str(self._max_attempts)]
        worker = subprocess.Popen(dying_with_this_process(command))
        self._running.append(worker)
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        worker.kill()
        worker.wait()
        self._running.remove(worker)

    def reap(self) -> int:
        """Forget those that have ended and return how many there were."""
        ended = [worker for worker in self._running if worker.poll() is not None]
        self._running = [worker for worker in self._running if worker not in ended]
        return len(ended)

    def close(self) -> None:
        for worker in list(self._running):
            self.kill(worker)

    def lines(self) -> list[list[str]]:
        """Return stream, version, place, attempt and process of all that was done, in order."""
        return [line.split() for line in self.path.read_text().splitlines()]

    def reached(self) -> dict[str, int]:
        """Return the newest position of each partition that was done."""
        places = [line[2].split(":") for line in self.lines()]
        return {partition: int(position) for partition, position in sorted(places, key=lambda place: int(place[1]))}

    def done(self) -> list[tuple[str, int]]:
        """Return stream and version of all that was done, in order."""
        return [(line[0], int(line[1])) for line in self.lines()]


@pytest.fixture
def make_workers(tmp_path: Path) -> Iterator[Any]:
    with ExitStack() as stack:

        def make(url: str, group: str, **options: Any) -> Workers:
            workers = Workers(url, group, tmp_path / f"{group}.txt", **options)
            stack.callback(workers.close)
            return workers

        yield make


def operator(url: str) -> GroupOperator:
    """Return a store for operators of groups."""
    store = GroupOperator(parse_target(url, None, 30))
    store.open_context()
    return store


def assert_in_order(done: list[tuple[str, int]]) -> None:
    """Check that each event was first dealt with after the one before it in its stream."""
    reached: Counter[str] = Counter()
    for stream, version in done:
        assert version <= reached[stream] + 1, f"{stream} {version} came after {reached[stream]}"
        reached[stream] = max(reached[stream], version)


async def append(store: rewind.AsyncStore, stop: asyncio.Event) -> int:
    """Append events at a steady rate until told to stop, and return how many."""
    futures = []
    began_s = time.monotonic()
    while not stop.is_set():
        futures.append(await store.submit(f"s{len(futures) % STREAMS}", NewEvent("T", b"")))
        ahead_s = began_s + len(futures) / RATE - time.monotonic()
        await asyncio.sleep(max(0, ahead_s))
    await asyncio.gather(*futures)
    return len(futures)


@pytest.mark.asyncio
async def test_every_event_is_dealt_with_though_members_and_a_node_are_killed(
    cluster: RealCluster, make_workers: Any
) -> None:
    workers = make_workers(cluster.url, "mailer")
    clients = ["blocking", "asyncio", "blocking"]
    members = [workers.start(client) for client in clients]
    stop = asyncio.Event()
    async with rewind.connect_async(cluster.url, timeout=30) as store:
        load = asyncio.create_task(append(store, stop))
        idle_turns = Counter[str]()
        reached: dict[str, int] = {}
        for turn in range(TURNS):
            await asyncio.sleep(TURN_S)
            workers.kill(members.pop(0))
            members.append(workers.start(clients[turn % 3]))
            if turn % 2:
                victim = await asyncio.to_thread(cluster.leader, 1 + turn // 2 % 3)
                cluster.kill(victim)
                await asyncio.to_thread(cluster.wait_replaced, victim)
                await cluster.restart([victim])
            before, reached = reached, await asyncio.to_thread(workers.reached)
            idle_turns = Counter({each: idle_turns[each] + 1 for each in before if before[each] == reached[each]})
            assert max(idle_turns.values(), default=0) <= IDLE_TURNS_MAX, "a partition is stuck"
        stop.set()
        count = await load

    expected = {(f"s{number % STREAMS}", number // STREAMS + 1) for number in range(count)}
    await asyncio.to_thread(eventually, lambda: set(workers.done()) >= expected, "every event was dealt with")
    done = workers.done()
    assert set(done) == expected
    assert_in_order(done)
    assert len(done) - count < count / 5, "far more was done again than four deaths explain"


def test_an_event_that_kills_its_consumers_is_parked_in_the_end(cluster: RealCluster, make_workers: Any) -> None:
    workers = make_workers(cluster.url, "mailer", max_attempts=2)
    with operator(cluster.url) as store:
        for number in range(30):
            store.append(f"s{number}", [NewEvent("T", b"")] * 3)
        partition = store.partition_of("s7")
        store.append("s7", [NewEvent("T", POISON), NewEvent("T", b"")])
        deaths = 0

        def all_done() -> bool:
            nonlocal deaths
            deaths += workers.reap()
            if not workers._running:
                workers.start("blocking")
            return ("s7", 5) in workers.done() and len(set(workers.done())) == 92

        eventually(all_done, "all but the deadly event were dealt with", patience_s=60.0)
        parked = list(store.parked_events("mailer"))

    # Whatever its consumers had in hand before it, each time they died, is blamed as well: nobody can tell them apart.
    deadly = next(each.event for each in parked if (each.event.stream, each.event.version) == ("s7", 4))
    assert {each.event.partition for each in parked} == {partition}
    assert all(each.event.position <= deadly.position for each in parked)
    assert 2 <= deaths <= 2 * len(parked) + 1
    assert_in_order([each for each in workers.done() if each[0] != "s7"])


@pytest.mark.parametrize("client", ["blocking", "asyncio"])
def test_a_group_goes_on_where_it_was_when_the_whole_cluster_comes_back(
    cluster: RealCluster, make_workers: Any, client: str
) -> None:
    workers = make_workers(cluster.url, "mailer")
    with operator(cluster.url) as store:
        for number in range(50):
            store.append(f"s{number % 5}", NewEvent("T", b""))
        worker = workers.start(client)
        eventually(lambda: len(set(workers.done())) == 50, "the first events were dealt with")
        eventually(lambda: store.group_state("mailer").lag == 0, "the cluster knows")
        workers.kill(worker)

        cluster.kill_all()
        for node in cluster.nodes:
            cluster.start_node(node)
        cluster.wait_serving()
        for number in range(50):
            store.append(f"s{number % 5}", NewEvent("T", b""))
        workers.start(client)
        eventually(lambda: len(set(workers.done())) == 100, "the others were dealt with")

    assert max(Counter(workers.done()).values()) == 1
    assert_in_order(workers.done())
