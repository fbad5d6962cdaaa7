"""Planting: one bug at a time in the code that is shipped, by swapping the code of a function while the program runs.

A plant says how a function's source is to be changed, as a patch does. What is to be replaced must stand there exactly
once: whoever rewrites that function has to look after its plants, and none ever turns into nothing unseen. The function
object itself stays, so that everybody who has imported it by name gets the bug as well.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

MARKS = {"-": (True, False), "+": (False, True), " ": (True, True)}  # whether a line stands there before, and after
BETWEEN_HUNKS = "..."


class PlantError(Exception):
    """A plant does not fit the code that it is meant for."""


@dataclass(frozen=True, slots=True)
class Change:
    """One function to change, or a property's getter.

    `patch`: each line begins with `-` and goes, with `+` and comes, or with a space and stays; `...` stands between two
    places. How far in the lines stand in the source does not matter, only how they do to one another.
    """

    where: Callable[..., Any] | property
    patch: str


@dataclass(frozen=True, slots=True)
class Plant:
    """One bug. `promise`: the number of the promise in DESIGN.md, section 2, that it breaks; 0 for the cluster's peace.

    `flavours`: those of `simulator.flavours` whose seeds are likely to show it; with `in_groups` those of them that
    have consumer groups.
    """

    name: str
    what: str
    why: str
    promise: int
    flavours: tuple[str, ...]
    changes: tuple[Change, ...]
    in_groups: bool = False


@contextmanager
def planted(plant: Plant) -> Iterator[None]:
    """Have a bug in the code for a while. Raises `PlantError` where it does not fit."""
    with ExitStack() as stack:
        for change in plant.changes:
            function = _function(change.where)
            stack.enter_context(_swapped(function, _variant(function, change.patch)))
        yield


def _function(where: Callable[..., Any] | property) -> FunctionType:
    function = where.fget if isinstance(where, property) else where
    if not isinstance(function, FunctionType):
        raise PlantError(f"{where!r} is no function")
    return function


@contextmanager
def _swapped(function: FunctionType, code: CodeType) -> Iterator[None]:
    healthy = function.__code__
    function.__code__ = code
    try:
        yield
    finally:
        function.__code__ = healthy


def _variant(function: FunctionType, patch: str) -> CodeType:
    """Return a function's code as it is after a patch of its source."""
    source, first_line = inspect.getsourcelines(function)
    lines = textwrap.dedent("".join(source)).splitlines()
    for hunk in _hunks(patch):
        _apply(lines, hunk, function.__qualname__)
    tree = ast.parse("\n".join(lines))
    (definition,) = tree.body
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    ast.increment_lineno(tree, first_line - 1)
    made: dict[str, FunctionType] = {}
    module = vars(sys.modules[function.__module__])
    exec(compile(tree, function.__code__.co_filename, "exec"), module, made)  # noqa: S102 - that is what planting is
    code = made[definition.name].__code__
    if code.co_freevars != function.__code__.co_freevars:
        raise PlantError(f"{function.__qualname__} is a closure, which cannot be changed")
    return code


def _hunks(patch: str) -> Iterator[list[str]]:
    """Yield the places that a patch changes, each as its lines."""
    hunk: list[str] = []
    for line in [*textwrap.dedent(patch).strip("\n").splitlines(), BETWEEN_HUNKS]:
        if line != BETWEEN_HUNKS:
            hunk.append(line)
        elif hunk:
            yield hunk
            hunk = []


def _apply(lines: list[str], hunk: Sequence[str], where: str) -> None:
    old = [line[2:] for line in hunk if MARKS[line[0]][0]]
    new = [line[2:] for line in hunk if MARKS[line[0]][1]]
    windows = range(len(lines) - len(old) + 1)
    found = [start for start in windows if _dedented(lines[start : start + len(old)]) == _dedented(old)]
    if len(found) != 1:
        raise PlantError(f"{where} holds this {len(found)} times, not once:\n" + "\n".join(old))
    (start,) = found
    further = len(lines[start]) - len(lines[start].lstrip()) - (len(old[0]) - len(old[0].lstrip()))
    lines[start : start + len(old)] = [" " * further + line for line in new]


def _dedented(lines: Sequence[str]) -> str:
    return textwrap.dedent("\n".join(lines))
