"""Where a stored log ends: as three witnesses say who cannot all be wrong in the same way.

A log that is taken to end before what it held has forgotten entries that it acknowledged, and its votes then elect
leaders without them. So where a log ends is never believed of one place:

* the key of its last row, which no checksum covers;
* the entry in that row, whose own checksum covers the index it tells;
* the number of its rows, since a log starts at 1 and has no holes. The engine keeps it apart from the rows: a page that
  lost its last rows, or was lost itself, leaves another sound row at the end, and another number than was counted.

The log is sound only if they agree; whoever mends it goes as far as the farthest of them.
"""

from rewind_cluster.entry import Entry
from rewind_cluster.errors import DamagedError
from rewind_node import store_layout as layout
from rewind_node.engine import Reader


def log_ends(reader: Reader, partition: int) -> set[int]:
    """Return the indexes that a log may end at: one if it is sound, 0 for an empty log."""
    table = layout.log_table(partition)
    ends = {reader.count(table)}
    pair = reader.last(table)
    if pair is not None:
        key, data = pair
        said = index_of(data)
        ends |= {layout.index_of_key(key)} if said is None else {layout.index_of_key(key), said}
    return ends


def log_end(reader: Reader, partition: int) -> int:
    """Return the index that a log ends at, or raise `DamagedError` if that is not certain."""
    ends = log_ends(reader, partition)
    if len(ends) > 1:
        raise DamagedError(f"the log of partition {partition} may end at {' or '.join(map(str, sorted(ends)))}")
    return ends.pop()


def index_of(data: bytes) -> int | None:
    """Return which entry these bytes are, or None if they are damaged."""
    try:
        return Entry.decode(data).index
    except DamagedError:
        return None
