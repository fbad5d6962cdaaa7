import json
from collections.abc import Iterator

import pytest
import structlog

from rewind_node import logs


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_json_is_one_object_per_line_with_what_was_bound(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json", node="n1")

    structlog.get_logger().info("took over", partition=3)

    out, err = capsys.readouterr()
    line = json.loads(err)
    assert out == ""
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "took over", "level": "info", "node": "n1", "partition": 3}


def test_text_is_one_line_without_colours_for_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text", node="n1")

    structlog.get_logger().warning("took over", partition=3)

    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "\x1b" not in told
    assert all(word in told for word in ("warning", "took over", "node=n1", "partition=3"))


def test_what_is_below_the_level_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "text")

    structlog.get_logger().info("chatter")

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_traceback_does_not_show_what_applications_store(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", log_format)
    what_an_application_stores = str(6 * 7) * 3

    try:
        assert int(what_an_application_stores) // 0
    except ZeroDivisionError:
        structlog.get_logger().error("failed", exc_info=True)

    told = capsys.readouterr().err
    assert "ZeroDivisionError" in told
    assert "424242" not in told
