"""What any engine must do, checked on both."""

from typing import Any

import pytest

from rewind_cluster.errors import DamagedError
from rewind_node.engine import Engine
from rewind_node.storage_errors import AppendOrderError

A_TO_E = [(key, key.upper()) for key in (b"a", b"b", b"c", b"d", b"e")]


def test_keys_are_ordered_bytewise_whatever_the_order_of_writing(engine: Engine) -> None:
    engine.put("t", [(b"\xff", b"4"), (b"a", b"1"), (b"aa", b"2")])
    engine.put("t", [(b"b", b"3"), (b"\x00", b"0")])

    found = list(engine.scan("t", b"", b"\xff\xff"))

    assert found == [(b"\x00", b"0"), (b"a", b"1"), (b"aa", b"2"), (b"b", b"3"), (b"\xff", b"4")]


def test_get_returns_what_was_written_last_and_none_for_what_is_missing(engine: Engine) -> None:
    engine.put("t", [(b"a", b"1")])
    engine.put("t", [(b"a", b"2"), (b"b", b"")])

    found = [engine.get("t", key) for key in (b"a", b"b", b"c")]

    assert found == [b"2", b"", None]


@pytest.mark.parametrize(
    ("key", "floor"),
    [(b"b", b"b"), (b"bb", b"b"), (b"d", b"b"), (b"f", b"f"), (b"zzz", b"f"), (b"a", None), (b"\x00", None)],
)
def test_floor_finds_the_last_key_not_beyond_the_one_asked_for(engine: Engine, key: bytes, floor: bytes | None) -> None:
    engine.put("t", [(b"b", b"B"), (b"f", b"F")])

    found = engine.floor("t", key)

    assert found == (None if floor is None else (floor, floor.upper()))


def test_floor_last_and_scan_of_an_empty_table_find_nothing(engine: Engine) -> None:
    found = (engine.floor("t", b"a"), engine.last("t"), list(engine.scan("t", b"", b"\xff")))

    assert found == (None, None, [])


def test_last_is_the_greatest_key(engine: Engine) -> None:
    engine.put("t", A_TO_E[::-1])

    assert engine.last("t") == (b"e", b"E")


@pytest.mark.parametrize(
    ("start", "stop", "keys"),
    [
        (b"b", b"d", b"bc"),
        (b"aa", b"cc", b"bc"),
        (b"", b"\xff", b"abcde"),
        (b"d", b"z", b"de"),
        (b"", b"a", b""),
        (b"c", b"c", b""),
        (b"d", b"b", b""),
        (b"x", b"z", b""),
    ],
)
def test_a_scan_yields_start_to_before_stop_and_reversed_the_same_backwards(
    engine: Engine, start: bytes, stop: bytes, keys: bytes
) -> None:
    engine.put("t", A_TO_E)

    forward = [key for key, _ in engine.scan("t", start, stop)]
    backward = [key for key, _ in engine.scan("t", start, stop, reverse=True)]

    assert b"".join(forward) == keys
    assert backward == forward[::-1]


def test_reads_between_the_pairs_of_a_scan_do_not_disturb_it(engine: Engine) -> None:
    engine.put("t", A_TO_E)

    keys = []
    for key, _ in engine.scan("t", b"a", b"z"):
        keys.append(key)
        engine.floor("t", b"a")
        engine.last("t")

    assert keys == [key for key, _ in A_TO_E]


def test_a_scan_that_goes_on_after_a_write_is_a_bug(engine: Engine) -> None:
    engine.put("t", A_TO_E)
    scan = engine.scan("t", b"a", b"z")
    next(scan)
    engine.put("t", [(b"f", b"F")])

    with pytest.raises(AssertionError, match="after a write"):
        next(scan)


def test_a_scan_may_be_dropped_before_its_end(engine: Engine) -> None:
    engine.put("t", A_TO_E)
    scan = engine.scan("t", b"a", b"z")
    next(scan)

    del scan
    engine.commit()

    assert engine.get("t", b"a") == b"A"


def test_a_scan_held_over_a_commit_can_be_dropped_later(engine: Engine) -> None:
    engine.put("t", A_TO_E)
    scan = engine.scan("t", b"a", b"z")
    next(scan)
    engine.commit()

    scan.close()

    assert engine.get("t", b"a") == b"A"


def test_a_table_counts_its_pairs_written_or_deleted_since_the_commit_too(engine: Engine) -> None:
    engine.put("t", [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")])
    engine.commit()
    engine.put("t", [(b"a", b"4"), (b"d", b"5")])
    with_another = engine.count("t")
    engine.delete("t", [b"a", b"b", b"x"])

    assert with_another == 4
    assert engine.count("t") == 2


def test_appends_go_beyond_the_last_key(engine: Engine) -> None:
    engine.append("t", [(b"a", b"1"), (b"b", b"2")])
    engine.append("t", [(b"c", b"3")])

    assert list(engine.scan("t", b"", b"z")) == [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]


@pytest.mark.parametrize(
    "items",
    [
        [(b"b", b"again")],
        [(b"a", b"before")],
        [(b"c", b"good"), (b"c", b"again")],
        [(b"d", b"good"), (b"c", b"before")],
    ],
)
def test_an_append_out_of_order_is_refused_whole(engine: Engine, items: list[tuple[bytes, bytes]]) -> None:
    engine.append("t", [(b"a", b"1"), (b"b", b"2")])
    engine.commit()

    with pytest.raises(AppendOrderError):
        engine.append("t", items)

    assert list(engine.scan("t", b"", b"z")) == [(b"a", b"1"), (b"b", b"2")]
    assert not engine.dirty


def test_deleted_keys_are_gone_and_missing_ones_do_not_matter(engine: Engine) -> None:
    engine.put("t", A_TO_E)

    engine.delete("t", iter([b"b", b"x", b"e"]))

    assert [key for key, _ in engine.scan("t", b"", b"z")] == [b"a", b"c", b"d"]
    assert engine.last("t") == (b"d", b"D")


@pytest.mark.parametrize(
    ("start", "stop", "count_max", "deleted", "left"),
    [
        (b"b", b"d", None, 2, b"ade"),
        (b"", b"\xff", None, 5, b""),
        (b"", b"\xff", 2, 2, b"cde"),
        (b"d", b"z", 9, 2, b"abc"),
        (b"a", b"c", 0, 0, b"abcde"),
        (b"x", b"z", None, 0, b"abcde"),
        (b"d", b"b", None, 0, b"abcde"),
    ],
)
def test_a_range_is_deleted_from_its_start_up_to_a_count(
    engine: Engine, start: bytes, stop: bytes, count_max: int | None, deleted: int, left: bytes
) -> None:
    engine.put("t", A_TO_E)

    count = engine.delete_range("t", start, stop, count_max)

    assert count == deleted
    assert b"".join(key for key, _ in engine.scan("t", b"", b"z")) == left


@pytest.mark.parametrize(
    ("after", "count", "deleted", "left"),
    [
        (b"a", 2, b"bc", b"ade"),
        (b"", 2, b"ab", b"cde"),
        (b"c", 9, b"de", b"abc"),
        (b"e", 1, b"", b"abcde"),
        (b"x", 1, b"", b"abcde"),
        (b"a", 0, b"", b"abcde"),
    ],
)
def test_a_run_of_pairs_is_told_and_deleted_by_where_it_stands(
    engine: Engine, after: bytes, count: int, deleted: bytes, left: bytes
) -> None:
    engine.put("t", A_TO_E)

    run = engine.run("t", after, count)
    number = engine.delete_run("t", after, count)

    assert b"".join(key for key, _ in run) == deleted
    assert number == len(deleted)
    assert b"".join(key for key, _ in engine.scan("t", b"", b"z")) == left


@pytest.mark.parametrize(
    ("key", "count", "around"),
    [
        (b"c", 1, b"bc"),
        (b"c", 2, b"abcd"),
        (b"c", 9, b"abcde"),
        (b"c", 0, b""),
        (b"A", 2, b"ab"),
        (b"x", 2, b"de"),
        (b"bb", 1, b"bc"),
        (b"e", 2, b"cde"),
    ],
)
def test_the_pairs_around_a_key_are_told_whether_it_is_there_or_not(
    engine: Engine, key: bytes, count: int, around: bytes
) -> None:
    engine.put("t", A_TO_E)

    found = engine.around("t", key, count)

    assert b"".join(key for key, _ in found) == around
    assert all(pair in A_TO_E for pair in found)


def test_there_is_nothing_around_a_key_in_an_empty_table(engine: Engine) -> None:
    assert engine.around("t", b"a", 3) == []


def test_a_run_is_replaced_by_other_pairs(engine: Engine) -> None:
    engine.put("t", A_TO_E)

    engine.replace_run("t", b"a", 2, [(b"b", b"new"), (b"f", b"6")])

    assert b"".join(key for key, _ in engine.scan("t", b"", b"z")) == b"abdef"
    assert engine.get("t", b"b") == b"new"


def test_tables_do_not_see_each_other(engine: Engine) -> None:
    engine.create_table("u")
    engine.put("t", [(b"a", b"1")])
    engine.put("u", [(b"b", b"2")])

    assert engine.tables() == ["t", "u"]
    assert engine.last("t") == (b"a", b"1")
    assert engine.last("u") == (b"b", b"2")


def test_creating_a_table_again_keeps_what_it_holds(engine: Engine) -> None:
    engine.put("t", [(b"a", b"1")])

    engine.create_table("t")

    assert engine.get("t", b"a") == b"1"


def test_a_missing_table_is_damage(engine: Engine) -> None:
    with pytest.raises(DamagedError, match="nowhere"):
        engine.get("nowhere", b"a")


def test_an_engine_is_dirty_from_the_first_change_to_the_commit(engine: Engine) -> None:
    states = [engine.dirty]
    engine.put("t", [])
    engine.delete("t", [b"missing"])
    engine.delete_range("t", b"a", b"z")
    engine.create_table("t")
    states.append(engine.dirty)
    engine.put("t", [(b"a", b"1")])
    states.append(engine.dirty)
    engine.commit()
    states.append(engine.dirty)

    assert states == [False, False, True, False]


def test_a_crash_keeps_what_was_committed(machine: Any, engine: Engine) -> None:
    engine.put("t", A_TO_E)
    engine.commit()

    survivor = machine.crash()

    assert list(survivor.scan("t", b"", b"z")) == A_TO_E


def test_a_crash_loses_everything_since_the_last_commit_in_all_tables(machine: Any, engine: Engine) -> None:
    engine.create_table("u")
    engine.put("t", A_TO_E)
    engine.put("u", [(b"kept", b"")])
    engine.commit()
    engine.create_table("v")
    engine.put("v", [(b"x", b"lost")])
    engine.put("t", [(b"a", b"lost"), (b"f", b"lost")])
    engine.put("t", [(b"a", b"lost again")])
    engine.append("u", [(b"lost", b"")])
    engine.delete("t", [b"b", b"f"])
    engine.put("t", [(b"b", b"lost")])
    engine.delete_range("t", b"c", b"z")

    survivor = machine.crash()

    assert survivor.tables() == ["t", "u"]
    assert list(survivor.scan("t", b"", b"z")) == A_TO_E
    assert list(survivor.scan("u", b"", b"z")) == [(b"kept", b"")]
    assert not survivor.dirty


def test_a_crash_after_a_commit_and_more_loses_only_the_more(machine: Any, engine: Engine) -> None:
    for number in range(5):
        engine.append("t", [(b"%d" % number, b"")])
        if number < 4:
            engine.commit()

    survivor = machine.crash()

    assert survivor.last("t") == (b"3", b"")
