"""`rewind bench` before it reaches a cluster: wrong usage, missing libraries, charts that cannot be written."""

import subprocess
import sys
from pathlib import Path

import pytest

from rewind import cli


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing",),
        ("append", "--seconds", "0"),
        ("append", "--clients", "0"),
        ("append", "--in-flight", "0"),
        ("append", "--batch", "5000"),
        ("append", "--expected", "maybe"),
        ("append", "--rate", "0"),
        ("append", "--runs", "0"),
        ("read", "--events", "0"),
        ("subscribe", "--client", "curl"),
        ("mixed", "--reads", "101"),
        ("failover", "--signal", "sigsegv"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert cli.run(["bench", *arguments]) == 2


@pytest.mark.parametrize("chart", ["chart.pdf", "no-such-directory/chart.png"])
def test_a_chart_that_cannot_be_written_is_told_before_anything_is_measured(
    chart: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    code = cli.run(["--servers", "127.0.0.1:1", "bench", "append", "--chart", chart])

    lines = capsys.readouterr().err.splitlines()
    assert code == 1
    assert len(lines) == 1
    assert chart.rpartition("/")[2] in lines[0]


def test_a_contradiction_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.run(["bench", "append", "--expected", "exact", "--streams", "10"])

    lines = capsys.readouterr().err.splitlines()
    assert code == 1
    assert len(lines) == 1
    assert "--streams" in lines[0]


@pytest.mark.parametrize("words", [["bench", "append"], ["bench", "--help"]])
def test_without_its_libraries_it_says_what_to_install(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "hdrh", None)

    code = cli.run(words)

    lines = capsys.readouterr().err.splitlines()
    assert code == 1
    assert len(lines) == 1
    assert "hdrh" in lines[0]
    assert "pip install 'rewind-eventstore[bench]'" in lines[0]


def test_the_rest_of_the_command_imports_none_of_them() -> None:
    program = (
        "import sys; from rewind import cli; code = cli.run(['--help']); "
        "sys.exit(code or len({'hdrh', 'matplotlib', 'psutil', 'rewind.bench'} & set(sys.modules)))"
    )

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert result.returncode == 0, result.stderr
    assert b"bench" in result.stdout
