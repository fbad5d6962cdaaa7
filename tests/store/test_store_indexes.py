"""Streams, positions, sessions and groups: what is indexed is found, and only what belongs to the question."""

from dataclasses import replace

import pytest

from rewind_cluster.errors import DamagedError
from rewind_cluster.names import CONTEXTS_MAX, PARTITIONS_MAX, STREAM_BYTES_MAX
from rewind_node.engine import KEY_BYTES_MAX
from rewind_node.store import GroupRow, SessionRun, Store, StreamRow
from rewind_node.store_layout import U64_MAX, seal, stream_prefix


@pytest.fixture
def filled(store: Store) -> Store:
    """Return a store whose stream `s` has versions 1-3, 4, 5-9 amid others whose names surround its own."""
    rows = [StreamRow(1, 3, 10, 0, 100), StreamRow(4, 1, 11, 50, 60), StreamRow(5, 5, 12, 0, 70)]
    others = [(name, [StreamRow(1, 2, 5, 0, 10)]) for name in ("r", "s ", "s1", "sa", "t")]
    store.add_stream_rows(1, 1, [*others, ("s", rows)])
    store.add_stream_rows(1, 2, [("s", [StreamRow(1, 20, 20, 0, 10)])])
    store.add_stream_rows(2, 1, [("s", [StreamRow(1, 30, 30, 0, 10)])])
    return store


def test_a_head_is_that_of_its_stream_alone(filled: Store) -> None:
    heads = [filled.head(1, 1, name) for name in ("s", "s ", "r", "sa", "", "sb", "zz")]

    assert heads == [9, 2, 2, 2, 0, 0, 0]
    assert (filled.head(1, 2, "s"), filled.head(2, 1, "s"), filled.head(2, 2, "s")) == (20, 30, 0)


@pytest.mark.parametrize(
    ("after", "first_versions"),
    [
        (0, [1, 4, 5]),
        (None, [1, 4, 5]),
        (1, [1, 4, 5]),
        (2, [1, 4, 5]),
        (3, [4, 5]),
        (4, [5]),
        (8, [5]),
        (9, []),
        (U64_MAX, []),
    ],
)
def test_rows_forward_are_those_that_hold_a_later_version(
    filled: Store, after: int | None, first_versions: list[int]
) -> None:
    rows = list(filled.stream_rows(1, 1, "s", after))

    assert [row.first_version for row in rows] == first_versions


@pytest.mark.parametrize(
    ("after", "first_versions"),
    [
        (None, [5, 4, 1]),
        (U64_MAX, [5, 4, 1]),
        (9, [5, 4, 1]),
        (5, [5, 4, 1]),
        (4, [4, 1]),
        (3, [1]),
        (1, [1]),
        (0, []),
    ],
)
def test_rows_in_reverse_start_at_the_one_that_holds_the_version(
    filled: Store, after: int | None, first_versions: list[int]
) -> None:
    rows = list(filled.stream_rows(1, 1, "s", after, reverse=True))

    assert [row.first_version for row in rows] == first_versions


def test_a_row_comes_back_as_it_was_put(store: Store) -> None:
    row = StreamRow(first_version=1 << 40, event_count=4096, entry_index=1 << 50, offset=1 << 24, length=1 << 23)

    store.add_stream_rows(1, 1, [("s", [row])])

    assert list(store.stream_rows(1, 1, "s", 0)) == [row]


def test_a_missing_stream_has_no_rows_in_either_direction(filled: Store) -> None:
    assert list(filled.stream_rows(1, 1, "s0", 0)) == []
    assert list(filled.stream_rows(1, 1, "s0", None, reverse=True)) == []


@pytest.mark.parametrize(
    ("prefix", "after", "count_max", "names"),
    [
        ("", None, 10, ["r", "s", "s ", "s1", "sa", "t"]),
        ("s", None, 10, ["s", "s ", "s1", "sa"]),
        ("s", "s", 10, ["s ", "s1", "sa"]),
        ("s", "s0", 10, ["s1", "sa"]),
        ("s", "a", 10, ["s", "s ", "s1", "sa"]),
        ("s", "t", 10, []),
        ("", "r", 2, ["s", "s "]),
        ("", None, 0, []),
        ("x", None, 10, []),
    ],
)
def test_stream_names_come_bytewise_within_a_prefix_from_beyond_a_name(
    filled: Store, prefix: str, after: str | None, count_max: int, names: list[str]
) -> None:
    assert filled.stream_names(1, 1, prefix, after, count_max) == names


def test_stream_names_of_any_script_are_kept_and_sorted_by_their_bytes(store: Store) -> None:
    names = ["a", "ä", "é", "z", "日本", "😀", "a{tag}", "a😀"]
    store.add_stream_rows(1, 1, [(name, [StreamRow(1, 1, 1, 0, 1)]) for name in names])

    assert store.stream_names(1, 1, "", None, 100) == sorted(names, key=str.encode)
    assert store.stream_names(1, 1, "a", None, 100) == ["a", "a{tag}", "a😀"]
    assert store.stream_names(1, 1, "😀", None, 100) == ["😀"]


def test_contexts_and_partitions_at_the_ends_of_their_ranges_stay_apart(store: Store) -> None:
    for partition in (PARTITIONS_MAX - 1, PARTITIONS_MAX):
        for context in (CONTEXTS_MAX, (1 << 32) - 1):
            store.add_stream_rows(partition, context, [(f"{partition}/{context}", [StreamRow(1, 1, 1, 0, 1)])])
            store.put_position(partition, context, 1, 1, 1)

    names = store.stream_names(PARTITIONS_MAX - 1, (1 << 32) - 1, "", None, 10)

    assert names == [f"{PARTITIONS_MAX - 1}/{(1 << 32) - 1}"]
    assert store.contexts(PARTITIONS_MAX - 1) == [CONTEXTS_MAX, (1 << 32) - 1]


def test_the_longest_stream_name_fits_a_key(store: Store) -> None:
    name = "x" * STREAM_BYTES_MAX

    store.add_stream_rows(1, 1, [(name, [StreamRow(1, 1, 1, 0, 1)])])

    assert store.head(1, 1, name) == 1
    assert len(stream_prefix(1, 1, name)) + 8 <= KEY_BYTES_MAX


def test_positions_lead_to_the_entry_that_holds_them(store: Store) -> None:
    store.put_position(1, 1, 1, 3, 10)
    store.put_position(1, 1, 4, 1, 12)
    store.put_position(1, 2, 1, 500, 13)
    store.put_position(2, 1, 1, 600, 14)

    found = [store.index_of_position(1, 1, position) for position in (0, 1, 3, 4, 5, U64_MAX)]

    assert found == [None, 10, 10, 12, None, None]
    assert [store.position_head(*space) for space in ((1, 1), (1, 2), (2, 1), (2, 2))] == [4, 500, 600, 0]


def test_contexts_are_those_with_events_in_the_partition(store: Store) -> None:
    for context in (1, 256, 7):
        for first in range(1, 40):
            store.put_position(1, context, first, 1, first)
    store.put_position(2, 9, 1, 1, 1)

    assert store.contexts(1) == [1, 7, 256]
    assert store.contexts(0) == []


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
