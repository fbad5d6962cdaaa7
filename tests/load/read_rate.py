"""How many events a second one client process reads into Python objects, beside the three nodes that serve them.

    python tests/load/read_rate.py [--events 1000000] [--repeat 3] [--json]

Starts three nodes with four partitions and default options, appends so many events of 256 bytes, one an append, and
reads them all with `read_all`, again and again, each time in a new process. A read makes an `Event` of each event and
touches its stream, version and data; an event's ID, metadata and time are decoded when they are asked for, so the
second figure is of a read that asks for those too. Memory is the client's RssAnon, when a tenth was read and at most
after that: it must not grow with what is read. The first read finds nothing in any cache of the nodes' own.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from measuring import anonymous_bytes, cpu_seconds, running_cluster, say, url_of

import rewind
from rewind import Event, NewEvent

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

NODES = 3
PARTITIONS = 4
STREAMS = 50_000
EVENT_BYTES = 256
TIMEOUT_S = 30.0
IN_FLIGHT = 4096
LOOK_EVERY = 20_000  # events between two looks at the memory
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one reading process saw."""

    events: int
    seconds: float
    cpu_s: float
    early_bytes: int  # when a tenth was read
    most_bytes: int  # after that


def touch(event: Event) -> int:
    """Look at what is there without decoding."""
    return len(event.stream) + event.version + len(event.data)


def decode(event: Event) -> int:
    """Look at everything."""
    return touch(event) + event.id.version + len(event.metadata) + event.time.year


LOOKS: dict[str, Callable[[Event], int]] = {"touched": touch, "decoded": decode}


def read(url: str, look: str, expected: int, outcomes: "Queue[Outcome]") -> None:
    """Read everything, as one process."""
    use = LOOKS[look]
    early = most = 0
    count = 0
    with rewind.connect(url) as store:
        began, cpu_s = time.monotonic(), time.process_time()
        for event in store.read_all():
            use(event)
            count += 1
            if count % LOOK_EVERY == 0:
                held = anonymous_bytes(os.getpid())
                if count <= expected // 10 or not early:
                    early = held
                most = max(most, held)
        outcomes.put(Outcome(count, time.monotonic() - began, time.process_time() - cpu_s, early, most))


async def fill(url: str, events: int) -> None:
    """Append so many events, each by itself, to streams in turn."""
    data = os.urandom(EVENT_BYTES)
    room = asyncio.Semaphore(IN_FLIGHT)
    futures: set[asyncio.Future[rewind.AppendResult]] = set()

    def ended(future: "asyncio.Future[rewind.AppendResult]") -> None:
        room.release()
        futures.discard(future)
        if future.exception() is not None:
            say(f"an append failed: {future.exception()}")

    async with rewind.connect_async(url) as store:
        for number in range(events):
            await room.acquire()
            future = await store.submit(f"stream-{number % STREAMS}", NewEvent("Happened", data))
            futures.add(future)
            future.add_done_callback(ended)
        await asyncio.gather(*futures)


def measure(events: int, repeat: int) -> dict[str, Any]:
    """Run everything and return the figures."""
    spawn = multiprocessing.get_context("spawn")
    queue: Queue[Outcome] = spawn.Queue()
    found: dict[str, Any] = {"events": events, "event_bytes": EVENT_BYTES}
    with running_cluster(NODES, PARTITIONS) as cluster:
        url = url_of(cluster, TIMEOUT_S)
        asyncio.run(fill(url, events))
        say(f"{events:,} events are appended")
        pids = [node.pid or 0 for node in cluster.nodes]
        for look in LOOKS:
            outcomes = []
            before = sum(map(cpu_seconds, pids))
            for _ in range(repeat):
                process = spawn.Process(target=read, args=(url, look, events, queue), daemon=True)
                process.start()
                outcomes.append(queue.get())
                process.join()
                say(f"{look}: {outcomes[-1].events / outcomes[-1].seconds:,.0f} events a second")
            found[look] = figures(outcomes) | {"nodes_cpu_s": round((sum(map(cpu_seconds, pids)) - before) / repeat, 2)}
            found["complete"] = found.get("complete", True) and all(each.events == events for each in outcomes)
    return found


def figures(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return what is printed of one kind of read."""
    rates = [outcome.events / outcome.seconds for outcome in outcomes]
    return {
        "events_per_second": round(statistics.median(rates)),
        "slowest": round(min(rates)),
        "client_cpu_s": round(statistics.median(outcome.cpu_s for outcome in outcomes), 2),
        "early_mib": round(max(outcome.early_bytes for outcome in outcomes) / MIB, 1),
        "most_mib": round(max(outcome.most_bytes for outcome in outcomes) / MIB, 1),
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    for look in LOOKS:
        row = found[look]
        click.echo(
            f"{look}: {row['events_per_second']:,} events a second (slowest {row['slowest']:,}); processor time: "
            f"client {row['client_cpu_s']} s, nodes {row['nodes_cpu_s']} s; client's RssAnon: {row['early_mib']} MiB "
            f"when a tenth was read, {row['most_mib']} MiB at most after that"
        )
    click.echo(f"{found['events']:,} events were read each time" if found["complete"] else "events were missing")


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="how many events (default 1000000)")
    parser.add_argument("--repeat", type=int, default=3, help="reads of each kind (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    found = measure(arguments.events, arguments.repeat)
    if arguments.json:
        click.echo(json.dumps(found))
    else:
        show(found)
    sys.exit(0 if found["complete"] else 1)


if __name__ == "__main__":
    main()
