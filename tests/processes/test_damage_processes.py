"""Bytes of a stopped node's database are flipped: nothing wrong is ever served, and a peer's copy mends it."""

import time
from collections.abc import Callable

import pytest
from raw_protocol import RawClient
from real_cluster import PATIENCE_S, RealCluster, eventually
from recorded import Record, RecordedStore

import rewind
from rewind import NewEvent
from rewind_cluster.client_messages import ContextIs, Failed, FindContext, ReadStream, StreamIs, unpack_chunk
from rewind_cluster.columns import unpack_events
from rewind_node.local_cluster import LocalNode

pytestmark = pytest.mark.processes

PARTITION = 1
EVENTS = 40
FAR_US = 60_000_000


def data_of(number: int) -> bytes:
    return b"payload %04d " % number * 20


def flip(node: LocalNode, data: bytes) -> int:
    """Flip a bit in every copy of these bytes in a node's database and return how many there were."""
    path = node.directory / "shard-0" / "data.mdb"
    stored = bytearray(path.read_bytes())
    count, at = 0, stored.find(data)
    while at >= 0:
        stored[at + len(data) // 2] ^= 0x10
        count, at = count + 1, stored.find(data, at + 1)
    path.write_bytes(stored)
    return count


def fill(cluster: RealCluster) -> tuple[str, Record]:
    """Append events, one per entry, to a stream of partition 1."""
    record = Record()
    with rewind.connect(cluster.url) as opened:
        store = RecordedStore(opened, record)
        stream = next(f"s-{number}" for number in range(100) if opened.partition_of(f"s-{number}") == PARTITION)
        for number in range(EVENTS):
            result = store.append(stream, NewEvent("Happened", data_of(number)))
            assert result.version == number + 1
    return stream, record


def read_here(client: RawClient, request: int, context: int, stream: str, deadline_us: int) -> list[bytes] | Failed:
    """Read a stream from this very replica."""
    client.send(ReadStream(request, PARTITION, context, stream, 0, 1000, 1 << 20, False, False, 0, deadline_us))
    answer, frames = client.receive(StreamIs | Failed, request=request)
    if isinstance(answer, Failed):
        return answer
    return [data for row in unpack_chunk(frames[0]) for data in unpack_events(row[3]).datas]


def read_until_whole(node: LocalNode, stream: str) -> list[Failed]:
    """Read until all events come; return the refusals on the way. What comes is right each time."""
    refusals: list[Failed] = []
    give_up = time.monotonic() + PATIENCE_S
    with RawClient(node.address) as client:
        deadline_us = client.hello().time_us + FAR_US
        client.send(FindContext(1, "default", deadline_us))
        context = client.receive(ContextIs)[0].number
        for request in range(2, 100_000):
            answer = read_here(client, request, context, stream, deadline_us)
            if isinstance(answer, Failed):
                refusals.append(answer)
            else:
                assert answer == [data_of(number) for number in range(len(answer))]
                if len(answer) == EVENTS:
                    return refusals
            assert time.monotonic() < give_up, f"the replica was never mended: {refusals[-1:]}"
            time.sleep(0.02)
    raise AssertionError


def test_a_flipped_bit_is_never_served_and_is_repaired_from_a_peer(cluster: RealCluster) -> None:
    stream, record = fill(cluster)
    cluster.wait_synced()
    damaged = cluster.nodes[1]
    cluster.terminate(damaged)

    assert flip(damaged, data_of(EVENTS // 2)) >= 1
    cluster.start_node(damaged)
    cluster.wait_ready()
    read_until_whole(damaged, stream)

    log = damaged.log_file.read_text()
    assert "a replica is damaged and under quarantine" in log
    assert "a replica has been repaired" in log
    eventually(lambda: "quarantined" not in str(cluster.status()), "nobody is under quarantine any more")
    cluster.wait_synced()
    cluster.stop()
    assert cluster.check(record) == []


def test_a_damaged_replica_without_peers_serves_the_rest_of_the_cluster_s_data_or_nothing_but_never_a_lie(
    make_cluster: Callable[..., RealCluster],
) -> None:
    cluster = make_cluster(nodes=1, partitions=1).serve()
    stream, _ = fill(cluster)
    node = cluster.nodes[0]
    cluster.kill(node)

    assert flip(node, data_of(EVENTS // 2)) >= 1
    cluster.start_node(node)
    eventually(lambda: cluster.status_of(node) is not None, "the node answers")
    seen: list[bytes] = []
    with rewind.connect(cluster.url, timeout=20) as store, pytest.raises(rewind.DeadlineExceeded):
        seen.extend(event.data for event in store.read(stream, timeout=2))

    assert seen == [data_of(number) for number in range(len(seen))]
    assert node.exit_code() is None
    assert "under quarantine" in node.log_file.read_text()
