"""`rewind-node dump` on a real node's data: one object per line, and never while the node runs."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from real_cluster import RealCluster

import rewind
from rewind import NewEvent
from rewind_node.local_cluster import PROGRAM

pytestmark = pytest.mark.processes


def dump(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, "dump", str(directory)], capture_output=True, text=True, check=False)


def test_a_dump_is_one_object_per_line_and_only_of_a_stopped_node(make_cluster: Callable[..., RealCluster]) -> None:
    cluster = make_cluster(nodes=1, partitions=1).serve()
    with rewind.connect(cluster.url) as store:
        event = NewEvent("OrderPlaced", b"", id=None)
        store.append("order-1", [event, event])
    (node,) = cluster.nodes

    running = dump(node.directory)
    cluster.kill(node)
    stopped = dump(node.directory)

    assert (running.returncode, running.stdout, running.stderr.count("\n")) == (4, "", 1)
    assert stopped.returncode == 0
    lines = [json.loads(line) for line in stopped.stdout.splitlines()]
    assert {line["kind"] for line in lines} == {"state", "entry"}
    (append,) = [append for line in lines for append in line.get("appends", ())]
    assert (append["stream"], append["version"], len(append["ids"])) == ("order-1", 1, 2)
