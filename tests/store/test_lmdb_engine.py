"""What only LMDB has: a map that grows, a transaction that is repeated, a disk that fails."""

import errno
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from mmap import PAGESIZE
from pathlib import Path

import lmdb
import pytest

from rewind_cluster.errors import DamagedError
from rewind_node.disk_reserve import DiskReserve
from rewind_node.lmdb_engine import COMMITS_PER_LOOK, LmdbEngine
from rewind_node.lmdb_reader import LmdbReader, as_storage_error
from rewind_node.storage_errors import AppendOrderError, StorageError, StorageFailedError, StorageFullError

TINY_MAP_BYTES = 1 << 16
PAGE_FLAGS_OFFSET = 10  # in the header of an LMDB page, after its number and a pad
Rows = list[tuple[bytes, bytes]]
Open = Callable[[int], LmdbEngine]


def rows(first: int, count: int, value_bytes: int = 200) -> Rows:
    return [(b"%08d" % number, b"v" * value_bytes) for number in range(first, first + count)]


def content(engine: LmdbReader, table: str = "t") -> Rows:
    return list(engine.scan(table, b"", b"\xff"))


def map_bytes(engine: LmdbEngine) -> int:
    size: int = engine._environment.info()["map_size"]
    return size


def with_code(error: lmdb.Error, code: int) -> lmdb.Error:
    error.__dict__["code"] = code
    return error


@pytest.fixture
def open_engine(tmp_path: Path) -> Iterator[Open]:
    opened = []

    def open_one(size: int) -> LmdbEngine:
        opened.append(LmdbEngine.open(tmp_path, map_bytes=size))
        return opened[-1]

    yield open_one
    for engine in opened:
        engine.close()


def test_a_transaction_larger_than_the_map_is_repeated_in_a_larger_one(open_engine: Open) -> None:
    engine = open_engine(TINY_MAP_BYTES)
    engine.create_table("t")
    engine.put("t", rows(0, 10))
    engine.commit()
    engine.delete("t", [b"00000003"])
    engine.delete_range("t", b"00000005", b"00000008", 2)
    engine.create_table("u")
    engine.append("u", rows(0, 10))
    engine.put("t", rows(10, 2000))
    engine.append("t", rows(9000, 2000))
    before = content(engine)
    engine.commit()
    engine.close()

    reopened = open_engine(TINY_MAP_BYTES)

    kept = [row for row in rows(0, 10) if row[0] not in (b"00000003", b"00000005", b"00000006")]
    assert before == content(reopened) == kept + rows(10, 2000) + rows(9000, 2000)
    assert content(reopened, "u") == rows(0, 10)


def test_rows_of_a_repeated_transaction_are_not_durable_before_its_commit(open_engine: Open, tmp_path: Path) -> None:
    engine = open_engine(TINY_MAP_BYTES)
    engine.create_table("t")
    engine.commit()
    engine.put("t", rows(0, 2000))
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(tmp_path / "data.mdb", copy)

    reader = LmdbReader.open(copy)

    assert content(reader) == []
    reader.close()


def test_a_map_that_fills_up_in_the_commit_itself_is_grown(open_engine: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine(TINY_MAP_BYTES)
    engine.create_table("t")
    engine.commit()
    commit = LmdbEngine._commit
    failures = [lmdb.MapFullError("planted")]

    def full_once(self: LmdbEngine) -> int:
        if failures:
            raise failures.pop()
        return commit(self)

    monkeypatch.setattr(LmdbEngine, "_commit", full_once)
    engine.put("t", rows(0, 5))

    engine.commit()

    engine.close()
    assert content(open_engine(TINY_MAP_BYTES)) == rows(0, 5)


def test_any_size_of_transaction_fits_any_filling_of_the_map(open_engine: Open) -> None:
    engine = open_engine(TINY_MAP_BYTES)
    engine.create_table("t")
    written = 0

    for count in (1, 40, 3, 90, 7, 200, 11, 500, 2, 1300):
        engine.append("t", rows(written, count))
        engine.delete("t", [b"%08d" % (written + count - 1)])
        engine.append("t", rows(written + count - 1, 1))
        engine.commit()
        written += count

    engine.close()
    assert content(open_engine(TINY_MAP_BYTES)) == rows(0, written)


def test_commits_leave_the_map_at_most_half_full(open_engine: Open) -> None:
    engine = open_engine(1 << 20)
    engine.create_table("t")
    engine.put("t", rows(0, 3000))  # some 700 KB

    for number in range(COMMITS_PER_LOOK):
        engine.put("t", rows(number, 1))
        engine.commit()

    assert map_bytes(engine) >= 2 << 20


def test_a_grown_file_opens_with_a_smaller_map_and_room_to_write(open_engine: Open) -> None:
    engine = open_engine(TINY_MAP_BYTES)
    engine.create_table("t")
    engine.put("t", rows(0, 5000))
    engine.commit()
    engine.close()

    reopened = open_engine(TINY_MAP_BYTES)
    reopened.append("t", rows(5000, 100))
    reopened.commit()

    assert content(reopened) == rows(0, 5100)


def test_a_refused_append_does_not_come_back_when_the_transaction_is_repeated(open_engine: Open) -> None:
    engine = open_engine(TINY_MAP_BYTES)
    engine.create_table("t")
    engine.append("t", rows(0, 3))
    with pytest.raises(AppendOrderError):
        engine.append("t", rows(0, 1))

    engine.append("t", rows(3, 1000))

    assert content(engine) == rows(0, 1003)


def test_a_value_of_many_pages_is_stored(open_engine: Open) -> None:
    engine = open_engine(TINY_MAP_BYTES)
    engine.create_table("t")
    value = bytes(range(256)) * 40_000

    engine.put("t", [(b"large", value)])
    engine.commit()

    assert engine.get("t", b"large") == value


@pytest.fixture
def file_size_limit() -> Iterator[Callable[[int], None]]:
    """Make this process's writes beyond a file size fail as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


def test_a_commit_that_the_disk_refuses_fails_and_so_does_everything_after_it(
    open_engine: Open, tmp_path: Path, file_size_limit: Callable[[int], None]
) -> None:
    engine = open_engine(1 << 24)
    engine.create_table("t")
    engine.put("t", rows(0, 10))
    engine.commit()
    engine.put("t", rows(10, 2000))
    file_size_limit((tmp_path / "data.mdb").stat().st_size)

    with pytest.raises(StorageFailedError):
        engine.commit()

    file_size_limit(resource.RLIM_INFINITY)
    for attempt in (engine.commit, lambda: engine.put("t", rows(0, 1)), lambda: engine.get("t", b"x")):
        with pytest.raises(StorageError):
            attempt()
    engine.close()
    assert content(open_engine(1 << 24)) == rows(0, 10)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (with_code(lmdb.DiskError("write"), errno.ENOSPC), StorageFullError),
        (with_code(lmdb.Error("write"), errno.EDQUOT), StorageFullError),
        (with_code(lmdb.Error("write"), errno.EFBIG), StorageFullError),
        (with_code(lmdb.Error("fsync"), errno.EIO), StorageFailedError),
        (lmdb.CorruptedError("page"), DamagedError),
        (lmdb.PageNotFoundError("page"), DamagedError),
        (lmdb.BadTxnError("spoilt by a damaged page"), DamagedError),
        (lmdb.PanicError("meta"), StorageFailedError),
    ],
)
def test_errors_of_lmdb_say_whether_the_disk_is_full_failing_or_damaged(
    tmp_path: Path, error: lmdb.Error, expected: type[Exception]
) -> None:
    assert type(as_storage_error(error, tmp_path)) is expected


def test_a_write_cut_short_on_a_disk_without_space_counts_as_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiskReserve, "free_bytes", lambda _: 4096)

    assert type(as_storage_error(with_code(lmdb.Error("write"), errno.EIO), tmp_path)) is StorageFullError


def damage_page(path: Path, marker: bytes) -> None:
    """Make a page that holds `marker` unusable: what its header says it is."""
    data = bytearray(path.read_bytes())
    page = data.rindex(marker) // PAGESIZE * PAGESIZE
    data[page + PAGE_FLAGS_OFFSET] ^= 0xFF
    path.write_bytes(data)


@pytest.fixture
def damaged(open_engine: Open, tmp_path: Path) -> LmdbEngine:
    """Return an engine one of whose pages is damaged, that of the first key of table `t`."""
    engine = open_engine(1 << 20)
    for table in ("t", "u"):
        engine.create_table(table)
    engine.put("t", rows(0, 1000))
    engine.commit()
    engine.close()
    damage_page(tmp_path / "data.mdb", b"00000000v")
    return open_engine(1 << 20)


def test_a_damaged_page_is_told_and_leaves_the_transaction_usable(damaged: LmdbEngine) -> None:
    damaged.put("u", [(b"a", b"1")])

    for attempt in (
        lambda: damaged.get("t", b"00000000"),
        lambda: damaged.floor("t", b"00000000"),
        lambda: list(damaged.scan("t", b"", b"\xff")),
        lambda: damaged.put("t", rows(0, 1)),
        lambda: damaged.delete_range("t", b"", b"1"),
    ):
        with pytest.raises(DamagedError):
            attempt()

    assert damaged.get("u", b"a") == b"1"
    assert damaged.last("t") == rows(999, 1)[0]


def test_what_was_written_before_a_damaged_page_was_met_is_committed(damaged: LmdbEngine, open_engine: Open) -> None:
    damaged.put("u", [(b"a", b"1")])
    with pytest.raises(DamagedError):
        damaged.get("t", b"00000000")
    damaged.put("u", [(b"b", b"2")])

    damaged.commit()

    damaged.close()
    assert content(open_engine(1 << 20), "u") == [(b"a", b"1"), (b"b", b"2")]


def test_a_reader_changes_nothing(open_engine: Open, tmp_path: Path) -> None:
    engine = open_engine(1 << 20)
    engine.create_table("t")
    engine.put("t", rows(0, 10))
    engine.commit()
    engine.close()
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}

    reader = LmdbReader.open(tmp_path)
    found = content(reader)
    reader.close()

    assert found == rows(0, 10)
    assert before == {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}


def test_a_new_file_whose_name_cannot_be_made_durable_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)

    with pytest.raises(StorageFailedError, match="cannot be synced"):
        LmdbEngine.open(tmp_path)


def test_the_data_file_is_for_its_owner_alone(open_engine: Open, tmp_path: Path) -> None:
    open_engine(1 << 20)

    assert (tmp_path / "data.mdb").stat().st_mode & 0o077 == 0


def test_durability_is_never_traded(open_engine: Open) -> None:
    flags = open_engine(1 << 20)._environment.flags()

    assert (flags["sync"], flags["metasync"], flags["writemap"], flags["map_async"]) == (True, True, False, False)
