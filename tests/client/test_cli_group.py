"""`rewind group` as a process, against the fake cluster."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import rewind
from rewind import NewEvent

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(server: Any) -> Run:
    environment = {**os.environ, "REWIND_SERVERS": ",".join(server.addresses)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rewind", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)

    return run


@pytest.fixture
def store(server: Any) -> Iterator[rewind.Store]:
    with rewind.connect(server.addresses) as made:
        yield made


@pytest.fixture
def parked(store: rewind.Store) -> list[rewind.Event]:
    """Park the first two of three events, and return them by place."""
    store.append("a", [NewEvent("Placed", b""), NewEvent("Paid", b"")])
    store.append("b", NewEvent("Placed", b""))
    with store.group("mailer") as group:
        for _ in range(3):
            delivery = next(group)
            if delivery.event.stream == "a":
                delivery.park(f"no address {delivery.event.version}")
            else:
                delivery.ack()
    return list(store.read("a"))


def lines(result: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def place(event: rewind.Event) -> str:
    return f"{event.partition}:{event.position}"


def test_groups_are_listed(run: Run, parked: list[rewind.Event]) -> None:
    listed = lines(run("--json", "group", "list"))
    shown = run("group", "list").stdout

    assert [each["group"] for each in listed] == ["mailer"]
    assert {"lag": 0, "parked": len(parked), "waiting": 0, "replaying": 0}.items() <= listed[0].items()
    assert "mailer  partitions 4  held 0  lag 0  waiting 0  parked 2  replaying 0" in shown


def test_a_group_is_shown_by_partition_with_its_members(run: Run, store: rewind.Store) -> None:
    store.append("a", [NewEvent("T", b"")] * 3)
    with store.group("mailer") as group:
        next(group).ack()
        (shown,) = lines(run("--json", "group", "show", "mailer"))
        text = run("group", "show", "mailer").stdout

    partition = store.partition_of("a")
    (state,) = [each for each in shown["states"] if each["partition"] == partition]
    assert (state["head"], state["lag"], state["checkpoint"]) == (3, 2, 1)
    assert state["epoch"] > 0
    (member,) = shown["members"]
    assert member["label"].endswith(f":{os.getpid()}")
    assert state["owner"] == member["label"]
    assert member["label"] in text


def test_parked_events_are_printed_and_replayed(run: Run, store: rewind.Store, parked: list[rewind.Event]) -> None:
    printed = lines(run("--json", "group", "parked", "mailer"))
    text = run("group", "parked", "mailer").stdout
    replayed = lines(run("--json", "group", "replay", "mailer", place(parked[1])))
    with store.group("mailer") as group:
        delivery = next(group)
        delivery.ack()

    assert [(each["stream"], each["version"], each["type"]) for each in printed] == [
        ("a", 1, "Placed"),
        ("a", 2, "Paid"),
    ]
    assert [(each["attempts"], each["reason"]) for each in printed] == [(1, "no address 1"), (1, "no address 2")]
    assert f"{place(parked[0])}  a 1  Placed  attempts 1  no address 1" in text
    assert replayed == [{"group": "mailer", "replaying": 1}]
    assert (delivery.event.id, delivery.attempt) == (parked[1].id, 1)
    assert [each["version"] for each in lines(run("--json", "group", "parked", "mailer"))] == [1]


def test_all_parked_events_are_replayed_where_none_is_named(run: Run, parked: list[rewind.Event]) -> None:
    assert lines(run("--json", "group", "replay", "mailer")) == [{"group": "mailer", "replaying": len(parked)}]
    assert run("group", "parked", "mailer").stdout.count("(replaying)") == len(parked)


def test_parked_events_are_discarded_only_by_name_or_all(run: Run, parked: list[rewind.Event]) -> None:
    unnamed = run("group", "discard", "mailer")
    one = lines(run("--json", "group", "discard", "mailer", place(parked[0])))
    rest = lines(run("--json", "group", "discard", "mailer", "--all"))

    assert unnamed.returncode == 2
    assert (one, rest) == ([{"group": "mailer", "discarded": 1}],) * 2
    assert run("group", "parked", "mailer").stdout == ""


@pytest.mark.usefixtures("parked")
def test_a_reset_delivers_again(run: Run, store: rewind.Store) -> None:
    run("group", "reset", "mailer", "--to", "start")
    with store.group("mailer") as group:
        again = {next(group).event.stream for _ in range(2)}
    run("group", "reset", "mailer", "--to", "now")
    (state,) = lines(run("--json", "group", "list"))

    assert again == {"a", "b"}
    assert (state["lag"], state["parked"]) == (0, 0)


def test_a_reset_says_whether_the_group_was_there(run: Run) -> None:
    made = run("group", "reset", "mailer", "--to", "now")
    reset = run("group", "reset", "mailer", "--to", "start")
    told = [
        line["made"]
        for name in ("mailer", "other")
        for line in lines(run("--json", "group", "reset", name, "--to", "now"))
    ]

    assert made.stdout == "there was no group mailer: it is made, and begins at now\n"
    assert reset.stdout == "group mailer goes on from start\n"
    assert told == [False, True]


def test_a_reset_takes_a_checkpoint_and_makes_a_group(run: Run, store: rewind.Store) -> None:
    store.append("a", [NewEvent("T", b"")] * 3)
    reader = store.read_all(limit=1)
    next(reader)

    result = run("group", "reset", "new", "--to", reader.checkpoint)

    assert result.returncode == 0, result.stderr
    with store.group("new") as group:
        assert next(group).event.version == 2


@pytest.mark.usefixtures("parked")
def test_a_group_without_members_is_deleted(run: Run, store: rewind.Store) -> None:
    with store.group("mailer") as group:
        while len(group.partitions) < 4:
            time.sleep(0.005)
        held = run("group", "delete", "mailer")

    deleted = run("group", "delete", "mailer")

    assert held.returncode == 1
    assert deleted.returncode == 0
    assert run("group", "list").stdout == ""


@pytest.mark.parametrize("command", [("show",), ("parked",), ("replay",), ("discard", "--all"), ("delete",)])
def test_a_group_that_is_not_there_is_told(run: Run, command: tuple[str, ...]) -> None:
    result = run("group", command[0], "mailr", *command[1:])

    assert result.returncode == 1
    assert "no group 'mailr'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [("reset", "mailer"), ("replay", "mailer", "7"), ("replay", "mailer", "a:b"), ("show",)],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("group", *arguments).returncode == 2


def test_wrong_names_and_checkpoints_are_told(run: Run) -> None:
    for arguments in (("show", "a b"), ("reset", "mailer", "--to", "junk")):
        result = run("group", *arguments)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1
