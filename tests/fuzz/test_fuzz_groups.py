"""What consumer groups' messages and records hold: any value becomes rows, or an error of its own kind."""

from typing import Any

import pytest
from fuzzing.material import UINT_MAX, VALUES, search
from fuzzing.stored import group_payloads
from hypothesis import given
from hypothesis import strategies as st

from rewind_cluster.errors import DamagedError, ProtocolError
from rewind_cluster.group_records import pack_operation, unpack_operation
from rewind_cluster.groups import (
    Attempt,
    GroupRow,
    MemberRow,
    Park,
    ParkedRow,
    unpack_numbers,
    unpack_ranges,
    unpack_rows_of,
)
from rewind_cluster.records import unpack_record

SMALL = st.integers(-1, 4) | st.integers(0, UINT_MAX + 1)
ROWS = st.lists(st.lists(SMALL | st.booleans() | st.binary(max_size=2) | VALUES, max_size=9) | VALUES, max_size=3)


@pytest.mark.parametrize("kind", [Attempt, Park, ParkedRow, GroupRow, MemberRow])
def test_any_rows_are_of_their_kind_or_a_protocol_error(kind: Any) -> None:
    @search(150)
    @given(ROWS)
    def check(rows: list[Any]) -> None:
        try:
            made = unpack_rows_of(kind, rows)
        except ProtocolError:
            return

        assert [tuple(row) for row in made] == [tuple(row[: len(kind._fields)]) for row in rows]
        assert all(0 <= field <= UINT_MAX for row in made for field in row if type(field) is int)

    check()


@search(400)
@given(st.lists(st.lists(st.integers(-1, 9) | SMALL | VALUES, max_size=3) | VALUES, max_size=4))
def test_any_ranges_ascend_or_are_a_protocol_error(pairs: list[Any]) -> None:
    try:
        ranges = unpack_ranges(pairs)
    except ProtocolError:
        return

    flat = [position for span in ranges for position in span]
    assert flat == sorted(flat)
    assert all(1 <= first <= last <= UINT_MAX for first, last in ranges)
    assert len({first for first, _ in ranges} | {-last for _, last in ranges}) == 2 * len(ranges)


@search(400)
@given(st.lists(SMALL | VALUES, max_size=4))
def test_any_numbers_ascend_or_are_a_protocol_error(numbers: list[Any]) -> None:
    try:
        told = unpack_numbers(numbers)
    except ProtocolError:
        return

    assert told == sorted(set(told))
    assert all(type(number) is int and 0 <= number <= UINT_MAX for number in told)


@search(600)
@given(group_payloads() | VALUES | st.lists(VALUES, max_size=9))
def test_any_operation_comes_back_as_it_is_logged_or_is_damage(payload: Any) -> None:
    try:
        operation = unpack_operation(payload)
    except DamagedError:
        return

    assert unpack_operation(unpack_record(pack_operation(operation)).payload) == operation
