"""What the programs of this folder have in common: how they speak, in which order they measure, and how they end.

The rule: results go to standard output or into files, all else to standard error; what goes wrong is told in one line.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import click

from rewind.errors import RewindError
from rewind_node.exits import NodeExit
from rewind_node.local_cluster import ended_like_by_ctrl_c

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130

T = TypeVar("T")


@contextmanager
def ended_in_one_line(program: str) -> Iterator[None]:
    """Within, what goes wrong, Ctrl-C and SIGTERM end the program with a line that says so."""
    try:
        with ended_like_by_ctrl_c():
            yield
    except (RewindError, NodeExit, OSError) as error:
        click.echo(f"{program}: {error}".replace("\n", " "), err=True)
        sys.exit(EXIT_ERROR)
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"{program}: interrupted; nothing was written", err=True)
        sys.exit(EXIT_INTERRUPTED)


def say(text: str) -> None:
    """Tell how it goes."""
    click.echo(text, err=True)


def rotated(what: Sequence[T], by: int) -> list[T]:
    """Return the same beginning with another one: order matters on a machine that warms up."""
    by %= len(what)
    return [*what[by:], *what[:by]]
