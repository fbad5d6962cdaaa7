import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

from rewind_node.admin import State, application
from rewind_node.admin_link import RESTART_INTERVAL_S, AdminProcess, bind
from rewind_node.exits import AddressInUseError, UsageError
from rewind_node.metrics import Metrics

PATIENCE_S = 30.0
Snapshot = dict[str, Any]


def snapshot(*, reasons: tuple[str, ...] = (), **status: object) -> Snapshot:
    return {
        "ready": not reasons,
        "reasons": list(reasons),
        "status": {"cluster_id": "c1", "nodes": [], "partitions": [], **status},
        "metrics": Metrics().snapshot(),
    }


def answer(app: ASGIApp, path: str, method: str = "GET") -> tuple[int, str]:
    """Return what an ASGI application answers: the status and the body."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "root_path": ""}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]).decode()


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock: Clock) -> State:
    return State(clock)


@pytest.fixture
def app(state: State) -> ASGIApp:
    return application(state, os.getpid())


def test_a_node_that_has_not_reported_is_neither_alive_nor_ready(app: ASGIApp) -> None:
    for path in ("/livez", "/readyz"):
        assert answer(app, path) == (503, "the node has not reported yet\n")
    assert answer(app, "/api/status")[0] == 503


def test_a_node_that_serves_is_alive_and_ready(app: ASGIApp, state: State) -> None:
    state.take(snapshot())

    assert answer(app, "/livez") == answer(app, "/readyz") == (200, "ok\n")


def test_a_node_that_does_not_serve_is_alive_and_says_what_it_waits_for(app: ASGIApp, state: State) -> None:
    state.take(snapshot(reasons=("partition 1 has no leader", "partition 2 has no leader")))

    assert answer(app, "/livez")[0] == 200
    assert answer(app, "/readyz") == (503, "partition 1 has no leader\npartition 2 has no leader\n")


def test_a_loop_that_hangs_is_noticed_after_five_seconds(app: ASGIApp, state: State, clock: Clock) -> None:
    state.take(snapshot())

    clock.now_s += 5.0
    before = answer(app, "/livez")
    clock.now_s += 0.1
    after = answer(app, "/livez")

    assert before[0] == 200
    assert after == (503, "the node's loop has not reported for 5.1 s\n")
    assert answer(app, "/readyz") == after


def test_status_is_what_the_node_said_with_its_age(app: ASGIApp, state: State, clock: Clock) -> None:
    state.take(snapshot(nodes=[{"name": "n1"}]))
    clock.now_s += 1.5

    code, body = answer(app, "/api/status")

    assert code == 200
    assert json.loads(body) == {"cluster_id": "c1", "nodes": [{"name": "n1"}], "partitions": [], "age_ms": 1500}


def test_old_status_is_shown_but_not_as_the_truth(app: ASGIApp, state: State, clock: Clock) -> None:
    state.take(snapshot())
    clock.now_s += 60

    code, body = answer(app, "/api/status")

    assert code == 503
    assert json.loads(body)["cluster_id"] == "c1"
    assert "has not reported for 60.0 s" in json.loads(body)["error"]


def test_metrics_are_the_node_s_and_its_process_s(app: ASGIApp, state: State) -> None:
    state.take(snapshot())

    code, body = answer(app, "/metrics")

    assert code == 200
    assert "rewind_ready 1.0" in body
    assert "rewind_events_appended_total 0.0" in body
    assert "rewind_process_resident_memory_bytes" in body


def test_the_dashboard_is_a_page_that_loads_nothing_from_elsewhere(app: ASGIApp) -> None:
    code, body = answer(app, "/")

    assert code == 200
    assert "/api/status" in body
    assert "https://" not in body
    assert "<link" not in body
    assert "src=" not in body


def test_nothing_can_be_changed(app: ASGIApp) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/api/status", "/"):
        assert answer(app, path, "POST")[0] == 405


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def eventually(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "it never came to that"
        time.sleep(0.02)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def admin(port: int, clock: Clock) -> Iterator[AdminProcess]:
    with AdminProcess("127.0.0.1", port, now=clock, bind_patience_s=0) as process:
        yield process


@pytest.mark.processes
def test_what_is_published_is_served(admin: AdminProcess, port: int) -> None:
    assert get(port, "/livez")[0] == 503

    assert admin.publish(snapshot(cluster_id="c2"))

    eventually(lambda: get(port, "/livez")[0] == 200)
    assert json.loads(get(port, "/api/status")[1])["cluster_id"] == "c2"


@pytest.mark.processes
def test_a_snapshot_larger_than_the_pipe_arrives_in_pieces(admin: AdminProcess, port: int) -> None:
    large = "x" * 3_000_000

    assert admin.publish(snapshot(cluster_id=large))
    eventually(admin._flush)

    eventually(lambda: get(port, "/livez")[0] == 200)
    assert json.loads(get(port, "/api/status")[1])["cluster_id"] == large


@pytest.mark.processes
def test_a_process_that_does_not_read_costs_snapshots_and_no_time(admin: AdminProcess, port: int) -> None:
    assert get(port, "/livez")[0] == 503
    assert admin.pid is not None
    os.kill(admin.pid, signal.SIGSTOP)
    large = snapshot(cluster_id="x" * 300_000)

    taken = [admin.publish(large) for _ in range(20)]
    os.kill(admin.pid, signal.SIGCONT)

    assert taken[0]
    assert not taken[-1]
    eventually(lambda: admin.publish(snapshot(cluster_id="last")))
    eventually(lambda: '"cluster_id":"last"' in get(port, "/api/status")[1])


@pytest.mark.processes
def test_a_process_that_died_is_started_again_but_not_at_once(admin: AdminProcess, port: int, clock: Clock) -> None:
    first = admin.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not admin.publish(snapshot()) and admin.pid is None)

    at_once = admin.publish(snapshot())
    clock.now_s += RESTART_INTERVAL_S
    later = admin.publish(snapshot())

    assert not at_once
    assert later
    assert admin.pid not in (None, first)
    eventually(lambda: get(port, "/livez")[0] == 200)


@pytest.mark.processes
def test_a_program_that_cannot_be_started_does_not_hurt_the_loop(port: int) -> None:
    with AdminProcess("127.0.0.1", port, program=["/none"], bind_patience_s=0) as admin:
        assert not admin.publish(snapshot())


@pytest.mark.processes
def test_a_snapshot_that_cannot_be_packed_does_not_hurt_the_loop(admin: AdminProcess) -> None:
    assert not admin.publish({"ready": object()})
    assert admin.publish(snapshot())


@pytest.mark.processes
def test_signals_for_the_node_leave_its_admin_process_alone(admin: AdminProcess, port: int) -> None:
    assert get(port, "/livez")[0] == 503
    pid = admin.pid
    assert pid is not None

    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)

    admin.publish(snapshot())
    eventually(lambda: get(port, "/livez")[0] == 200)
    assert admin.pid == pid


@pytest.mark.processes
def test_closing_frees_the_address(port: int) -> None:
    AdminProcess("127.0.0.1", port, bind_patience_s=0).close()

    bind(f"127.0.0.1:{port}", 0).close()


def test_an_address_in_use_is_told_before_anything_is_started(port: int) -> None:
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(AddressInUseError, match=f"127.0.0.1:{port} is in use"),
    ):
        AdminProcess("127.0.0.1", port, bind_patience_s=0)


def test_an_address_that_is_not_this_machine_s_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="Cannot assign"):
        bind("192.0.2.1:7072", 0)


@pytest.mark.processes
def test_a_node_killed_outright_takes_its_admin_process_along(port: int, tmp_path: Path) -> None:
    program = tmp_path / "node.py"
    program.write_text(
        "import signal\nfrom rewind_node.admin_link import AdminProcess\n"
        f"admin = AdminProcess('127.0.0.1', {port})\nprint(admin.pid, flush=True)\nsignal.pause()\n"
    )
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE) as node:
        assert node.stdout is not None
        node.stdout.readline()
        assert get(port, "/livez")[0] == 503
        node.kill()

    bind(f"127.0.0.1:{port}").close()  # with the patience that a node's restart has, not more
