"""What the measuring scripts share: a cluster of their own, figures of processes, and percentiles."""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rewind_node.demo import free_port_base
from rewind_node.local_cluster import LocalCluster

CLOCK_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@contextmanager
def running_cluster(nodes: int, partitions: int) -> Iterator[LocalCluster]:
    """Run a cluster with default options in a temporary directory while the context lasts."""
    with (
        tempfile.TemporaryDirectory(prefix="rewind-load-") as directory,
        LocalCluster(Path(directory), nodes=nodes, partitions=partitions, port_base=free_port_base(nodes)) as cluster,
    ):
        cluster.start()
        cluster.wait_ready()
        say(f"{nodes} nodes with {partitions} partitions are up in {directory}")
        yield cluster


def url_of(cluster: LocalCluster, timeout_s: float) -> str:
    """Return where clients connect."""
    return f"rewind://{cluster.servers}/default?timeout={timeout_s:g}"


def leaders_of(cluster: LocalCluster) -> dict[int, str | None]:
    """Return the leader of each data partition."""
    status = cluster.status() or {"partitions": []}
    return {row["partition"]: row["leader"] for row in status["partitions"] if row["partition"] != 0}


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_A_SECOND


def anonymous_bytes(pid: int) -> int:
    """Return the memory of a process that is not a mapped file: LMDB's pages are none of it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of the sorted values lies."""
    return values[min(len(values) - 1, int(len(values) * share))]


def say(text: str) -> None:
    """Tell progress on standard error: the results alone go to standard output."""
    sys.stderr.write(text + "\n")
