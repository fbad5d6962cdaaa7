"""Disks that fill up: appends are refused with a typed error before anything breaks, reads go on, nothing is lost.

Each node's data directory is a file system of 64 MiB in memory. Mounting needs root.
"""

import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from append_load import append_load
from real_cluster import PATIENCE_S, RealCluster, eventually
from recorded import Record, RecordedStore

import rewind
from rewind import NewEvent
from rewind_node.disk_reserve import DISK_RESERVE_BYTES_MIN
from rewind_node.local_cluster import LocalNode, complaint_of

pytestmark = pytest.mark.processes

LEFT_BYTES = DISK_RESERVE_BYTES_MIN // 2


class Filler:
    """Other files on the nodes' file systems."""

    def fill(self, nodes: Iterable[LocalNode], left_bytes: int = LEFT_BYTES) -> None:
        """Leave only so many bytes free, and wait until the nodes have noticed."""
        self.write(nodes, left_bytes)
        for node in nodes:
            eventually(lambda node=node: "disk space" in (complaint_of(node) or ""), f"{node.name} sees its disk full")

    @staticmethod
    def write(nodes: Iterable[LocalNode], left_bytes: int = LEFT_BYTES) -> None:
        """Leave only so many bytes free."""
        for node in nodes:
            status = os.statvfs(node.directory)
            with (node.directory / "filler").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - left_bytes)

    def free(self, nodes: Iterable[LocalNode]) -> None:
        """Give the space back."""
        for node in nodes:
            (node.directory / "filler").unlink()
        for node in nodes:
            eventually(lambda node=node: complaint_of(node) is None, f"{node.name} serves again")


@pytest.fixture
def full_cluster(make_cluster: Callable[..., RealCluster], mount: Callable[..., Path]) -> RealCluster:
    """Return a cluster that serves from small file systems."""
    cluster = make_cluster()
    for node in cluster.nodes:
        mount(node.directory)
    return cluster.serve()


def append(store: RecordedStore, count: int) -> None:
    """Append events to streams of all partitions, each of which must be taken."""
    for number in range(count):
        stream = f"order-{number}"
        result = store.append(stream, NewEvent("Happened", bytes(1000)))
        assert len(store.read(stream)) == result.version


def finish(cluster: RealCluster, record: Record) -> None:
    cluster.wait_synced()
    cluster.stop()
    assert cluster.check(record) == []


def test_with_every_disk_full_appends_are_refused_and_reads_go_on_until_space_is_given_back(
    full_cluster: RealCluster,
) -> None:
    cluster, record = full_cluster, Record()
    filler = Filler()
    with rewind.connect(cluster.url) as opened:
        store = RecordedStore(opened, record)
        append(store, 50)
        filler.fill(cluster.nodes)

        refused = [store.submit(f"order-{number}", NewEvent("Happened", b"no"), timeout=2) for number in range(50)]
        errors = [future.exception() for future in refused]
        versions = [store.version(f"order-{number}") for number in range(50)]
        read = [len(store.read(f"order-{number}")) for number in range(50)]
        filler.free(cluster.nodes)
        append(store, 50)

    assert {type(error) for error in errors} == {rewind.StorageFull}
    assert versions == read == [1] * 50
    finish(cluster, record)


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_one_full_disk_of_three_stops_no_appends(full_cluster: RealCluster, role: str) -> None:
    cluster, record = full_cluster, Record()
    filler = Filler()
    with rewind.connect(cluster.url) as opened:
        store = RecordedStore(opened, record)
        stream = next(f"s-{number}" for number in range(100) if opened.partition_of(f"s-{number}") == 1)
        append(store, 20)
        leader = cluster.leader(1)
        full = leader if role == "leader" else next(node for node in cluster.nodes if node is not leader)

        filler.fill([full])
        result = store.append(stream, NewEvent("Happened", b""), timeout=5)
        append(store, 20)
        eventually(lambda: full.name not in cluster.leaders().values(), "the full node leads nothing any more")
        filler.free([full])
        append(store, 20)

    assert result.version == 1
    finish(cluster, record)


@pytest.mark.asyncio
async def test_a_disk_that_the_node_s_own_log_fills_refuses_in_time_and_loses_nothing(
    make_cluster: Callable[..., RealCluster], mount: Callable[..., Path]
) -> None:
    cluster, record = make_cluster(partitions=1), Record()
    for node in cluster.nodes:
        mount(node.directory, size=24 << 20)
    cluster.serve()

    async with append_load(cluster.url, record, workers=64, timeout_s=1.0) as load:
        failures = record.failures
        await load.until(lambda: any(type(each) is rewind.StorageFull for each in failures), "an append is refused")
    cluster.kill_all()
    for node in cluster.nodes:
        cluster.start_node(node)
    eventually(lambda: None not in cluster.leaders().values(), "a leader is elected on full disks")
    with rewind.connect(cluster.url, timeout=PATIENCE_S) as opened:
        store = RecordedStore(opened, record)
        streams = {part.stream for append in record.history.appends if append.places for part in append.parts}
        read = sum(len(store.read(stream)) for stream in sorted(streams))

    cluster.kill_all()

    assert read >= record.acknowledged
    # A replica that was behind when its disk was full stays behind until it has space.
    assert cluster.check(record, copies=2) == []


def test_reads_go_on_after_a_restart_on_full_disks_though_an_append_was_under_way(full_cluster: RealCluster) -> None:
    cluster = full_cluster
    with rewind.connect(cluster.url) as store:
        stream = next(f"s-{number}" for number in range(100) if store.partition_of(f"s-{number}") == 1)
        store.append(stream, NewEvent("Happened", b"acknowledged"))
        leader = cluster.leader(1)
        followers = [node for node in cluster.nodes if node is not leader]
        for node in followers:
            cluster.signal(node, signal.SIGSTOP)
        with pytest.raises(rewind.OutcomeUnknown):
            store.append(stream, NewEvent("Happened", b"under way"), timeout=0.5)
    Filler().write(cluster.nodes)
    cluster.kill_all()

    # Without the third node nobody but the old leader, whose log is the longest, can be elected.
    for node in (leader, followers[0]):
        cluster.start_node(node)
    eventually(lambda: cluster.leaders().get(1) == leader.name, "the old leader is elected again")
    with rewind.connect(cluster.url) as store:
        events = [event.data for event in store.read(stream, timeout=5)]

    assert events[0] == b"acknowledged"
