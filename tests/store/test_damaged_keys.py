"""Keys of a log that are damaged on their pages: what no search finds and every reader stumbles over is mended."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rewind_cluster.entry import Entry
from rewind_cluster.errors import DamagedError
from rewind_cluster.raft_log import RaftLog
from rewind_node.lmdb_engine import LmdbEngine
from rewind_node.repair import FETCH_ENTRIES, Repair
from rewind_node.store import ReplicaState, Store
from rewind_node.store_layout import U64

PARTITION = 1
ENTRIES = 300  # on several pages, several on each
ROUNDS_MAX = 10
PAGE_BYTES = 4096  # LMDB's, which are the system's
PAGE_LOWER = 12  # where on a page the end of its rows' table stands, 2 bytes
RECORD_ENTRIES = 32  # where in a table's record the number of its rows stands, 8 bytes
STATE = ReplicaState(7, 1, 0, ENTRIES, b"", 0, b"", 0)


@pytest.fixture
def entries(log) -> list[Entry]:
    return [log.entry(b"body of %d" % number) for number in range(ENTRIES)]


class Damaged:
    """A store whose data file is damaged while it is closed."""

    def __init__(self, path: Path, entries: list[Entry], applied: int) -> None:
        self._path = path
        self.entries = entries
        self.spoilt: dict[int, bytes] = {}
        self.store = self._open()
        self.store.create_partition(PARTITION)
        self.store.put_replica_state(PARTITION, replace(STATE, applied=applied))
        self.store.append_entries(PARTITION, entries)
        self.store.commit()

    def _open(self) -> Store:
        return Store(LmdbEngine.open(self._path, map_bytes=1 << 20))

    def flip_keys(self, flips: dict[int, int]) -> None:
        """Turn over bits of the keys of entries: by index, which bit, counted from the key's end."""
        with self._changed_file() as data:
            for index, bit in flips.items():
                for place in self._places_of(index, data):
                    data[place + U64.size - 1 - bit // 8] ^= 1 << bit % 8

    def hide_rows(self, count: int) -> None:
        """Let the page that holds the log's last row end earlier, by some rows."""
        with self._changed_file() as data:
            for place in self._places_of(len(self.entries), data):
                at = place // PAGE_BYTES * PAGE_BYTES + PAGE_LOWER
                data[at : at + 2] = (int.from_bytes(data[at : at + 2], "little") - 2 * count).to_bytes(2, "little")

    def flip_count(self, bit: int) -> None:
        """Turn over a bit of the number of the log's rows, wherever the file holds it."""
        record = b"log:%d" % PARTITION
        with self._changed_file() as data:
            place = data.find(record)
            while place >= 0:
                at = place + len(record) + RECORD_ENTRIES
                if int.from_bytes(data[at : at + 8], "little") == len(self.entries):
                    data[at + bit // 8] ^= 1 << bit % 8
                place = data.find(record, place + 1)

    @contextmanager
    def _changed_file(self) -> Iterator[bytearray]:
        self.store.engine.close()
        data = bytearray((self._path / "data.mdb").read_bytes())
        yield data
        (self._path / "data.mdb").write_bytes(data)
        self.store = self._open()

    def _places_of(self, index: int, data: bytearray) -> list[int]:
        """Return where a row is, on its page and on those that were replaced."""
        row = U64.pack(index) + bytes(self.store_entry(index))
        places = [match.start() for match in re.finditer(re.escape(row), data)]
        assert places, "a page holds key and value one after the other"
        return places

    def store_entry(self, index: int) -> bytes:
        """Return the bytes of an entry as they were put last."""
        return self.spoilt.get(index, self.entries[index - 1].data)

    def load(self) -> RaftLog:
        """Load the log as a replica does that starts."""
        return RaftLog(self.store.log_store(PARTITION))

    def spoil_bodies(self, *indexes: int) -> None:
        """Turn over a bit of the bodies of entries."""
        for index in indexes:
            bad = bytearray(self.entries[index - 1].data)
            bad[-1] ^= 1
            self.spoilt[index] = bytes(bad)
            self.store.engine.put("log:1", [(U64.pack(index), bytes(bad))])
        self.store.commit()

    def misplace(self, index: int, key: int) -> None:
        """Put the last row under another key behind it: what a damaged key is where it ends the log."""
        data = self.store.engine.get("log:1", U64.pack(index))
        assert data is not None
        self.store.engine.delete("log:1", [U64.pack(index)])
        self.store.engine.put("log:1", [(U64.pack(key), data)])

    def read(self) -> list[bytes]:
        """Read the log as whoever serves from it does."""
        return [Entry.decode(data).data for data in self.store.entries(PARTITION, 1, len(self.entries), 1 << 30)]

    def repair(self) -> list[Repair]:
        """Repair until the log can be read and loaded, from a leader that has all of it; return the repairs."""
        repairs: list[Repair] = []
        while len(repairs) < ROUNDS_MAX:
            try:
                self.read()
                self.load()
            except DamagedError as error:
                repairs.append(self._repair_once(str(error)))
                if repairs[-1].hopeless:
                    return repairs
            else:
                return repairs
        raise AssertionError(f"after {ROUNDS_MAX} repairs the log still cannot be loaded")

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
    made = Damaged(tmp_path, entries, ENTRIES)
    yield made
    made.store.engine.close()


@pytest.fixture
def unapplied(tmp_path: Path, entries: list[Entry]) -> Iterator[Callable[[int], Damaged]]:
    """Return what makes a log of some entries of which none was applied: nothing but the log tells where it ends."""
    made: list[Damaged] = []

    def make(count: int) -> Damaged:
        made.append(Damaged(tmp_path, entries[:count], 0))
        return made[-1]

    yield make
    for each in made:
        each.store.engine.close()


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


# Where a log ends, of which nothing else knows.


def test_a_sound_log_is_loaded_whole(unapplied: Callable[[int], Damaged]) -> None:
    assert unapplied(100).load().last_index == 100


@pytest.mark.parametrize("bit", [*range(10), 15, 16, 40, 63])
@pytest.mark.parametrize("count", [63, 100, ENTRIES])
def test_no_flipped_bit_of_the_last_key_ends_a_log_elsewhere(
    unapplied: Callable[[int], Damaged], count: int, bit: int
) -> None:
    damaged = unapplied(count)
    damaged.flip_keys({count: bit})

    with pytest.raises(DamagedError):
        damaged.load()
    repairs = damaged.repair()

    assert len(repairs) == 1
    assert repairs[0].done
    assert repairs[0].repaired == 0, "nothing was lost"
    assert damaged.load().last_index == count
    assert damaged.read() == [entry.data for entry in damaged.entries]


@pytest.mark.parametrize("bit", [0, 1, 2, 5, 6, 8, 20])
@pytest.mark.parametrize("lost", [1, 2, 3])
@pytest.mark.parametrize("count", [63, 100, ENTRIES])
def test_a_log_that_lost_keys_and_bodies_of_its_last_entries_is_mended_whole_or_given_up(
    unapplied: Callable[[int], Damaged], count: int, lost: int, bit: int
) -> None:
    damaged = unapplied(count)
    indexes = range(count - lost + 1, count + 1)
    damaged.spoil_bodies(*indexes)
    damaged.flip_keys(dict.fromkeys(indexes, bit))

    with pytest.raises(DamagedError):
        damaged.load()
    repairs = damaged.repair()

    if lost > 1 and repairs[-1].hopeless:  # several damaged keys can be equal to those of sound rows
        return
    assert repairs[-1].done
    assert damaged.load().last_index == count
    assert damaged.read() == [entry.data for entry in damaged.entries]


@pytest.mark.parametrize("hidden", [1, 2, 4])
@pytest.mark.parametrize("count", [63, 100, ENTRIES])
def test_a_log_whose_last_page_hides_rows_is_not_taken_for_shorter(
    unapplied: Callable[[int], Damaged], count: int, hidden: int
) -> None:
    damaged = unapplied(count)
    damaged.hide_rows(hidden)
    rows = list(damaged.store.engine.scan("log:1", b"", b"\xff" * 9))

    with pytest.raises(DamagedError):
        damaged.load()
    repairs = damaged.repair()

    assert len(rows) == count - hidden
    assert repairs[-1].hopeless
    assert "must be replaced" in repairs[-1].told


@pytest.mark.parametrize("bit", [0, 3, 5, 6, 11, 40, 63])
def test_a_log_of_which_another_number_of_rows_was_counted_is_given_up(
    unapplied: Callable[[int], Damaged], bit: int
) -> None:
    damaged = unapplied(100)
    damaged.flip_count(bit)

    with pytest.raises(DamagedError, match="100"):
        damaged.load()
    repairs = damaged.repair()

    assert [repair.hopeless for repair in repairs] == [True]


def test_a_log_whose_last_key_and_number_of_rows_agree_on_a_shorter_one_is_not_believed(
    unapplied: Callable[[int], Damaged],
) -> None:
    damaged = unapplied(100)
    damaged.flip_keys({100: 6})
    damaged.flip_count(6)

    with pytest.raises(DamagedError, match="36 or 100"):
        damaged.load()
    repairs = damaged.repair()

    assert [repair.hopeless for repair in repairs] == [True]


def test_an_end_that_is_truly_gone_is_fetched_up_to_what_was_applied(damaged: Damaged) -> None:
    damaged.store.truncate(PARTITION, ENTRIES - 9)

    repair = damaged._repair_once("its end is gone")

    assert repair.done
    assert damaged.load().last_index == ENTRIES
