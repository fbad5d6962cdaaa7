"""What a stopped node holds: its logs from its store, and again as `rewind-node dump` tells them.

The store tells all, the states of groups included; the dump is what operators have. Both must tell the same logs.
"""

import subprocess
from dataclasses import dataclass, field

from histories.logs import StoredLog, log_of_store, logs_of_dump, views_of

from chaos.nodes import ChaosNode
from rewind_node.data_directory import DataDirectory
from rewind_node.groups import GroupTable
from rewind_node.local_cluster import PROGRAM
from rewind_node.storage_errors import StorageFailedError
from rewind_node.store import Store


@dataclass(slots=True)
class Holding:
    """What one node holds. `differences`: where its dump tells something else."""

    logs: list[StoredLog] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    file_bytes: int = 0
    log_bytes: int = 0  # of all entries together


def read_holding(node: ChaosNode) -> Holding:
    """Read what a node holds. Raises `StorageError` or `DamagedError` if it cannot be opened."""
    holding = Holding()
    dumped = {log.partition: log for log in _dump(node)}
    directory = DataDirectory.open(node.disk.path)
    try:
        for partition in directory.store.partitions():
            log = _log(directory.store, partition, node.name)
            holding.logs.append(log)
            holding.log_bytes += _bytes(directory.store, log)
            other = dumped.get(partition)
            if other is None or [each.digest for each in other.entries] != [each.digest for each in log.entries]:
                text = f"the dump of {node.name} tells another log of partition {partition} than its store holds"
                holding.differences.append(text)
                log.damage.append(text)  # which a damaged key makes, and a damaged node may have
            if other is not None:
                log.damage.extend(other.damage)
    finally:
        directory.close()
    holding.file_bytes = node.disk.data_file.stat().st_size
    return holding


def _log(store: Store, partition: int, name: str) -> StoredLog:
    log = log_of_store(store, partition, name)
    log.groups = views_of(GroupTable(store.groups(partition))) if partition else None
    return log


def _bytes(store: Store, log: StoredLog) -> int:
    return sum(len(store.entry(log.partition, entry.index)) for entry in log.entries)


def _dump(node: ChaosNode) -> list[StoredLog]:
    """Return a node's logs as its dump tells them."""
    command = [*PROGRAM, "dump", str(node.disk.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        logs = logs_of_dump(node.name, process.stdout)
        complaint = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise StorageFailedError(f"its dump ended with {process.returncode}: {complaint}")
    return logs
