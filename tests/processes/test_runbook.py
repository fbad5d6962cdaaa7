"""What `deploy/RUNBOOK.md` shows is what nodes print: a cluster is broken in each of its ways, and held against it.

A block of the runbook names what it shows. Its lines, with `…` for what is different each time, must all be there.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.error import HTTPError

import pytest
from chaos.disks import LoopDisk
from chaos.faults import World
from chaos.machines import Scratch, Shape, machines, missing_means, start_nodes
from chaos.nodes import DISK_ENDS, ChaosNode
from chaos.wishes import MARKER, new_event

import rewind
from rewind_node import local_cluster

pytestmark = pytest.mark.processes

RUNBOOK = Path(__file__).parents[2] / "deploy" / "RUNBOOK.md"
SEED = 2  # with which no disk is in memory
PATIENCE_S = 40.0
LOOK_S = 0.05
LEFT_BYTES = 1 << 20


@cache
def blocks() -> dict[str, list[str]]:
    """Return what the runbook shows, by name."""
    found = re.findall(r"^```text ([^\n]+)\n(.*?)^```", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return {name: text.splitlines() for name, text in found}


class Broken:
    """A cluster that is being broken. `seen`: the blocks of the runbook that were held against it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: set[str] = set()
        self._read: dict[str, int] = {}  # how much of each log was there before

    def node(self, name: str) -> ChaosNode:
        return self.world.cluster.node(name)

    def begin(self) -> None:
        """Look only at what logs say from now on."""
        for node in self.world.cluster.nodes:
            self._read[node.name] = len(node.log_file.read_text())

    def log(self, name: str) -> str:
        return self.node(name).log_file.read_text()[self._read.get(name, 0) :]

    def readyz(self, name: str) -> str:
        try:
            with local_cluster.fetch(self.node(name), "/readyz") as response:
                return str(response.read().decode())
        except HTTPError as error:
            with error:
                return error.read().decode()
        except OSError as error:
            return str(error)

    def status(self, name: str) -> str:
        command = [sys.executable, "-m", "rewind", "--servers", self.node(name).address, "--timeout", "5", "status"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def shows(self, block: str) -> None:
        """Wait until what the runbook shows is shown."""
        what, _, name = re.sub(r"^[^:]*: | afterwards$", "", block).rpartition(" ")
        look = {"log of": self.log, "readyz of": self.readyz, "status by": self.status}[what]
        lines = blocks()[block]
        give_up = time.monotonic() + PATIENCE_S
        while missing := [line for line in lines if not holds(look(name), line)]:
            assert time.monotonic() < give_up, f"{block}: {missing} is missing in\n{look(name)}"
            self.world.cluster.supervise()
            time.sleep(LOOK_S)
        self.seen.add(block)

    def until(self, condition: Callable[[], bool], complaint: str) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up, f"it never came to this: {complaint}"
            time.sleep(LOOK_S)

    def append(self, count: int = 60) -> None:
        with rewind.connect(self.world.cluster.servers.split(","), timeout=PATIENCE_S) as store:
            for number in range(count):
                store.append(f"order-{number}", new_event(0))


def holds(text: str, line: str) -> bool:
    """Return whether a line of the runbook stands in a text, wherever that is wrapped."""
    pattern = r".*?".join(re.escape(" ".join(piece.split())) for piece in line.split("…"))
    pattern = re.sub(r"(\\ )+", r"\\s+", pattern)
    joined = re.sub(r"[ \t]+", " ", text)
    return re.search(pattern, joined) is not None or re.search(pattern, " ".join(joined.split())) is not None


@contextmanager
def broken_cluster(base: Path) -> Iterator[Broken]:
    with Scratch(base) as scratch:
        assert missing_means(scratch) == {}, "this needs root, and what .ci/run installs"
        with machines(SEED, Shape(clients=1), scratch / "runbook", {}) as world:
            start_nodes(world)
            broken = Broken(world)
            broken.append()
            broken.begin()
            yield broken


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    """Return a cluster for all tests that leave it whole."""
    with broken_cluster(tmp_path_factory.mktemp("shared")) as broken:
        yield broken


@pytest.fixture
def cluster(shared: Broken) -> Broken:
    """Return it, with all that was said before forgotten."""
    for node in shared.world.cluster.nodes:
        shared.until(lambda node=node: shared.world.cluster.complaint_of(node) is None, f"{node.name} is ready")  # type: ignore[misc]
    shared.begin()
    return shared


def named(prefix: str) -> set[str]:
    return {name for name in blocks() if name.startswith(f"{prefix}:")}


def test_a_cut_looks_like_that(cluster: Broken) -> None:
    links = cluster.world.links
    others = [name for name in ("n1", "n2", "n3", "c1") if name != "n1"]
    cuts = [("n1", links.dropped(others)), *((other, links.dropped(["n1"])) for other in others)]
    for machine, rules in cuts:
        links.add(machine, rules)

    for block in ("log of n2", "status by n2", "log of n1", "readyz of n1", "status by n1"):
        cluster.shows(f"cut: {block}")
    assert cluster.readyz("n2") == "ok\n"
    for machine, rules in cuts:
        links.take(machine, rules)

    cluster.shows("cut: log of n2 afterwards")
    cluster.shows("cut: status by n2 afterwards")
    assert named("cut") <= cluster.seen


def test_a_power_failure_looks_like_that(cluster: Broken) -> None:
    node = cluster.node("n3")
    assert isinstance(node.disk, LoopDisk)
    node.held += 1
    node.disk.cut_power()

    cluster.append(9)
    cluster.shows("power: log of n3")
    assert node.exit_code() in DISK_ENDS
    cluster.shows("power: status by n2")
    cluster.begin()
    node.disk.restore_power()
    cluster.world.cluster.release(node)

    cluster.shows("power: log of n3 afterwards")
    assert named("power") <= cluster.seen


def test_a_full_disk_looks_like_that(cluster: Broken) -> None:
    disk = cluster.node("n1").disk
    disk.fill(LEFT_BYTES)

    for block in ("log of n1", "readyz of n1", "status by n2"):
        cluster.shows(f"full: {block}")
    disk.free()

    cluster.shows("full: log of n1 afterwards")
    cluster.shows("full: status by n2 afterwards")
    assert named("full") <= cluster.seen


def test_damaged_data_looks_like_that(cluster: Broken) -> None:
    node = cluster.node("n1")
    cluster.world.cluster.hold(node)
    cluster.until(lambda: not node.running, "n1 is down")
    data = bytearray(node.disk.data_file.read_bytes())
    at = data.find(MARKER)
    while at >= 0:
        data[at] ^= 1
        at = data.find(MARKER, at + 1)
    node.disk.data_file.write_bytes(data)
    cluster.world.cluster.release(node)

    cluster.shows("damage: log of n1")
    assert named("damage") <= cluster.seen


def test_a_file_that_is_cut_short_and_a_node_without_its_data_look_like_that(tmp_path: Path) -> None:
    with broken_cluster(tmp_path) as cluster:
        node = cluster.node("n1")
        node.excuses |= DISK_ENDS
        cluster.world.cluster.hold(node)
        cluster.until(lambda: not node.running, "n1 is down")
        node.disk.truncate(0.5)
        cluster.world.cluster.release(node)

        cluster.shows("cut short: log of n1")
        cluster.shows("cut short: status by n2")
        assert cluster.world.cluster.breakdowns == []
        node.held += 1
        cluster.until(lambda: not node.running, "n1 is down")
        shutil.rmtree(node.disk.path / "shard-0")
        cluster.world.cluster.release(node)

        cluster.shows("wiped: log of n1")
        cluster.shows("wiped: readyz of n1")
        assert named("cut short") | named("wiped") <= cluster.seen
        cluster.append(9)


def test_no_block_of_the_runbook_goes_untested() -> None:
    assert {name.partition(":")[0] for name in blocks()} == {
        *("cut", "power", "full", "damage", "cut short", "wiped"),
    }
