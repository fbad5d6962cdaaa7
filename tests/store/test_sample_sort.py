"""Sorting in slices: the same order as at once, whatever the names, and never much of it in one step."""

import random
from collections.abc import Callable

import pytest

from rewind_node.sample_sort import BUCKET_NAMES, SampleSort

KINDS: dict[str, Callable[[int], str]] = {
    "counted": lambda number: f"s-{number}",
    "counted in order": lambda number: f"s-{number:09}",
    "counted down": lambda number: f"s-{10**9 - number}",
    "random": lambda number: f"{random.Random(number).getrandbits(64):x}",
    "of few beginnings": lambda number: f"{'order' * 20}-{number % 3}-{number}",
    "beyond ASCII": lambda number: chr(0x20 + number * 31 % 0xD7D0) + str(number),
}


def sort(names: list[str], slice_names: int) -> list[str]:
    sorting = SampleSort(dict.fromkeys(names))
    while not sorting.dealt:
        sorting.deal(slice_names)
    return list(sorting.in_order())


@pytest.mark.parametrize("count", [0, 1, 2, BUCKET_NAMES, 5 * BUCKET_NAMES + 1])
@pytest.mark.parametrize("kind", KINDS)
def test_names_come_in_order_and_none_is_lost(kind: str, count: int) -> None:
    names = [KINDS[kind](number) for number in range(count)]

    assert sort(names, 1000) == sorted(names)


@pytest.mark.parametrize("kind", KINDS)
def test_no_bucket_is_much_larger_than_the_others(kind: str) -> None:
    sorting = SampleSort(dict.fromkeys(KINDS[kind](number) for number in range(32 * BUCKET_NAMES)))
    while not sorting.dealt:
        sorting.deal(10_000)

    assert max(map(len, sorting._buckets)) <= 4 * BUCKET_NAMES


def test_a_slice_deals_no_more_than_it_may() -> None:
    sorting = SampleSort([f"{number}" for number in range(100)])

    assert (sorting.deal(60), sorting.dealt) == (60, False)
    assert (sorting.deal(60), sorting.dealt) == (40, True)
