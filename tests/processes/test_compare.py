"""The comparison of `deploy/benchmarks` with Rewind alone: the other stores need packages that are not everywhere."""

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

PROGRAM = Path(__file__).parents[2] / "deploy" / "benchmarks" / "compare.py"
QUICK = ["--stores", "rewind", "--seconds", "0.3", "--warm-up", "0.1", "--events", "500"]
PATIENCE_S = 200.0


def leftovers() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("rewind-compare-*"))


def test_one_command_measures_and_writes_results(tmp_path: Path) -> None:
    words = [sys.executable, str(PROGRAM), *QUICK, "--rounds", "2", "--output", str(tmp_path / "RESULTS.md")]

    result = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    assert result.returncode == 0, result.stderr
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| Rewind | **" in text
    assert (tmp_path / "RESULTS.svg").exists()
    rounds = json.loads((tmp_path / "RESULTS.json").read_text())["rewind"]
    assert len(rounds) == 2
    assert all(each["singles"]["appends a second"] > 0 for each in rounds)
    assert all(each["batches"]["append events a second"] > each["batches"]["appends a second"] > 0 for each in rounds)
    assert all(each["one"]["append p50, ms"] <= each["one"]["append p99, ms"] for each in rounds)
    assert all(each["read"]["read events a second"] > 0 for each in rounds)


def test_an_interrupted_comparison_leaves_nothing_behind(tmp_path: Path) -> None:
    before = leftovers()
    words = [sys.executable, str(PROGRAM), *QUICK, "--seconds", "600", "--output", str(tmp_path / "RESULTS.md")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        parent = psutil.Process(process.pid)
        eventually(lambda: len(parent.children()) == 5, "three nodes and two clients run", PATIENCE_S)
        children = parent.children(recursive=True)
        process.send_signal(signal.SIGTERM)

        _, said = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert "Traceback" not in said
    assert not (tmp_path / "RESULTS.md").exists()
    eventually(lambda: not any(child.is_running() for child in children), "its processes end")
    assert leftovers() <= before


def test_a_store_that_nobody_knows_is_wrong_usage() -> None:
    result = subprocess.run(
        [sys.executable, str(PROGRAM), "--stores", "rewind,abacus"], capture_output=True, text=True, check=False
    )

    assert result.returncode == 2
    assert "abacus" in result.stderr
