"""The offline dump: everything stored, in lines for a checker, and damage told instead of hidden."""

import json
import shutil
from collections.abc import Iterator
from itertools import islice
from mmap import PAGESIZE
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from segments_by_hand import put_segment, segments_of

from rewind_cluster.columns import Events, pack_events
from rewind_cluster.entry import HEADER_BYTES, Entry, EntryKind
from rewind_cluster.records import Refusal, Run, pack_refusal, pack_run
from rewind_node.data_directory import FORMAT_VERSION, DataDirectory, bring_to_format
from rewind_node.dump import dump
from rewind_node.lmdb_engine import LmdbEngine
from rewind_node.lmdb_reader import LmdbReader
from rewind_node.storage_errors import DataDirectoryInUseError, NewerFormatError, StorageFailedError
from rewind_node.store import GroupRow, PositionRow, ReplicaState, SessionRun, Store, StreamRow

ONE, TWO, THREE = (UUID(int=number) for number in (1, 2, 3))
PAGE_FLAGS_OFFSET = 10  # in the header of an LMDB page, after its number and a pad
STATE = ReplicaState(7, 3, 9, 3, b"", 0, b"", 0)

Line = dict[str, Any]


def append_record(stream: str, first_version: int, ids: list[UUID]) -> bytes:
    count = len(ids)
    columns = Events(b"".join(one.bytes for one in ids), ["T"] * count, [b""] * count, [None] * count)
    return pack_run(Run(0, 0, 0, 0, [stream], [first_version], [count], None), pack_events(columns))


@pytest.fixture
def entries(log: Any) -> list[Entry]:
    refusal = pack_refusal(Refusal(1, 2, 1, "b", 0, 1))
    return [
        log.entry(kind=EntryKind.NOOP),
        log.entry(b"members", kind=EntryKind.MEMBERSHIP),
        log.entry(append_record("ä", 1, [ONE, TWO]) + append_record("b", 5, [THREE]) + refusal, term=2, context=4),
    ]


@pytest.fixture
def directory(tmp_path: Path, entries: list[Entry]) -> Path:
    opened = DataDirectory.open(tmp_path)
    store = opened.store
    store.create_partition(1)
    store.put_replica_state(1, STATE)
    store.append_entries(1, entries)
    rows = {"ä": [StreamRow(1, 2, 3, 0, 10)], "b": [StreamRow(5, 1, 3, 10, 10)]}
    put_segment(segments_of(store), rows, context=4, through=3)
    store.put_positions(1, 4, [PositionRow(1, 3, 3)])
    store.put_session_runs(1, [SessionRun(1, 2, 1, 3, 0, 1, [1, "s", 0, 1, True])])
    store.put_groups(1, [GroupRow(4, "mailer", b"state")])
    store.commit()
    opened.close()
    return tmp_path


def lines_of(directory: Path) -> list[Line]:
    written: list[str] = []
    dump(directory, written.append)
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in written)
    return [json.loads(line) for line in written]


def damage_in(lines: list[Line]) -> list[tuple[Any, ...]]:
    return [(line["partition"], line["table"], line["where"]) for line in lines if line["kind"] == "damage"]


def change(directory: Path, table: str, key: bytes, value: bytes | None) -> None:
    engine = LmdbEngine.open(directory / "shard-0")
    if value is None:
        engine.delete(table, [key])
    else:
        engine.put(table, [(key, value)])
    engine.commit()
    engine.close()


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :]


def test_a_dump_tells_state_and_entries(directory: Path, entries: list[Entry]) -> None:
    lines = lines_of(directory)

    def line(entry: Entry, appends: list[Line]) -> Line:
        place = {"partition": 1, "kind": "entry", "index": entry.index, "term": entry.term, "context": entry.context}
        return {**place, "digest": entry.digest.hex(), "appends": appends}

    assert lines == [
        {"partition": 1, "kind": "state", "term": 3, "vote": 9, "applied": 3, "last": 3},
        line(entries[0], []),
        line(entries[1], []),
        line(
            entries[2],
            [
                {"stream": "ä", "version": 1, "ids": [str(ONE), str(TWO)]},
                {"stream": "b", "version": 5, "ids": [str(THREE)]},
            ],
        ),
    ]


def test_a_dump_changes_nothing(directory: Path) -> None:
    def contents() -> dict[str, tuple[int, bytes]]:
        files = [path for path in directory.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = contents()

    lines_of(directory)

    assert contents() == before


def test_a_copy_of_the_data_alone_is_dumped_and_left_as_it_is(directory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "shard-0").mkdir(parents=True)
    shutil.copy(directory / "shard-0" / "data.mdb", copy / "shard-0")

    assert len(lines_of(copy)) == 4
    assert [path.name for path in copy.rglob("*")] == ["shard-0", "data.mdb"]


def test_partitions_come_in_order_of_their_numbers(directory: Path) -> None:
    opened = DataDirectory.open(directory)
    for partition in (10, 2, 0):
        opened.store.create_partition(partition)
        opened.store.put_replica_state(partition, STATE)
    opened.store.commit()
    opened.close()

    states = [line["partition"] for line in lines_of(directory) if line["kind"] == "state"]

    assert states == [0, 1, 2, 10]


def test_a_directory_in_use_is_refused(directory: Path) -> None:
    opened = DataDirectory.open(directory)

    with pytest.raises(DataDirectoryInUseError):
        lines_of(directory)

    opened.close()
    assert len(lines_of(directory)) == 4


def test_a_dump_lets_go_of_the_directory(directory: Path) -> None:
    lines_of(directory)

    DataDirectory.open(directory).close()


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_directory_without_data_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageFailedError, match="holds no data"):
        lines_of(tmp_path / name)


def test_a_newer_format_is_refused(directory: Path) -> None:
    engine = LmdbEngine.open(directory / "shard-0")
    bring_to_format(engine, FORMAT_VERSION + 1, {FORMAT_VERSION: lambda _: None})
    engine.close()

    with pytest.raises(NewerFormatError):
        lines_of(directory)


def test_a_file_that_is_no_database_is_refused(directory: Path) -> None:
    (directory / "shard-0" / "data.mdb").write_bytes(b"x" * 8192)

    with pytest.raises(StorageFailedError, match="not a database"):
        lines_of(directory)


@pytest.mark.parametrize("place", range(0, HEADER_BYTES, 3))
def test_a_damaged_entry_is_told_and_the_others_are_dumped(directory: Path, entries: list[Entry], place: int) -> None:
    change(directory, "log:1", (2).to_bytes(8), flipped(entries[1].data, place))

    lines = lines_of(directory)

    assert damage_in(lines) == [(1, "log:1", 2)]
    assert [line["index"] for line in lines if line["kind"] == "entry"] == [1, 3]


def test_entries_on_a_damaged_page_are_told_and_those_beyond_it_are_dumped(directory: Path, log: Any) -> None:
    opened = DataDirectory.open(directory)
    more = [log.entry(b"x" * 500, kind=EntryKind.NOOP, term=2) for _ in range(97)]
    opened.store.append_entries(1, more)
    opened.store.commit()
    opened.close()
    data = bytearray((directory / "shard-0" / "data.mdb").read_bytes())
    page = data.index(more[46].data) // PAGESIZE * PAGESIZE  # entry 50's
    data[page + PAGE_FLAGS_OFFSET] ^= 0xFF
    (directory / "shard-0" / "data.mdb").write_bytes(data)

    lines = lines_of(directory)

    dumped = {line["index"] for line in lines if line["kind"] == "entry"}
    told = {where for _, _, where in damage_in(lines)}
    assert 50 in told
    assert {1, 2, 3, 99, 100} <= dumped
    assert dumped | told == set(range(1, 101))


def test_entries_that_a_damaged_tree_does_not_lead_to_are_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = LmdbReader.scan

    def scan_ending_early(self: LmdbReader, table: str, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        return islice(scan(self, table, start, stop), 1) if table == "log:1" else scan(self, table, start, stop)

    monkeypatch.setattr(LmdbReader, "scan", scan_ending_early)

    lines = lines_of(directory)

    assert damage_in(lines) == [(1, "log:1", 2)]
    assert [line["index"] for line in lines if line["kind"] == "entry"] == [1, 3]


def test_a_missing_entry_is_told(directory: Path) -> None:
    change(directory, "log:1", (2).to_bytes(8), None)

    lines = lines_of(directory)

    assert damage_in(lines) == [(1, "log:1", None), (1, "log:1", 2)], "the log as a whole, and where"
    assert [line["index"] for line in lines if line["kind"] == "entry"] == [1, 3]


def test_an_entry_that_does_not_continue_the_one_before_is_told(directory: Path, entries: list[Entry]) -> None:
    other = Entry.build(EntryKind.NOOP, term=1, index=2, timestamp=99, previous_digest=entries[0].digest)
    change(directory, "log:1", (2).to_bytes(8), other.data)

    lines = lines_of(directory)

    assert damage_in(lines) == [(1, "log:1", 3)]
    assert "digest" in lines[3]["error"]


def test_an_entry_of_an_older_term_than_the_one_before_is_told(directory: Path, entries: list[Entry]) -> None:
    older = Entry.build(EntryKind.NOOP, term=0, index=2, timestamp=1, previous_digest=entries[0].digest)
    change(directory, "log:1", (2).to_bytes(8), older.data)

    assert (1, "log:1", 2) in damage_in(lines_of(directory))


def test_an_entry_in_another_s_place_is_told(directory: Path, entries: list[Entry]) -> None:
    change(directory, "log:1", (2).to_bytes(8), entries[0].data)

    assert damage_in(lines_of(directory)) == [(1, "log:1", 2)]


def test_a_damaged_state_is_told_and_the_log_is_dumped(directory: Path) -> None:
    change(directory, "raft", b"\x00\x01", b"\x00" * 60)

    lines = lines_of(directory)

    assert damage_in(lines) == [(1, "raft", None)]
    assert [line["kind"] for line in lines] == ["damage", "entry", "entry", "entry"]


def test_a_log_without_a_state_is_told_unless_it_is_empty(directory: Path) -> None:
    opened = DataDirectory.open(directory)
    opened.store.create_partition(2)
    opened.store.commit()
    opened.close()
    change(directory, "raft", b"\x00\x01", None)

    assert damage_in(lines_of(directory)) == [(1, "raft", None)]


def test_a_state_without_a_log_is_told(directory: Path) -> None:
    opened = DataDirectory.open(directory)
    opened.store.put_replica_state(2, STATE)
    opened.store.commit()
    opened.close()

    assert (2, "log:2", None) in damage_in(lines_of(directory))


def test_an_applied_mark_beyond_the_log_is_told(directory: Path) -> None:
    change(directory, "log:1", (3).to_bytes(8), None)

    assert damage_in(lines_of(directory)) == [(1, "raft", None)]


@pytest.mark.parametrize("table", ["streams", "filters", "segments", "positions", "sessions", "groups"])
def test_a_damaged_index_row_is_told_with_its_key(directory: Path, table: str) -> None:
    opened = DataDirectory.open(directory)
    key, value = next(opened.store.engine.scan(table, b"", b"\xff" * 9))
    opened.close()
    change(directory, table, key, flipped(value, 3))

    lines = lines_of(directory)

    assert damage_in(lines) == [(1, table, key.hex())]
    assert [line["kind"] for line in lines] == ["state", "entry", "entry", "entry", "damage"]


def test_a_damaged_format_is_told_and_the_rest_is_dumped(directory: Path) -> None:
    change(directory, "node", b"format", b"\x00" * 8)

    lines = lines_of(directory)

    assert damage_in(lines) == [(None, "node", "format")]
    assert len(lines) == 5


def test_a_dump_of_a_lost_table_goes_on_with_the_other_partitions(tmp_path: Path, entries: list[Entry]) -> None:
    (tmp_path / "shard-0").mkdir()
    engine = LmdbEngine.open(tmp_path / "shard-0")
    bring_to_format(engine)
    store = Store(engine)
    for partition in (1, 2):
        store.put_replica_state(partition, STATE)
    store.create_partition(2)
    store.append_entries(2, entries)
    store.commit()
    engine.close()

    lines = lines_of(tmp_path)

    assert [(line["partition"], line["kind"]) for line in lines if line["partition"] == 2] == [(2, "state")] + [
        (2, "entry")
    ] * 3
    assert (1, "log:1", None) in damage_in(lines)
