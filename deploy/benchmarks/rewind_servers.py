"""Rewind itself: three nodes with default options."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from server_processes import output_of
from system import PARTITIONS, Facts, Servers

from rewind_node.demo import free_port_base
from rewind_node.local_cluster import LocalCluster

NODES = 3


class RewindServers(Servers):
    """A cluster of three nodes."""

    name = "rewind"
    facts = Facts(
        title="Rewind",
        settings=f"{NODES} nodes, {PARTITIONS} partitions, default options; asyncio client, `submit`",
        promises="fsynced by two of three nodes; stream's version checked; retries recognised; batches atomic",
        not_promised="nothing of what is compared here",
    )

    def __init__(self) -> None:
        super().__init__()
        self._cluster: LocalCluster | None = None

    @staticmethod
    def missing() -> str | None:
        """Return None: it is what is compared."""
        return None

    def versions(self) -> str:
        """Return the version."""
        return output_of(sys.executable, "-m", "rewind", "--version").replace("rewind, version", "rewind-eventstore")

    def start(self, directory: Path) -> None:
        """Start the nodes."""
        base = free_port_base(NODES)
        self._cluster = LocalCluster(directory, nodes=NODES, partitions=PARTITIONS, port_base=base)
        self._cluster.start()
        self._cluster.wait_ready()

    def address(self) -> Mapping[str, Any]:
        """Return where the nodes are."""
        assert self._cluster is not None
        return {"servers": self._cluster.servers}

    def pids(self) -> Sequence[int]:
        """Return the nodes' processes."""
        assert self._cluster is not None
        return [node.pid for node in self._cluster.nodes if node.pid]

    def stop(self) -> None:
        """Stop the nodes."""
        if self._cluster is not None:
            self._cluster.stop()
