"""The harness that breaks nodes: each way of breaking does what it says, and a bug of the nodes does not pass."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from chaos.clocks import Clock, compile_shim
from chaos.commands import run
from chaos.disks import LoopDisk, MemoryDisk
from chaos.machines import Scratch, Shape, missing_means
from chaos.network import Network
from chaos.plan import scripted
from chaos.plants import PLANTS
from chaos.run import play

from rewind_node.parent_death import dying_with_this_process

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

BUG = "reply sent before the commit"
DAY_S = 86_400
SERVER = "import socket; s = socket.create_server(('', 7)); print('up', flush=True); [s.accept() for _ in range(99)]"
PATIENCE_S = 60.0
FAR_AHEAD_S = 1000.0  # far more than the patience
TESTS = Path(__file__).parents[1]


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    with Scratch(tmp_path) as path:
        yield path


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(["a", "b", "c"]) as made:
        yield made


@pytest.fixture
def server(network: Network) -> Iterator[None]:
    """Have somebody at port 7 of b."""
    command = [*network.command("b"), sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield
        process.kill()


def call(network: Network, machine: str) -> str:
    """Return how a call from a machine to port 7 of b goes: "", or the error's name."""
    asked = f"socket.create_connection(('{network.address('b')}', 7), 1)"
    code = f"import socket\ntry: {asked}\nexcept OSError as error: print(type(error).__name__)"
    return run(*network.command(machine), sys.executable, "-c", code).strip()


@pytest.mark.usefixtures("server")
def test_a_cut_is_for_whom_it_names_and_ends(network: Network) -> None:
    rules = network.dropped(["a"])

    network.add("b", rules)
    during = [call(network, machine) for machine in ("a", "c")]
    network.take("b", rules)

    assert during == ["TimeoutError", ""]
    assert call(network, "a") == ""


@pytest.mark.usefixtures("server")
def test_two_cuts_hold_until_both_have_ended(network: Network) -> None:
    one, other = network.dropped(["a"]), network.reset(["a", "c"])
    network.add("b", one)
    network.add("b", other)

    network.take("b", one)

    assert [call(network, machine) for machine in ("a", "c")] == ["ConnectionRefusedError"] * 2
    network.take("b", other)
    assert call(network, "a") == ""


def test_a_power_cut_takes_what_was_not_synced_and_nothing_else(scratch: Path) -> None:
    disk = LoopDisk(scratch / "disk", scratch / "image")
    disk.attach()
    (disk.path / "synced").write_bytes(b"kept")
    run("sync", "--file-system", str(disk.path))
    (disk.path / "unsynced").write_bytes(b"gone")

    disk.cut_power()
    disk.restore_power()

    assert [(path.name, path.read_bytes()) for path in disk.path.glob("*synced")] == [("synced", b"kept")]


def test_a_full_disk_takes_nothing_until_it_is_freed(scratch: Path) -> None:
    disk = MemoryDisk(scratch / "disk")
    disk.attach()

    disk.fill(left_bytes=0)
    with pytest.raises(OSError, match="No space left"):
        (disk.path / "more").write_bytes(bytes(100_000))
    disk.free()

    assert (disk.path / "more").write_bytes(bytes(100_000)) == 100_000


def test_clocks_go_wrong_while_a_process_runs_and_the_monotonic_one_never_goes_back(scratch: Path) -> None:
    clock = Clock(scratch / "clock")
    code = "import time\nfor _ in iter(input, 'end'): print(time.time(), time.monotonic(), flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=clock.environment(compile_shim(scratch)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def ask() -> tuple[float, float]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("?\n")
            process.stdin.flush()
            wall, monotonic = process.stdout.readline().split()
            return float(wall) - time.time(), float(monotonic) - time.monotonic()

        right = ask()
        clock.set_wall(DAY_S)
        ahead = ask()
        clock.set_wall(0)
        shown: list[float] = []
        for speed in (3000, 1000) * 20:
            clock.set_speed(speed)
            shown += [ask()[1] + time.monotonic() for _ in range(5)]
        fast = ask()
        process.communicate("end\n")

    assert abs(right[0]) < 1
    assert abs(right[1]) < 1
    assert abs(ahead[0] - DAY_S) < 1
    assert abs(ahead[1]) < 1
    assert fast[1] > right[1]
    assert shown == sorted(shown)


def test_waits_take_their_time_though_the_clock_is_far_ahead(scratch: Path) -> None:
    clock = Clock(scratch / "clock")
    waits = "time.sleep(0.01); lock = threading.Lock(); lock.acquire(); lock.acquire(timeout=0.01)"
    code = f"import threading, time\nprint('up', flush=True); input(); {waits}; print('over')"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=clock.environment(compile_shim(scratch)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"

        clock.set_speed(10_000_000)
        time.sleep(FAR_AHEAD_S / 10_000)
        clock.set_speed(1000)
        try:
            said, _ = process.communicate("go on\n", timeout=PATIENCE_S)
        finally:
            process.kill()

    assert said == "over\n"


def begin_run(temporary: Path, log: Path) -> "subprocess.Popen[bytes]":
    """Start a run by its command and wait until a disk hangs in it."""
    command = [sys.executable, "-m", "run_chaos", "--seed", "1", "--kind", "frozen disk"]
    paths = [str(TESTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with log.open("wb") as file:
        process = subprocess.Popen(dying_with_this_process(command), stdout=file, stderr=file, env=environment)
    until(lambda: " hangs" in log.read_text(), log.read_text)
    return process


def until(condition: Callable[[], bool], complaint: Callable[[], str]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, complaint()
        time.sleep(0.05)


def left_of(pid: int, temporary: Path) -> list[str]:
    """Return what is left of a run."""
    interfaces = [path.name for path in Path("/sys/class/net").glob(f"rwc{pid}*")]
    spaces = [path.name for path in Path("/run/netns").glob(f"rwc{pid}*")]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if f" {temporary}" in line]
    return [*interfaces, *spaces, *mounts, *(path.name for path in temporary.glob("rewind-chaos-*"))]


def test_a_run_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = begin_run(temporary, tmp_path / "log")

    before = left_of(process.pid, temporary)
    process.terminate()
    process.wait(PATIENCE_S)

    assert before
    until(lambda: left_of(process.pid, temporary) == [], lambda: str(left_of(process.pid, temporary)))


def test_what_a_killed_run_has_left_the_next_one_removes(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = begin_run(temporary, tmp_path / "log")
    process.kill()
    process.wait()

    before = left_of(process.pid, temporary)
    with Scratch(temporary), Network(["a"]):
        after = left_of(process.pid, temporary)

    assert before
    assert [each for each in after if str(process.pid) in each] == []


def test_a_bug_that_only_a_crash_shows_is_found(scratch: Path) -> None:
    missing = missing_means(scratch)
    bug = PLANTS[BUG]

    verdict, _ = play(bug.seed, scripted(bug.seed, bug.course), Shape(), scratch / "run", missing, click.echo, BUG)

    assert {finding.kind for finding in verdict.findings} & {
        "lost acknowledgement",
        "fencing",
        "phantom",
        "false refusal",
    }
