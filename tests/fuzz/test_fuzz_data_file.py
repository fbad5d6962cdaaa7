"""The data file of a node, cut short by a copy that did not end, a full disk or a file system: told, never a SIGBUS."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing.material import LONG, LONG_FACTOR

from rewind_node.data_directory import DataDirectory
from rewind_node.dump import dump
from rewind_node.lmdb_engine import LmdbEngine
from rewind_node.lmdb_pages import holds_all_pages
from rewind_node.lmdb_reader import LmdbReader
from rewind_node.storage_errors import StorageFailedError

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CUTS = 40 * (LONG_FACTOR if LONG else 1)
READ_EACH = """
import os, shutil, sys
from pathlib import Path
from rewind_cluster.errors import DamagedError
from rewind_node.lmdb_engine import LmdbEngine
from rewind_node.lmdb_reader import LmdbReader
from rewind_node.storage_errors import StorageFailedError

source, copy = Path(sys.argv[1]), Path(sys.argv[2])
for cut in map(int, sys.argv[3:]):
    for kind in (LmdbReader, LmdbEngine):
        copy.mkdir()
        shutil.copy(source / "data.mdb", copy)
        os.truncate(copy / "data.mdb", cut)
        try:
            opened = kind.open(copy)
            for table in opened.tables():
                for key, value in opened.scan(table, b"", b"\\xff" * 9):
                    value[-1]
            if kind is LmdbEngine:
                opened.put("t", [(b"new", bytes(20_000))])
                opened.commit()
            opened.close()
            print("read", flush=True)
        except (DamagedError, StorageFailedError) as error:
            print(error, flush=True)
        shutil.rmtree(copy)
"""


def filled(path: Path) -> int:
    """Fill a database with pages of every sort, deep trees and large values, and return its size."""
    draw = random.Random(1)
    engine = LmdbEngine.open(path)
    for table in ("t", "log"):
        engine.create_table(table)
    for batch in range(12):
        engine.append("log", [((batch * 20 + place).to_bytes(8), draw.randbytes(300)) for place in range(20)])
        engine.put("t", [(draw.randbytes(200), draw.randbytes(draw.choice([10, 9000]))) for _ in range(15)])
        engine.delete_range("t", b"", b"\x20")
        engine.commit()
    engine.close()
    return (path / "data.mdb").stat().st_size


def test_a_data_file_that_was_cut_short_anywhere_is_refused_or_whole(tmp_path: Path) -> None:
    size = filled(tmp_path)
    draw = random.Random(None if LONG else 1)
    edges = [
        1,
        PAGE_BYTES,
        2 * PAGE_BYTES - 1,
        2 * PAGE_BYTES,
        size - PAGE_BYTES - 1,
        size - PAGE_BYTES,
        size - 1,
        size,
    ]
    cuts = [*edges, *(draw.randrange(2 * PAGE_BYTES, size) for _ in range(CUTS))]

    arguments = [sys.executable, "-c", READ_EACH, str(tmp_path), str(tmp_path / "copy"), *map(str, cuts)]
    child = subprocess.run(arguments, capture_output=True, text=True, check=False)

    told = child.stdout.splitlines()
    assert (child.returncode, child.stderr, len(told)) == (0, "", 2 * len(cuts))
    assert told[2 * edges.index(size) :][:2] == ["read", "read"]
    assert all(line == "read" or "cut short" in line or "is not a database" in line for line in told)
    assert sum("cut short" in line for line in told) > CUTS


def test_a_data_file_that_ends_before_pages_nobody_uses_is_whole(tmp_path: Path) -> None:
    """Entries that are truncated in the turn that brought them take pages at the end which are never written."""
    engine = LmdbEngine.open(tmp_path)
    engine.create_table("log")
    for index in range(4):
        engine.append("log", [(index.to_bytes(8), b"kept"), ((index + 1).to_bytes(8), bytes(300_000))])
        engine.delete_range("log", (index + 1).to_bytes(8), b"\xff")
        engine.commit()
    named_bytes = (engine._environment.info()["last_pgno"] + 1) * PAGE_BYTES
    engine.close()

    assert (tmp_path / "data.mdb").stat().st_size < named_bytes
    assert holds_all_pages(tmp_path / "data.mdb", PAGE_BYTES)
    for kind in (LmdbReader, LmdbEngine):
        opened = kind.open(tmp_path)
        assert len(list(opened.scan("log", b"", b"\xff"))) == 4
        opened.close()


@pytest.mark.parametrize("flag_bytes", [b"\x00\x00", b"\xff\xff", b"\x04\x00"])
def test_a_short_file_whose_tree_cannot_be_followed_is_not_whole(tmp_path: Path, flag_bytes: bytes) -> None:
    size = filled(tmp_path)
    file = tmp_path / "data.mdb"
    data = bytearray(file.read_bytes())
    for page in range(2, size // PAGE_BYTES):
        data[page * PAGE_BYTES + 10 : page * PAGE_BYTES + 12] = flag_bytes
    file.write_bytes(data)

    assert not holds_all_pages(file, PAGE_BYTES)


def test_a_node_and_a_dump_tell_of_a_data_file_that_was_cut_short(tmp_path: Path) -> None:
    DataDirectory.open(tmp_path / "node").close()
    shutil.copytree(tmp_path / "node", tmp_path / "copy")
    file = tmp_path / "copy" / "shard-0" / "data.mdb"
    os.truncate(file, file.stat().st_size - 1)
    before = file.read_bytes()

    with pytest.raises(StorageFailedError, match="cut short"):
        dump(tmp_path / "copy", lambda _: None)
    with pytest.raises(StorageFailedError, match="cut short"):
        DataDirectory.open(tmp_path / "copy")

    assert file.read_bytes() == before
