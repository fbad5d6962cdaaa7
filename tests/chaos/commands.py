"""Other programs that the harness needs: run to their end, and their complaint told where they fail."""

import subprocess
from collections.abc import Sequence

PATIENCE_S = 30.0


class CommandError(Exception):
    """A program that the harness needs has failed; the message is its complaint."""


def run(*command: str, given: str = "") -> str:
    """Run a command of the system with something on its standard input, and return what it prints."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except FileNotFoundError:
        raise CommandError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise CommandError(f"{' '.join(command)} has not ended within {PATIENCE_S:.0f} s") from None
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip().splitlines()
        raise CommandError(f"{' '.join(command)}: {complaint[-1] if complaint else f'exit code {done.returncode}'}")
    return done.stdout


def try_all(*commands: Sequence[str]) -> None:
    """Run commands that clean up: each is tried, and one that fails had nothing to do."""
    for command in commands:
        try:
            run(*command)
        except CommandError:
            continue
