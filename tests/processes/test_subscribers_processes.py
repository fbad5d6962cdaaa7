"""Subscribers while one leader after the other is killed under load: nothing is missed, doubled or out of order.

`SOAK_KILLS` says how many leaders; `tox -e soak` has twenty, and then also asks that everyone is at the head in time.
"""

import asyncio
import os
import threading
import time

import click
import pytest
from real_cluster import RealCluster
from watching import TYPES, AsyncWatcher, Load, Watcher, Wish, check, watching

import rewind

pytestmark = pytest.mark.processes

SOAKING = "SOAK_KILLS" in os.environ
KILLS = int(os.environ.get("SOAK_KILLS", "2"))
AT_HEAD_S = 1.0 if SOAKING else 15.0  # short runs share their machine with other tests
RATE = 150  # events a second in each context: the nodes and all clients share the machine
BETWEEN_S = 1.0
WISHES: list[tuple[type[Watcher], Wish]] = [
    (AsyncWatcher, Wish("default")),
    (Watcher, Wish("default", types=TYPES[:1], prefix="even-")),
    (Watcher, Wish("journal")),
    (AsyncWatcher, Wish("journal", types=TYPES[1:], slow=True)),
]


async def kill_leaders(cluster: RealCluster, count: int) -> float:
    """Kill so many leaders, let each come back but for the last, and return when that was killed."""
    for number in range(count):
        await asyncio.sleep(BETWEEN_S)
        victim = await asyncio.to_thread(cluster.leader, 1 + number % 3)
        killed = time.monotonic()
        await asyncio.to_thread(cluster.kill, victim)
        await asyncio.to_thread(cluster.wait_replaced, victim)
        if number < count - 1:
            await asyncio.sleep(BETWEEN_S)
            await cluster.restart([victim])
    return killed


@pytest.mark.asyncio
async def test_subscribers_of_every_kind_get_everything_once_and_in_order_while_leaders_are_killed(
    cluster: RealCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    hurry = threading.Event()
    async with (
        rewind.connect_async(cluster.url, timeout=45) as default,
        rewind.connect_async(cluster.url, timeout=45) as creator,
    ):
        await creator.create_context("journal", ordered=True)
        async with rewind.connect_async(cluster.url, context="journal", timeout=45) as journal:
            loads = {"default": Load(default, RATE), "journal": Load(journal, RATE)}
            with watching(cluster.url, WISHES, hurry) as watchers:
                running = [asyncio.create_task(load.run()) for load in loads.values()]
                killed = await kill_leaders(cluster, KILLS)
                hurry.set()
                await asyncio.sleep(2 * BETWEEN_S)
                for load in loads.values():
                    load.stopping = True
                await asyncio.gather(*running)
                for context, load in loads.items():
                    mine = [watcher for watcher in watchers if watcher.wish.context == context]
                    await asyncio.to_thread(check, cluster.url, context, load, mine)

    for watcher in watchers:
        load = loads[watcher.wish.context]
        waits = [round(watcher.longest_wait_s(load.times, since), 3) for since in (0.0, killed)]
        if SOAKING:
            with capsys.disabled():
                click.echo(
                    f"{watcher.wish}: {watcher.count} events; the longest wait {waits[0]} s, at last {waits[1]} s"
                )
        assert waits[1] <= AT_HEAD_S, f"{watcher.wish} came to the head {waits[1]} s after the last leader was killed"
