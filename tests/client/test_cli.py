"""The `rewind` command as a process, against the fake cluster."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rewind.cli_status import render
from rewind_cluster.client_messages import Code

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(server: Any) -> dict[str, str]:
    return {**os.environ, "REWIND_SERVERS": ",".join(server.addresses)}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def run(*arguments: str, stdin: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rewind", *arguments]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=60, env=environment | variables, check=False
        )

    return run


def events(*streams: str, **fields: Any) -> list[str]:
    return [json.dumps({"stream": name, "type": "T", "data": {"n": n}, **fields}) for n, name in enumerate(streams)]


def write(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def summary(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert found["kind"] == "summary"
    return found


def test_append_and_read_speak_json(run: Run) -> None:
    appended = run(
        "--json", "append", "s", "--type", "T", "--data", '{"a":1}', "--expected", "none", "--metadata", '{"u":1}'
    )
    answer = json.loads(appended.stdout)

    assert set(answer) == {"version", "position", "partition", "timestamp", "time"}
    assert isinstance(answer["timestamp"], str)
    (event,) = map(json.loads, run("--json", "read", "s").stdout.splitlines())
    assert event["data"] == {"a": 1}
    assert event["metadata"] == {"u": 1}
    assert {"stream", "version", "type", "id", "timestamp", "time", "position", "partition"} <= set(event)
    assert event["timestamp"] == answer["timestamp"]


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ('{"a":1}', {"data": {"a": 1}}),
        ('{"a": 1}', {"data_base64": "eyJhIjogMX0=", "data_text": '{"a": 1}'}),
        ("\udcff", {"data_base64": "/w=="}),
    ],
)
def test_what_is_read_has_its_text_beside_bytes_that_are_no_compact_json(
    run: Run, data: str, shown: dict[str, Any]
) -> None:
    run("append", "s", "--type", "T", "--data", data)

    event = json.loads(run("--json", "read", "s").stdout)

    assert {name: value for name, value in event.items() if name.startswith("data")} == shown


def test_json_may_be_asked_for_behind_the_command_too(run: Run) -> None:
    answer = json.loads(run("append", "s", "--type", "T", "--data", "{}", "--json").stdout)

    assert answer["version"] == 1
    assert json.loads(run("read", "s", "--json").stdout)["stream"] == "s"


def test_a_file_that_is_not_there_is_named(run: Run) -> None:
    result = run("import", "nowhere.jsonl")

    assert (result.returncode, result.stderr) == (1, "rewind: nowhere.jsonl: No such file or directory\n")


def test_an_error_is_one_line_and_exit_code_1(run: Run) -> None:
    run("append", "s", "--type", "T", "--data", "x")

    result = run("append", "s", "--type", "T", "--data", "x", "--expected", "none")

    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "expected version 0 but it is at 1" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("append", "s"),
        ("append", "s", "--type", "T", "--data", "x", "--expected", "soon"),
        ("append", "s", "--type", "T", "--data", "x", "--metadata", "[]"),
        ("append", "s", "--type", "T", "--data", "x", "--id", "7"),
        ("read", "s", "--after", "-1"),
        ("import", "f", "--rate", "0"),
        ("--timeout", "0", "status"),
        ("--servers", "nowhere", "status"),
        ("--context", "a b", "streams"),
        ("nothing",),
        (),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).returncode == 2


def test_the_version_is_told(run: Run) -> None:
    assert "rewind" in run("--version").stdout


def test_options_come_from_the_environment(run: Run) -> None:
    run("context", "create", "billing", "--ordered")

    run("append", "s", "--type", "T", "--data", "x", REWIND_CONTEXT="billing")

    assert run("--context", "billing", "streams").stdout == "s\n"
    assert run("streams").stdout == ""
    listed = [json.loads(line) for line in run("--json", "context", "list").stdout.splitlines()]
    assert [(each["name"], each["ordered"]) for each in listed] == [("billing", True), ("default", False)]


def test_a_status_ends_with_what_needs_attention_a_whole_line_each(run: Run, server: Any) -> None:
    server.cluster.leaders[2] = ""
    server.cluster.attention = [f"partition 2 has no leader{', and so on' * 20}", "node n3 is down"]

    shown = run("status")
    server.cluster.attention = []
    calm = run("status")

    assert shown.returncode == 0
    assert shown.stdout.splitlines()[-2:] == [
        f"attention: partition 2 has no leader{', and so on' * 20}",
        "attention: node n3 is down",
    ]
    assert calm.stdout.splitlines()[-1] == "all is well"
    assert json.loads(run("--json", "status").stdout)["cluster_id"] == "cluster-1"


def test_a_status_fits_a_terminal_of_80_columns(server: Any) -> None:
    server.cluster.attention = ["node n1: too little free disk space: appends are refused; free some" * 2]
    shown = StringIO()

    Console(file=shown, width=80, force_terminal=True, color_system=None).print(
        render(server.cluster.status(), plain=False)
    )

    lines = [line.rstrip() for line in shown.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    assert "free some" in lines[-1]
    assert any(line.split()[:2] == ["PARTITION", "LEADER"] for line in lines)


def test_an_import_keeps_order_and_importing_again_changes_nothing(run: Run, server: Any, tmp_path: Path) -> None:
    names = [f"s{number % 7}" for number in range(700)]
    file = write(tmp_path / "f.jsonl", events(*names, time="2015-08-25T14:35:29"))

    first, again = run("--json", "import", file), run("--json", "import", file)

    assert (first.returncode, again.returncode) == (0, 0)
    assert {key: summary(first)[key] for key in ("events", "streams", "appended", "already_present")} == {
        "events": 700,
        "streams": 7,
        "appended": 700,
        "already_present": 0,
    }
    assert (summary(again)["appended"], summary(again)["already_present"]) == (0, 700)
    assert summary(first)["write_gap_ms"] > 0
    assert server.cluster.appended == 700
    progress = [json.loads(line) for line in first.stdout.splitlines()[:-1]]
    assert all(each["kind"] == "progress" and each["total"] == 700 for each in progress)
    rows = [json.loads(line) for line in run("--json", "read", "s3").stdout.splitlines()]
    assert [row["data"]["n"] for row in rows] == list(range(3, 700, 7))
    assert rows[0]["metadata"] == {"time": "2015-08-25T14:35:29Z"}


def test_an_export_imports_to_the_same_events(run: Run, server: Any, tmp_path: Path) -> None:
    lines = events(*[f"s{number % 40}" for number in range(400)], time="2015-08-25T14:35:29+01:00", metadata={"u": "é"})
    lines.append(json.dumps({"stream": "bytes", "type": "T", "data_base64": "/w=="}))
    run("import", write(tmp_path / "f.jsonl", lines))
    exported = run("export").stdout
    run("context", "create", "copy")

    copied = run("--context", "copy", "--json", "import", "-", stdin=exported)

    assert summary(copied)["appended"] == 401
    assert run("--context", "copy", "export").stdout == exported
    names = [json.loads(line)["stream"] for line in exported.splitlines()]
    assert names == sorted(names)
    assert server.cluster.appended == 802


def test_a_bad_line_stops_the_import_there(run: Run, server: Any, tmp_path: Path) -> None:
    lines = [*events("a", "b"), "", '{"stream": "c"}', *events("d")]

    result = run("--json", "import", write(tmp_path / "f.jsonl", lines))

    assert result.returncode == 1
    assert "line 4" in result.stderr
    assert "2 events before it are acknowledged" in result.stderr
    assert summary(result)["appended"] == 2
    assert server.cluster.appended == 2


def test_a_stream_with_other_events_is_reported_and_the_others_go_on(run: Run, server: Any, tmp_path: Path) -> None:
    run("append", "b", "--type", "Other", "--data", "x")
    file = write(tmp_path / "f.jsonl", events("a", "b", "a", "b", "c"))

    result = run("--json", "import", file)

    assert result.returncode == 1
    assert "stream 'b' holds other events; it is at version 1" in result.stderr
    assert summary(result)["appended"] == 3
    assert server.cluster.version(1, "b") == 1


def test_a_file_that_goes_on_where_an_earlier_one_ended_is_appended_from_there(
    run: Run, server: Any, tmp_path: Path
) -> None:
    lines = events(*["s"] * 150)
    run("import", write(tmp_path / "first.jsonl", lines[:37]))

    result = summary(run("--json", "import", write(tmp_path / "second.jsonl", lines)))

    assert (result["appended"], result["already_present"]) == (113, 37)
    assert server.cluster.version(1, "s") == 150


def test_two_imports_of_one_file_at_a_time_append_each_event_once(
    server: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    file = write(tmp_path / "f.jsonl", events(*[f"s{number % 3}" for number in range(3000)]))
    command = [sys.executable, "-m", "rewind", "--json", "import", file]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(2)]

    outputs = [process.communicate(timeout=60)[0] for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    assert [json.loads(out.splitlines()[-1])["events"] for out in outputs] == [3000, 3000]
    assert server.cluster.appended == 3000


def test_an_import_goes_on_through_lost_answers_and_new_leaders(run: Run, server: Any, tmp_path: Path) -> None:
    cluster = server.cluster
    chances = iter([False] * 20 + [True] * 6 + [False] * 10_000_000)

    def refuse(batch: Any) -> Code | None:
        if next(chances):
            cluster.leaders[batch.partition] = cluster.nodes[cluster.terms[batch.partition] % 3].id
            cluster.terms[batch.partition] += 1
            return Code.OPEN
        return None

    for node in cluster.nodes:
        node.refuse = refuse
    names = [f"s{number % 50}" for number in range(2000)]

    result = run("--json", "import", write(tmp_path / "f.jsonl", events(*names)))

    assert result.returncode == 0
    assert summary(result)["appended"] == 2000
    assert cluster.appended == 2000


def test_an_interrupted_import_says_how_far_it_came_and_can_go_on(
    run: Run, server: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    file = write(tmp_path / "f.jsonl", events(*[f"s{number % 9}" for number in range(500)]))
    command = [sys.executable, "-m", "rewind", "--json", "import", "--rate", "100", file]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    while json.loads(process.stdout.readline())["events"] < 20:
        pass

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)

    acknowledged = json.loads(out.splitlines()[-1])["events"]
    assert process.returncode == 130
    assert f"interrupted: {acknowledged} events acknowledged" in err
    assert "Traceback" not in err
    assert 20 <= acknowledged < 500
    again = summary(run("--json", "import", file))
    assert again["appended"] + again["already_present"] == 500
    assert again["already_present"] >= acknowledged
    assert server.cluster.appended == 500


def test_a_pipe_is_imported_as_it_comes(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "rewind", "--json", "import", "-"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, **pipes)  # type: ignore[call-overload]
    process.stdin.write(events("a")[0] + "\n")
    process.stdin.flush()
    while (progress := json.loads(process.stdout.readline()))["events"] < 1:
        pass

    out, _ = process.communicate(events("b")[0], timeout=20)  # a last line without an end

    assert progress["total"] is None
    assert json.loads(out.splitlines()[-1])["events"] == 2


def test_a_file_that_is_not_there_is_one_line(run: Run) -> None:
    result = run("import", "/no/such/file")

    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1


def test_nobody_reading_the_output_is_no_crash(environment: dict[str, str]) -> None:
    command = f"{sys.executable} -m rewind export | head -1"
    lines = "\n".join(events(*["s"] * 5000))
    load = [sys.executable, "-m", "rewind", "import", "-"]
    subprocess.run(load, input=lines, text=True, env=environment, check=True, capture_output=True)

    result = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment, check=False)  # noqa: S602 - our own

    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 1
