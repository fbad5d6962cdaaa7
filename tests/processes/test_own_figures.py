"""The programs of `deploy/benchmarks` that measure Rewind alone, each for a moment."""

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from real_cluster import eventually

pytestmark = pytest.mark.processes

FOLDER = Path(__file__).parents[2] / "deploy" / "benchmarks"
PATIENCE_S = 200.0
SCALING = ["--seconds", "0.3", "--idle-seconds", "0.2", "--rate", "50", "--partitions", "1,2"]


def run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / program), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_partitions_are_measured_one_number_after_the_other(tmp_path: Path) -> None:
    result = run("scaling.py", *SCALING, "--rounds", "2", "--output", str(tmp_path / "SCALING.md"))

    assert result.returncode == 0, result.stderr
    rounds = json.loads((tmp_path / "SCALING.json").read_text())
    assert {number: len(each) for number, each in rounds.items()} == {"1": 2, "2": 2}
    assert all(figure["appends a second"] > 0 for each in rounds.values() for figure in each)
    assert all(figure["loops, µs/event"] < figure["nodes, µs/event"] for each in rounds.values() for figure in each)
    assert all("idle, % of a core" in figure for figure in rounds["2"])
    assert "## A model of 12 nodes" in (tmp_path / "SCALING.md").read_text()
    assert (tmp_path / "SCALING.svg").exists()


def test_numbers_of_partitions_without_one_are_wrong_usage() -> None:
    result = run("scaling.py", "--partitions", "2,4")

    assert result.returncode == 2
    assert "1 must be among them" in result.stderr


def test_a_node_that_was_away_is_seen_to_catch_up() -> None:
    result = run("catch_up.py", "--bytes", "300000", "--rate", "50", "--around", "2", "--json")

    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    caught_up, phases = told["catching up"], told["steady appends"]
    assert caught_up["events missed"] >= 300_000 // 256
    assert caught_up["seconds until the node told of itself"] <= caught_up["seconds until it had caught up"]
    assert set(phases) == {"before", "meanwhile", "after"}
    assert all(phases[name]["append p50, ms"] <= phases[name]["append p99, ms"] for name in ("before", "after"))


def test_more_than_the_disk_has_room_for_is_refused_before_anything_is_started() -> None:
    result = run("catch_up.py", "--bytes", str(1 << 60))

    assert result.returncode == 1
    assert "lower --bytes" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_interrupted_measurement_leaves_nothing_behind() -> None:
    before = set(Path(tempfile.gettempdir()).glob("rewind-catch-up-*"))
    words = [sys.executable, str(FOLDER / "catch_up.py"), "--bytes", "300000", "--rate", "50", "--around", "600"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        parent = psutil.Process(process.pid)
        eventually(lambda: len(parent.children()) >= 4, "nodes and clients run", PATIENCE_S)
        children = parent.children(recursive=True)
        process.send_signal(signal.SIGTERM)

        _, said = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert "Traceback" not in said
    eventually(lambda: not any(child.is_running() for child in children), "its processes end")
    assert set(Path(tempfile.gettempdir()).glob("rewind-catch-up-*")) <= before
