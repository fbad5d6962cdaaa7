"""Who may use a data directory, and in which format."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rewind_cluster.errors import DamagedError
from rewind_node.data_directory import (
    FORMAT_KEY,
    FORMAT_VERSION,
    DataDirectory,
    DataDirectoryLock,
    bring_to_format,
    read_format,
)
from rewind_node.lmdb_engine import LmdbEngine
from rewind_node.memory_engine import MemoryEngine
from rewind_node.storage_errors import DataDirectoryInUseError, NewerFormatError, StorageError, StorageFailedError

HOLDER = """
import sys
from pathlib import Path
from rewind_node.data_directory import DataDirectory
directory = DataDirectory.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def test_a_new_directory_is_made_with_its_parents_and_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "var" / "lib" / "node"
    directory = DataDirectory.open(path)
    directory.store.put_node_value("node", b"identity")
    directory.store.commit()
    directory.close()

    again = DataDirectory.open(path)

    assert again.store.node_value("node") == b"identity"
    assert read_format(again.store.engine) == FORMAT_VERSION
    assert path.stat().st_mode & 0o077 == 0
    again.close()


def test_what_was_not_committed_is_lost_when_a_directory_is_closed(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path)
    directory.store.put_node_value("node", b"identity")
    directory.close()

    again = DataDirectory.open(tmp_path)

    assert again.store.node_value("node") is None
    again.close()


def test_a_directory_in_use_by_another_process_is_refused_with_its_pid(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"

        with pytest.raises(DataDirectoryInUseError, match=f"process {holder.pid}") as refused:
            DataDirectory.open(tmp_path)

        assert refused.value.exit_code == 4
        holder.kill()
    DataDirectory.open(tmp_path).close()


def test_a_directory_is_opened_once_in_one_process_too(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path)

    with pytest.raises(DataDirectoryInUseError):
        DataDirectory.open(tmp_path)

    directory.close()
    DataDirectory.open(tmp_path).close()


def test_a_lock_without_create_changes_nothing_and_still_excludes(tmp_path: Path) -> None:
    DataDirectoryLock(tmp_path, create=False).release()
    left = list(tmp_path.iterdir())
    holder = DataDirectoryLock(tmp_path, create=True)

    with pytest.raises(DataDirectoryInUseError):
        DataDirectoryLock(tmp_path, create=False)

    assert left == []
    holder.release()
    DataDirectoryLock(tmp_path, create=False).release()


def test_a_newer_format_is_refused_and_untouched(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path)
    directory.close()
    engine = LmdbEngine.open(tmp_path / "shard-0")
    bring_to_format(engine, FORMAT_VERSION + 1, {FORMAT_VERSION: lambda _: None})
    engine.close()
    before = (tmp_path / "shard-0" / "data.mdb").read_bytes()

    with pytest.raises(NewerFormatError, match=f"format {FORMAT_VERSION + 1}") as refused:
        DataDirectory.open(tmp_path)

    assert refused.value.exit_code == 6
    assert (tmp_path / "shard-0" / "data.mdb").read_bytes() == before


def test_older_data_is_migrated_step_by_step_each_with_its_version() -> None:
    engine = MemoryEngine()
    bring_to_format(engine, 1, {})
    steps: list[int] = []

    def second(_: object) -> None:
        steps.append(2)
        raise StorageFailedError("cut short")

    with pytest.raises(StorageFailedError):
        bring_to_format(engine, 3, {1: lambda e: e.create_table("new"), 2: second})
    engine.crash()

    assert (read_format(engine), engine.tables(), steps) == (2, ["new", "node"], [2])
    bring_to_format(engine, 3, {2: lambda _: None})
    assert read_format(engine) == 3


def test_a_migration_that_is_cut_short_leaves_the_old_format_and_data() -> None:
    engine = MemoryEngine()
    bring_to_format(engine, 1, {})

    def broken(target: MemoryEngine) -> None:
        target.create_table("half")
        raise StorageFailedError("cut short")

    with pytest.raises(StorageFailedError):
        bring_to_format(engine, 2, {1: broken})
    engine.crash()

    assert (read_format(engine), engine.tables()) == (1, ["node"])


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shard-0").mkdir()
    engine = LmdbEngine.open(tmp_path / "shard-0")
    engine.create_table("other")
    engine.commit()
    engine.close()

    with pytest.raises(StorageFailedError, match="not Rewind's"):
        DataDirectory.open(tmp_path)


def test_a_damaged_format_row_is_told(tmp_path: Path) -> None:
    DataDirectory.open(tmp_path).close()
    engine = LmdbEngine.open(tmp_path / "shard-0")
    engine.put("node", [(FORMAT_KEY, b"\x00\x00\x00\x01\x00\x00\x00\x00")])
    engine.commit()
    engine.close()

    with pytest.raises(DamagedError, match="node"):
        DataDirectory.open(tmp_path)


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"short", bytes(8192)])
def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "shard-0").mkdir()
    (tmp_path / "shard-0" / "data.mdb").write_bytes(content)

    with pytest.raises(StorageFailedError) as refused:
        DataDirectory.open(tmp_path)

    assert refused.value.exit_code == 7
    assert "data.mdb is not a database; put it back as it last was" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (tmp_path / "shard-0" / "data.mdb").read_bytes() == content


@pytest.mark.parametrize("lost", ["emptied", "deleted"])
def test_a_directory_whose_database_is_gone_is_not_taken_for_a_new_one(tmp_path: Path, lost: str) -> None:
    DataDirectory.open(tmp_path).close()
    file = tmp_path / "shard-0" / "data.mdb"
    if lost == "emptied":
        file.write_bytes(b"")
    else:
        file.unlink()

    with pytest.raises(StorageFailedError, match="put it back as it last was"):
        DataDirectory.open(tmp_path)

    assert not file.exists() or file.read_bytes() == b""


def test_a_first_start_that_ended_before_the_database_was_there_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "shard-0.new").mkdir()
    (tmp_path / "shard-0.new" / "data.mdb").write_bytes(b"")

    DataDirectory.open(tmp_path).close()

    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["shard-0"]


def test_a_refused_directory_is_not_left_locked(tmp_path: Path) -> None:
    (tmp_path / "shard-0").mkdir()
    (tmp_path / "shard-0" / "data.mdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageFailedError):
        DataDirectory.open(tmp_path)
    shutil.rmtree(tmp_path / "shard-0")

    DataDirectory.open(tmp_path).close()


def test_a_file_in_the_directory_s_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for path in (tmp_path / "file", tmp_path / "file" / "node"):
        with pytest.raises(StorageFailedError, match="cannot be created"):
            DataDirectory.open(path)


@pytest.mark.parametrize("refused", ["os.open", "os.mkdir"])
def test_a_missing_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    def refuse(path: object, *_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(refused, refuse)

    with pytest.raises(StorageFailedError, match="Permission denied"):
        DataDirectory.open(tmp_path / "node")


def test_errors_know_the_exit_code_of_the_process_they_end() -> None:
    assert (StorageError.exit_code, StorageFailedError.exit_code) == (7, 7)
    assert (DataDirectoryInUseError.exit_code, NewerFormatError.exit_code) == (4, 6)


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path)

    assert (tmp_path / "lock").read_text() == str(os.getpid())
    directory.close()
