"""Keys of a log that are damaged on their pages: what no search finds and every reader stumbles over is mended."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rewind_cluster.entry import Entry
from rewind_cluster.errors import DamagedError
from rewind_node.lmdb_engine import LmdbEngine
from rewind_node.repair import FETCH_ENTRIES, Repair
from rewind_node.store import ReplicaState, Store
from rewind_node.store_layout import U64

PARTITION = 1
ENTRIES = 300  # on several pages, several on each
ROUNDS_MAX = 10
STATE = ReplicaState(7, 1, 0, ENTRIES, b"", 0, b"", 0)


@pytest.fixture
def entries(log) -> list[Entry]:
    return [log.entry(b"body of %d" % number) for number in range(ENTRIES)]


class Damaged:
    """A store whose data file is damaged while it is closed."""

    def __init__(self, path: Path, entries: list[Entry]) -> None:
        self._path = path
        self.entries = entries
        self.store = self._open()
        self.store.create_partition(PARTITION)
        self.store.put_replica_state(PARTITION, STATE)
        self.store.append_entries(PARTITION, entries)
        self.store.commit()

    def _open(self) -> Store:
        return Store(LmdbEngine.open(self._path, map_bytes=1 << 20))

    def flip_keys(self, flips: dict[int, int]) -> None:
        """Turn over bits of the keys of entries: by index, which bit, counted from the key's end."""
        self.store.engine.close()
        data = bytearray((self._path / "data.mdb").read_bytes())
        for index, bit in flips.items():
            row = U64.pack(index) + self.entries[index - 1].data
            place, count = data.find(row), data.count(row)
            assert count >= 1, "a page holds key and value one after the other"
            while place >= 0:  # pages that were replaced may hold it, too
                data[place + len(U64.pack(index)) - 1 - bit // 8] ^= 1 << bit % 8
                place = data.find(row, place + 1)
        (self._path / "data.mdb").write_bytes(data)
        self.store = self._open()

    def spoil_bodies(self, *indexes: int) -> None:
        """Turn over a bit of the bodies of entries."""
        for index in indexes:
            bad = bytearray(self.entries[index - 1].data)
            bad[-1] ^= 1
            self.store.engine.put("log:1", [(U64.pack(index), bytes(bad))])

    def misplace(self, index: int, key: int) -> None:
        """Put the last row under another key behind it: what a damaged key is where it ends the log."""
        data = self.store.engine.get("log:1", U64.pack(index))
        assert data is not None
        self.store.engine.delete("log:1", [U64.pack(index)])
        self.store.engine.put("log:1", [(U64.pack(key), data)])

    def read(self) -> list[bytes]:
        """Read the log as whoever serves from it does."""
        return [Entry.decode(data).data for data in self.store.entries(PARTITION, 1, ENTRIES, 1 << 30)]

    def repair(self) -> list[Repair]:
        """Repair until the log can be read, from a leader that has all of it; return the repairs that it took."""
        repairs: list[Repair] = []
        while len(repairs) < ROUNDS_MAX:
            try:
                self.read()
            except DamagedError as error:
                repairs.append(self._repair_once(str(error)))
                if repairs[-1].hopeless:
                    return repairs
            else:
                return repairs
        raise AssertionError(f"after {ROUNDS_MAX} repairs the log still cannot be read")

    def _repair_once(self, reason: str) -> Repair:
        repair = Repair(self.store, PARTITION, reason)
        while not (repair.done or repair.hopeless):
            repair.work()
            if repair.wanted is not None:
                first = repair.wanted
                repair.received(first, [each.data for each in self.entries[first - 1 :][:FETCH_ENTRIES]])
        self.store.commit()
        return repair


@pytest.fixture
def damaged(tmp_path: Path, entries: list[Entry]) -> Iterator[Damaged]:
    made = Damaged(tmp_path, entries)
    yield made
    made.store.engine.close()


@pytest.mark.parametrize("bit", range(16))
@pytest.mark.parametrize("index", [2, 150, 200, ENTRIES - 1])
def test_an_entry_whose_key_is_damaged_is_put_back_and_what_it_hid_is_read_again(
    damaged: Damaged, index: int, bit: int
) -> None:
    damaged.flip_keys({index: bit})

    repairs = damaged.repair()

    assert repairs
    assert not any(repair.hopeless for repair in repairs)
    assert damaged.read() == [entry.data for entry in damaged.entries]
    assert [key for key, _ in damaged.store.engine.scan("log:1", b"", b"\xff" * 9)] == [
        U64.pack(number + 1) for number in range(ENTRIES)
    ]


@pytest.mark.parametrize("damaged_entries", [[ENTRIES], [ENTRIES - 1, ENTRIES], [150], [1], [149, 150, 151]])
def test_where_bodies_are_damaged_and_no_keys_no_row_is_moved_and_the_log_ends_where_it_did(
    damaged: Damaged, damaged_entries: list[int]
) -> None:
    damaged.spoil_bodies(*damaged_entries)

    moved = [damaged.store.reorder_entries(PARTITION, index) for index in range(1, ENTRIES + 1)]

    assert not any(moved)
    assert damaged.store.last_index(PARTITION) == ENTRIES
    damaged.repair()
    assert damaged.read() == [entry.data for entry in damaged.entries]


def test_the_end_of_a_log_whose_last_key_is_damaged_is_where_it_was(damaged: Damaged) -> None:
    damaged.flip_keys({ENTRIES: 13})

    damaged.repair()

    assert damaged.store.last_index(PARTITION) == ENTRIES
    assert damaged.read() == [entry.data for entry in damaged.entries]


@pytest.mark.parametrize("spoilt", [[ENTRIES], [ENTRIES - 1, ENTRIES], [150, ENTRIES]])
def test_a_log_ends_where_it_did_though_neither_key_nor_body_of_its_last_entry_is_sound(
    damaged: Damaged, spoilt: list[int]
) -> None:
    damaged.spoil_bodies(*spoilt)
    damaged.misplace(ENTRIES, ENTRIES + 4096)

    repair = Repair(damaged.store, PARTITION, "damaged")
    while repair.wanted is None:
        repair.work()
        assert not repair.done
    ends = damaged.store.last_index(PARTITION)
    damaged.repair()

    assert ends in (ENTRIES, ENTRIES + 4096), "never before"
    assert damaged.store.last_index(PARTITION) == ENTRIES
    assert damaged.read() == [entry.data for entry in damaged.entries]


def test_several_damaged_keys_beside_each_other_are_mended(damaged: Damaged) -> None:
    damaged.flip_keys({150: 12, 151: 12, 153: 9, 154: 0})

    damaged.repair()

    assert damaged.read() == [entry.data for entry in damaged.entries]
