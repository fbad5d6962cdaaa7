"""The nodes of a run, each on a machine of its own: started, killed, looked at, and restarted as systemd would.

A node that ends by itself is started again after a second, as deploy/README.md has it. Whether it had a reason is noted
as it ends: a disk that fails is one, damage done to its data another. Whatever else ends a node is a finding.

Everything happens in one thread: the nodes die with it.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from chaos.clocks import Clock
from chaos.disks import PlainDisk
from chaos.network import Network
from rewind_node import local_cluster
from rewind_node.exits import StorageFailureError
from rewind_node.local_cluster import HOST, PROGRAM, LocalNode, complaint_of
from rewind_node.parent_death import dying_with_this_process

RESTART_S = 1.0  # RestartSec of the systemd unit in deploy/README.md
STOP_S = 15.0
QUARANTINE = "a replica is damaged and under quarantine"
HOPELESS = "must be replaced under a new ID"  # what a replica says that cannot be repaired
DISK_ENDS = frozenset({StorageFailureError.code})
ABORTED = frozenset({-6, -7, -11})  # SIGABRT, SIGBUS, SIGSEGV: how LMDB ends a process whose pages make no sense
DAMAGE_ENDS = DISK_ENDS | ABORTED
STARTS_IN_VAIN_MAX = 5  # of a damaged node: then it has met what it will meet at every start
IN_VAIN_S = 5.0  # a node that ended sooner than this after its start has started in vain


@dataclass(slots=True)
class ChaosNode(LocalNode):
    """One node. `held`: how many faults keep it down. `excuses`: exit codes that faults give it reason for."""

    host: str = HOST
    held: int = 0
    disk: PlainDisk = field(default_factory=lambda: PlainDisk(Path()))
    clock: Clock | None = None
    excuses: set[int] = field(default_factory=set)
    ended_s: float | None = None  # when it was found ended by itself
    stopped: int = 0  # by how many faults it is stopped with SIGSTOP
    damaged: bool = False  # bits of its data file were flipped: what they hit may be met at any time from then on
    started_s: float = 0.0
    starts_in_vain: int = 0  # in succession
    lost: str = ""  # why it is out of the run for good

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"{self.host}:{self.port}"

    @property
    def peer_address(self) -> str:
        """Where other nodes reach it."""
        return f"{self.host}:{self.port + 1}"

    @property
    def http_address(self) -> str:
        """Where HTTP reaches it."""
        return f"{self.host}:{self.port + 2}"

    @property
    def memory_bytes(self) -> int:
        """How much memory of its own its process has, 0 without one. Pages of its data file are not its own."""
        with suppress(OSError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
        return 0

    @property
    def running(self) -> bool:
        """Whether it has a process that has not ended."""
        return self.process is not None and self.process.poll() is None


class Cluster:
    """All nodes. `program` is what `run` and its flags are appended to."""

    def __init__(
        self,
        nodes: Sequence[ChaosNode],
        partitions: int,
        network: Network | None,
        shim: Path | None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.nodes = list(nodes)
        self.partitions = partitions
        self.breakdowns: list[str] = []  # ends of nodes that nothing gives reason for
        self.ends: list[str] = []  # of nodes by themselves, with a reason
        self._network = network
        self._shim = shim
        self._program = list(program)

    @property
    def servers(self) -> str:
        """The addresses for clients."""
        return ",".join(node.address for node in self.nodes)

    @property
    def alive(self) -> list[ChaosNode]:
        """The nodes that are not lost for good."""
        return [node for node in self.nodes if not node.lost]

    def node(self, name: str) -> ChaosNode:
        """Return the node of that name."""
        return next(node for node in self.nodes if node.name == name)

    # Starting and ending.

    def start(self, node: ChaosNode) -> None:
        """Start a node; what it says goes to its log file."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("REWIND_")}
        environment["PYTHONFAULTHANDLER"] = "1"  # whatever ends it, its log tells where it was
        if node.clock is not None and self._shim is not None:
            environment |= node.clock.environment(self._shim)
        command = [*self._program, "run", *self._flags(node)]
        if self._network is not None:
            command = [*self._network.command(node.name), *command]
        node.ended_s = None
        node.started_s = time.monotonic()
        with node.log_file.open("ab") as log:
            node.process = subprocess.Popen(
                dying_with_this_process(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def _flags(self, node: ChaosNode) -> list[str]:
        flags = {
            "--name": node.name,
            "--data-dir": str(node.disk.path),
            "--seeds": ",".join(each.peer_address for each in self.nodes),
            "--listen": node.address,
            "--peer-listen": node.peer_address,
            "--http-listen": node.http_address,
            "--partitions": str(self.partitions),
            "--replication-factor": str(len(self.nodes)),
        }
        return [word for pair in flags.items() for word in pair] + ["--insecure"] * (self._network is not None)

    def hold(self, node: ChaosNode, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a node a signal that ends it, and keep it down."""
        node.held += 1
        if node.running:
            assert node.process is not None
            node.process.send_signal(number)

    def release(self, node: ChaosNode) -> None:
        """Let a node run again that `hold` keeps down; `supervise` starts it once its old process is gone."""
        node.held -= 1
        node.ended_s = 0.0  # long ago: it starts at once

    def freeze(self, node: ChaosNode) -> None:
        """Stop a node's process where it is."""
        node.stopped += 1
        if node.running:
            assert node.process is not None
            node.process.send_signal(signal.SIGSTOP)

    def thaw(self, node: ChaosNode) -> None:
        """Let it go on."""
        node.stopped -= 1
        if node.running and not node.stopped:
            assert node.process is not None
            node.process.send_signal(signal.SIGCONT)

    def supervise(self) -> None:
        """Start what should run and does not; note what ended by itself."""
        now_s = time.monotonic()
        for node in self.alive:
            if node.process is None or node.running or node.held:
                continue
            if node.ended_s is None:
                node.ended_s = now_s
                self._note_end(node)
            if not node.lost and now_s >= node.ended_s + RESTART_S:
                self.start(node)

    def _note_end(self, node: ChaosNode) -> None:
        code = node.exit_code()
        assert code is not None
        text = f"{node.name} ended with exit code {code}: {node.last_words()}"
        if code not in node.excuses and not (node.damaged and code in DAMAGE_ENDS):
            self.breakdowns.append(text)
            return
        self.ends.append(text)
        in_vain = node.damaged and time.monotonic() < node.started_s + IN_VAIN_S
        node.starts_in_vain = node.starts_in_vain + 1 if in_vain else 0
        if node.starts_in_vain >= STARTS_IN_VAIN_MAX:
            node.lost = f"{text}, long after bits of its data file had been flipped"

    def stop(self) -> None:
        """Stop all nodes in good order, and kill those that do not end."""
        for node in self.nodes:
            if node.running:
                assert node.process is not None
                node.process.send_signal(signal.SIGCONT)
                node.process.terminate()
        give_up = time.monotonic() + STOP_S
        for node in self.nodes:
            if node.process is None:
                continue
            try:
                node.process.wait(max(0.0, give_up - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.breakdowns.append(f"{node.name} did not stop within {STOP_S:.0f} s of SIGTERM; see its log")
                node.process.send_signal(signal.SIGABRT)  # upon which Python tells where it is
                node.process.wait(STOP_S)

    def kill(self) -> None:
        """End all nodes, whatever state they are in."""
        for node in self.nodes:
            if node.process is not None:
                with suppress(ProcessLookupError):
                    node.process.kill()
        for node in self.nodes:
            if node.process is not None:
                with suppress(subprocess.TimeoutExpired):
                    node.process.wait(STOP_S)

    # Looking.

    @staticmethod
    def complaint_of(node: ChaosNode) -> str | None:
        """Return why a node is not ready, None if it is."""
        return complaint_of(node)

    @staticmethod
    def status_of(node: ChaosNode) -> dict[str, Any] | None:
        """Return what a node says of the cluster, None if it does not answer."""
        try:
            with local_cluster.fetch(node, "/api/status") as response:
                status: dict[str, Any] = json.load(response)
                return status
        except (OSError, ValueError, HTTPException):
            return None

    def hopeless(self, node: ChaosNode) -> set[int]:
        """Return the partitions whose replica on a node says that it must be replaced."""
        return hopeless_in(self.complaint_of(node) or "")

    @staticmethod
    def quarantines(node: ChaosNode) -> list[str]:
        """Return the lines in which a node says that it has met damage."""
        lines = node.log_file.read_text(errors="replace").splitlines()
        return [line for line in lines if QUARANTINE in line]

    def leaders(self) -> dict[int, str | None]:
        """Return the leader of each partition by the word of the first node that answers."""
        for node in self.alive:
            status = self.status_of(node) if node.running and not node.stopped else None
            if status is not None:
                return {row["partition"]: row["leader"] for row in status["partitions"]}
        return {}


def hopeless_in(complaint: str) -> set[int]:
    """Return the partitions whose replica must be replaced, as a node tells of them in its complaint."""
    lines = re.split(r"; (?=partition \d+: )", complaint)
    return {int(line.split()[1].rstrip(":")) for line in lines if line.startswith("partition ") and HOPELESS in line}
