"""All nodes end at once, again and again, in the middle of writing: what was acknowledged is there, once."""

import asyncio

import pytest
from append_load import append_load
from real_cluster import RealCluster
from recorded import Record

pytestmark = pytest.mark.processes

ROUNDS = 3
MAJORITY = 2


@pytest.mark.asyncio
async def test_what_was_acknowledged_survives_three_power_cuts_of_all_nodes(cluster: RealCluster) -> None:
    record = Record()

    # One client sends again what was under way, the other gives up before the nodes are back.
    async with (
        append_load(cluster.url, record, workers=64) as load,
        append_load(cluster.url, record, workers=4, timeout_s=1.0),
    ):
        for _ in range(ROUNDS):
            await load.go_on(500)
            cluster.kill_all()
            await cluster.restart(cluster.nodes)
        await load.go_on(500)
    await asyncio.to_thread(cluster.wait_synced)
    cluster.stop()

    assert cluster.check(record) == []
    assert record.acknowledged >= 500 * (ROUNDS + 1)


@pytest.mark.asyncio
async def test_an_acknowledged_event_is_on_a_majority_the_moment_it_is_acknowledged(cluster: RealCluster) -> None:
    record = Record()

    async with append_load(cluster.url, record, timeout_s=1.0) as load:
        await load.go_on(1000)
        cluster.kill_all()
        logs = cluster.read_logs()

    # What the workers had under way has ended by now, most of it unknown.
    assert cluster.check(record, logs, copies=MAJORITY) == []
