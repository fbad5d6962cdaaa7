"""The layout on both engines: what is put is found again, and what is damaged is told."""

from dataclasses import replace
from typing import Any

import pytest
from segments_by_hand import put_segment, run_of, segments_of

from rewind_cluster.entry import HEADER_BYTES, Entry
from rewind_cluster.errors import DamagedError
from rewind_node.storage_errors import AppendOrderError
from rewind_node.store import GroupRow, PositionRow, ReplicaState, SessionRun, Store, StreamRow
from rewind_node.store_layout import U64_MAX

STATE = ReplicaState(
    replica=7,
    term=3,
    vote=9,
    applied=2,
    membership=b"newest",
    membership_index=2,
    previous_membership=b"older",
    previous_index=1,
)


def flip(store: Store, table: str, key: bytes, bit: int) -> None:
    """Turn over one bit of a stored value."""
    value = store.engine.get(table, key)
    assert value is not None
    damaged = bytearray(value)
    damaged[bit // 8] ^= 1 << bit % 8
    store.engine.put(table, [(key, bytes(damaged))])


def test_a_node_value_is_kept_under_its_name(store: Store) -> None:
    store.put_node_value("cluster", b"\x01\x02")

    assert store.node_value("cluster") == b"\x01\x02"
    assert store.node_value("node") is None


def test_a_replica_s_state_is_kept_whole(store: Store) -> None:
    store.put_replica_state(1, STATE)

    assert store.replica_state(1) == STATE
    assert store.replica_state(2) is None


def test_a_state_without_memberships_and_with_the_largest_numbers_is_kept(store: Store) -> None:
    largest = ReplicaState(U64_MAX, U64_MAX, U64_MAX, U64_MAX, b"", U64_MAX, b"", U64_MAX)

    store.put_replica_state(1, largest)

    assert store.replica_state(1) == largest


def test_partitions_are_those_with_a_replica(store: Store) -> None:
    for partition in (300, 0, 2):
        store.create_partition(partition)
        store.put_replica_state(partition, STATE)

    assert store.partitions() == [0, 2, 300]
    assert store.stateless_partitions() == [1]


@pytest.mark.parametrize("table", ["node", "raft", "streams", "filters", "segments", "positions", "sessions", "groups"])
def test_every_flipped_bit_of_a_value_is_told(store: Store, table: str) -> None:
    store.put_node_value("k", b"value")
    store.put_replica_state(1, STATE)
    segments = segments_of(store)
    put_segment(segments, {"s": [StreamRow(1, 3, 10, 0, 100)]}, through=10)
    store.put_positions(1, 1, [PositionRow(1, 3, 10)])
    store.put_session_runs(1, [SessionRun(5, 1, 1, 10, 0, 1, [0, [1], 1, 9, None, None])])
    store.put_groups(1, [GroupRow(1, "g", b"state")])
    key, value = list(store.engine.scan(table, b"", b"\xff" * 9))[-1]
    reads = {
        "node": lambda: store.node_value("k"),
        "raft": lambda: store.replica_state(1),
        "streams": lambda: segments.row_at(1, "s", U64_MAX),
        "filters": lambda: segments_of(store, 10),
        "segments": lambda: segments_of(store, 10),
        "positions": lambda: store.position_head(1, 1),
        "sessions": lambda: list(store.session_runs(1)),
        "groups": lambda: list(store.groups(1)),
    }

    for bit in range(8 * len(value)):
        flip(store, table, key, bit)
        with pytest.raises(DamagedError, match=table):
            reads[table]()
        flip(store, table, key, bit)

    reads[table]()


def test_a_whole_row_under_another_key_is_damage(store: Store) -> None:
    store.put_positions(1, 1, [PositionRow(1, 3, 10)])
    ((key, value),) = store.engine.scan("positions", b"", b"\xff" * 9)
    store.engine.put("positions", [(key[:-1] + b"\x04", value)])

    with pytest.raises(DamagedError, match="checksum"):
        store.position_head(1, 1)


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x00" * 4])
def test_a_value_cut_short_is_damage(store: Store, value: bytes) -> None:
    store.engine.put("raft", [(b"\x00\x01", value)])

    with pytest.raises(DamagedError):
        store.replica_state(1)


def test_a_log_gives_back_the_entries_appended(store: Store, log: Any) -> None:
    entries = [log.entry(b"a" * size) for size in (0, 10, 20)]

    store.append_entries(1, entries[:1])
    store.append_entries(1, entries[1:])

    assert store.last_index(1) == 3
    assert [store.entry(1, index) for index in (1, 2, 3)] == [entry.data for entry in entries]
    assert Entry.decode(store.entry(1, 2)) == entries[1]


def test_an_empty_log_ends_at_0(store: Store) -> None:
    assert store.last_index(1) == 0


def test_logs_end_at_indexes_past_one_byte(store: Store, log: Any) -> None:
    store.append_entries(1, [log.entry() for _ in range(300)])

    assert store.last_index(1) == 300


def test_an_entry_is_appended_only_at_the_end(store: Store, log: Any) -> None:
    first, second = log.entry(), log.entry()
    store.append_entries(1, [first, second])

    with pytest.raises(AppendOrderError):
        store.append_entries(1, [second])


@pytest.mark.parametrize(
    ("first", "last", "bytes_max", "found"),
    [(1, 5, 10_000, 5), (2, 4, 10_000, 3), (1, 5, 250, 2), (1, 5, 1, 1), (1, 5, 0, 1), (1, 5, 300, 3), (5, 5, 1, 1)],
)
def test_entries_are_read_up_to_a_size_and_never_fewer_than_one(
    store: Store, log: Any, first: int, last: int, bytes_max: int, found: int
) -> None:
    entries = [log.entry(b"a" * (100 - HEADER_BYTES)) for _ in range(5)]
    store.append_entries(1, entries)

    read = store.entries(1, first, last, bytes_max)

    assert read == [entry.data for entry in entries[first - 1 : first - 1 + found]]


@pytest.mark.parametrize("missing", [1, 3, 5])
def test_a_hole_in_a_log_is_damage(store: Store, log: Any, missing: int) -> None:
    store.append_entries(1, [log.entry() for _ in range(5)])
    store.engine.delete("log:1", [missing.to_bytes(8)])

    with pytest.raises(DamagedError, match=f"entry {missing} of partition 1"):
        store.entries(1, 1, 5, 10_000)
    with pytest.raises(DamagedError, match=f"entry {missing} of partition 1"):
        store.entry(1, missing)


def test_a_truncated_log_ends_before_the_cut_and_can_be_continued(store: Store, log: Any) -> None:
    entries = [log.entry() for _ in range(4)]
    store.append_entries(1, entries)

    store.truncate(1, 3)
    store.append_entries(1, [entries[2]])

    assert store.last_index(1) == 3


def test_a_truncation_beyond_the_end_changes_nothing(store: Store, log: Any) -> None:
    store.append_entries(1, [log.entry()])

    store.truncate(1, 2)

    assert store.last_index(1) == 1


def test_a_damaged_or_lost_entry_is_replaced_in_place(store: Store, log: Any) -> None:
    entries = [log.entry(b"body") for _ in range(3)]
    store.append_entries(1, entries)
    flip(store, "log:1", (1).to_bytes(8), 5)
    store.engine.delete("log:1", [(2).to_bytes(8)])

    store.replace_entry(1, entries[0])
    store.replace_entry(1, entries[1])

    assert store.entries(1, 1, 3, 10_000) == [entry.data for entry in entries]


def test_a_repair_never_lengthens_a_log(store: Store, log: Any) -> None:
    store.append_entries(1, [log.entry()])

    with pytest.raises(AssertionError):
        store.replace_entry(1, log.entry())


def test_the_core_s_view_of_a_log_is_that_of_its_partition(store: Store, log: Any) -> None:
    store.create_partition(2)
    entries = [log.entry() for _ in range(2)]
    store.append_entries(1, entries)

    view = store.log_store(1)

    assert (view.last_index(), view.entry(2)) == (2, entries[1].data)
    assert view.entries(1, 2, 10_000) == [entry.data for entry in entries]
    assert store.log_store(2).last_index() == 0


def test_indexes_are_dropped_in_slices_with_the_applied_mark_gone_first(machine: Any, store: Store, log: Any) -> None:
    store.put_replica_state(1, STATE)
    store.append_entries(1, [log.entry()])
    put_segment(segments_of(store), {"s": run_of(1, 900)}, through=900)
    put_segment(segments_of(store, partition=2), {"s": run_of(1, 30)}, through=30)
    store.put_positions(1, 1, [PositionRow(1, 9, 1)])
    store.put_session_runs(1, [SessionRun(5, 0, 0, 5, 0, 1, [])])
    store.put_groups(1, [GroupRow(1, "g", b"")])
    store.commit()

    first = store.drop_indexes(1, 3)
    store.commit()
    restarted = Store(machine.crash())

    assert not first
    assert restarted.replica_state(1) == replace(STATE, applied=0)
    slices = 1
    while not restarted.drop_indexes(1, 3):
        slices += 1
    assert slices > 2
    assert segments_of(restarted).names(1, "", None, 10) == []
    assert not segments_of(restarted).untidy
    assert not restarted.position_head(1, 1)
    assert (list(restarted.session_runs(1)), list(restarted.groups(1))) == ([], [])
    assert restarted.last_index(1) == 1
    assert segments_of(restarted, 30, 2).row_at(1, "s", U64_MAX) == run_of(1, 30)[-1]


def test_a_dropped_replica_is_none_from_its_first_slice_on(machine: Any, store: Store, log: Any) -> None:
    store.put_replica_state(1, STATE)
    store.append_entries(1, [log.entry() for _ in range(5)])
    put_segment(segments_of(store), {"s": run_of(1, 9)}, through=9)
    put_segment(segments_of(store, partition=2), {"s": run_of(1, 30)}, through=30)
    store.commit()

    first = store.drop_partition(1, 3)
    store.commit()
    restarted = Store(machine.crash())

    assert not first
    assert (restarted.partitions(), restarted.stateless_partitions()) == ([], [1])
    while not restarted.drop_partition(1, 3):
        pass
    heads = [segments_of(restarted, *of).row_at(1, "s", U64_MAX) for of in ((0, 1), (30, 2))]
    assert (restarted.last_index(1), heads) == (0, [None, run_of(1, 30)[-1]])
    restarted.create_partition(1)


def test_a_replica_is_not_placed_on_the_remains_of_another(store: Store, log: Any) -> None:
    store.append_entries(1, [log.entry()])

    with pytest.raises(AssertionError, match="dropped before"):
        store.create_partition(1)


def test_index_rows_and_the_applied_mark_are_lost_together(machine: Any, store: Store, log: Any) -> None:
    store.put_replica_state(1, replace(STATE, applied=0))
    store.append_entries(1, [log.entry()])
    store.commit()
    put_segment(segments_of(store), {"s": run_of(1, 1)}, through=1)
    store.put_replica_state(1, replace(STATE, applied=1))
    visible = segments_of(store, 1).row_at(1, "s", U64_MAX)

    restarted = Store(machine.crash())

    assert visible == run_of(1, 1)[0]
    assert segments_of(restarted).row_at(1, "s", U64_MAX) is None
    assert restarted.replica_state(1) == replace(STATE, applied=0)
    assert restarted.last_index(1) == 1
