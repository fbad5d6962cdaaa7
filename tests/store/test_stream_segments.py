"""Stored rows of streams: what was written is found in whatever segment it is; what is missing is told."""

from typing import Any

import pytest
from segments_by_hand import put_segment, run_of, segments_of

from rewind_cluster.errors import DamagedError
from rewind_cluster.names import STREAM_BYTES_MAX
from rewind_node.engine import KEY_BYTES_MAX, Engine
from rewind_node.store import Store, StreamRow
from rewind_node.store_layout import FILTERS, SEGMENTS, STREAMS, U64_MAX
from rewind_node.stream_blocks import StreamFilter, marks_of
from rewind_node.stream_segments import MERGED_AT_ONCE, StreamSegments


@pytest.fixture
def filled(store: Store) -> StreamSegments:
    """Return segments whose stream `s` has versions 1-3, 4, 5-9 amid others whose names surround its own."""
    segments = segments_of(store)
    others = {name: [StreamRow(1, 2, 5, 0, 10)] for name in ("r", "s ", "s1", "sa", "t")}
    put_segment(segments, {**others, "s": [StreamRow(1, 3, 10, 0, 100), StreamRow(4, 1, 11, 50, 60)]}, through=11)
    put_segment(segments, {"s": [StreamRow(5, 5, 12, 0, 70)]}, through=12)
    put_segment(segments, {"s": [StreamRow(1, 20, 20, 0, 10)]}, context=2, through=20)
    put_segment(segments_of(store, partition=2), {"s": [StreamRow(1, 30, 30, 0, 10)]}, through=30)
    return segments


def head(segments: StreamSegments, stream: str, context: int = 1) -> int:
    row = segments.row_at(context, stream, U64_MAX)
    return row.last_version if row else 0


def versions(segments: StreamSegments, stream: str, after: int = 0, *, reverse: bool = False) -> list[int]:
    return [row.first_version for row in segments.rows(1, stream, after, reverse=reverse)]


def catalogued(engine: Engine) -> list[bytes]:
    """Return the keys of the segments that count."""
    return [key for key, _ in engine.scan(SEGMENTS, b"", b"\xff") if len(key) > 2]


def tidy(segments: StreamSegments, rows: int = 20) -> int:
    slices = 0
    while segments.untidy:
        segments.tidy(rows)
        slices += 1
    return slices


def test_a_head_is_that_of_its_stream_alone(store: Store, filled: StreamSegments) -> None:
    assert [head(filled, name) for name in ("s", "s ", "r", "sa", "sb", "zz")] == [9, 2, 2, 2, 0, 0]
    assert (head(filled, "s", 2), head(filled, "s", 3), head(segments_of(store, 30, partition=2), "s")) == (20, 0, 30)


@pytest.mark.parametrize(
    ("after", "first_versions"),
    [(0, [1, 4, 5]), (1, [1, 4, 5]), (2, [1, 4, 5]), (3, [4, 5]), (4, [5]), (8, [5]), (9, []), (U64_MAX, [])],
)
def test_rows_forward_are_those_that_hold_a_later_version(
    filled: StreamSegments, after: int, first_versions: list[int]
) -> None:
    assert versions(filled, "s", after) == first_versions


@pytest.mark.parametrize(
    ("after", "first_versions"),
    [(U64_MAX, [5, 4, 1]), (9, [5, 4, 1]), (5, [5, 4, 1]), (4, [4, 1]), (3, [1]), (1, [1]), (0, [])],
)
def test_rows_in_reverse_start_at_the_one_that_holds_the_version(
    filled: StreamSegments, after: int, first_versions: list[int]
) -> None:
    assert versions(filled, "s", after, reverse=True) == first_versions


@pytest.mark.parametrize(
    ("version", "first_version"), [(0, None), (1, 1), (3, 1), (4, 4), (5, 5), (9, 5), (U64_MAX, 5)]
)
def test_the_row_at_a_version_is_the_last_that_begins_by_then(
    filled: StreamSegments, version: int, first_version: int | None
) -> None:
    row = filled.row_at(1, "s", version)

    assert (row.first_version if row else None) == first_version


def test_a_row_comes_back_as_it_was_put(store: Store) -> None:
    row = StreamRow(first_version=1 << 40, event_count=4096, entry_index=1 << 50, offset=1 << 24, length=1 << 23)
    segments = segments_of(store)

    put_segment(segments, {"s": [row]}, through=1 << 50)

    assert list(segments.rows(1, "s", 0, reverse=False)) == [row]


def test_a_missing_stream_has_no_rows_in_either_direction(filled: StreamSegments) -> None:
    assert versions(filled, "s0") == versions(filled, "s0", U64_MAX, reverse=True) == []


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
def test_names_come_bytewise_within_a_prefix_from_beyond_a_name(
    filled: StreamSegments, prefix: str, after: str | None, count_max: int, names: list[str]
) -> None:
    assert filled.names(1, prefix, after, count_max) == names


def test_names_of_any_script_are_kept_and_sorted_by_their_bytes(store: Store) -> None:
    names = ["a", "ä", "é", "z", "日本", "😀", "a{tag}", "a😀"]
    segments = segments_of(store)
    put_segment(segments, {name: run_of(1, 1) for name in names}, through=1)

    assert segments.names(1, "", None, 100) == sorted(names, key=str.encode)
    assert segments.names(1, "a", None, 100) == ["a", "a{tag}", "a😀"]
    assert segments.names(1, "😀", None, 100) == ["😀"]


def test_the_longest_name_fits_a_key(store: Store) -> None:
    segments = segments_of(store)
    put_segment(segments, {name * STREAM_BYTES_MAX: run_of(1, 40) for name in "wxy"}, through=40)

    assert [head(segments, name * STREAM_BYTES_MAX) for name in "vwxyz"] == [0, 40, 40, 40, 0]
    assert max(len(key) for key, _ in store.engine.scan(STREAMS, b"", b"\xff")) <= KEY_BYTES_MAX


def test_a_stream_of_many_blocks_is_found_whole_and_passed_over_among_names(store: Store) -> None:
    segments = segments_of(store)
    put_segment(segments, {"a": run_of(1, 3), "b": run_of(1, 2000), "c": run_of(1, 1)}, through=2000)

    assert versions(segments, "b") == list(range(1, 2001))
    assert versions(segments, "b", 1500) == list(range(1501, 2001))
    assert versions(segments, "b", 1500, reverse=True) == list(range(1500, 0, -1))
    assert [segments.row_at(1, "b", version) for version in (1, 77, 2000)] == [
        run_of(1, 2000)[version - 1] for version in (1, 77, 2000)
    ]
    assert segments.names(1, "", None, 9) == ["a", "b", "c"]
    assert segments.names(1, "", "b", 9) == ["c"]


@pytest.mark.parametrize("slice_rows", [1, 7, 64, 299, 300])
def test_rows_may_come_in_slices_of_any_size(store: Store, slice_rows: int) -> None:
    segments = segments_of(store)
    put_segment(segments, {f"s{number:03}": run_of(1, 1) for number in range(300)}, through=1, slice_rows=slice_rows)

    assert segments.names(1, "", None, 1000) == [f"s{number:03}" for number in range(300)]
    assert {head(segments, f"s{number:03}") for number in range(300)} == {1}


def test_many_segments_become_one_that_holds_the_same(machine: Any, store: Store) -> None:
    segments = segments_of(store)
    for number in range(MERGED_AT_ONCE):
        rows = {f"s{stream}": run_of(1 + 10 * number, 10, index=100 * number) for stream in range(30)}
        put_segment(segments, {**rows, f"own{number}": run_of(1, 1)}, through=100 * number + 9)
        store.commit()
    before = {name: list(segments.rows(1, name, 0, reverse=False)) for name in segments.names(1, "", None, 100)}

    tidy(segments)
    store.commit()
    after = {name: list(segments.rows(1, name, 0, reverse=False)) for name in before}
    restarted = segments_of(Store(machine.crash()), 100 * (MERGED_AT_ONCE - 1) + 9)

    assert len(catalogued(machine.engine)) == 1
    assert len(before) == 30 + MERGED_AT_ONCE
    assert after == before
    assert {name: list(restarted.rows(1, name, 0, reverse=False)) for name in before} == before


def test_large_segments_are_left_alone_until_there_are_many(store: Store) -> None:
    segments = segments_of(store)
    put_segment(segments, {f"large{number}": run_of(1, 1) for number in range(1000)}, through=1)
    for number in range(MERGED_AT_ONCE):
        put_segment(segments, {f"small{number}": run_of(1, 1)}, through=2 + number)
        tidy(segments)

    assert len(catalogued(store.engine)) == 2
    assert head(segments, "large7") == head(segments, "small7") == 1


def test_segments_that_come_while_others_are_merged_stay_newer(store: Store) -> None:
    segments = segments_of(store)
    for number in range(MERGED_AT_ONCE):
        put_segment(segments, {"s": run_of(1 + 90 * number, 90)}, through=1 + number)
    for _ in range(3):
        segments.tidy(20)
    put_segment(segments, {"s": run_of(1 + 90 * MERGED_AT_ONCE, 5)}, through=99)

    tidy(segments)

    assert versions(segments, "s") == list(range(1, 90 * MERGED_AT_ONCE + 6))
    assert versions(segments_of(store, 99), "s", U64_MAX, reverse=True) == list(range(90 * MERGED_AT_ONCE + 5, 0, -1))


@pytest.mark.parametrize("slices", range(1, 40, 3))
def test_a_crash_amid_a_merge_loses_nothing_and_leaves_nothing(machine: Any, store: Store, slices: int) -> None:
    segments = segments_of(store)
    for number in range(MERGED_AT_ONCE):
        put_segment(segments, {"s": run_of(1 + 90 * number, 90), f"t{number}": run_of(1, 60)}, through=1 + number)
    store.commit()
    for _ in range(slices):
        segments.tidy(20)
        store.commit()

    restarted = Store(machine.crash())
    survivors = segments_of(restarted, MERGED_AT_ONCE)
    tidy(survivors)

    assert versions(survivors, "s") == list(range(1, 90 * MERGED_AT_ONCE + 1))
    assert [head(survivors, f"t{number}") for number in range(MERGED_AT_ONCE)] == [60] * MERGED_AT_ONCE
    (key,) = catalogued(restarted.engine)
    for table in (STREAMS, FILTERS):
        assert {found[: len(key)] for found, _ in restarted.engine.scan(table, b"", b"\xff")} == {key}


def test_what_an_unfinished_checkpoint_left_does_not_count_and_is_deleted(machine: Any, store: Store) -> None:
    segments = segments_of(store)
    put_segment(segments, {"s": run_of(1, 3)}, through=3)
    writer = segments.writer(1, 500)
    writer.add([b"s"] * 500, run_of(4, 500))
    store.commit()

    restarted = Store(machine.crash())
    survivors = segments_of(restarted, 3)
    before = head(survivors, "s")
    put_segment(survivors, {"s": run_of(4, 2)}, through=5)
    tidy(survivors)

    assert before == 3
    assert versions(survivors, "s") == [1, 2, 3, 4, 5]
    assert len(list(restarted.engine.scan(STREAMS, b"", b"\xff"))) == 2


@pytest.mark.parametrize("lost", range(5))
def test_a_lost_block_is_damage_wherever_it_is_missed(store: Store, lost: int) -> None:
    segments = segments_of(store)
    put_segment(segments, {f"s{number:03}": run_of(1, 1) for number in range(590)}, through=1)
    keys = [key for key, _ in store.engine.scan(STREAMS, b"", b"\xff")]
    assert len(keys) > 4
    store.engine.delete(STREAMS, [keys[lost]])

    damaged = 0
    for number in range(590):
        try:
            assert head(segments, f"s{number:03}") == 1
        except DamagedError:
            damaged += 1
    with pytest.raises(DamagedError):
        segments.names(1, "", None, 1000)

    assert damaged > 9


def test_a_lost_piece_of_a_filter_is_damage(store: Store) -> None:
    rows = {f"s{number}": run_of(1, 1) for number in range(40_000)}
    put_segment(segments_of(store), rows, through=1, slice_rows=5000)
    keys = [key for key, _ in store.engine.scan(FILTERS, b"", b"\xff")]
    assert len(keys) == 2

    for key in keys:
        value = store.engine.get(FILTERS, key)
        assert value is not None
        store.engine.delete(FILTERS, [key])
        with pytest.raises(DamagedError, match="filter"):
            segments_of(store, 1)
        store.engine.put(FILTERS, [(key, value)])

    assert head(segments_of(store, 1), "s39999") == 1


@pytest.mark.parametrize("lost", range(4))
def test_a_lost_row_of_the_catalogue_is_damage(store: Store, lost: int) -> None:
    segments = segments_of(store)
    for number in range(3):
        put_segment(segments, {f"s{number}": run_of(1, 1)}, through=1 + number)
    assert head(segments_of(store, 3), "s2") == 1
    keys = [key for key, _ in store.engine.scan(SEGMENTS, b"", b"\xff")]
    assert len(keys) == 4

    store.engine.delete(SEGMENTS, [keys[lost]])

    with pytest.raises(DamagedError, match="segments"):
        segments_of(store, 3)


@pytest.mark.parametrize("applied", [0, 1, 3, 4])
def test_segments_that_lead_to_another_mark_are_damage(store: Store, applied: int) -> None:
    put_segment(segments_of(store), {"s": run_of(1, 2)}, through=2)

    with pytest.raises(DamagedError, match="lead to"):
        segments_of(store, applied)


def test_a_row_is_merged_once_for_each_power_of_eight(store: Store) -> None:
    segments = segments_of(store)
    merged = 0
    for number in range(300):
        before = len(catalogued(store.engine)) + 1
        put_segment(segments, {f"s{number}-{each}": run_of(1, 1) for each in range(8)}, through=1 + number)
        tidy(segments)
        merged += 8 * max(0, before - len(catalogued(store.engine)))

    assert len(catalogued(store.engine)) < 2 * MERGED_AT_ONCE
    assert merged < 2 * 300 * 8
    assert len(segments.names(1, "", None, 10_000)) == 2400


def test_many_small_contexts_are_kept_tidy_by_few_turns(store: Store) -> None:
    segments = segments_of(store)
    for number in range(30):
        for context in range(1, 41):
            put_segment(segments, {"s": run_of(1 + number, 1)}, context=context, through=100 * number + context)
        for _ in range(60):
            segments.tidy(128)

    assert len(catalogued(store.engine)) == 40 * (30 // MERGED_AT_ONCE + 30 % MERGED_AT_ONCE)


@pytest.mark.parametrize("rows", [9, 20, 1000])
@pytest.mark.parametrize("second", [1, 2, 4])
@pytest.mark.parametrize("around", ["at", "a"], ids=["amid others", "at a segment's end"])
def test_rows_that_do_not_continue_their_stream_are_damage_where_they_meet(
    store: Store, rows: int, second: int, around: str
) -> None:
    segments = segments_of(store)
    for number in range(MERGED_AT_ONCE):
        others = {f"{name}{number}": [StreamRow(1, 1, number + 1, 0, 10)] for name in around}
        doubled = {"s": [StreamRow(1 if number == 0 else second, 2, number + 1, 0, 10)]} if number in (0, 5) else {}
        put_segment(segments, {**others, **doubled}, through=number + 1)

    with pytest.raises(DamagedError, match="stream 's' has a row at version"):
        tidy(segments, rows)


@pytest.mark.parametrize("name", ["order-{:07}", "user-{:x}/basket", "{:032x}", "{:0240}", "x{}"])
def test_a_block_fits_a_page_and_fills_it(store: Store, name: str) -> None:
    put_segment(segments_of(store), {name.format(number * 7919): run_of(1, 1) for number in range(3000)}, through=1)

    sizes = [len(value) for _, value in store.engine.scan(STREAMS, b"", b"\xff")]

    assert max(sizes) <= 4080  # of a page of 4,096 bytes with its header
    assert sum(sizes) / len(sizes) > 3400


def test_a_filter_forgets_nothing_and_is_wrong_about_one_stranger_in_a_hundred_at_most() -> None:
    count = 1 << 14  # a power of two leaves a filter no more room than it must have
    names = [f"stream-{number}".encode() for number in range(2 * count)]
    found = StreamFilter.empty(count)

    found.add(marks_of(names[:count]))

    held = set(found.may_hold_of(marks_of(names)))
    assert held.issuperset(range(count))
    assert len(held) < count + count // 100


def test_none_is_known_only_of_streams_without_a_row(filled: StreamSegments) -> None:
    assert filled.hold_none_of(1, ["x", "s0", "sb"])
    assert not filled.hold_none_of(1, ["x", "s1", "sb"])
    assert filled.hold_none_of(3, ["s"])
