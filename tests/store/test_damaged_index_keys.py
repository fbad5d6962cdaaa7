"""Keys of index rows that are damaged on their pages: a dropped index is gone, and what others hold is not."""

from pathlib import Path

import pytest

from rewind_node import store_layout as layout
from rewind_node.lmdb_engine import LmdbEngine
from rewind_node.store import PositionRow, ReplicaState, SessionRun, Store
from rewind_node.store_layout import U16

PARTITIONS = (1, 2, 3)
ROWS = 300  # of each partition, on several pages
FEW_ROWS = 20  # those of all partitions share a page, which every search goes through
PREFIX_BITS = 8 * U16.size
SLICE_ROWS = 70
STATE = ReplicaState(1, 1, 1, ROWS, b"", 0, b"", 0)


def position(partition: int, number: int) -> tuple[bytes, bytes]:
    return layout.pack_position(partition, 1, PositionRow(number, 1, number))


def session(partition: int, number: int) -> tuple[bytes, bytes]:
    return layout.pack_session_run(partition, SessionRun(number, 0, 0, number, 0, 1, []))


PACKED = {layout.POSITIONS: position, layout.SESSIONS: session}


def fill(path: Path, rows: int) -> None:
    """Give each partition so many rows in each table."""
    store = Store(LmdbEngine.open(path))
    for partition in PARTITIONS:
        store.create_partition(partition)
        store.put_replica_state(partition, STATE)
        for table in PACKED:
            store.engine.put(table, rows_of(table, partition, count=rows))
    store.commit()
    store.engine.close()


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    fill(tmp_path, ROWS)
    return tmp_path


def with_flips(path: Path, table: str, *flips: tuple[int, int, int]) -> Store:
    """Open the store after bits of partitions' numbers in keys have turned over: partition, row, which bit."""
    data = bytearray((path / "data.mdb").read_bytes())
    for partition, number, bit in flips:
        row = b"".join(PACKED[table](partition, number))
        place = data.index(row)
        while place >= 0:  # pages that were replaced may hold it, too
            data[place + bit // 8] ^= 1 << bit % 8
            place = data.find(row, place + 1)
    (path / "data.mdb").write_bytes(data)
    return Store(LmdbEngine.open(path))


def drop(store: Store, partition: int) -> None:
    while not store.drop_indexes(partition, SLICE_ROWS):
        pass


def left(store: Store, table: str) -> list[tuple[bytes, bytes]]:
    """Return what a table holds, as it stands."""
    return store.engine.run(table, b"", ROWS * (len(PARTITIONS) + 1))


def rows_of(table: str, *partitions: int, count: int = ROWS) -> list[tuple[bytes, bytes]]:
    return [PACKED[table](partition, number) for partition in partitions for number in range(1, count + 1)]


@pytest.mark.parametrize("bit", range(PREFIX_BITS))
@pytest.mark.parametrize("row", [1, 45, 75, ROWS])
@pytest.mark.parametrize("table", PACKED)
def test_a_dropped_index_is_gone_whatever_one_of_its_keys_says(filled: Path, table: str, row: int, bit: int) -> None:
    store = with_flips(filled, table, (2, row, bit))

    drop(store, 2)
    rows = left(store, table)
    store.engine.close()

    others = rows_of(table, 1, 3)
    strange = [row for row in rows if row not in others]
    assert [row for row in rows if row in others] == others
    assert len(strange) <= 1, "one that stands where its key says is the other partition's to complain of"
    assert [key for key, _ in rows] == sorted(key for key, _ in rows)
    assert not any(key.startswith(U16.pack(2)) for key, _ in rows)


@pytest.mark.parametrize("row", range(1, FEW_ROWS + 1, 2))
@pytest.mark.parametrize("dropped", PARTITIONS)
@pytest.mark.parametrize("partition", PARTITIONS)
def test_rows_of_other_partitions_outlive_the_dropping_of_one_whatever_a_key_says(
    tmp_path: Path, partition: int, dropped: int, row: int
) -> None:
    fill(tmp_path, FEW_ROWS)
    store = with_flips(tmp_path, layout.POSITIONS, (partition, row, 9))  # by two: 1 becomes 3, 3 becomes 1

    drop(store, dropped)
    rows = left(store, layout.POSITIONS)
    store.engine.close()

    damaged = position(partition, row)
    others = [pair for pair in rows_of(layout.POSITIONS, *PARTITIONS, count=FEW_ROWS) if pair != damaged]
    sound = [pair for pair in others if not pair[0].startswith(U16.pack(dropped))]
    assert [pair for pair in rows if pair in others] == sound


def test_several_damaged_keys_beside_each_other_keep_no_row_of_a_dropped_index(filled: Path) -> None:
    flips = [(2, 75, 9), (2, 76, 11), (2, 77, 1), (2, 78, 9), (2, 140, 10), (2, 141, 9)]
    store = with_flips(filled, layout.POSITIONS, *flips)

    drop(store, 2)
    rows = left(store, layout.POSITIONS)
    store.engine.close()

    assert rows == rows_of(layout.POSITIONS, 1, 3)


def test_a_damaged_value_of_another_partition_stays_for_that_one_to_meet(filled: Path) -> None:
    store = with_flips(filled, layout.POSITIONS, (2, ROWS, 9))
    key, value = position(3, 1)
    bad = bytes([value[0] ^ 1]) + value[1:]
    store.engine.put(layout.POSITIONS, [(key, bad)])

    drop(store, 2)
    found = store.engine.get(layout.POSITIONS, key)
    store.engine.close()

    assert found == bad
