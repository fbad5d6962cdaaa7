"""Rows that a damaged key has put out of order, in tables whose values all end with a checksum.

A search goes by order, so one such row, wherever a search looks at it, hides from it what stands on its other side. It
always stands beside the place where that search ends. Whoever deletes the rows of a partition, and finds no more of
them, so looks around there: of rows that contradict each other those are damaged that fail their checksum. They are
deleted by their place, for no search finds one under the key that it had, and the search is repeated.
"""

from collections.abc import Sequence
from itertools import pairwise

from rewind_cluster.errors import DamagedError
from rewind_node.engine import Engine, Pair
from rewind_node.store_layout import unseal

REACH = 16  # rows on each side: more than are ever damaged beside each other, but by a page that is lost as a whole


def delete_strays(engine: Engine, table: str, key: bytes) -> int:
    """Delete the rows that stand out of order around the place where a search for a key ends; return how many."""
    rows = engine.around(table, key, REACH)
    deleted = 0
    for place in reversed(_out_of_order(table, rows)):
        before = rows[place - 1][0] if place else b""
        if engine.run(table, before, 1) == [rows[place]]:  # else it is beyond reach
            deleted += engine.delete_run(table, before, 1)
    return deleted


def _out_of_order(table: str, rows: Sequence[Pair]) -> list[int]:
    """Return the places of damaged rows whose keys do not lie between those of the sound ones around them."""
    if all(one < other for (one, _), (other, _) in pairwise(rows)):
        return []
    sound = [place for place, (key, value) in enumerate(rows) if _is_sound(table, key, value)]
    return [place for place in range(len(rows)) if place not in sound and not _fits(rows, sound, place)]


def _fits(rows: Sequence[Pair], sound: Sequence[int], place: int) -> bool:
    key = rows[place][0]
    before = max((other for other in sound if other < place), default=None)
    behind = min((other for other in sound if other > place), default=None)
    return (before is None or rows[before][0] < key) and (behind is None or key < rows[behind][0])


def _is_sound(table: str, key: bytes, value: bytes) -> bool:
    try:
        unseal(table, key, value)
    except DamagedError:
        return False
    return True
