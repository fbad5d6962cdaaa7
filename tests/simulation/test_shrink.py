"""Shrinking, on plans whose failure is a matter of arithmetic."""

from itertools import count

import pytest
from simulator.shrink import minimise


def always() -> bool:
    return True


@pytest.mark.parametrize("needed", [(0,), (99,), (3, 50), (10, 11, 12), (0, 33, 66, 99)])
def test_only_the_items_that_a_failure_needs_are_left(needed):
    found = minimise(tuple(range(100)), lambda items: set(needed) <= set(items), always)

    assert found == needed


def test_nothing_is_left_of_a_failure_that_needs_nothing():
    assert minimise((1, 2, 3), lambda _: True, always) == ()


def test_a_failure_that_needs_one_of_two_groups_keeps_one_of_them():
    found = minimise(tuple(range(20)), lambda items: {1, 2} <= set(items) or {17, 18} <= set(items), always)

    assert found in ((1, 2), (17, 18))


def test_shrinking_ends_when_its_time_is_over_with_what_it_has():
    tries = count()

    found = minimise(tuple(range(64)), lambda items: 63 in items, lambda: next(tries) < 4)

    assert 63 in found
    assert 1 < len(found) < 64
