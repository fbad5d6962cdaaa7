"""The machines of a run: what this one can offer, a network, disks, clocks, nodes; and nothing of it is left behind."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from chaos import clocks, disks, network
from chaos.clocks import Clock
from chaos.commands import CommandError, run, try_all
from chaos.disks import LoopDisk, MemoryDisk, PlainDisk
from chaos.faults import Means, World
from chaos.fleet import Fleet
from chaos.network import Network
from chaos.nodes import ChaosNode, Cluster
from chaos.plants import PLANTS, program_with
from rewind_node.demo import free_port_base
from rewind_node.local_cluster import PROGRAM

SCRATCH = "rewind-chaos-"  # with the process's ID
PORT = 7070
PORTS_PER_NODE = 100
READY_S = 60.0
LOOK_S = 0.05
CLIENTS = 4
PAUSE_MS = 40


class NotServingError(Exception):
    """The cluster has not come up."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a run is."""

    nodes: int = 3
    partitions: int = 3
    clients: int = CLIENTS
    pause_ms: int = PAUSE_MS


def missing_means(directory: Path) -> dict[Means, str]:
    """Return what this machine does not offer, and why. Tries everything, in a directory."""
    found = {
        Means.NAMESPACES: network.why_unavailable(),
        Means.MOUNT: disks.why_no_memory_disk(directory),
        Means.LOOP_DISK: disks.why_no_loop_disk(directory),
        Means.SHIM: clocks.why_unavailable(directory),
        Means.STRACE: _why_no_strace(),
    }
    return {means: why for means, why in found.items() if why}


def _why_no_strace() -> str:
    try:
        run("strace", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO", "true")
    except CommandError as error:
        return str(error)
    return ""


class Scratch:
    """A directory for one process's runs, in memory where that can be had, and removed with all that is mounted."""

    def __init__(self, below: Path) -> None:
        self.path = below / f"{SCRATCH}{os.getpid()}"
        self._below = below

    def __enter__(self) -> Path:
        for left in self._below.glob(f"{SCRATCH}*"):
            if network.is_dead(left.name.removeprefix(SCRATCH)):
                remove(left)
        self.path.mkdir()
        try_all(["mount", "-t", "tmpfs", "rewind-chaos", str(self.path)])
        return self.path

    def __exit__(self, *_: object) -> None:
        remove(self.path)


def remove(directory: Path) -> None:
    """Remove a directory with whatever is mounted in it."""
    disks.clean(directory)
    shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def machines(seed: int, shape: Shape, directory: Path, missing: dict[Means, str], bug: str = "") -> Iterator[World]:
    """Make machines, in a directory that is not there yet. What is started on them ends with the context."""
    directory.mkdir()
    with ExitStack() as stack:
        yield _build(seed, shape, directory, missing, stack, bug)


def _build(
    seed: int,
    shape: Shape,
    directory: Path,
    missing: dict[Means, str],
    stack: ExitStack,
    bug: str,
) -> World:
    """Make the machines."""
    names = [f"n{number + 1}" for number in range(shape.nodes)]
    clients = [f"c{number + 1}" for number in range(shape.clients)]
    net = None if Means.NAMESPACES in missing else stack.enter_context(Network([*names, *clients]))
    shim = None if Means.SHIM in missing else clocks.compile_shim(directory)
    base = PORT if net is not None else free_port_base(shape.nodes)
    random = Random(f"disks/{seed}")
    in_memory = random.choice((None, *names)) if shape.nodes == 3 else random.choice(names)
    nodes = []
    for number, name in enumerate(names):
        path = directory / name
        disk = _disk(path, missing, in_memory=name == in_memory)
        disk.attach()
        stack.callback(disk.detach)
        port = base if net is not None else base + PORTS_PER_NODE * number
        clock = None if shim is None else Clock(directory / f"{name}.clock")
        host = "127.0.0.1" if net is None else net.address(name)
        nodes.append(ChaosNode(name, port, path, host=host, disk=disk, clock=clock))
    in_clients = bool(bug) and PLANTS[bug].in_clients
    program = program_with(bug) if bug and not in_clients else PROGRAM
    cluster = Cluster(nodes, shape.partitions, net, shim, program)
    stack.callback(cluster.kill)
    pace = {"seed": seed, "pause_ms": shape.pause_ms}
    fleet = Fleet(shape.clients, cluster.servers, directory, net, **pace, bug=bug if in_clients else "")
    stack.callback(fleet.kill)
    for node in nodes:
        stack.callback(node.disk.thaw)  # first of all: whoever waits for a frozen disk cannot even be killed
    return World(cluster, fleet, net, lambda _: None)


def _disk(path: Path, missing: dict[Means, str], *, in_memory: bool) -> PlainDisk:
    if Means.LOOP_DISK not in missing and not in_memory:
        return LoopDisk(path, path.with_suffix(".img"))
    return PlainDisk(path) if Means.MOUNT in missing else MemoryDisk(path)


def start_nodes(world: World) -> None:
    """Start all nodes and wait until each is ready. Raises `NotServingError`."""
    cluster = world.cluster
    for node in cluster.nodes:
        cluster.start(node)
    give_up = time.monotonic() + READY_S
    while complaints := [f"{node.name}: {why}" for node in cluster.nodes if (why := cluster.complaint_of(node))]:
        if time.monotonic() > give_up or cluster.breakdowns:
            raise NotServingError("; ".join([*cluster.breakdowns, *complaints]))
        cluster.supervise()
        time.sleep(LOOK_S)
