"""A cluster of real nodes as tests use it: violence, waiting for conditions, and what is in the data directories."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Self

from histories.checker import check
from histories.logs import StoredLog, logs_of_dump
from recorded import Record

from rewind_node.local_cluster import PROGRAM, LocalCluster, LocalNode

PATIENCE_S = 30.0  # for anything that takes a second on an idle machine
POLL_S = 0.02


def eventually(condition: Callable[[], bool], complaint: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds; fail with a complaint if it does not in time."""
    give_up = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < give_up, f"within {patience_s:.0f} s it never came to this: {complaint}"
        time.sleep(POLL_S)


class RealCluster(LocalCluster):
    """Nodes that are killed, stopped and looked into. Methods that wait block: use `asyncio.to_thread` under load."""

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"rewind://{self.servers}/default"

    def serve(self) -> Self:
        """Start all nodes and wait until each serves and every partition is led."""
        self.start()
        self.wait_serving()
        return self

    def wait_serving(self) -> None:
        """Wait until every node that runs is ready, and every partition has a leader by its word."""
        self.wait_ready()
        eventually(lambda: None not in self.leaders().values(), "every partition has a leader")

    async def restart(self, nodes: Iterable[LocalNode]) -> None:
        """Start nodes that have ended, and wait until they serve, without holding up the event loop."""
        for node in nodes:
            self.start_node(node)
        await asyncio.to_thread(self.wait_serving)

    # Violence.

    def kill_all(self) -> None:
        """End all nodes at once as a power cut would."""
        for node in self.nodes:
            assert node.process is not None
            node.process.kill()
        for node in self.nodes:
            assert node.process is not None
            node.process.wait()

    @staticmethod
    def signal(node: LocalNode, number: signal.Signals) -> None:
        """Send a signal to a node."""
        assert node.pid is not None
        os.kill(node.pid, number)

    @staticmethod
    def terminate(node: LocalNode) -> int:
        """Stop a node in good order and return its exit code."""
        assert node.process is not None
        node.process.terminate()
        return node.process.wait(PATIENCE_S)

    # Looking.

    def leaders(self, *, but: LocalNode | None = None) -> dict[int, str | None]:
        """Return the leader of each data partition, by the word of the first node that answers."""
        status = self.status(but=but) or {"partitions": []}
        leaders = {row["partition"]: row["leader"] for row in status["partitions"] if row["partition"] != 0}
        return leaders or {-1: None}

    def leader(self, partition: int) -> LocalNode:
        """Return the node that leads a partition, once one does."""
        eventually(lambda: self.leaders().get(partition) is not None, f"partition {partition} has a leader")
        return self.node(str(self.leaders()[partition]))

    def wait_replaced(self, node: LocalNode) -> None:
        """Wait until the other nodes follow others in every data partition."""
        eventually(
            lambda: not {None, node.name} & set(self.leaders(but=node).values()), f"others lead in place of {node.name}"
        )

    def wait_synced(self) -> None:
        """Wait until every node has applied all that is committed. Nothing may be appended meanwhile."""
        since = time.monotonic()
        eventually(lambda: self._is_synced(since), "every node has applied all that is committed")

    def _is_synced(self, since: float) -> bool:
        applied: list[list[tuple[int, int | None]]] = []
        commits: dict[int, int] = {}
        for node in self.nodes:
            asked = time.monotonic()
            status = self.status_of(node)
            if status is None or asked - status["age_ms"] / 1000 < since:
                return False  # what it says is older than the question
            rows = []
            for partition in status["partitions"]:
                own = next((row["applied"] for row in partition["replicas"] if row["node"] == node.name), None)
                rows.append((partition["partition"], own))
                commits[partition["partition"]] = max(commits.get(partition["partition"], 0), partition["commit"] or 0)
            applied.append(rows)
        return all(own == commits[partition] for rows in applied for partition, own in rows)

    def read_logs(self) -> list[StoredLog]:
        """Return what `rewind-node dump` says of every node's data directory. None may be running."""
        logs: list[StoredLog] = []
        for node in self.nodes:
            with subprocess.Popen([*PROGRAM, "dump", str(node.directory)], stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                logs += logs_of_dump(node.name, process.stdout)
            assert process.returncode == 0, f"rewind-node dump of {node.name} ended with {process.returncode}"
        return logs

    def check(self, record: Record, logs: list[StoredLog] | None = None, copies: int | None = None) -> list[str]:
        """Return every promise that was broken to clients, going by what the nodes have stored.

        `copies`: on how many nodes each acknowledged append must stand, on all of them if not given.
        """
        nodes = len(self.nodes)
        violations = check(
            record.history,
            self.read_logs() if logs is None else logs,
            voters=nodes,  # of each partition, with so few nodes
            copies=nodes if copies is None else copies,
        )
        return [str(violation) for violation in violations]
