"""Pages that lead nowhere: a replica that cannot be repaired is given up, and nothing is lost by the attempt."""

import os
from pathlib import Path
from struct import Struct
from typing import Any

import lmdb
import pytest

from rewind_cluster.entry import Entry
from rewind_cluster.errors import DamagedError
from rewind_node import store_layout as layout
from rewind_node.engine import Pair
from rewind_node.lmdb_engine import LmdbEngine
from rewind_node.lmdb_pages import BRANCH, NODE, PAGE_HEAD, PAGE_HEADER_BYTES
from rewind_node.memory_engine import MemoryEngine
from rewind_node.repair import Repair
from rewind_node.store import PositionRow, ReplicaState, Store
from rewind_node.store_layout import U64

PARTITION = 1
ENTRIES = 300  # on several pages
POSITIONS = [PositionRow(position, 1, position) for position in range(1, 1001)]  # on several pages as well
SLICES_MAX = 50
STATE = ReplicaState(7, 1, 3, ENTRIES, b"", 0, b"", 0)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
OFFSET = Struct("<H")


@pytest.fixture
def entries(log: Any) -> list[Entry]:
    return [log.entry(b"body of %d" % number) for number in range(ENTRIES)]


def filled(store: Store, entries: list[Entry]) -> Store:
    store.create_partition(PARTITION)
    store.put_replica_state(PARTITION, STATE)
    store.append_entries(PARTITION, entries)
    store.put_positions(PARTITION, 1, POSITIONS)
    store.commit()
    return store


def lead_astray(path: Path, row: Pair) -> None:
    """Turn over a bit in the number by which a branch page names the page that holds a row."""
    file = path / "data.mdb"
    data = bytearray(file.read_bytes())
    leaf = data.index(b"".join(row)) // PAGE_BYTES
    named = 0
    for page in range(2 * PAGE_BYTES, len(data), PAGE_BYTES):
        flags, end = PAGE_HEAD.unpack_from(data, page)
        if flags != BRANCH:
            continue
        for place in range(page + PAGE_HEADER_BYTES, page + end, OFFSET.size):
            node = page + OFFSET.unpack_from(data, place)[0]
            low, high, more, _ = NODE.unpack_from(data, node)
            if low | high << 16 | more << 32 == leaf:
                data[node + 4] ^= 1  # of what stands for the flags in other pages: far beyond the file's end
                named += 1
    assert named
    file.write_bytes(data)


def repaired(repair: Repair, entries: list[Entry]) -> Repair:
    """Work on a repair, with a leader that has all entries, until it ends."""
    for _ in range(SLICES_MAX):
        repair.work()
        if repair.done or repair.hopeless:
            return repair
        if repair.wanted is not None:
            repair.received(repair.wanted, [entry.data for entry in entries[repair.wanted - 1 :]])
    raise AssertionError(f"the repair has not ended after {SLICES_MAX} slices")


@pytest.mark.parametrize("table", ["log:1", "positions"])
def test_a_replica_one_of_whose_pages_cannot_be_found_is_given_up(
    tmp_path: Path, entries: list[Entry], table: str
) -> None:
    store = filled(Store(LmdbEngine.open(tmp_path)), entries)
    store.engine.close()
    in_log = (U64.pack(150), entries[149].data)
    lead_astray(tmp_path, in_log if table == "log:1" else layout.pack_position(PARTITION, 1, POSITIONS[500]))
    store = Store(LmdbEngine.open(tmp_path))

    repair = repaired(Repair(store, PARTITION, "damaged"), entries)
    after = store.replica_state(PARTITION)
    store.engine.close()

    assert repair.hopeless
    assert repair.told.endswith("must be replaced under a new ID")
    assert after is not None
    assert (after.replica, after.term, after.vote) == (STATE.replica, STATE.term, STATE.vote)


class Unwritable(MemoryEngine):
    """A log that can be read, but for one entry, and not be written."""

    broken = False

    def put(self, table: str, items: Any) -> None:
        if self.broken and table == "log:1":
            raise DamagedError("a page is damaged")
        super().put(table, items)


def test_a_replica_that_cannot_take_what_its_leader_sends_is_given_up_and_the_leader_is_not_blamed(
    entries: list[Entry],
) -> None:
    engine = Unwritable()
    store = filled(Store(engine), entries)
    engine.delete("log:1", [U64.pack(150)])
    engine.commit()
    engine.broken = True
    repair = Repair(store, PARTITION, "damaged")
    repair._met = 150  # the rows around it are in order

    repaired(repair, entries)

    assert repair.hopeless


def test_rows_that_cannot_be_put_where_they_belong_stay_where_they_were(
    tmp_path: Path, entries: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> int:
        raise lmdb.CorruptedError("a page on the way is damaged")

    store = filled(Store(LmdbEngine.open(tmp_path)), entries)
    store.engine.delete("log:1", [U64.pack(2)])
    store.engine.put("log:1", [(U64.pack(ENTRIES + 9), entries[1].data)])
    store.commit()
    before = store.engine.run("log:1", b"", ENTRIES + 1)
    monkeypatch.setattr(LmdbEngine, "_put", fail)

    with pytest.raises(DamagedError):
        store.reorder_entries(PARTITION, 1)
    after = store.engine.run("log:1", b"", ENTRIES + 1)
    store.engine.close()

    assert after == before
