import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from rewind_node import local_cluster
from rewind_node.demo import free_port_base
from rewind_node.dev import Watch
from rewind_node.exits import UsageError
from rewind_node.local_cluster import LocalCluster, LocalNode, NodeEndedError, NotReadyError, complaint_of

FAKE_NODE = (sys.executable, str(Path(__file__).parent / "programs" / "fake_node.py"))
PATIENCE_S = 30.0

pytestmark = pytest.mark.processes


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path, port_base=free_port_base(3), program=FAKE_NODE) as cluster:
        yield cluster


def eventually(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "it never came to that"
        time.sleep(0.02)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_every_node_is_a_process_with_its_own_ports(cluster: LocalCluster) -> None:
    cluster.start()
    cluster.wait_ready()

    base = cluster.nodes[0].port
    assert [node.name for node in cluster.nodes] == ["n1", "n2", "n3"]
    assert [node.port for node in cluster.nodes] == [base, base + 100, base + 200]
    assert len({node.pid for node in cluster.nodes}) == 3
    assert cluster.servers == f"127.0.0.1:{base},127.0.0.1:{base + 100},127.0.0.1:{base + 200}"
    assert all(complaint_of(node) is None for node in cluster.nodes)


def test_the_pid_is_the_node_s_own_and_no_wrapper_s(cluster: LocalCluster) -> None:
    cluster.start()
    cluster.wait_ready()

    command = Path(f"/proc/{cluster.nodes[0].pid}/cmdline").read_text().split("\0")

    assert command[:3] == [*FAKE_NODE, "run"]


def test_settings_of_whoever_starts_it_do_not_leak_in(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWIND_PARTITIONS", "99")

    cluster.start()

    cluster.wait_ready()


def test_a_killed_node_can_be_started_again_as_another_process(cluster: LocalCluster) -> None:
    cluster.start()
    cluster.wait_ready()
    victim = cluster.nodes[1]
    before = victim.pid

    cluster.kill(victim)
    code = victim.exit_code()
    cluster.start_node(victim)
    cluster.wait_ready()

    assert code == -signal.SIGKILL
    assert victim.pid != before


def test_status_comes_from_a_node_that_lives(cluster: LocalCluster) -> None:
    cluster.start()
    cluster.wait_ready()

    cluster.kill(cluster.nodes[0])
    status = cluster.status()

    assert status is not None
    assert {partition["leader"] for partition in status["partitions"]} == {"n2", "n3"}


def test_without_a_living_node_there_is_no_status(cluster: LocalCluster) -> None:
    assert cluster.status() is None


def test_a_node_that_ends_by_itself_is_told_with_its_code_and_last_words(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_NODE", "address in use")

    cluster.start()

    with pytest.raises(NodeEndedError, match="n1 ended with exit code 3: rewind-node: --listen") as caught:
        cluster.wait_ready()
    assert caught.value.code == 3


def test_a_node_that_is_not_ready_in_time_is_told_with_its_reasons(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_NODE", "unready")
    cluster.start()
    eventually(lambda: complaint_of(cluster.nodes[0]) == "waits for n2; waits for n3")

    with pytest.raises(NotReadyError, match="n1 is not ready after 0 s: waits for n2; waits for n3"):
        cluster.wait_ready(0)


def test_stopping_ends_every_node_in_good_order(cluster: LocalCluster) -> None:
    cluster.start()
    cluster.wait_ready()
    processes = [node.process for node in cluster.nodes]

    cluster.stop()

    assert [process and process.returncode for process in processes] == [0, 0, 0]


def test_a_node_deaf_to_sigterm_is_killed(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "deaf")
    monkeypatch.setattr(local_cluster, "STOP_PATIENCE_S", 0.2)
    cluster.start()
    cluster.wait_ready()
    processes = [node.process for node in cluster.nodes]

    cluster.stop()

    assert [process and process.returncode for process in processes] == [-9, -9, -9]


def test_nodes_die_with_a_parent_that_is_killed_outright(tmp_path: Path) -> None:
    base = free_port_base(3)
    program = tmp_path / "parent.py"
    program.write_text(
        "import signal\nfrom pathlib import Path\nfrom rewind_node.local_cluster import LocalCluster\n"
        f"cluster = LocalCluster(Path({str(tmp_path)!r}), port_base={base}, program={FAKE_NODE!r})\n"
        "cluster.start()\ncluster.wait_ready()\nprint('ready', flush=True)\nsignal.pause()\n"
    )

    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        assert is_listening(base + 2)
        parent.kill()

    eventually(lambda: not any(is_listening(base + 100 * number + 2) for number in range(3)))


def test_ports_beyond_the_last_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would need port 65702"):
        LocalCluster(tmp_path, nodes=3, port_base=65_500)


class Watched:
    """A `Watch` that is looked at step by step, and what it said."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.console = Console(record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123 - closed below
        self.watch = Watch(cluster, self.console, restart_delay_s=0)

    def look(self, node: LocalNode) -> str:
        self.watch._look_after(node)
        return self.console.export_text()


@pytest.fixture
def watched(cluster: LocalCluster) -> Iterator[Watched]:
    watched = Watched(cluster)
    yield watched
    watched.console.file.close()


def test_dev_starts_a_killed_node_again(cluster: LocalCluster, watched: Watched) -> None:
    cluster.start()
    cluster.wait_ready()
    node = cluster.nodes[1]
    cluster.kill(node)

    first, second, third = watched.look(node), watched.look(node), watched.look(node)

    assert "n2 was killed by SIGKILL" in first
    assert f"n2 was started again, pid {node.pid}" in second
    assert third == ""
    cluster.wait_ready()


def test_dev_reports_a_node_that_ended_by_itself_once_and_leaves_it_down(
    cluster: LocalCluster, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_NODE", "address in use")
    cluster.start()
    node = cluster.nodes[0]
    eventually(lambda: node.exit_code() == 3)

    first, second = watched.look(node), watched.look(node)

    assert "n1 ended with exit code 3 and stays down: rewind-node: --listen" in first
    assert second == ""


def test_dev_ends_with_the_last_node(cluster: LocalCluster, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NODE", "address in use")
    cluster.start()

    assert watched.watch.run() == 3
