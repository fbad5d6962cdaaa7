"""An engine in memory, for the simulator: the same contract as LMDB's, and a crash on demand.

A table is a dictionary beside the sorted list of its keys. Every write records how to undo it, so that a commit only
forgets the record and a crash replays it backwards: both cost what was written since the last commit, not what is
stored.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence

from rewind_cluster.errors import DamagedError
from rewind_node.engine import KEY_BYTES_MAX, Pair, check_append


class _Table:
    """One ordered table: `keys` is sorted, `values` has exactly these keys."""

    __slots__ = ("keys", "values")

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: dict[bytes, bytes] = {}

    def set(self, key: bytes, value: bytes) -> None:
        if key not in self.values:
            if self.keys and key < self.keys[-1]:
                insort(self.keys, key)
            else:
                self.keys.append(key)
        self.values[key] = value

    def remove(self, key: bytes) -> None:
        del self.values[key]
        del self.keys[bisect_left(self.keys, key)]


class MemoryEngine:
    """Ordered tables in memory. `crash()` drops what was not committed, as the loss of the process would."""

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}
        self._undo: list[tuple[str, bytes, bytes | None]] = []  # table, key, the value before; b"" for the table itself
        self._writes = 0  # tells a scan that something was written under it

    @property
    def dirty(self) -> bool:
        """Whether anything was written since the last commit."""
        return bool(self._undo)

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return the value of `key`, or None."""
        return self._table(table).values.get(key)

    def floor(self, table: str, key: bytes) -> Pair | None:
        """Return the last pair whose key is not beyond `key`, or None."""
        found = self._table(table)
        place = bisect_right(found.keys, key)
        return self._pair(found, place - 1) if place else None

    def last(self, table: str) -> Pair | None:
        """Return the table's last pair, or None where it is empty."""
        found = self._table(table)
        return self._pair(found, -1) if found.keys else None

    def count(self, table: str) -> int:
        """Return how many pairs a table holds."""
        return len(self._table(table).keys)

    def scan(self, table: str, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[Pair]:
        """Yield the pairs with `start <= key < stop` in ascending or, reversed, in descending order."""
        found = self._table(table)
        places = range(bisect_left(found.keys, start), bisect_left(found.keys, stop))
        writes = self._writes
        for place in reversed(places) if reverse else places:
            yield self._pair(found, place)
            assert writes == self._writes, "a scan goes on after a write"

    def run(self, table: str, after: bytes, count: int) -> list[Pair]:
        """Return the pairs next after one that is there, at most `count`; `after` is empty for the first."""
        found = self._table(table)
        if after and after not in found.values:
            return []
        first = bisect_right(found.keys, after)
        return [(key, found.values[key]) for key in found.keys[first : first + count]]

    def around(self, table: str, key: bytes, count: int) -> list[Pair]:
        """Return the pairs that stand around the place of a key, `count` on each side at most."""
        found = self._table(table)
        place = bisect_left(found.keys, key)
        return [(each, found.values[each]) for each in found.keys[max(0, place - count) : place + count]]

    def tables(self) -> list[str]:
        """Return the tables' names, sorted."""
        return sorted(self._tables)

    def put(self, table: str, items: Sequence[Pair]) -> None:
        """Write pairs, replacing those whose keys are there already."""
        found = self._table(table)
        self._writes += 1
        for key, value in items:
            assert 1 <= len(key) <= KEY_BYTES_MAX, "a key is 1 to 511 bytes"
            self._undo.append((table, key, found.values.get(key)))
            found.set(key, value)

    def append(self, table: str, items: Sequence[Pair]) -> None:
        """Write pairs beyond the table's last, ascending; otherwise raise `AppendOrderError` and write none."""
        last = self.last(table)
        check_append(table, last[0] if last else b"", items)
        self.put(table, items)

    def delete(self, table: str, keys: Iterable[bytes]) -> None:
        """Delete the keys that are there."""
        found = self._table(table)
        self._writes += 1
        for key in keys:
            if key in found.values:
                self._undo.append((table, key, found.values[key]))
                found.remove(key)

    def delete_range(self, table: str, start: bytes, stop: bytes, count_max: int | None = None) -> int:
        """Delete the pairs with `start <= key < stop`, the first `count_max` of them, and return how many."""
        found = self._table(table)
        self._writes += 1
        first, beyond = bisect_left(found.keys, start), bisect_left(found.keys, stop)
        if count_max is not None:
            beyond = min(beyond, first + count_max)
        doomed = found.keys[first:beyond]
        self._undo += [(table, key, found.values.pop(key)) for key in doomed]
        del found.keys[first:beyond]
        return len(doomed)

    def delete_run(self, table: str, after: bytes, count: int) -> int:
        """Delete what `run` returns, and return how many pairs that were."""
        doomed = [key for key, _ in self.run(table, after, count)]
        self.delete(table, doomed)
        return len(doomed)

    def replace_run(self, table: str, after: bytes, count: int, items: Sequence[Pair]) -> None:
        """Delete what `run` returns and write pairs."""
        self.delete_run(table, after, count)
        self.put(table, items)

    def create_table(self, name: str) -> None:
        """Create a table unless it is there."""
        if name not in self._tables:
            self._tables[name] = _Table()
            self._undo.append((name, b"", None))

    def commit(self) -> None:
        """Make everything since the last commit survive a crash."""
        self._writes += 1
        self._undo.clear()

    def crash(self) -> None:
        """Lose everything since the last commit, as a process that is killed does."""
        self._writes += 1
        for name, key, before in reversed(self._undo):
            if not key:
                del self._tables[name]
            elif before is None:
                self._tables[name].remove(key)
            else:
                self._tables[name].set(key, before)
        self._undo.clear()

    def close(self) -> None:
        """Lose what was not committed; the committed rest can be used again, like files reopened."""
        self.crash()

    def _table(self, name: str) -> _Table:
        try:
            return self._tables[name]
        except KeyError:
            raise DamagedError(f"table {name} is missing") from None

    @staticmethod
    def _pair(table: _Table, place: int) -> Pair:
        key = table.keys[place]
        return key, table.values[key]
