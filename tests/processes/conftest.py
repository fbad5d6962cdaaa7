"""Fixtures for the tests with real processes: clusters, single programs, and file systems of a few megabytes.

The helpers stand in modules of this folder, which is no package: its path is added here, so that tests and helpers
import them by name.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from real_cluster import RealCluster
from real_program import RealProgram

from rewind_node.demo import free_port_base

MOUNT_BYTES = 64 << 20


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., RealCluster]]:
    """Return a function that makes a cluster in a directory of its own; its nodes end with the test."""
    with ExitStack() as stack:

        def make(nodes: int = 3, partitions: int = 3, name: str = "cluster") -> RealCluster:
            base = free_port_base(nodes)
            return stack.enter_context(RealCluster(tmp_path / name, nodes=nodes, partitions=partitions, port_base=base))

        yield make


@pytest.fixture
def cluster(make_cluster: Callable[..., RealCluster]) -> RealCluster:
    """Return three nodes with three partitions that serve."""
    return make_cluster().serve()


@pytest.fixture
def start_program(tmp_path: Path) -> Iterator[Callable[..., RealProgram]]:
    """Return a function that starts `rewind-node run` with any flags; it ends with the test."""
    with ExitStack() as stack:
        count = 0

        def start(*flags: str) -> RealProgram:
            nonlocal count
            count += 1
            return stack.enter_context(RealProgram(flags, tmp_path / f"program-{count}.log"))

        yield start


@pytest.fixture
def mount() -> Iterator[Callable[..., Path]]:
    """Return a function that mounts a small file system in memory on a directory. Needs root."""
    with ExitStack() as stack:

        def mount_at(path: Path, size: int = MOUNT_BYTES, options: str = "rw") -> Path:
            path.mkdir(parents=True)
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size},{options}", "rewind-test", str(path)],  # noqa: S607 - root's PATH
                check=True,
            )
            stack.callback(subprocess.run, ["umount", "--lazy", str(path)], check=True)
            return path

        yield mount_at
