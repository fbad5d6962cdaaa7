"""Where positions are in the log: the same rows from memory, from the store, and in the middle of a checkpoint."""

import pytest

from rewind_node.memory_engine import MemoryEngine
from rewind_node.position_index import PositionIndex
from rewind_node.store import PositionRow, Store

ROWS = [PositionRow(1, 3, 10), PositionRow(4, 1, 12), PositionRow(5, 5, 13), PositionRow(10, 2, 17)]
OTHER = [PositionRow(1, 100, 11)]


def gathered(stored, frozen):
    """Return an index of whose rows the first are in the store and the next in a checkpoint that is being written."""
    index = PositionIndex(1, Store(MemoryEngine()))
    for row in OTHER:
        index.add(2, row)
    for number, row in enumerate(ROWS):
        if number == stored and number:
            index.freeze()
            index.write()
        if number == frozen and frozen > stored:
            index.freeze()
        index.add(1, row)
    return index


@pytest.mark.parametrize(("stored", "frozen"), [(s, f) for s in range(4) for f in range(s, 4)])
def test_rows_are_found_wherever_they_are(stored, frozen):
    index = gathered(stored, frozen)

    for after in range(13):
        forward = list(index.rows(1, after, reverse=False))
        backward = list(index.rows(1, after, reverse=True))

        assert forward == [row for row in ROWS if row.last_position > after]
        assert backward == [row for row in reversed(ROWS) if row.first_position <= after]
    assert index.head(1) == 11
    assert index.head(2) == 100
    assert index.head(3) == 0
    assert list(index.rows(3, 0, reverse=False)) == []


def test_an_index_that_is_loaded_anew_finds_what_was_stored():
    engine = MemoryEngine()
    index = PositionIndex(1, Store(engine))
    for row in ROWS:
        index.add(1, row)
    index.freeze()
    index.write()

    loaded = PositionIndex(1, Store(engine))

    assert loaded.head(1) == 11
    assert list(loaded.rows(1, 4, reverse=False)) == ROWS[2:]
