"""Reading LMDB: one transaction, a cached cursor per table, and LMDB's errors turned into ours.

`LmdbEngine` builds on it. By itself it opens a data file without changing a byte or taking a lock, for the offline
dump.
"""

import errno
from collections.abc import Iterator
from pathlib import Path

import lmdb

from rewind_cluster.errors import DamagedError
from rewind_cluster.names import PARTITIONS_MAX
from rewind_node.disk_reserve import DiskReserve
from rewind_node.engine import Pair
from rewind_node.lmdb_pages import holds_all_pages
from rewind_node.storage_errors import StorageFailedError, StorageFullError

TABLES_MAX = PARTITIONS_MAX + 17  # a log for each partition and for partition 0; room for 16 tables shared by all
# A cursor opened on a table whose root page is damaged only spoils its transaction, which the next call then reports.
DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.BadTxnError)
DATA_FILE = "data.mdb"
RESTORE = (
    "put it back as it last was, or move the data directory away and start empty: an older copy has forgotten its votes"
)
FULL_CODES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
FULL_BYTES = (
    1 << 20
)  # LMDB reports a write cut short by a full disk as EIO; with less than this free, that is what it was


class LmdbReader:
    """Tables in an LMDB environment, as one transaction sees them."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment
        self._path = Path(environment.path())
        self._tables: dict[str, lmdb._Database] = {}
        self._cursors: dict[str, lmdb.Cursor[bytes]] = {}  # of the present transaction; a seek with one is 0.2 µs less
        self._writes = 0  # tells a scan that something was written under it
        try:
            self._open_tables()
            self._begin()
        except lmdb.Error as error:
            raise as_storage_error(error, self._path) from error

    @classmethod
    def open(cls, path: Path) -> "LmdbReader":
        """Open the environment in directory `path` for reading only. No other process may write to it meanwhile."""
        return cls(open_environment(path, readonly=True, lock=False, create=False))

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""
        try:
            return self._cursor(table).get(key)
        except lmdb.Error as error:
            raise self._failure(error) from error

    def floor(self, table: str, key: bytes) -> Pair | None:
        """Return the last pair whose key is not beyond `key`, or None."""
        try:
            cursor = self._cursor(table)
            if cursor.set_range(key):
                if cursor.key() == key or cursor.prev():
                    return cursor.item()
                return None
            return cursor.item() if cursor.last() else None
        except lmdb.Error as error:
            raise self._failure(error) from error

    def last(self, table: str) -> Pair | None:
        """Return the table's last pair, or None where it is empty."""
        try:
            cursor = self._cursor(table)
            return cursor.item() if cursor.last() else None
        except lmdb.Error as error:
            raise self._failure(error) from error

    def count(self, table: str) -> int:
        """Return how many pairs a table holds, as LMDB keeps count of them: beside its root, not on its pages."""
        try:
            return int(self._transaction.stat(self._database(table))["entries"])
        except lmdb.Error as error:
            raise self._failure(error) from error

    def scan(self, table: str, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[Pair]:
        """Yield the pairs with `start <= key < stop` in ascending or, reversed, in descending order."""
        writes = self._writes
        try:
            # A cursor of its own, because the caller may call `get` or `floor` between two pairs.
            with self._transaction.cursor(self._database(table)) as cursor:
                found = _seek_below(cursor, stop) if reverse else cursor.set_range(start)
                if not found:
                    return
                for pair in cursor.iterprev() if reverse else cursor.iternext():
                    if not start <= pair[0] < stop:
                        return
                    yield pair
                    assert writes == self._writes, "a scan goes on after a write"
        except lmdb.Error as error:
            raise self._failure(error) from error

    def run(self, table: str, after: bytes, count: int) -> list[Pair]:
        """Return the pairs that stand next after one that is there, as they stand; `after` is empty for the first."""
        try:
            cursor = self._cursor(table)
            found = seek_after(cursor, after)
            pairs: list[Pair] = []
            while found and len(pairs) < count:
                pairs.append(cursor.item())
                found = cursor.next()
        except lmdb.Error as error:
            raise self._failure(error) from error
        return pairs

    def around(self, table: str, key: bytes, count: int) -> list[Pair]:
        """Return the pairs that stand around the place where a search for a key ends, `count` on each side at most."""
        try:
            cursor = self._cursor(table)
            before = 0
            found = cursor.prev() if cursor.set_range(key) else cursor.last()
            while found and before < count:
                before += 1
                found = cursor.prev()
            ahead = cursor.next() if found else cursor.first()
            pairs: list[Pair] = []
            while ahead and len(pairs) < before + count:
                pairs.append(cursor.item())
                ahead = cursor.next()
        except lmdb.Error as error:
            raise self._failure(error) from error
        return pairs

    def tables(self) -> list[str]:
        """Return the tables' names, sorted."""
        return sorted(self._tables)

    def close(self) -> None:
        """Let go of the files. What was not committed is lost."""
        self._abort()
        self._environment.close()

    def _begin(self) -> None:
        self._transaction = self._environment.begin()

    def _abort(self) -> None:
        self._cursors.clear()
        self._transaction.abort()

    def _open_tables(self) -> None:
        """Open each table before the first transaction: a handle opened within one ends with it if it is aborted."""
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            names = list(cursor.iternext(keys=True, values=False))
        for name in names:
            self._tables[name.decode(errors="replace")] = self._environment.open_db(name, create=False)

    def _database(self, table: str) -> "lmdb._Database":
        try:
            return self._tables[table]
        except KeyError:
            raise DamagedError(f"table {table} is missing in {self._path}") from None

    def _cursor(self, table: str) -> "lmdb.Cursor[bytes]":
        cursor = self._cursors.get(table)
        if cursor is None:
            cursor = self._cursors[table] = self._transaction.cursor(self._database(table))
        return cursor

    def _failure(self, error: lmdb.Error) -> DamagedError | StorageFailedError:
        """Return our error for LMDB's, with a usable transaction if only a page was damaged."""
        failure = as_storage_error(error, self._path)
        if isinstance(failure, DamagedError):
            self._restart()  # LMDB refuses to go on with a transaction that met a damaged page
        return failure

    def _restart(self) -> None:
        self._abort()
        self._begin()


def open_environment(path: Path, **options: object) -> lmdb.Environment:
    """Open the LMDB environment in directory `path`, or raise `StorageFailedError` saying what to do."""
    file = path / DATA_FILE
    if file.exists() and not file.stat().st_size:
        raise StorageFailedError(f"{file} is empty; {RESTORE}")
    try:
        environment = lmdb.open(str(path), max_dbs=TABLES_MAX, **options)  # type: ignore[arg-type] # each caller's are literal
    except lmdb.InvalidError as error:
        raise StorageFailedError(f"{file} is not a database; {RESTORE}") from error
    except lmdb.Error as error:
        failure = as_storage_error(error, path)
        raise failure if isinstance(failure, StorageFailedError) else StorageFailedError(str(failure)) from error
    _check_length(environment, path)
    return environment


def _check_length(environment: lmdb.Environment, path: Path) -> None:
    """Refuse a file that ends before a page in use: reading that page would end the process (SIGBUS)."""
    file = path / DATA_FILE
    page_bytes = environment.stat()["psize"]
    needed_bytes = (environment.info()["last_pgno"] + 1) * page_bytes
    found_bytes = file.stat().st_size
    if found_bytes < needed_bytes and not holds_all_pages(file, page_bytes):
        environment.close()
        raise StorageFailedError(
            f"{file} is cut short: it has {found_bytes} bytes and names pages up to {needed_bytes}; {RESTORE}"
        )


def as_storage_error(error: lmdb.Error, path: Path) -> DamagedError | StorageFailedError:
    """Return our error for LMDB's: damage, a full disk, or another failure after which nothing may be trusted."""
    if isinstance(error, DAMAGE):
        return DamagedError(f"a page in {path} is damaged: {error}")
    code = getattr(error, "code", 0)  # set only on errors that come from LMDB itself
    if code in FULL_CODES or (code == errno.EIO and DiskReserve(path).free_bytes() < FULL_BYTES):
        return StorageFullError(f"the disk of {path} is full: {error}; free some space and start again")
    return StorageFailedError(
        f"storage in {path} failed: {error}; check the disk and the permissions, then start again"
    )


def seek_after(cursor: "lmdb.Cursor[bytes]", key: bytes) -> bool:
    """Move to what stands next after a key and return whether there is anything; an empty key is before all.

    Where no search finds the key, because others on its page are damaged, it is looked for from the first pair on.
    """
    if not key:
        return cursor.first()
    if cursor.set_key(key) and _step_back(cursor, key):
        return cursor.next()
    found = cursor.first()
    while found and cursor.key() != key:
        found = cursor.next()
    return found and cursor.next()


def _step_back(cursor: "lmdb.Cursor[bytes]", key: bytes) -> bool:
    """Move from a key to the first of its equals and return whether it was reached; only damage makes two equal."""
    while cursor.prev():
        if cursor.key() < key:
            return cursor.next() and cursor.key() == key
    return cursor.first() and cursor.key() == key


def _seek_below(cursor: "lmdb.Cursor[bytes]", stop: bytes) -> bool:
    """Move to the last pair whose key is below `stop` and return whether there is one."""
    return cursor.prev() if cursor.set_range(stop) else cursor.last()
