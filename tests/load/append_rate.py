"""How many appends a second a cluster on this machine acknowledges, each replicated and fsynced.

    python tests/load/append_rate.py [--seconds 10 | --events 200000] [--clients 2] [--in-flight 256] [--json]

Starts three nodes with four partitions and default options, and client processes that append single events of 256 bytes
to new streams with `expected=NO_STREAM`, so many in flight each. Prints what was acknowledged per second, how long an
append took, what processor time each process used and how much memory each node holds at the end. Nodes and clients
share this machine, so the figure is that of all together.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import TYPE_CHECKING, Any

import click
from measuring import anonymous_bytes, cpu_seconds, leaders_of, percentile, running_cluster, say, url_of

import rewind
from rewind import NO_STREAM, NewEvent

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

NODES = 3
PARTITIONS = 4
EVENT_BYTES = 256
TIMEOUT_S = 30.0
WARM_UP_APPENDS = 2000  # sessions are open, memory is warm and leaders are known before the clock starts
ENDLESS = 1 << 62


@dataclass(frozen=True, slots=True)
class Work:
    """What one client process does, and for how long: until seconds have passed or events are acknowledged."""

    url: str
    in_flight: int
    seconds: float
    events: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one client process saw. Times are the machine's monotonic clock in seconds."""

    began: float
    ended: float
    cpu_s: float
    latencies_s: list[float]


async def append_all(work: Work, tag: str, start: Barrier) -> Outcome:
    """Warm up, wait for the other clients, and append."""
    async with rewind.connect_async(work.url) as store:
        await append_some(store, f"warm-{tag}", work.in_flight, WARM_UP_APPENDS, ENDLESS)
        await asyncio.to_thread(start.wait)
        began, cpu_s = time.monotonic(), time.process_time()
        latencies = await append_some(store, f"load-{tag}", work.in_flight, work.events, began + work.seconds)
        return Outcome(began, time.monotonic(), time.process_time() - cpu_s, latencies)


async def append_some(store: rewind.AsyncStore, prefix: str, in_flight: int, events: int, until: float) -> list[float]:
    """Append to new streams, keeping so many under way, and return how long each took."""
    data = os.urandom(EVENT_BYTES)
    latencies: list[float] = []
    under_way = 0
    wake = asyncio.Event()
    failures: list[BaseException] = []

    def ended(began: float, future: "asyncio.Future[rewind.AppendResult]") -> None:
        nonlocal under_way
        latencies.append(time.monotonic() - began)
        under_way -= 1
        wake.set()
        if (failure := future.exception()) is not None:
            failures.append(failure)

    for number in range(events):
        while under_way >= in_flight:
            wake.clear()
            await wake.wait()
        began = time.monotonic()
        if began >= until or failures:
            break
        future = await store.submit(f"{prefix}-{number}", NewEvent("Happened", data), expected=NO_STREAM)
        future.add_done_callback(partial(ended, began))
        under_way += 1
    while under_way:
        wake.clear()
        await wake.wait()
    if failures:
        raise failures[0]
    return latencies


def client(work: Work, tag: str, start: Barrier, outcomes: "Queue[Outcome]") -> None:
    """Run one client process."""
    outcomes.put(asyncio.run(append_all(work, tag, start)))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run everything and return the figures."""
    spawn = multiprocessing.get_context("spawn")
    with running_cluster(NODES, PARTITIONS) as cluster:
        events = arguments.events // arguments.clients if arguments.events else ENDLESS
        seconds = ENDLESS if arguments.events else arguments.seconds
        work = Work(url_of(cluster, TIMEOUT_S), arguments.in_flight, seconds, events)
        start: Barrier = spawn.Barrier(arguments.clients + 1)
        queue: Queue[Outcome] = spawn.Queue()
        clients = [
            spawn.Process(target=client, args=(work, f"{os.getpid()}-{number}", start, queue), daemon=True)
            for number in range(arguments.clients)
        ]
        for process in clients:
            process.start()
        start.wait(TIMEOUT_S * 2)
        say(f"appending; leaders: {leaders_of(cluster)}")
        pids = {node.name: node.pid or 0 for node in cluster.nodes}
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        outcomes = [queue.get() for _ in clients]
        used = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
        memory = {name: anonymous_bytes(pid) for name, pid in pids.items()}
        for process in clients:
            process.join()
    return figures(outcomes, used, memory)


def figures(outcomes: list[Outcome], node_cpu_s: dict[str, float], memory: dict[str, int]) -> dict[str, Any]:
    """Return what is printed, from what was measured."""
    latencies = sorted(latency for outcome in outcomes for latency in outcome.latencies_s)
    seconds = max(outcome.ended for outcome in outcomes) - min(outcome.began for outcome in outcomes)
    return {
        "appends": len(latencies),
        "seconds": round(seconds, 2),
        "appends_per_second": round(len(latencies) / seconds),
        "latency_ms": {
            name: round(percentile(latencies, share) * 1000, 2)
            for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        },
        "cpu_seconds": {name: round(value, 2) for name, value in node_cpu_s.items()}
        | {f"client {number}": round(outcome.cpu_s, 2) for number, outcome in enumerate(outcomes, 1)},
        "anonymous_mib": {name: round(value / (1 << 20), 1) for name, value in memory.items()},
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    click.echo(
        f"{found['appends_per_second']:,} appends a second acknowledged ({found['appends']:,} in {found['seconds']} s)"
    )
    for title, key in (
        ("latency, ms", "latency_ms"),
        ("processor time, s", "cpu_seconds"),
        ("RssAnon, MiB", "anonymous_mib"),
    ):
        click.echo(f"{title:20}" + "  ".join(f"{name} {value}" for name, value in found[key].items()))


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="how long (default 10)")
    parser.add_argument("--events", type=int, default=0, help="how many events in all, instead of --seconds")
    parser.add_argument("--clients", type=int, default=2, help="client processes (default 2)")
    parser.add_argument("--in-flight", type=int, default=256, help="appends in flight in each (default 256)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    found = measure(arguments)
    if arguments.json:
        click.echo(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
