"""Sets of positions, held against plain sets."""

from hypothesis import given
from hypothesis import strategies as st

from rewind.intervals import Intervals

RANGES = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1])))


@given(RANGES)
def test_a_set_of_ranges_holds_what_was_added_and_in_no_more_ranges_than_needed(ranges: list[tuple[int, int]]) -> None:
    expected = {number for first, last in ranges for number in range(first, last + 1)}

    made = Intervals(ranges)

    assert {number for number in range(60) if number in made} == expected
    assert len(made) == sum(number - 1 not in expected for number in expected)


@given(RANGES, st.integers(0, 5))
def test_what_is_taken_is_the_lowest_and_is_gone(ranges: list[tuple[int, int]], count: int) -> None:
    made = Intervals(ranges)
    before = {number for number in range(60) if number in made}

    taken = made.take(count)

    gone = {number for first, last in taken for number in range(first, last + 1)}
    after = {number for number in range(60) if number in made}
    assert gone | after == before
    assert not gone & after
    assert max(gone, default=0) < min(after, default=100)
