"""Every scenario ends as it is recorded, says what it shows, and asserts it."""

from pathlib import Path

import pytest
from scenarios.record import record
from scenarios.scenario import SECTION, Scenario, all_scenarios
from scenarios.script import ExpectationError, Script
from scenarios.selection import ScriptError

WRONG = """# A title
Paper, section 5.2.

Why.

> group n1 n2 n3
  an outcome of long ago
> expect leaders n1
"""

each_scenario = pytest.mark.parametrize("path", all_scenarios(), ids=lambda path: path.stem)


@each_scenario
def test_a_scenario_ends_as_it_is_recorded(path: Path) -> None:
    scenario = Scenario.load(path)

    lines = scenario.play()

    assert lines == scenario.lines


@each_scenario
def test_a_scenario_names_what_it_shows_and_expects_it(path: Path) -> None:
    title, section, gap, why, *_ = Scenario.load(path).lines
    commands = Scenario.load(path).commands

    assert title.startswith("# ")
    assert SECTION.fullmatch(section)
    assert gap == ""
    assert why
    assert not why.startswith(">")
    assert any(command.startswith("expect ") for command in commands)


def test_there_are_scenarios() -> None:
    assert len(all_scenarios()) > 30


def test_recording_blesses_nothing_that_is_not_expected(tmp_path: Path) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text(WRONG)

    error = record(path)

    assert error == "wrong.txt, line 8: expect leaders n1: it is none"
    assert path.read_text() == WRONG


def test_recording_replaces_outcomes_and_keeps_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "right.txt"
    path.write_text(WRONG.replace("leaders n1", "leaders none"))

    assert record(path) is None

    assert path.read_text() == WRONG.replace("leaders n1", "leaders none").replace("  an outcome of long ago\n", "")


@pytest.mark.parametrize(
    "expectation",
    [
        "refused",
        "leaders n2",
        "terms 2",
        "commits 0",
        "logs different",
        "sent n1->n2 append 0",
        "flying n1->n2 1",
        "n1 commit 9",
        "progress n1 n2 probe match 0 next 1",
    ],
)
def test_what_is_not_so_is_not_expected(expectation: str) -> None:
    script = Script()
    script.run("group n1 n2 n3")
    script.run("elect n1")

    with pytest.raises(ExpectationError):
        script.run(f"expect {expectation}")


@pytest.mark.parametrize(
    "command", ["dance n1", "campaign n7", "deliver n1=>n2", "expect n1 mood good", "wait 5 s", "cut n1->"]
)
def test_a_mistake_in_a_script_is_named(command: str) -> None:
    script = Script()
    script.run("group n1 n2 n3")

    with pytest.raises(ScriptError):
        script.run(command)


def test_what_is_down_does_nothing() -> None:
    script = Script()
    script.run("group n1 n2 n3")
    script.run("crash n1")

    with pytest.raises(ScriptError):
        script.run("campaign n1")
