"""How long clients cannot write when a leader is lost, and whether anything acknowledged is lost with it.

    python tests/load/write_gap.py [--repeat 10] [--signals kill9,sigstop,sigterm] [--json]

Starts three nodes with four partitions and default options, and appends about 200 events a second, spread over all
partitions, through the asyncio client. Then, for each signal and as often as asked, it signals a node that leads data
partitions and measures, for every partition that the node led, the longest time without an acknowledged append from
the signal on: the write gap as a client sees it. The node is started again or continued, and once every replica is
level the next round begins. At the end everything acknowledged is read back.

Appends to a partition come every 20 ms, so a gap of about that is none. Exits with 1 if anything was lost or doubled.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import time
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import click
from measuring import leaders_of, running_cluster, say, url_of

import rewind
from rewind import NewEvent
from rewind_node.local_cluster import LocalCluster, LocalNode

NODES = 3
PARTITIONS = 4
APPENDS_A_SECOND = 200
STREAMS_PER_PARTITION = 8
TIMEOUT_S = 30.0  # of an append: far beyond any gap, so that none gives up
AFTERMATH_S = 1.5  # a gap that comes after the first append went through is one too
PATIENCE_S = 60.0
LAG_MAX = 20  # entries a replica may be behind and count as level: the load goes on
POLL_S = 0.05
DATA = bytes(256)
SIGNALS = {"kill9": signal.SIGKILL, "sigstop": signal.SIGSTOP, "sigterm": signal.SIGTERM}
TARGETS_S = {"kill9": 0.3, "sigstop": 2.5, "sigterm": 0.1}


@dataclass(slots=True)
class Load:
    """A steady trickle of appends to every partition, and what became of each."""

    store: rewind.AsyncStore
    acknowledged_at: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: dict[UUID, tuple[str, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    pending: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Append until cancelled, each partition in its turn, however slow the answers are."""
        streams = self._streams()
        due = time.monotonic()
        for number in count():
            partition = 1 + number % PARTITIONS
            stream = streams[partition][number // PARTITIONS % STREAMS_PER_PARTITION]
            task = asyncio.create_task(self._append(partition, stream))
            self.pending.add(task)
            task.add_done_callback(self.pending.discard)
            due += 1 / APPENDS_A_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _streams(self) -> dict[int, list[str]]:
        streams: dict[int, list[str]] = defaultdict(list)
        for number in count():
            if sum(len(names) == STREAMS_PER_PARTITION for names in streams.values()) == PARTITIONS:
                break
            name = f"gap-{number}"
            names = streams[self.store.partition_of(name)]
            if len(names) < STREAMS_PER_PARTITION:
                names.append(name)
        return streams

    async def _append(self, partition: int, stream: str) -> None:
        event = NewEvent("Happened", DATA, id=uuid4())
        assert event.id is not None
        try:
            result = await self.store.append(stream, event)
        except rewind.RewindError as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            return
        self.acknowledged_at[partition].append(time.monotonic())
        self.acknowledged[event.id] = (stream, result.version)

    def gap_s(self, partition: int, since: float) -> float | None:
        """Return the longest time without an acknowledgement since then; None if there was no acknowledgement."""
        times = self.acknowledged_at[partition]
        times = times[bisect_right(times, since) :]
        if not times:
            return None
        return max(later - earlier for earlier, later in zip([since, *times], times, strict=False))

    async def lost_and_doubled(self) -> tuple[int, int]:
        """Read everything back; return how many acknowledged events are not in their place, and how many came twice."""
        places: dict[UUID, tuple[str, int]] = {}
        doubled = 0
        for stream in sorted({stream for stream, _ in self.acknowledged.values()}):
            async for event in self.store.read(stream):
                doubled += event.id in places
                places[event.id] = (stream, event.version)
        lost = sum(places.get(event_id) != place for event_id, place in self.acknowledged.items())
        return lost, doubled


async def until_level(cluster: LocalCluster) -> None:
    """Wait until every node serves, every partition is led and every replica is level with its leader."""
    await asyncio.to_thread(cluster.wait_ready)
    give_up = time.monotonic() + PATIENCE_S
    since = time.monotonic()
    while not await asyncio.to_thread(is_level, cluster, since):
        if time.monotonic() > give_up:
            raise TimeoutError(f"the replicas are not level after {PATIENCE_S:.0f} s: {cluster.status()}")
        await asyncio.sleep(POLL_S)


def is_level(cluster: LocalCluster, since: float) -> bool:
    """Return whether a status younger than `since` shows all nodes up and all replicas level."""
    status = cluster.status()
    if status is None or time.monotonic() - status["age_ms"] / 1000 < since:
        return False
    if any(node["state"] != "up" for node in status["nodes"]):
        return False
    return all(
        row["leader"] is not None
        and all(
            replica["match"] is not None and row["commit"] - replica["match"] <= LAG_MAX for replica in row["replicas"]
        )
        for row in status["partitions"]
    )


async def strike(cluster: LocalCluster, load: Load, name: str) -> list[float]:
    """Signal a leader, let it come back, and return the gaps of the partitions that it led."""
    leaders = await asyncio.to_thread(leaders_of, cluster)
    victim = cluster.node(random.choice(sorted({leader for leader in leaders.values() if leader})))
    led = [partition for partition, leader in leaders.items() if leader == victim.name]
    assert victim.pid is not None
    struck_at = time.monotonic()
    os.kill(victim.pid, SIGNALS[name])
    give_up = struck_at + PATIENCE_S
    while (
        any(load.gap_s(partition, struck_at) is None for partition in led) or time.monotonic() < struck_at + AFTERMATH_S
    ):
        if time.monotonic() > give_up:
            raise TimeoutError(f"appends to partitions {led} do not go on after {name} of {victim.name}")
        await asyncio.sleep(POLL_S)
    await asyncio.sleep(AFTERMATH_S)
    gaps = [gap for partition in led if (gap := load.gap_s(partition, struck_at)) is not None]
    say(f"{name} of {victim.name}, leader of {led}: " + ", ".join(f"{gap * 1000:.0f} ms" for gap in gaps))
    await bring_back(cluster, victim, name)
    return gaps


async def bring_back(cluster: LocalCluster, victim: LocalNode, name: str) -> None:
    """Continue a stopped node or start one that ended, and wait until it is level."""
    assert victim.process is not None
    if name == "sigstop":
        victim.process.send_signal(signal.SIGCONT)
    else:
        code = await asyncio.to_thread(victim.process.wait, PATIENCE_S)
        if name == "sigterm" and code != 0:
            raise RuntimeError(f"{victim.name} ended with exit code {code} after SIGTERM: {victim.last_words()}")
        cluster.start_node(victim)
    await until_level(cluster)


async def measure(cluster: LocalCluster, names: list[str], repeat: int) -> dict[str, Any]:
    """Run all rounds and return the figures."""
    async with rewind.connect_async(url_of(cluster, TIMEOUT_S)) as store:
        load = Load(store)
        running = asyncio.create_task(load.run())
        try:
            await until_level(cluster)
            rounds = {name: [await strike(cluster, load, name) for _ in range(repeat)] for name in names}
        finally:
            running.cancel()
            await asyncio.gather(running, *load.pending, return_exceptions=True)
        lost, doubled = await load.lost_and_doubled()
        return {
            "signals": {name: figures(name, gaps) for name, gaps in rounds.items()},
            "acknowledged": len(load.acknowledged),
            "failed": load.failures,
            "lost": lost,
            "doubled": doubled,
        }


def figures(name: str, rounds: list[list[float]]) -> dict[str, Any]:
    """Return the figures of one signal from the gaps of each round."""
    gaps = [gap for gaps in rounds for gap in gaps]
    return {
        "rounds": len(rounds),
        "partitions": len(gaps),
        "median_s": round(statistics.median(gaps), 3),
        "worst_s": round(max(gaps), 3),
        "median_of_longest_s": round(statistics.median(max(gaps) for gaps in rounds), 3),
        "target_s": TARGETS_S[name],
    }


def show(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    click.echo(
        f"{'signal':10}{'rounds':>8}{'gaps':>6}{'median':>10}{'worst':>10}{'median of longest':>20}{'target':>12}"
    )
    for name, row in found["signals"].items():
        times = f"{row['median_s']:>8.3f} s{row['worst_s']:>8.3f} s{row['median_of_longest_s']:>18.3f} s"
        click.echo(f"{name:10}{row['rounds']:>8}{row['partitions']:>6}{times}{'<':>6}{row['target_s']:>4} s")
    click.echo(f"{found['acknowledged']:,} appends acknowledged: {found['lost']} lost, {found['doubled']} doubled")
    click.echo(
        f"{len(found['failed'])} appends failed" + (f", the first: {found['failed'][0]}" if found["failed"] else "")
    )


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=10, help="rounds for each signal (default 10)")
    parser.add_argument("--signals", default=",".join(SIGNALS), help=f"which ones (default {','.join(SIGNALS)})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    names = arguments.signals.split(",")
    if unknown := [name for name in names if name not in SIGNALS]:
        parser.error(f"unknown signals {unknown}; there are {', '.join(SIGNALS)}")
    with running_cluster(NODES, PARTITIONS) as cluster:
        found = asyncio.run(measure(cluster, names, arguments.repeat))
    if arguments.json:
        click.echo(json.dumps(found))
    else:
        show(found)
    sys.exit(1 if found["lost"] or found["doubled"] else 0)


if __name__ == "__main__":
    main()
