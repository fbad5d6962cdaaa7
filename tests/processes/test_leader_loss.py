"""A leader is killed, frozen or stopped under load: clients notice a pause, never a loss, a double or an old truth."""

import asyncio
import signal

import pytest
from append_load import append_load
from raw_protocol import RawClient
from real_cluster import RealCluster
from recorded import Record, RecordedAsyncStore, Recorder, now_us

import rewind
from rewind import NewEvent
from rewind_cluster.client_messages import ContextIs, Failed, FindContext, GetVersion, VersionIs

pytestmark = pytest.mark.processes

FAR_US = 60_000_000
WORKERS = 64  # so many that some are always answered by nobody when a leader ends


async def finish(cluster: RealCluster, record: Record) -> None:
    """Stop the cluster once all nodes are level, and hold what they stored against what clients were told."""
    await asyncio.to_thread(cluster.wait_synced)
    cluster.stop()
    assert cluster.check(record) == []
    assert record.failures == [], "the load gave up although a majority was there"
    assert record.unknown == 0


@pytest.mark.asyncio
async def test_appends_go_on_after_a_leader_was_killed_and_nothing_is_lost_or_doubled(cluster: RealCluster) -> None:
    record = Record()

    async with append_load(cluster.url, record, workers=WORKERS) as load:
        for partition in (1, 2):
            victim = await asyncio.to_thread(cluster.leader, partition)
            await load.go_on(500)
            cluster.kill(victim)  # no await since the load went on: much is under way
            await load.go_on(500)
            await asyncio.to_thread(cluster.wait_replaced, victim)
            await load.go_on(500)
            await cluster.restart([victim])

    await finish(cluster, record)


@pytest.mark.asyncio
async def test_a_leader_stopped_in_good_order_exits_with_0_and_nothing_is_lost_or_doubled(cluster: RealCluster) -> None:
    record = Record()

    async with append_load(cluster.url, record, workers=WORKERS) as load:
        victim = await asyncio.to_thread(cluster.leader, 1)
        await load.go_on(500)
        code = await asyncio.to_thread(cluster.terminate, victim)
        await load.go_on(500)
        await asyncio.to_thread(cluster.wait_replaced, victim)
        await cluster.restart([victim])
        await load.go_on(500)

    assert code == 0
    await finish(cluster, record)


@pytest.mark.asyncio
async def test_a_frozen_leader_is_replaced_and_answers_nothing_old_when_it_wakes(cluster: RealCluster) -> None:
    record = Record()

    async with append_load(cluster.url, record, workers=WORKERS) as load, rewind.connect_async(cluster.url) as opened:
        store = await RecordedAsyncStore.open(opened, record)
        stream = next(f"fresh-{number}" for number in range(100) if opened.partition_of(f"fresh-{number}") == 1)
        await store.append(stream, NewEvent("Happened", b"before"))
        await load.go_on(500)
        frozen = await asyncio.to_thread(cluster.leader, 1)
        with RawClient(frozen.address) as client:
            deadline_us = client.hello().time_us + FAR_US
            client.send(FindContext(1, "default", deadline_us))
            context = client.receive(ContextIs)[0].number
            asked = Recorder(record, context)
            begun_us = now_us()
            cluster.signal(frozen, signal.SIGSTOP)
            # They lie in its sockets when it wakes, and it still takes itself for the leader.
            for request in range(2, 22):
                client.send(GetVersion(request, 1, context, stream, True, 0, deadline_us))
            await asyncio.to_thread(cluster.wait_replaced, frozen)
            result = await store.append(stream, NewEvent("Happened", b"after"))
            await load.go_on(500)
            cluster.signal(frozen, signal.SIGCONT)
            answers = [client.receive(VersionIs | Failed, request=request)[0] for request in range(2, 22)]
            for answer in answers:
                if isinstance(answer, VersionIs):
                    asked.read(1, stream, begun_us, version=answer.version)
        await load.go_on(500)
        await asyncio.to_thread(cluster.wait_serving)

    assert result.version == 2
    assert {answer.version for answer in answers if isinstance(answer, VersionIs)} <= {2}
    await finish(cluster, record)


def test_a_leader_that_hears_no_majority_answers_no_fresh_read(cluster: RealCluster) -> None:
    with rewind.connect(cluster.url) as store:
        stream = next(f"fresh-{number}" for number in range(100) if store.partition_of(f"fresh-{number}") == 1)
        store.append(stream, NewEvent("Happened", b""))
    leader = cluster.leader(1)
    with RawClient(leader.address) as client:
        deadline_us = client.hello().time_us + FAR_US
        client.send(FindContext(1, "default", deadline_us))
        context = client.receive(ContextIs)[0].number
        client.send(GetVersion(2, 1, context, stream, True, 0, deadline_us))
        before = client.receive(VersionIs | Failed, request=2)[0]

        for node in cluster.nodes:
            if node is not leader:
                cluster.signal(node, signal.SIGSTOP)
        client.send(GetVersion(3, 1, context, stream, True, 0, deadline_us))
        after = client.receive(VersionIs | Failed, request=3)[0]
    for node in cluster.nodes:
        cluster.signal(node, signal.SIGCONT)

    assert before == VersionIs(2, 1, before.position)
    assert isinstance(after, Failed), "it could not know whether another one leads by now"
