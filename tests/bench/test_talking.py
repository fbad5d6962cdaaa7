"""A client process and whoever started it."""

import subprocess
import sys

import pytest

PROGRAM = [sys.executable, "-P", "-m", "rewind.bench.worker"]


@pytest.mark.parametrize("said", ["", '{"servers": "127.0.0.1:1", "context": "bench", "timeout_s": 60.0}\n'])
def test_a_client_process_ends_quietly_when_nobody_talks_to_it_any_more(said: str) -> None:
    result = subprocess.run(PROGRAM, input=said, capture_output=True, text=True, timeout=30, check=False)

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_work_that_blocks_does_not_outlive_whoever_wanted_it() -> None:
    program = (
        "import asyncio, time\n"
        "from rewind.bench import talking\n"
        "talking.END_PATIENCE_S = 0.1\n"
        "async def work(lines):\n"
        "    talking.tell_ready()\n"
        "    time.sleep(600)\n"
        "asyncio.run(talking.serve(work))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert b"ready" in process.stdout.readline()

        process.stdin.close()

        assert process.wait(30) == 1


def test_a_client_process_that_reaches_no_cluster_says_so_in_one_line() -> None:
    greeting = '{"servers": "127.0.0.1:1", "context": "bench", "timeout_s": 0.3}\n'
    with subprocess.Popen(PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(greeting)
        process.stdin.flush()

        line = process.stdout.readline()

        process.stdin.close()
    assert line.startswith('{"error": "')
    assert "127.0.0.1:1" in line
