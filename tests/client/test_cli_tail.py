"""`rewind tail` as a process, against the fake cluster."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import rewind
from rewind import NewEvent


@pytest.fixture
def store(server: Any) -> Iterator[rewind.Store]:
    with rewind.connect(server.addresses) as made:
        yield made


def tail(server: Any, *arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "REWIND_SERVERS": ",".join(server.addresses), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "rewind", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def lines(process: "subprocess.Popen[str]", count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


def interrupt(process: "subprocess.Popen[str]") -> str:
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors
    return errors


def test_a_tail_shows_what_is_appended_and_how_to_go_on(server: Any, store: rewind.Store) -> None:
    store.append("a", [NewEvent("T", b'{"n":1}', metadata={"u": 1}), NewEvent("T", b"\xff")])
    process = tail(server, "tail", "--after", "start")

    shown = lines(process, 2)
    errors = interrupt(process)

    assert 'a 1  T  {"n":1}  {"u": 1}' in shown[0]
    assert "a 2  T  <1 bytes>" in shown[1]
    (checkpoint,) = [word for word in errors.split() if word.startswith("cluster-1/1/")]
    store.append("a", NewEvent("U", b"3"))
    again = tail(server, "tail", "--after", checkpoint)
    assert "a 3  U  3" in lines(again, 1)[0]
    interrupt(again)


def test_a_tail_in_json_carries_checkpoints_and_filters(server: Any, store: rewind.Store) -> None:
    store.append("order-1", [NewEvent("A", b"1"), NewEvent("B", b"2"), NewEvent("C", b"3")])
    store.append("cart-1", [NewEvent("A", b"4")])
    process = tail(server, "--json", "tail", "--after", "start", "--types", "A,C", "--prefix", "order-")

    rows = [json.loads(line) for line in lines(process, 2)]
    interrupt(process)

    assert [(row["stream"], row["version"], row["data"]) for row in rows] == [("order-1", 1, 1), ("order-1", 3, 3)]
    assert [event.data for event in store.read_all(after=rows[0]["checkpoint"], prefix="order-")] == [b"2", b"3"]


def test_a_tail_begins_now(server: Any, store: rewind.Store) -> None:
    store.append("a", NewEvent("T", b"1"))
    process = tail(server, "tail")

    # It has begun at some time after it was started: append until the first event shows.
    versions = []
    while process.poll() is None and not versions:
        versions = _shown_within(process, store)

    assert versions[0] > 1
    interrupt(process)


def _shown_within(process: "subprocess.Popen[str]", store: rewind.Store) -> list[int]:

    store.append("a", NewEvent("T", b"x"))
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 0.1)
    return [int(process.stdout.readline().split()[2])] if ready else []


def test_a_wrong_checkpoint_is_one_line(server: Any) -> None:
    process = tail(server, "tail", "--after", "yesterday")
    out, errors = process.communicate(timeout=20)

    assert process.returncode == 1
    assert out == ""
    assert len(errors.splitlines()) == 1
    assert "yesterday" in errors
