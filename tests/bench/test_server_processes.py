"""Servers of stores that are compared: started, waited for, stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from server_processes import Processes, free_ports, listens

from rewind.bench.fleet import BenchError

LISTEN = "import socket, sys, time; server = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=1); time.sleep(600)"
PARENT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from server_processes import Processes
processes = Processes()
processes.start([sys.executable, "-c", "import time; time.sleep(600)"], Path(sys.argv[2]))
print(processes.pids()[0], flush=True)
time.sleep(600)
"""


def test_a_server_is_waited_for_and_stopped(tmp_path: Path) -> None:
    processes = Processes()
    (port,) = free_ports(1)
    try:
        processes.start([sys.executable, "-c", LISTEN, str(port)], tmp_path / "log")
        processes.wait(lambda: listens(port), "it")
        (pid,) = processes.pids()
    finally:
        processes.stop()

    assert not psutil.pid_exists(pid)
    assert not listens(port)


def test_a_server_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    processes = Processes()
    processes.start([sys.executable, "-c", "import sys; sys.exit('no such option')"], tmp_path / "log")

    with pytest.raises(BenchError, match=r"exit code 1: no such option"):
        processes.wait(lambda: False, "it")

    processes.stop()


def test_a_server_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server_processes.STOP_PATIENCE_S", 0.2)
    processes = Processes()
    log = tmp_path / "log"
    processes.start([sys.executable, "-c", STUBBORN], log)
    processes.wait(lambda: "up" in log.read_text(), "it")
    (pid,) = processes.pids()

    processes.stop()

    assert not psutil.pid_exists(pid)


def test_servers_end_with_the_comparison_even_if_it_is_killed(tmp_path: Path) -> None:
    folder = str(Path(__file__).parents[2] / "deploy" / "benchmarks")
    words = [sys.executable, "-c", PARENT, folder, str(tmp_path / "log")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        give_up = time.monotonic() + 30
        # The kernel is asked in setpriv, which then becomes the server.
        while "setpriv" in server.name() and time.monotonic() < give_up:
            time.sleep(0.01)

        os.kill(parent.pid, signal.SIGKILL)

        server.wait(30)
    assert not server.is_running()
