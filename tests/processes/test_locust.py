"""The Locust user of `tests/load` against a real cluster."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from real_cluster import RealCluster

import rewind

pytestmark = pytest.mark.processes

LOAD = Path(__file__).parents[1] / "load"
PATIENCE_S = 120.0


def test_locust_users_load_a_cluster_and_every_append_they_count_is_there(cluster: RealCluster) -> None:
    flags = ["--headless", "--users", "4", "--spawn-rate", "4", "--run-time", "5s", "--json", "--skip-log"]

    result = subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(LOAD / "locustfile.py"), "--host", cluster.servers, *flags],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    counted = {row["name"]: row for row in json.loads(result.stdout)}
    assert set(counted) == {"place order", "change order", "look at order"}
    assert all(row["num_requests"] > 0 and row["num_failures"] == 0 for row in counted.values())
    with rewind.connect(cluster.url) as store:
        types = [event.type for event in store.read_all()]
    # A user that is stopped while it waits has appended what it no longer counts.
    assert 0 <= types.count("OrderPlaced") - counted["place order"]["num_requests"] <= 4
    assert 0 <= types.count("OrderChanged") - counted["change order"]["num_requests"] <= 4


def test_an_append_that_waits_does_not_hold_up_other_greenlets(cluster: RealCluster) -> None:
    program = [sys.executable, str(Path(__file__).with_name("green_program.py")), cluster.servers]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            for node in cluster.nodes:
                cluster.signal(node, signal.SIGSTOP)
            process.stdin.write("go\n")
            process.stdin.flush()

            said = process.stdout.readline()  # would never come if the wait for the stopped nodes held up everything

            assert said == "pending\n"
            for node in cluster.nodes:
                cluster.signal(node, signal.SIGCONT)
            assert process.stdout.readline() == "version 2\n"
        finally:
            process.kill()
            for node in cluster.nodes:
                cluster.signal(node, signal.SIGCONT)
