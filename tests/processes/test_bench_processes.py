"""`rewind bench` against real nodes: every workload, what it counts, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from real_cluster import RealCluster, eventually

import rewind
from rewind_node.dev import Watch
from rewind_node.local_cluster import LocalNode

pytestmark = pytest.mark.processes

PATIENCE_S = 120.0
Run = Callable[..., dict[str, Any]]


def command(cluster: RealCluster, *words: str) -> list[str]:
    return [sys.executable, "-m", "rewind", "--servers", cluster.servers, "--json", "bench", *words]


def knows_processes(cluster: RealCluster, node: LocalNode) -> bool:
    """Return whether a node has heard the process IDs of all: nodes tell each other once a second."""
    status = cluster.status_of(node)
    return status is not None and all(row["pid"] for row in status["nodes"])


@pytest.fixture
def bench(cluster: RealCluster) -> Run:
    """Return a function that runs a benchmark and returns what it found."""
    eventually(lambda: all(knows_processes(cluster, node) for node in cluster.nodes), "all process IDs are known")

    def run(*words: str) -> dict[str, Any]:
        result = subprocess.run(
            command(cluster, *words), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert result.returncode == 0, result.stderr
        assert "machine: " in result.stderr
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    return run


def count(cluster: RealCluster, context: str = "bench") -> int:
    with rewind.connect(cluster.servers, context=context) as store:
        return sum(1 for _ in store.read_all())


def test_append_counts_exactly_what_the_cluster_then_holds(bench: Run, cluster: RealCluster, tmp_path: Path) -> None:
    chart = tmp_path / "chart.png"

    found = bench("append", "--events", "1000", "--batch", "10", "--runs", "2", "--warm-up", "0", "--chart", str(chart))

    assert count(cluster) == 2000
    assert count(cluster, "default") == 0  # an application's context is left alone
    assert len(found["runs"]) == 2
    assert found["failures"] == {}
    assert {f"processor time of {node.name}, µs/event" for node in cluster.nodes} <= set(found["figures"])
    assert {f"RssAnon of {node.name}, MiB" for node in cluster.nodes} <= set(found["figures"])
    assert {f"disk of {node.name}, bytes per byte of events" for node in cluster.nodes} <= set(found["figures"])
    assert found["latency_ms"]["append"]["p50"] > 0
    assert chart.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("expected", ["none", "any", "exact"])
def test_appends_may_expect_nothing_anything_or_a_version(bench: Run, cluster: RealCluster, expected: str) -> None:
    flags = ["--expected", expected, "--streams", "40", "--in-flight", "20", "--events", "500"]

    found = bench("append", *flags, "--runs", "1", "--warm-up", "0")

    assert found["failures"] == {}
    with rewind.connect(cluster.servers, context="bench") as store:
        streams = list(store.streams())
        versions = [store.version(name) for name in streams]
    assert sum(versions) == 500
    assert len(streams) == (500 if expected == "none" else 40)


def test_the_blocking_client_is_measured_one_append_after_the_other(bench: Run, cluster: RealCluster) -> None:
    flags = ["--client", "blocking", "--in-flight", "1", "--clients", "1", "--expected", "exact", "--streams", "5"]

    found = bench("append", *flags, "--events", "20", "--runs", "1", "--warm-up", "0")

    assert found["failures"] == {}
    assert count(cluster) == 20
    assert found["latency_ms"]["append"]["p50"] > 0


def test_a_rate_is_kept_and_read_and_mixed_read_what_is_there(bench: Run, cluster: RealCluster) -> None:
    paced = bench("append", "--rate", "100", "--seconds", "2", "--runs", "1", "--warm-up", "0", "--clients", "2")
    mixed = bench("mixed", "--seconds", "1", "--runs", "1", "--warm-up", "0", "--reads", "50", "--clients", "1")
    held = count(cluster)
    read = bench("read", "--events", str(held + 500), "--runs", "2", "--warm-up", "0", "--decode")

    assert 0 < paced["figures"]["appends a second"]["median"] * paced["figures"]["seconds"]["median"] <= 201
    assert set(mixed["latency_ms"]) == {"append", "read"}
    assert mixed["latency_ms"]["read"]["p50"] > 0
    assert count(cluster) == held + 500  # what was missing was appended, once
    assert read["failures"] == {}
    assert read["figures"]["read events a second"]["median"] > 0


@pytest.mark.parametrize("client", ["asyncio", "blocking"])
def test_every_acknowledged_event_is_delivered(bench: Run, client: str) -> None:
    found = bench("subscribe", "--rate", "100", "--seconds", "1", "--runs", "2", "--warm-up", "0.2", "--client", client)

    assert found["failures"] == {}
    assert set(found["latency_ms"]) == {"append", "delivery"}


def test_leaders_are_killed_and_their_loss_is_measured(cluster: RealCluster) -> None:
    watch = Watch(cluster, console=_Quiet(), restart_delay_s=0.2)  # type: ignore[arg-type] # it only prints
    with subprocess.Popen(
        command(cluster, "failover", "--rounds", "2"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        before = {node.pid for node in cluster.nodes}

        def over() -> bool:
            for node in cluster.nodes:
                watch._look_after(node)
            return process.poll() is not None

        eventually(over, "the benchmark ends", PATIENCE_S)
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.returncode == 0, process.stderr.read()
        found = json.loads(process.stdout.read())

    assert before - {node.pid for node in cluster.nodes}  # somebody was killed, and started again
    assert len(found["runs"]) == 2
    assert found["settings"]["lost"] == found["settings"]["doubled"] == 0
    assert found["settings"]["acknowledged"] > 0
    assert found["figures"]["write gap, longest, ms"]["median"] > 0


class _Quiet:
    def print(self, *words: object, **style: object) -> None:
        """Say nothing."""


def test_a_stopped_leader_goes_on_even_if_the_benchmark_is_interrupted(cluster: RealCluster) -> None:
    words = command(cluster, "failover", "--rounds", "5", "--signal", "sigstop")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        nodes = [psutil.Process(node.pid) for node in cluster.nodes]
        eventually(
            lambda: any(node.status() == psutil.STATUS_STOPPED for node in nodes) or process.poll() is not None,
            "a node is stopped",
        )
        process.send_signal(signal.SIGINT)

        code = process.wait(PATIENCE_S)

    assert code == 130
    eventually(lambda: all(node.status() != psutil.STATUS_STOPPED for node in nodes), "all nodes go on")


def test_an_interrupted_benchmark_leaves_no_process_behind(cluster: RealCluster) -> None:
    words = command(cluster, "append", "--seconds", "600", "--warm-up", "0", "--clients", "2")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        parent = psutil.Process(process.pid)
        eventually(lambda: len(parent.children()) == 2, "both clients run")
        clients = parent.children()
        os.kill(process.pid, signal.SIGINT)

        _, said = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert "Traceback" not in said
    eventually(lambda: not any(client.is_running() for client in clients), "the clients end")


def test_clients_end_when_what_started_them_is_killed(cluster: RealCluster) -> None:
    words = command(cluster, "append", "--seconds", "600", "--warm-up", "0", "--clients", "2")
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        parent = psutil.Process(process.pid)
        eventually(lambda: len(parent.children()) == 2, "both clients run")
        clients = parent.children()

        process.kill()

        eventually(lambda: not any(client.is_running() for client in clients), "the clients end")


def test_no_cluster_is_one_line_and_exit_code_1() -> None:
    words = [sys.executable, "-m", "rewind", "--servers", "127.0.0.1:1", "--timeout", "0.5", "bench", "append"]

    result = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
