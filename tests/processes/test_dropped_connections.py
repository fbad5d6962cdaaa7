"""No connection that drops ends a process, whatever it is doing just then."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

PROGRAM = Path(__file__).with_name("dropped_between_frames.py")


@pytest.mark.parametrize("kind", ["client", "node"])
def test_a_drop_between_the_frames_of_a_message_does_not_end_the_process(kind: str) -> None:
    done = subprocess.run([sys.executable, PROGRAM, kind], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
