"""Which processes are taken for nodes of the cluster that is measured."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rewind.bench import machine
from rewind.bench.nodes import local_nodes, usage_of

PROGRAM = """
import socket, sys, time
while time.process_time() < 0.1: pass  # the kernel tells of hundredths
opened = open(sys.argv[1], "rb")
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Give the process ID and port of something that looks like a node."""
    data = tmp_path / "shard-0" / "data.mdb"
    data.parent.mkdir()
    data.write_bytes(bytes(100_000))
    command = [sys.executable, "-c", PROGRAM, str(data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.kill()


def status(pid: object, port: int) -> dict[str, Any]:
    return {"nodes": [{"name": "n1", "pid": pid, "address": f"127.0.0.1:{port}"}]}


def test_a_node_here_is_known_by_its_process_and_its_port(node: tuple[int, int]) -> None:
    pid, port = node

    (found,) = local_nodes(status(pid, port))

    usage = usage_of([found])
    assert found.name == "n1"
    assert usage.disk_bytes["n1"] >= 100_000
    assert usage.anonymous_bytes["n1"] > 0
    assert usage.cpu_s["n1"] > 0


def test_a_process_that_does_not_listen_there_is_nobodys_node(node: tuple[int, int]) -> None:
    pid, port = node
    with socket.create_server(("127.0.0.1", 0)) as other:
        other_port = other.getsockname()[1]

        assert local_nodes(status(pid, other_port)) == []
        assert local_nodes(status(os.getppid(), port)) == []
        assert local_nodes(status(os.getpid(), other_port)) == []  # not even this process, which does listen
        assert local_nodes(status(None, port)) == []


def test_a_node_that_has_ended_is_left_out(node: tuple[int, int]) -> None:
    nodes = local_nodes(status(*node))
    nodes[0].send(signal.SIGKILL)
    nodes[0].process.wait()

    assert usage_of(nodes).cpu_s == {}
    assert local_nodes(status(*node)) == []


def test_others_that_keep_the_machine_busy_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "BUSIEST_MAX", 1000)  # whoever else is busy here while the tests run
    monkeypatch.setattr(machine, "BUSY_PERCENT", 0.0)
    busy = "import os, sys\nif os.fork() == 0:\n    print(os.getpid(), flush=True)\n    while True: pass\nos._exit(0)"
    # A grandchild whose parent has ended is nobody's child here: as busy as somebody else's process.
    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.wait()
        try:
            load = machine.look_at_machine([], sample_s=0.5)
        finally:
            os.kill(pid, signal.SIGKILL)

    assert pid in {each.pid for each in load.busiest}
    assert str(pid) in str(load)
    assert str(pid) not in load.summary
