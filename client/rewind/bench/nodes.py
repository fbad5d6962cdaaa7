"""The nodes of the cluster that is measured, as far as they run on this machine: what they use, and signals to them.

A node tells its process ID in the cluster's status. It counts as running here only if the process of that ID listens at
the port of the node's address, so that nobody else's process is ever measured, or killed, in its place.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from rewind.bench.machine import anonymous_bytes, cpu_seconds

DATA_FILE = "data.mdb"
BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's is


@dataclass(frozen=True, slots=True)
class Usage:
    """What local nodes have used, by name: processor time in seconds, memory, and disk; other nodes are not in it."""

    cpu_s: Mapping[str, float] = field(default_factory=dict)
    anonymous_bytes: Mapping[str, int] = field(default_factory=dict)
    disk_bytes: Mapping[str, int] = field(default_factory=dict)


class LocalNode:
    """A node whose process runs on this machine."""

    def __init__(self, name: str, process: psutil.Process) -> None:
        self.name = name
        self.process = process
        self._data_file = _data_file(process)

    def cpu_s(self) -> float:
        """Return the processor time that it and its children have used."""
        return cpu_seconds([self.process, *self.process.children(recursive=True)])

    def anonymous_bytes(self) -> int:
        """Return its memory without mapped files."""
        return anonymous_bytes(self.process.pid)

    def disk_bytes(self) -> int | None:
        """Return what its data takes on disk; None if that cannot be seen from here."""
        try:
            return self._data_file.stat().st_blocks * BLOCK_BYTES if self._data_file else None
        except OSError:
            return None

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)


def local_nodes(status: Mapping[str, Any]) -> list[LocalNode]:
    """Return the nodes of a status that run here and may be looked at by this user."""
    found = []
    for row in status.get("nodes", ()):
        process = _process(row.get("pid"), str(row.get("address")))
        if process is not None:
            found.append(LocalNode(str(row["name"]), process))
    return found


def _process(pid: object, address: str) -> psutil.Process | None:
    port = address.rpartition(":")[2]
    if not isinstance(pid, int) or pid == os.getpid():
        return None
    try:
        process = psutil.Process(pid)
        listening = {
            connection.laddr.port
            for connection in process.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN
        }
    except (psutil.Error, OSError):
        return None  # not here, or not ours to look at
    return process if port.isdigit() and int(port) in listening else None


def _data_file(process: psutil.Process) -> Path | None:
    try:
        paths = [Path(opened.path) for opened in process.open_files()]
    except (psutil.Error, OSError):
        return None
    return next((path for path in paths if path.name == DATA_FILE), None)


def usage_of(nodes: Sequence[LocalNode]) -> Usage:
    """Return what local nodes have used until now; one that has ended meanwhile is left out."""
    cpu_s: dict[str, float] = {}
    memory: dict[str, int] = {}
    disk: dict[str, int] = {}
    for node in nodes:
        try:
            cpu_s[node.name] = node.cpu_s()
            memory[node.name] = node.anonymous_bytes()
        except psutil.Error:
            continue
        held = node.disk_bytes()
        if held is not None:
            disk[node.name] = held
    return Usage(cpu_s, memory, disk)


def leaders_of(status: Mapping[str, Any]) -> dict[int, str | None]:
    """Return the leader of each partition with events."""
    return {row["partition"]: row["leader"] for row in status.get("partitions", ()) if row["partition"] != 0}
