"""Write down anew what happens in scenarios, all of them or those named, so that a change shows as a difference.

    python tests/scenarios/record.py [FILE…]

A file whose script fails, or in which something expected does not hold, stays as it is; the exit code is then 1.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # what pytest's `pythonpath` does for the tests

from scenarios.scenario import Scenario, all_scenarios
from scenarios.script import ExpectationError
from scenarios.selection import ScriptError


def record(path: Path) -> str | None:
    """Rewrite one file's outcomes and return None, or leave it as it is and return what is wrong."""
    scenario = Scenario.load(path)
    try:
        lines = scenario.play()
    except (ExpectationError, ScriptError) as error:
        return str(error)
    if lines != scenario.lines:
        path.write_text("\n".join(lines) + "\n")
    return None


def main(paths: list[Path]) -> int:
    """Record and return the exit code."""
    errors = [error for path in paths if (error := record(path))]
    for error in errors:
        sys.stderr.write(f"{error}\n")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]] or all_scenarios()))
