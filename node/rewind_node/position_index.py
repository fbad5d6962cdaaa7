"""Where a partition's positions are in its log: a row an entry, in the store and, above it, those gathered in memory.

It goes the way of `rewind_node.stream_index`: rows gather as entries are applied, and go to the store with
the checkpoint. A context's positions have no holes, so its rows in memory all lie above those in the store.
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain

from rewind_node.store import PositionRow, Store

_NO_ROWS: list[PositionRow] = []


def _first_position(row: PositionRow) -> int:
    return row.first_position


class PositionIndex:
    """The rows of one partition's positions."""

    def __init__(self, partition: int, store: Store) -> None:
        self._partition = partition
        self._store = store
        self._heads: dict[int, int] = {}  # newest position by context
        self._fresh: dict[int, list[PositionRow]] = {}  # by context, ascending
        self._frozen: dict[int, list[PositionRow]] = {}

    def head(self, context: int) -> int:
        """Return the newest applied position of a context, 0 for none."""
        position = self._heads.get(context)
        if position is None:
            position = self._heads[context] = self._store.position_head(self._partition, context)
        return position

    def add(self, context: int, row: PositionRow) -> None:
        """Add the row of an entry that has been applied."""
        self._heads[context] = row.last_position
        self._fresh.setdefault(context, []).append(row)

    def rows(self, context: int, after: int, *, reverse: bool) -> Iterator[PositionRow]:
        """Yield a context's rows.

        Forward those that hold a position beyond `after`; in reverse from the one that holds `after` down. Finish or
        drop it before the next write.
        """
        position = after if reverse else after + 1
        held = (self._frozen.get(context, _NO_ROWS), self._fresh.get(context, _NO_ROWS))
        lowest = next((rows[0].first_position for rows in held if rows), None)
        stored: Iterator[PositionRow] = iter(())
        if reverse or lowest is None or position < lowest:
            stored = self._store.position_rows(self._partition, context, position, reverse=reverse)
        if reverse:
            return chain(*(_from(rows, position, reverse=True) for rows in reversed(held)), stored)
        return chain(stored, *(_from(rows, position, reverse=False) for rows in held))

    # Checkpoints.

    def freeze(self) -> None:
        """Begin a checkpoint of all rows in memory."""
        assert not self._frozen
        self._frozen, self._fresh = self._fresh, {}

    def write(self) -> None:
        """Put the checkpoint's rows into the store."""
        for context, rows in self._frozen.items():
            self._store.put_positions(self._partition, context, rows)
        self._frozen = {}


def _from(rows: list[PositionRow], position: int, *, reverse: bool) -> Iterator[PositionRow]:
    """Yield rows from the one that holds a position on, or down."""
    place = bisect_right(rows, position, key=_first_position)
    if reverse:
        return (rows[number] for number in range(place - 1, -1, -1))
    if place and rows[place - 1].last_position >= position:
        place -= 1
    return (rows[number] for number in range(place, len(rows)))
