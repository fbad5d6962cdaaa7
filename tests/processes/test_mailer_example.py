"""The mailer of client/examples against a real cluster: several run, some are killed, each customer gets one letter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from real_cluster import RealCluster, eventually

from rewind.group_operator import GroupOperator
from rewind.urls import parse_target
from rewind_node.parent_death import dying_with_this_process

pytestmark = pytest.mark.processes

MAILER = Path(__file__).parents[2] / "client" / "examples" / "mailer.py"
CUSTOMERS = 200
BAD_ADDRESSES = CUSTOMERS // 10


def start(cluster: RealCluster, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-u", str(MAILER), "--servers", cluster.servers, *arguments]
    return subprocess.Popen(dying_with_this_process(command), stdout=subprocess.PIPE, text=True, env=os.environ)


def kill(process: "subprocess.Popen[str]") -> None:
    with process:
        process.kill()


def letters(outbox: Path) -> list[str]:
    return [path.read_text().splitlines()[0] for path in outbox.glob("*.txt")]


def test_each_customer_gets_one_letter_though_mailers_are_killed(cluster: RealCluster, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox"
    with start(cluster, "--register", str(CUSTOMERS)) as registering:
        said, _ = registering.communicate(timeout=60)
    first = start(cluster, str(outbox))
    eventually(lambda: len(letters(outbox)) > 0, "the first mailer writes")

    kill(first)
    second, third = start(cluster, str(outbox)), start(cluster, str(outbox))
    expected = {f"To: customer{number}@example.org" for number in range(CUSTOMERS) if number % 10 != 9}
    eventually(lambda: set(letters(outbox)) == expected, "every customer has a letter")
    operator = GroupOperator(parse_target(f"rewind://{cluster.servers}/shop", None, 30))
    with operator:
        operator.open_context()
        eventually(lambda: operator.group_state("mailer").lag == 0, "the cluster knows")
        parked = list(operator.parked_events("mailer"))

    kill(second)
    kill(third)
    assert said == f"{CUSTOMERS} customers registered\n"
    assert sorted(letters(outbox)) == sorted(expected)
    assert len(parked) == BAD_ADDRESSES
    assert {each.reason for each in parked} == {"'nowhere' is no address"}


def test_an_interrupted_mailer_hands_over_at_once(cluster: RealCluster, tmp_path: Path) -> None:
    first = start(cluster, "--register", "20", str(tmp_path))
    eventually(lambda: len(letters(tmp_path)) == 18, "the letters are written")

    first.send_signal(2)
    said, _ = first.communicate(timeout=20)

    assert first.returncode == 0
    assert said.endswith("interrupted; run it again to go on\n")
    with GroupOperator(parse_target(f"rewind://{cluster.servers}/shop", None, 30)) as operator:
        operator.open_context()
        state = operator.group_state("mailer")
        assert state.lag == 0
        assert not any(row.owner for row in state.partitions.values())
