"""A scenario's file: a title, the section that it shows, why, and a script with the outcome under each command.

Commands begin with `> `, outcomes with two spaces, and everything else is prose.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from scenarios.script import ExpectationError, Script
from scenarios.selection import ScriptError

FOLDER = Path(__file__).parent
COMMAND = "> "
OUTCOME = "  "
SECTION = re.compile(r"(Paper|Thesis), (section|figure)s? \d.*\.")


@dataclass(frozen=True)
class Scenario:
    """The text of one file, with the outcomes as they were recorded."""

    path: Path
    lines: list[str]

    @classmethod
    def load(cls, path: Path) -> "Scenario":
        """Return the scenario in a file."""
        return cls(path, path.read_text().splitlines())

    @property
    def commands(self) -> list[str]:
        """The script without its outcomes."""
        return [line.removeprefix(COMMAND) for line in self.lines if line.startswith(COMMAND)]

    def play(self) -> list[str]:
        """Run the script in the core as it is now and return the file's lines with the outcomes of this run."""
        script = Script()
        played: list[str] = []
        for number, line in enumerate(self.lines, start=1):
            if line.startswith(OUTCOME):
                continue
            played.append(line)
            if line.startswith(COMMAND):
                played.extend(OUTCOME + told for told in self._run(script, number, line.removeprefix(COMMAND)))
        return played

    def _run(self, script: Script, number: int, command: str) -> list[str]:
        try:
            return script.run(command)
        except (ExpectationError, ScriptError) as error:
            raise type(error)(f"{self.path.name}, line {number}: {error}") from error


def all_scenarios() -> list[Path]:
    """Return the files of all scenarios, by name."""
    return sorted(FOLDER.glob("*.txt"))
