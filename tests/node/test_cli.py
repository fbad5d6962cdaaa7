import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import structlog

from rewind_cluster.errors import DamagedError
from rewind_node import cli, storage_errors
from rewind_node.exits import (
    AddressInUseError,
    DataDirectoryInUseError,
    ForeignClusterError,
    NewerFormatError,
    StorageFailureError,
    UsageError,
)
from rewind_node.options import NodeOptions

RUN = ["run", "--name", "n1", "--data-dir", "/data", "--seeds", "127.0.0.1:7071"]
Serve = Callable[[NodeOptions], int]


@pytest.fixture
def serve_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[Serve], None]:
    """Put a function in the place of the server."""

    def put(serve: Serve) -> None:
        server = ModuleType("rewind_node.server")
        server.serve = serve  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "rewind_node.server", server)

    return put


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def raising(error: Exception) -> Serve:
    def serve(_: NodeOptions) -> int:
        raise error

    return serve


def test_run_serves_with_the_options_given(
    serve_with: Callable[[Serve], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[NodeOptions] = []
    serve_with(lambda options: served.append(options) or 0)
    monkeypatch.setenv("REWIND_PARTITIONS", "5")

    code = cli.execute([*RUN, "--label", "zone=a", "--label", "rack=b", "--heartbeat-ms", "50"])

    assert code == 0
    assert served[0].partitions == 5
    assert served[0].labels == {"zone": "a", "rack": "b"}
    assert served[0].heartbeat_ms == 50


def test_what_serve_returns_is_the_exit_code(serve_with: Callable[[Serve], None]) -> None:
    serve_with(lambda _: 7)

    assert cli.execute(RUN) == 7


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("why"), 2),
        (AddressInUseError("why"), 3),
        (DataDirectoryInUseError("why"), 4),
        (ForeignClusterError("why"), 5),
        (NewerFormatError("why"), 6),
        (StorageFailureError("why"), 7),
        (storage_errors.DataDirectoryInUseError("why"), 4),
        (storage_errors.NewerFormatError("why"), 6),
        (storage_errors.StorageFullError("why"), 7),
        (DamagedError("why"), 7),
        (ZeroDivisionError("why"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_reason_to_end_has_its_code_and_at_most_one_line(
    error: Exception, code: int, serve_with: Callable[[Serve], None], capsys: pytest.CaptureFixture[str]
) -> None:
    serve_with(raising(error))

    assert cli.execute(RUN) == code

    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "Traceback" not in told
    assert str(error) in told


def test_listening_beyond_loopback_logs_a_warning(
    serve_with: Callable[[Serve], None], capsys: pytest.CaptureFixture[str]
) -> None:
    serve_with(lambda _: 0)

    cli.execute([*RUN, "--listen", "10.0.0.1:7070", "--insecure"])

    assert "nothing is encrypted or authenticated" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["frobnicate"], ["run", "--frobnicate"], ["run", "--name"], ["dump"], ["dump", "/none"], ["dev", "--nodes", "0"]],
)
def test_wrong_usage_is_one_line_and_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(arguments) == 2

    assert capsys.readouterr().err.count("\n") == 1


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute([]) == 2

    told = capsys.readouterr().err
    assert all(command in told for command in ("run", "dev", "demo", "dump"))


def test_the_version_is_the_distribution_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.execute(["--version"]) == 0

    assert capsys.readouterr().out == "rewind-node, version 0.1.0\n"


def test_dump_prints_the_lines_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def dump(path: Path, write: Callable[[str], None]) -> None:
        write(f'{{"path": "{path.name}"}}\n')
        write("{}\n")

    module = ModuleType("rewind_node.dump")
    module.dump = dump  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rewind_node.dump", module)

    assert cli.execute(["dump", str(tmp_path)]) == 0

    assert capsys.readouterr().out == f'{{"path": "{tmp_path.name}"}}\n{{}}\n'


def test_a_reader_that_has_seen_enough_ends_a_program_quietly() -> None:
    program = [sys.executable, "-m", "rewind_node", "--help"]
    reading, writing = os.pipe()
    os.close(reading)

    with os.fdopen(writing, "wb") as output:
        ended = subprocess.run(program, stdout=output, stderr=subprocess.PIPE, check=False)

    assert ended.stderr == b""
