"""Shrinking: the smallest plan found that still fails in the same way.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002) over the plan's
faults, then over its operations, then over the faults again, for fewer operations may need fewer faults. A smaller plan
counts where a run of it shows a violation of one of the kinds that the whole plan showed: which operation it strikes
may differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

from simulator.plan import Plan

Item = TypeVar("Item")


def shrink(plan: Plan, fails: Callable[[Plan], bool], time_left: Callable[[], bool]) -> Plan:
    """Return the smallest plan found that `fails`, as `plan` must, before no time is left."""
    for _ in range(2):
        plan = _with_fewer_faults(plan, fails, time_left)
        if plan.kept_cut is not None and time_left() and fails(replace(plan, kept_cut=None)):
            plan = replace(plan, kept_cut=None)
        plan = _with_fewer_operations(plan, fails, time_left)
    return plan


def _with_fewer_faults(plan: Plan, fails: Callable[[Plan], bool], time_left: Callable[[], bool]) -> Plan:
    kept = minimise(plan.faults, lambda faults: fails(replace(plan, faults=faults)), time_left)
    return replace(plan, faults=kept)


def _with_fewer_operations(plan: Plan, fails: Callable[[Plan], bool], time_left: Callable[[], bool]) -> Plan:
    kept = minimise(plan.operations, lambda operations: fails(replace(plan, operations=operations)), time_left)
    return replace(plan, operations=kept)


def minimise(
    items: tuple[Item, ...], fails: Callable[[tuple[Item, ...]], bool], time_left: Callable[[], bool]
) -> tuple[Item, ...]:
    """Return a part of `items` that still `fails`, of which no single one can be left out unless the time ran out."""
    if items and time_left() and fails(()):
        return ()
    parts = 2
    while len(items) > 1:
        smaller = _without_a_part(items, parts, fails, time_left)
        if smaller is not None:
            items, parts = smaller, max(parts - 1, 2)
        elif parts < len(items) and time_left():
            parts = min(parts * 2, len(items))
        else:
            return items
    return items


def _without_a_part(
    items: Sequence[Item], parts: int, fails: Callable[[tuple[Item, ...]], bool], time_left: Callable[[], bool]
) -> tuple[Item, ...] | None:
    bounds = [len(items) * part // parts for part in range(parts + 1)]
    for start, end in pairwise(bounds):
        if not time_left():
            return None
        rest = (*items[:start], *items[end:])
        if fails(rest):
            return rest
    return None
