"""Positions, sessions and groups: what is indexed is found, and only what belongs to the question."""

from dataclasses import replace

import pytest

from rewind_cluster.errors import DamagedError
from rewind_cluster.names import CONTEXTS_MAX, PARTITIONS_MAX
from rewind_node.store import GroupRow, PositionRow, SessionRun, Store
from rewind_node.store_layout import U64_MAX, seal


def test_contexts_and_partitions_at_the_ends_of_their_ranges_stay_apart(store: Store) -> None:
    spaces = [(at, context) for at in (PARTITIONS_MAX - 1, PARTITIONS_MAX) for context in (CONTEXTS_MAX, (1 << 32) - 1)]
    for index, space in enumerate(spaces, 1):
        store.put_positions(*space, [PositionRow(1, 1, index)])

    found = [[row.index for row in store.position_rows(*space, 0)] for space in spaces]

    assert found == [[1], [2], [3], [4]]


def test_positions_lead_to_the_entry_that_holds_them(store: Store) -> None:
    store.put_positions(1, 1, [PositionRow(1, 3, 10)])
    store.put_positions(1, 1, [PositionRow(4, 1, 12)])
    store.put_positions(1, 2, [PositionRow(1, 500, 13)])
    store.put_positions(2, 1, [PositionRow(1, 600, 14)])

    found = [[row.index for row in store.position_rows(1, 1, position)] for position in (0, 1, 3, 4, 5, U64_MAX)]

    assert found == [[10, 12], [10, 12], [10, 12], [12], [], []]
    assert [store.position_head(*space) for space in ((1, 1), (1, 2), (2, 1), (2, 2))] == [4, 500, 600, 0]


def test_session_runs_are_kept_replaced_and_forgotten(store: Store) -> None:
    runs = [
        SessionRun(5, 0, 0, 5, 0, 1, []),
        SessionRun(5, 3, 2, 9, 4, 2, [0, [1, 2], 1, 9, None, None]),
        SessionRun(5, 6, 1, 9, 9, 2, [1, "s", 0, 2, True]),
    ]
    other = SessionRun(5, 3, 0, 9, 4, 2, [])
    store.put_session_runs(1, [*runs, SessionRun(5, 9, 0, 1, 1, 1, [])])
    store.put_session_runs(2, [other])

    store.put_session_runs(1, [replace(runs[0], low=3)])
    store.delete_session_runs(1, [(5, 9), (6, 1)])

    assert list(store.session_runs(1)) == [replace(runs[0], low=3), *runs[1:]]
    assert list(store.session_runs(2)) == [other]


def test_groups_are_kept_replaced_and_forgotten_each_in_its_partition_and_context(store: Store) -> None:
    rows = [GroupRow(1, "a", b"1"), GroupRow(1, "a.b", b"2"), GroupRow(CONTEXTS_MAX, "a" * 64, b"3")]
    store.put_groups(PARTITIONS_MAX, rows)
    store.put_groups(1, [GroupRow(1, "a", b"elsewhere")])

    store.put_groups(PARTITIONS_MAX, [GroupRow(1, "a", b"new")])
    store.delete_groups(PARTITIONS_MAX, [(1, "a.b"), (2, "a")])

    assert list(store.groups(PARTITIONS_MAX)) == [GroupRow(1, "a", b"new"), rows[2]]
    assert list(store.groups(1)) == [GroupRow(1, "a", b"elsewhere")]


def test_a_key_that_names_no_group_is_damage(store: Store) -> None:
    for key in (b"\x00\x01", b"\x00\x01\x00\x00\x00\x01\xff"):
        store.engine.put("groups", [(key, seal(key, b"state"))])

        with pytest.raises(DamagedError, match="names no group"):
            list(store.groups(1))
        store.engine.delete("groups", [key])
