"""How long one append takes, and how soon after it a subscriber has the event.

    python tests/load/latency.py [--appends 3000] [--seconds 10] [--rate 1000] [--json]

Starts three nodes with four partitions and default options. First single events of 256 bytes are appended one at a
time, each after the answer to the one before, through the blocking and then the asyncio client. Then events are
appended at a steady rate, whatever the answers take, while another process subscribes, again through both clients: live
delivery is the time from an append's acknowledgement, in the process that appended, until the subscriber's program has
the event, and below zero where that had it first. All processes read the same monotonic clock.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.synchronize import Event as Signal
from typing import TYPE_CHECKING, Any

import click
from measuring import percentile, running_cluster, say, url_of

import rewind
from rewind import NOW, NewEvent

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

NODES = 3
PARTITIONS = 4
STREAMS = 1000
TIMEOUT_S = 30.0
WARM_UP_APPENDS = 500  # sessions are open and leaders are known before the clock starts
EVENT = NewEvent("Happened", os.urandom(256))
LAST = NewEvent("Ended", b"")

Place = tuple[int, int]  # partition and position
Times = dict[Place, float]


def append_blocking(url: str, count: int) -> list[float]:
    """Append one event after the other and return how long each took."""
    times = []
    with rewind.connect(url) as store:
        for number in range(WARM_UP_APPENDS + count):
            began = time.monotonic()
            store.append(f"one-{number % STREAMS}", EVENT)
            times.append(time.monotonic() - began)
    return times[WARM_UP_APPENDS:]


def append_asyncio(url: str, count: int) -> list[float]:
    """Do the same through the asyncio client."""

    async def append() -> list[float]:
        times = []
        async with rewind.connect_async(url) as store:
            for number in range(WARM_UP_APPENDS + count):
                began = time.monotonic()
                await store.append(f"one-{number % STREAMS}", EVENT)
                times.append(time.monotonic() - began)
        return times[WARM_UP_APPENDS:]

    return asyncio.run(append())


def subscribe_blocking(url: str, ready: Signal, delivered: "Queue[Times]") -> None:
    """Note when each event arrives until one for each partition says that it was the last, as a process."""
    times: Times = {}
    ended = 0
    with rewind.connect(url) as store, store.subscribe(after=NOW) as subscription:
        ready.set()
        for event in subscription:
            times[event.partition, event.position] = time.monotonic()
            ended += event.type == LAST.type
            if ended == PARTITIONS:
                break
    delivered.put(times)


def subscribe_asyncio(url: str, ready: Signal, delivered: "Queue[Times]") -> None:
    """Do the same through the asyncio client."""

    async def subscribe() -> Times:
        times: Times = {}
        ended = 0
        async with rewind.connect_async(url) as store, store.subscribe(after=NOW) as subscription:
            ready.set()
            async for event in subscription:
                times[event.partition, event.position] = time.monotonic()
                ended += event.type == LAST.type
                if ended == PARTITIONS:
                    break
        return times

    delivered.put(asyncio.run(subscribe()))


async def append_steadily(url: str, rate: int, seconds: float) -> Times:
    """Append at a steady rate, then a last event to each partition; return when each append was acknowledged."""
    times: Times = {}

    def ended(future: "asyncio.Future[rewind.AppendResult]") -> None:
        result = future.result()
        times[result.partition, result.position] = time.monotonic()

    async with rewind.connect_async(url) as store:
        for number in range(WARM_UP_APPENDS):
            await store.append(f"live-{number % STREAMS}", EVENT)
        begun = time.monotonic()
        futures = []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
            futures.append(await store.submit(f"live-{number % STREAMS}", EVENT))
            futures[-1].add_done_callback(ended)
        await asyncio.gather(*futures)
        last = {store.partition_of(f"live-{number}"): f"live-{number}" for number in range(STREAMS)}
        for stream in last.values():
            await store.append(stream, LAST)
    return times


def deliver(subscriber: Callable[[str, Signal, "Queue[Times]"], None], url: str, rate: int, seconds: float) -> Any:
    """Return how long after its acknowledgement each event was delivered."""
    spawn = multiprocessing.get_context("spawn")
    ready, queue = spawn.Event(), spawn.Queue()
    process = spawn.Process(target=subscriber, args=(url, ready, queue), daemon=True)
    process.start()
    ready.wait(TIMEOUT_S)
    acknowledged = asyncio.run(append_steadily(url, rate, seconds))
    delivered: Times = queue.get(timeout=TIMEOUT_S)
    process.join()
    return [delivered[place] - at for place, at in acknowledged.items()]


def measure(appends: int, rate: int, seconds: float) -> dict[str, Any]:
    """Run everything and return the figures."""
    rows: dict[str, Callable[[str], list[float]]] = {
        "one append at a time, blocking": partial(append_blocking, count=appends),
        "one append at a time, asyncio": partial(append_asyncio, count=appends),
        "live delivery, blocking": lambda url: deliver(subscribe_blocking, url, rate, seconds),
        "live delivery, asyncio": lambda url: deliver(subscribe_asyncio, url, rate, seconds),
    }
    found = {}
    with running_cluster(NODES, PARTITIONS) as cluster:
        for name, run in rows.items():
            found[name] = figures(run(url_of(cluster, TIMEOUT_S)))
            say(f"{name}: median {found[name]['p50']} ms")
    return {"rate": rate, "latency_ms": found}


def figures(latencies_s: Sequence[float]) -> dict[str, float]:
    """Return what is printed of one kind of latency, in milliseconds."""
    latencies = sorted(latencies_s)
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {"count": len(latencies)} | {
        name: round(percentile(latencies, share) * 1000, 2) for name, share in shares.items()
    }


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--appends", type=int, default=3000, help="appends one at a time (default 3000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to append steadily (default 10)")
    parser.add_argument("--rate", type=int, default=1000, help="appends a second then (default 1000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    found = measure(arguments.appends, arguments.rate, arguments.seconds)
    if arguments.json:
        click.echo(json.dumps(found))
        return
    for name, row in found["latency_ms"].items():
        click.echo(f"{name:34}" + "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
