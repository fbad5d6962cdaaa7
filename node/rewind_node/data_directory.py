"""A node's data directory: who may use it, and in which format it is.

    DATA-DIR/lock               held by the one process that uses the directory; names its PID
    DATA-DIR/shard-0/data.mdb   the LMDB environment, see `store_layout`; lock.mdb beside it is LMDB's own

`shard-0` gets its name when its database is there. So one without has lost it, and is never taken for a new one, which
would forget its votes.

The row `format` of table `node` says which layout the rest has. That row and its table keep their shape in every
version, so that an old program can tell that the data is newer than itself before it reads anything else.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rewind_node.disk_reserve import DiskReserve
from rewind_node.engine import Engine, Reader
from rewind_node.lmdb_engine import LmdbEngine, sync_directory
from rewind_node.lmdb_reader import DATA_FILE, RESTORE
from rewind_node.storage_errors import DataDirectoryInUseError, NewerFormatError, StorageFailedError
from rewind_node.store import Store
from rewind_node.store_layout import NODE, seal, unseal

FORMAT_VERSION = 1
FORMAT_KEY = b"format"
FORMAT_BYTES = 4
DIRECTORY_MODE = 0o700  # events are nobody else's to read
SHARD = "shard-0"
DRAFT = "shard-0.new"
LOCK = "lock"
PID_BYTES_MAX = 32

Migrations = Mapping[int, Callable[[Engine], None]]
MIGRATIONS: Migrations = {}  # from a version to the next; each runs in one transaction with its new format row


class DataDirectoryLock:
    """The exclusive lock of a data directory. The system lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Take the lock or raise `DataDirectoryInUseError`. Without `create` nothing in the directory is changed."""
        self._create = create
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT if create else os.O_RDONLY, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return  # no node ever ran here, or the data was copied without the lock: nobody holds it
        except BlockingIOError:
            raise self._in_use(path) from None
        except OSError as error:
            raise StorageFailedError(f"the data directory {path} cannot be locked: {error.strerror}") from error
        if create:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let another process have the directory."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _in_use(self, path: Path) -> DataDirectoryInUseError:
        assert self._descriptor is not None
        pid = os.pread(self._descriptor, PID_BYTES_MAX, 0).decode(errors="replace")
        self.release()
        return DataDirectoryInUseError(
            f"the data directory {path} is in use by process {pid or 'unknown'}; stop it, or choose another directory"
        )


class DataDirectory:
    """A locked, opened data directory with its store and its disk reserve."""

    def __init__(self, path: Path, lock: DataDirectoryLock, engine: LmdbEngine) -> None:
        self.path = path
        self.store = Store(engine)
        self.reserve = DiskReserve(path)
        self._lock = lock
        self._engine = engine

    @classmethod
    def open(cls, path: Path) -> "DataDirectory":
        """Create the directory if need be, lock it, open the store and bring it to this program's format.

        Raises `DataDirectoryInUseError`, `NewerFormatError`, `StorageFailedError` or `DamagedError`.
        """
        _create_directory(path)
        lock = DataDirectoryLock(path, create=True)
        engine = None
        try:
            if not (path / SHARD).is_dir():
                _create_shard(path)
            _check_database(path / SHARD)
            engine = LmdbEngine.open(path / SHARD)
            bring_to_format(engine)
            directory = cls(path, lock, engine)
            directory.store.commit()
        except BaseException:
            if engine is not None:
                engine.close()
            lock.release()
            raise
        return directory

    def store_bytes(self) -> int:
        """Return the size of the database file."""
        return (self.path / SHARD / DATA_FILE).stat().st_size

    def close(self) -> None:
        """Close the store and let go of the lock. What was not committed is lost."""
        self._engine.close()
        self._lock.release()


def bring_to_format(engine: Engine, version: int = FORMAT_VERSION, migrations: Migrations = MIGRATIONS) -> None:
    """Write the format into empty data, leave data in this format alone, migrate older data step by step."""
    if not engine.tables():
        engine.create_table(NODE)
        _put_format(engine, version)
        engine.commit()
        return
    stored = read_format(engine)
    check_format(stored, version)
    while stored < version:
        migrations[stored](engine)
        stored += 1
        _put_format(engine, stored)
        engine.commit()


def read_format(reader: Reader) -> int:
    """Return the stored format; data without one is somebody else's and raises `StorageFailedError`."""
    value = reader.get(NODE, FORMAT_KEY) if NODE in reader.tables() else None
    if value is None:
        raise StorageFailedError("the database is not Rewind's: it names no format; choose another data directory")
    return int.from_bytes(unseal(NODE, FORMAT_KEY, value))


def check_format(stored: int, version: int = FORMAT_VERSION) -> None:
    """Raise `NewerFormatError` where stored data has a format this program does not know."""
    if stored > version:
        raise NewerFormatError(
            f"the data has format {stored}, this program knows up to {version}; nothing was changed; upgrade it"
        )


def _put_format(engine: Engine, version: int) -> None:
    payload = version.to_bytes(FORMAT_BYTES)
    engine.put(NODE, [(FORMAT_KEY, seal(FORMAT_KEY, payload))])


def _create_directory(path: Path) -> None:
    """Create the data directory, with its name durable, or raise `StorageFailedError`."""
    with _creating(path):
        for directory in reversed((path, *path.absolute().parents)):
            if not directory.is_dir():
                directory.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
                sync_directory(directory.parent)


def _check_database(shard: Path) -> None:
    if not (shard / DATA_FILE).is_file():
        raise StorageFailedError(f"{shard / DATA_FILE} is missing; {RESTORE}")


def _create_shard(path: Path) -> None:
    draft = path / DRAFT
    with _creating(path):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=DIRECTORY_MODE)
        LmdbEngine.open(draft).close()
        draft.rename(path / SHARD)
        sync_directory(path)


@contextmanager
def _creating(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailedError(
            f"the data directory {path} cannot be created: {error.strerror}: {error.filename}; "
            "choose another, or mend its permissions"
        ) from error
