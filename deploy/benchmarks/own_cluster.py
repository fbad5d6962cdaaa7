"""Clusters of Rewind alone on this machine, and what each of their nodes uses of it.

A node's loop is the main thread of its process; the other threads are ZeroMQ's, and its children serve HTTP. They are
told apart because one thread has one processor, however many a machine has.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from cluster_model import US, Cost
from prometheus_client.parser import text_string_to_metric_families

from rewind.bench.fleet import BenchError
from rewind.bench.machine import cpu_seconds
from rewind.bench.nodes import leaders_of
from rewind_node.demo import free_port_base
from rewind_node.disk_reserve import DiskReserve
from rewind_node.local_cluster import LocalCluster, LocalNode, fetch

NODES = 3
MEGABYTE = 1_000_000
COMMIT_SECONDS = "rewind_store_commit_seconds"  # the histogram of each node's `/metrics`


def check_room(directory: Path, node_bytes: float, advice: str) -> None:
    """Raise if the disk has no room for so much of each node, before anything is started for it."""
    disk = DiskReserve(directory)
    needed = NODES * node_bytes + disk.reserve_bytes()
    if disk.free_bytes() < needed:
        raise BenchError(
            f"{NODES} nodes with {node_bytes / MEGABYTE:,.0f} MB each need about {needed / MEGABYTE:,.0f} MB in "
            f"{directory}, where {disk.free_bytes() / MEGABYTE:,.0f} MB are free; {advice}, or set TMPDIR to a "
            "directory on another disk"
        )


@contextmanager
def running(name: str, partitions: int) -> Iterator[LocalCluster]:
    """Start three nodes in a temporary directory whose name begins so; nothing of them is left after."""
    with (
        TemporaryDirectory(prefix=f"rewind-{name}-", ignore_cleanup_errors=True) as directory,
        LocalCluster(Path(directory), nodes=NODES, partitions=partitions, port_base=free_port_base(NODES)) as cluster,
    ):
        cluster.start()
        cluster.wait_ready()
        yield cluster


@dataclass(frozen=True, slots=True)
class NodeUse:
    """What a node has used since it started. `cpu_s`: with all threads and children; `loop_s`: its loop alone."""

    cpu_s: float
    loop_s: float
    commits: float
    commit_s: float

    def less(self, earlier: "NodeUse") -> "NodeUse":
        """Return what was used since."""
        return NodeUse(
            self.cpu_s - earlier.cpu_s,
            self.loop_s - earlier.loop_s,
            self.commits - earlier.commits,
            self.commit_s - earlier.commit_s,
        )

    def per_event(self, events: int) -> Cost:
        """Return what that is for each of so many events."""
        return Cost(self.loop_s / events * US, self.cpu_s / events * US)


def uses_of(cluster: LocalCluster) -> dict[str, NodeUse]:
    """Return what each node has used until now, by name. A node's commits are told half a second late."""
    return {node.name: _use_of(node) for node in cluster.nodes}


def cpu_s_of(node: LocalNode) -> float:
    """Return the processor time that a node's process and its children have used; 0 where it does not run."""
    try:
        process = psutil.Process(node.pid)
        return cpu_seconds([process, *process.children(recursive=True)])
    except psutil.Error:
        return 0.0


def _use_of(node: LocalNode) -> NodeUse:
    assert node.pid is not None
    try:
        process = psutil.Process(node.pid)
        loop_s = sum(thread.user_time + thread.system_time for thread in process.threads() if thread.id == node.pid)
        commits, commit_s = _commits(node)
    except (psutil.Error, OSError, HTTPException) as error:
        raise BenchError(f"node {node.name} has ended or does not answer ({error}): {node.last_words()}") from error
    return NodeUse(cpu_s_of(node), loop_s, commits, commit_s)


def _commits(node: LocalNode) -> tuple[float, float]:
    with fetch(node, "/metrics") as response:
        families = text_string_to_metric_families(response.read().decode())
    samples = {sample.name: sample.value for family in families for sample in family.samples}
    return samples[f"{COMMIT_SECONDS}_count"], samples[f"{COMMIT_SECONDS}_sum"]


def status_of(cluster: LocalCluster) -> Mapping[str, Any]:
    """Return the status of the cluster; raise if no node answers."""
    status = cluster.status()
    if status is None:
        raise BenchError("no node of the cluster answers any more; look for what else keeps this machine busy")
    return status


def led_by(cluster: LocalCluster) -> dict[int, str]:
    """Return who leads each partition with events; raise if somebody is between two leaders."""
    leaders = leaders_of(status_of(cluster))
    if without := [partition for partition, leader in leaders.items() if leader is None]:
        raise BenchError(f"partitions {without} have no leader; this machine is too busy to measure on")
    return {partition: leader for partition, leader in leaders.items() if leader is not None}
