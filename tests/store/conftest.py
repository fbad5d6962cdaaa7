"""Engines under test, each with a way to lose its process, and stores on top of them."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from rewind_cluster.entry import NO_DIGEST, Entry, EntryKind
from rewind_node.engine import Engine
from rewind_node.lmdb_engine import LmdbEngine
from rewind_node.memory_engine import MemoryEngine
from rewind_node.store import Store

SMALL_MAP_BYTES = 1 << 20


class Machine(Protocol):
    """Something an engine runs on; `crash` ends the process and starts another on what was durable."""

    engine: Engine

    def crash(self) -> Engine: ...

    def stop(self) -> None: ...


class MemoryMachine:
    def __init__(self) -> None:
        self.engine = MemoryEngine()

    def crash(self) -> MemoryEngine:
        self.engine.crash()
        return self.engine

    def stop(self) -> None:
        self.engine.close()


class LmdbMachine:
    """Crashes by copying the data file as it is, transaction open, and going on with the copy."""

    def __init__(self, path: Path, map_bytes: int) -> None:
        self._path = path
        self._map_bytes = map_bytes
        self._starts = 0
        self.engine = self._start()

    def _start(self) -> LmdbEngine:
        directory = self._path / f"start-{self._starts}"
        directory.mkdir(exist_ok=True)
        return LmdbEngine.open(directory, map_bytes=self._map_bytes)

    def crash(self) -> LmdbEngine:
        survivor = self._path / f"start-{self._starts + 1}"
        survivor.mkdir()
        shutil.copy(self._path / f"start-{self._starts}" / "data.mdb", survivor)
        self._starts += 1
        self.engine.close()
        self.engine = self._start()
        return self.engine

    def stop(self) -> None:
        self.engine.close()


@pytest.fixture(params=["memory", "lmdb"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    started: Machine = MemoryMachine() if request.param == "memory" else LmdbMachine(tmp_path, SMALL_MAP_BYTES)
    yield started
    started.stop()


@pytest.fixture
def engine(machine: Machine) -> Engine:
    machine.engine.create_table("t")
    machine.engine.commit()
    return machine.engine


@pytest.fixture
def store(machine: Machine) -> Store:
    store = Store(machine.engine)
    store.create_partition(1)
    store.commit()
    return store


class Log:
    """Makes entries that continue each other."""

    def __init__(self) -> None:
        self.last: Entry | None = None

    def entry(
        self, body: bytes = b"", *, term: int = 1, kind: EntryKind = EntryKind.RECORDS, context: int = 0
    ) -> Entry:
        self.last = Entry.build(
            kind,
            term=term,
            index=self.last.index + 1 if self.last else 1,
            timestamp=1,
            previous_digest=self.last.digest if self.last else NO_DIGEST,
            body=body,
            context=context,
        )
        return self.last


@pytest.fixture
def log() -> Log:
    return Log()
