"""The seam below the store: ordered tables of byte strings under one transaction that is always open.

All reads and writes go through the open transaction: a write is visible to the next read at once and durable when
`commit()` returns. A crash loses everything since the last commit and nothing before it, in all tables alike. So what
is derived (an index row from an entry) may be written as soon as it is known, provided that the mark saying how far the
derivation has come is written in the same transaction.

Keys are 1 to `KEY_BYTES_MAX` bytes, compared bytewise. A batch that was handed over belongs to the engine until the
next commit and must not be changed: the engine may have to repeat it. A table that is missing raises `DamagedError`.

There are two implementations, `lmdb_engine.LmdbEngine` and, for the simulator, `memory_engine.MemoryEngine`. One
contract suite checks both.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from rewind_node.storage_errors import AppendOrderError

KEY_BYTES_MAX = 511  # LMDB's limit as it is compiled by default

Pair = tuple[bytes, bytes]  # key and value


class Reader(Protocol):
    """What can be asked of tables. `LmdbReader` is one that cannot write."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""
        ...

    def floor(self, table: str, key: bytes) -> Pair | None:
        """Return the last pair whose key is not beyond `key`, or None."""
        ...

    def last(self, table: str) -> Pair | None:
        """Return the table's last pair, or None where it is empty."""
        ...

    def count(self, table: str) -> int:
        """Return how many pairs a table holds, as it keeps count of them."""
        ...

    def scan(self, table: str, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[Pair]:
        """Yield the pairs with `start <= key < stop` in ascending or, reversed, in descending order.

        The caller finishes or drops the iterator before the next write or commit; going on with it is a bug.
        """
        ...

    def run(self, table: str, after: bytes, count: int) -> list[Pair]:
        """Return the pairs that stand next after one that is there, at most `count`; `after` is empty for the first.

        They come as they stand. In a sound table that is the order of their keys; a damaged key is where it was.
        """
        ...

    def around(self, table: str, key: bytes, count: int) -> list[Pair]:
        """Return the pairs that stand around the place where a search for a key ends, `count` on each side at most."""
        ...

    def tables(self) -> list[str]:
        """Return the tables' names, sorted."""
        ...

    def close(self) -> None:
        """Let go of the files. What was not committed is lost."""
        ...


class Engine(Reader, Protocol):
    """Tables that can be written. Failures of the disk raise `StorageFailedError`: the process must end."""

    @property
    def dirty(self) -> bool:
        """Whether anything was written since the last commit."""
        ...

    def put(self, table: str, items: Sequence[Pair]) -> None:
        """Write pairs, replacing those whose keys are there already."""
        ...

    def append(self, table: str, items: Sequence[Pair]) -> None:
        """Write pairs beyond the table's last, ascending; otherwise raise `AppendOrderError` and write none."""
        ...

    def delete(self, table: str, keys: Iterable[bytes]) -> None:
        """Delete the keys that are there."""
        ...

    def delete_range(self, table: str, start: bytes, stop: bytes, count_max: int | None = None) -> int:
        """Delete the pairs with `start <= key < stop`, the first `count_max` of them, and return how many."""
        ...

    def delete_run(self, table: str, after: bytes, count: int) -> int:
        """Delete what `run` returns, whatever the keys say, and return how many pairs that were."""
        ...

    def replace_run(self, table: str, after: bytes, count: int, items: Sequence[Pair]) -> None:
        """Delete what `run` returns and write pairs, both or, where a damaged page forbids one, neither."""
        ...

    def create_table(self, name: str) -> None:
        """Create a table unless it is there."""
        ...

    def commit(self) -> None:
        """Make everything since the last commit durable, all or nothing. Costs nothing where nothing was written."""
        ...


def check_append(table: str, last_key: bytes, items: Sequence[Pair]) -> None:
    """Raise `AppendOrderError` unless the items' keys ascend from beyond `last_key`, empty for an empty table."""
    for key, _ in items:
        if key <= last_key:
            raise AppendOrderError(f"key {key.hex()} appended to {table} does not lie beyond {last_key.hex()}")
        last_key = key
