"""All nodes end at once, again and again, in the middle of writing: what was acknowledged is there, once."""

import asyncio

import pytest
from append_load import History, append_load
from real_cluster import RealCluster

pytestmark = pytest.mark.processes

ROUNDS = 3
MAJORITY = 2


@pytest.mark.asyncio
async def test_what_was_acknowledged_survives_three_power_cuts_of_all_nodes(cluster: RealCluster) -> None:
    history = History()

    # One client sends again what was under way, the other gives up before the nodes are back.
    async with (
        append_load(cluster.url, history, workers=64) as load,
        append_load(cluster.url, history, workers=4, timeout_s=1.0),
    ):
        for _ in range(ROUNDS):
            await load.go_on(500)
            cluster.kill_all()
            await cluster.restart(cluster.nodes)
        await load.go_on(500)
    await asyncio.to_thread(cluster.wait_synced)
    cluster.stop()

    assert cluster.read_logs().check(history) == []
    assert len(history.acknowledged) >= 500 * (ROUNDS + 1)


@pytest.mark.asyncio
async def test_an_acknowledged_event_is_on_a_majority_the_moment_it_is_acknowledged(cluster: RealCluster) -> None:
    history = History()

    async with append_load(cluster.url, history, timeout_s=1.0) as load:
        await load.go_on(1000)
        cluster.kill_all()
        logs = cluster.read_logs()  # no await since the kill: nothing was acknowledged meanwhile

        assert logs.damage == []
        assert logs.check_acknowledged(history, copies=MAJORITY) == []
