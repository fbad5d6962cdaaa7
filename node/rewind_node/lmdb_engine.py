"""The engine that keeps a node's data: one LMDB environment, one write transaction, always open.

Rules, each measured (node/README.md, "Storage"):

* `sync` and `metasync` on, `writemap` off: anything else loses commits in a power cut, or turns a full disk into
  SIGBUS.
* LMDB reports an append out of order by a count, not by an exception, so the count is looked at.
* A full memory map kills the transaction and nothing of it is kept. So the operations since the last commit are
  remembered (by reference, the batches are not copied), the map is doubled, and the same transaction is repeated. The
  map is also doubled at a commit that leaves it more than half full, so that this is rare.
* After a failed commit the next one may succeed although data is gone. So a failed engine stays failed.

Everything happens on one thread and there are no long readers: one held open would keep every page from being reused.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import lmdb

from rewind_node.engine import Pair, check_append
from rewind_node.lmdb_reader import LmdbReader, open_environment, seek_after
from rewind_node.storage_errors import StorageFailedError

MAP_BYTES = 1 << 30  # costs address space only; a node with less data than half of it never remaps
COMMITS_PER_LOOK = 32  # at how full the map is, which takes as long as a small write; one that is full is grown, too
FILE_MODE = 0o600  # events are nobody else's to read


class LmdbEngine(LmdbReader):
    """An `Engine` over the LMDB environment in one directory."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._journal: list[tuple[Callable[..., int], tuple[Any, ...]]] = []  # what to repeat should the map be full
        self._map_bytes = environment.info()["map_size"]
        self._page_bytes = environment.stat()["psize"]
        self._commits = 0
        super().__init__(environment)

    @classmethod
    def open(cls, path: Path, map_bytes: int = MAP_BYTES) -> "LmdbEngine":
        """Open or create the environment in directory `path`. The caller keeps other processes away."""
        environment = open_environment(
            path, map_size=map_bytes, mode=FILE_MODE, sync=True, metasync=True, writemap=False
        )
        sync_directory(path)
        return cls(environment)

    @property
    def dirty(self) -> bool:
        """Whether anything was written since the last commit."""
        return bool(self._journal)

    def put(self, table: str, items: Sequence[Pair]) -> None:
        """Write pairs, replacing those whose keys are there already."""
        self._write(LmdbEngine._put, table, items)

    def append(self, table: str, items: Sequence[Pair]) -> None:
        """Write pairs beyond the table's last, ascending; otherwise raise `AppendOrderError` and write none."""
        self._write(LmdbEngine._append, table, items)

    def delete(self, table: str, keys: Iterable[bytes]) -> None:
        """Delete the keys that are there."""
        self._write(LmdbEngine._delete, table, tuple(keys))

    def delete_range(self, table: str, start: bytes, stop: bytes, count_max: int | None = None) -> int:
        """Delete the pairs with `start <= key < stop`, the first `count_max` of them, and return how many."""
        return self._write(LmdbEngine._delete_range, table, start, stop, count_max)

    def delete_run(self, table: str, after: bytes, count: int) -> int:
        """Delete what `run` returns, by its place, and return how many pairs that were."""
        return self._write(LmdbEngine._delete_run, table, after, count)

    def replace_run(self, table: str, after: bytes, count: int, items: Sequence[Pair]) -> None:
        """Delete what `run` returns and write pairs, both or, where a damaged page forbids one, neither."""
        self._write(LmdbEngine._replace_run, table, after, count, items)

    def create_table(self, name: str) -> None:
        """Create a table unless it is there."""
        if name not in self._tables:
            self._write(LmdbEngine._create, name)

    def commit(self) -> None:
        """Make everything since the last commit durable, all or nothing. Costs nothing where nothing was written."""
        if not self._journal:
            return
        self._attempt(LmdbEngine._commit)
        self._journal.clear()
        self._begin_with_room()

    def _write(self, operation: Callable[..., int], *arguments: Any) -> int:
        """Run one operation and remember it if it changed something."""
        count = self._attempt(operation, *arguments)
        if count:
            self._journal.append((operation, arguments))
        return count

    def _attempt(self, operation: Callable[..., int], *arguments: Any) -> int:
        self._writes += 1
        try:
            return operation(self, *arguments)
        except lmdb.MapFullError:
            return self._repeat_in_larger_map(operation, *arguments)
        except lmdb.Error as error:
            raise self._failure(error) from error

    def _repeat_in_larger_map(self, operation: Callable[..., int], *arguments: Any) -> int:
        """Do the whole transaction again, with `operation` as its last, in a map that is large enough."""
        while True:
            try:
                self._abort()
                self._set_map_bytes(2 * self._map_bytes)
                self._begin_again()
                return operation(self, *arguments)
            except lmdb.MapFullError:
                continue
            except lmdb.Error as error:
                raise self._failure(error) from error

    def _restart(self) -> None:
        """Do the transaction again up to the operation that met a damaged page."""
        self._abort()
        try:
            self._begin_again()
        except lmdb.Error as error:
            raise StorageFailedError(f"a damaged page in {self._path} cannot be passed: {error}") from error

    def _begin_again(self) -> None:
        self._begin()
        for operation, arguments in self._journal:
            operation(self, *arguments)

    def _begin_with_room(self) -> None:
        """Begin the next transaction, now and then after making sure that the map is at most half full."""
        self._commits += 1
        try:
            if self._commits % COMMITS_PER_LOOK == 0:
                used_bytes = (self._environment.info()["last_pgno"] + 1) * self._page_bytes
                if 2 * used_bytes > self._map_bytes:
                    self._set_map_bytes(2 * max(used_bytes, self._map_bytes))
            self._begin()
        except lmdb.Error as error:
            raise self._failure(error) from error

    def _set_map_bytes(self, map_bytes: int) -> None:
        self._environment.set_mapsize(map_bytes)
        self._map_bytes = map_bytes

    def _begin(self) -> None:
        self._transaction = self._environment.begin(write=True)

    def _abort(self) -> None:
        self._cursors.clear()
        with contextlib.suppress(lmdb.Error):  # a commit that failed has ended the transaction itself
            self._transaction.abort()

    # What follows are the operations as they are repeated: each returns how much it changed.

    def _put(self, table: str, items: Sequence[Pair]) -> int:
        if not items:
            return 0
        self._cursor(table).putmulti(items)
        return len(items)

    def _append(self, table: str, items: Sequence[Pair]) -> int:
        cursor = self._cursor(table)
        check_append(table, cursor.key() if cursor.last() else b"", items)
        _, added = cursor.putmulti(items, append=True)
        if added != len(items):
            raise StorageFailedError(
                f"{table} in {self._path} took {added} of {len(items)} appended keys; check the disk"
            )
        return added

    def _delete(self, table: str, keys: tuple[bytes, ...]) -> int:
        database = self._database(table)
        return sum(self._transaction.delete(key, db=database) for key in keys)

    def _delete_range(self, table: str, start: bytes, stop: bytes, count_max: int | None) -> int:
        cursor = self._cursor(table)
        count = 0
        found = cursor.set_range(start)
        while found and count != count_max and start <= cursor.key() < stop:  # what a damaged key hides may be below
            cursor.delete()
            count += 1
            found = bool(cursor.key())
        return count

    def _delete_run(self, table: str, after: bytes, count: int) -> int:
        cursor = self._cursor(table)
        deleted = 0
        found = seek_after(cursor, after)
        while found and deleted < count:
            cursor.delete()  # which moves on to the next
            deleted += 1
            found = bool(cursor.key())
        return deleted

    def _replace_run(self, table: str, after: bytes, count: int, items: Sequence[Pair]) -> int:
        return self._delete_run(table, after, count) + self._put(table, items)

    def _create(self, name: str) -> int:
        # The handle ends with this transaction if it is aborted; repeating the transaction then puts a new one here.
        self._tables[name] = self._environment.open_db(name.encode(), txn=self._transaction)
        return 1

    def _commit(self) -> int:
        self._cursors.clear()
        self._transaction.commit()
        return 1


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: a new file that is synced is lost with its name otherwise."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageFailedError(f"the directory {path} cannot be synced: {error.strerror}; check the disk") from error
