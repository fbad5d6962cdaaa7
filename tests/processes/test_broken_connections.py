"""Connections that break at the worst moment, seen from both libraries of sockets."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

PROGRAM = Path(__file__).with_name("half_taken.py")


@pytest.mark.parametrize("kind", ["client", "node"])
def test_a_connection_that_breaks_while_a_message_is_taken_ends_no_process_and_tears_no_message(kind: str) -> None:
    done = subprocess.run([sys.executable, PROGRAM, kind], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "40 messages, whole\n", "")
