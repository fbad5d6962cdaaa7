"""Keys of table `raft` that are damaged on their pages: one replica loses its state, and no other one does."""

from pathlib import Path

import pytest

from rewind_node.lmdb_engine import LmdbEngine
from rewind_node.store import ReplicaState, Store
from rewind_node.store_layout import U16

PARTITIONS = range(17)
MAP_BYTES = 1 << 20


def state_of(partition: int, term: int = 1) -> ReplicaState:
    return ReplicaState(1000 + partition, term, 1, 0, b"members", 0, b"", 0)


def open_store(path: Path) -> Store:
    return Store(LmdbEngine.open(path, map_bytes=MAP_BYTES))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a data file has replicas of all partitions."""
    store = open_store(tmp_path)
    for partition in PARTITIONS:
        store.create_partition(partition)
        store.put_replica_state(partition, state_of(partition))
    store.commit()
    store.engine.close()
    return tmp_path


def flip_key(path: Path, partition: int, bit: int) -> None:
    """Turn over a bit of the key of a replica's row, counted from the key's end, in a file that is closed."""
    store = open_store(path)
    value = store.engine.get("raft", U16.pack(partition))
    store.engine.close()
    assert value is not None
    data = bytearray((path / "data.mdb").read_bytes())
    row = U16.pack(partition) + value
    place = data.find(row)
    assert place >= 0, "a page holds key and value one after the other"
    while place >= 0:  # pages that were replaced may hold it, too
        data[place + 1 - bit // 8] ^= 1 << bit % 8
        place = data.find(row, place + 1)
    (path / "data.mdb").write_bytes(data)


@pytest.mark.parametrize("bit", range(16))
@pytest.mark.parametrize("partition", [0, 1, 7, 8, 16])
def test_a_damaged_key_loses_one_state_and_leaves_the_others_to_be_found_and_written(
    path: Path, partition: int, bit: int
) -> None:
    others = [number for number in PARTITIONS if number != partition]
    flip_key(path, partition, bit)
    store = open_store(path)

    store.mend_states()

    assert store.partitions() == others
    assert store.stateless_partitions() == [partition]
    assert [store.replica_state(number) for number in others] == [state_of(number) for number in others]
    for number in others:
        store.put_replica_state(number, state_of(number, term=2))
    assert [store.replica_state(number) for number in others] == [state_of(number, term=2) for number in others]
    assert store.partitions() == others
    store.engine.close()


def test_of_two_sound_states_of_one_replica_neither_is_taken(path: Path) -> None:
    middle = 8  # where every search of the page begins
    flip_key(path, middle, 13)
    store = open_store(path)
    for number in range(9, 12):  # which a search does not find any more
        store.put_replica_state(number, state_of(number, term=2))
    rows = list(store.engine.scan("raft", b"", b"\xff" * 6))
    twice = {int.from_bytes(key) for key, _ in rows if sum(other == key for other, _ in rows) == 2}
    assert twice

    store.mend_states()

    assert store.stateless_partitions() == sorted({middle, *twice})
    assert all(store.replica_state(number) is None for number in twice)
    store.engine.close()


def test_states_in_order_are_left_as_they_are_though_one_of_them_is_damaged(path: Path) -> None:
    store = open_store(path)
    value = bytearray(store.engine.get("raft", U16.pack(3)) or b"")
    value[0] ^= 1
    store.engine.put("raft", [(U16.pack(3), bytes(value))])
    store.commit()

    store.mend_states()

    assert not store.engine.dirty
    assert store.stateless_partitions() == [3]
    assert store.partitions() == [number for number in PARTITIONS if number != 3]
    store.engine.close()
