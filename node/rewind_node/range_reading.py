"""Reading a context's events by position: ranges for `read_all` and subscriptions.

Whatever is read is verified: the whole entry, that it is the one its index row promises, and that rows and runs follow
each other without a hole up to the newest position. A mismatch is `DamagedError`, never served and never skipped.

Entries that were read lately are kept, verified and unpacked, for all readers of a node: subscribers of one partition
want the same entries within a moment.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from rewind_cluster.columns import size_of
from rewind_cluster.entry import Entry
from rewind_cluster.errors import DamagedError
from rewind_cluster.names import MESSAGE_BYTES_MAX
from rewind_cluster.records import RecordKind, iterate_body, unpack_run
from rewind_node.applying import EventIndex
from rewind_node.selecting import LoggedRun, Selection
from rewind_node.store import PositionRow, Store

RECENT_BYTES_MAX = 8 * 1024 * 1024  # of entries kept; unpacked they are some four times as large: a second's appends
ENTRY_COST_BYTES = 16 * 1024  # what looking at an entry costs beside its bytes: some 30 µs, as much as reading these


@dataclass(slots=True)
class Limits:
    """How far one read goes: where it reaches any of them it ends, with at least one entry looked at.

    `bytes_max` bounds the rows, the first excepted, which has a limit of its own; `cost_max` what they cost, and what
    is looked at in vain.
    """

    count_max: int
    bytes_max: int
    cost_max: int
    first_bytes_max: int = MESSAGE_BYTES_MAX


@dataclass(slots=True)
class Range:
    """What a read brought: the events beyond the lower of `after` and `through` up to the higher that were wanted."""

    after: int
    through: int
    rows: list[bytes] = field(default_factory=list)  # packed
    size: int = 0  # of the rows, in bytes
    events: int = 0
    cost: int = 0
    stuck: bool = False  # the first row is over its limit

    def takes(self, row: tuple[int, bytes], limits: Limits) -> bool:
        """Add a row of so many events, unless it is one too many."""
        count, packed = row
        if len(packed) > (limits.bytes_max - self.size if self.rows else limits.first_bytes_max):
            self.stuck = not self.rows
            return False
        self.rows.append(packed)
        self.size += len(packed)
        self.cost += len(packed)
        self.events += count
        return True

    def is_full(self, limits: Limits) -> bool:
        """Whether any limit has been reached."""
        return self.events >= limits.count_max or self.size >= limits.bytes_max or self.cost >= limits.cost_max


class RangeReader:
    """Reads by position of all partitions of one node."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recent: OrderedDict[tuple[int, int], tuple[int, list[LoggedRun]]] = OrderedDict()
        self._recent_bytes = 0

    def read(
        self, index: EventIndex, context: int, after: int, selection: Selection, limits: Limits, *, reverse: bool
    ) -> Range:
        """Return the range that begins at `after`; it ends where a run ends, at the latest where the context does."""
        found = Range(after, after)
        if after < index.position(context) if not reverse else after > 0:
            for runs, cost in self._entries(index, context, after, reverse=reverse):
                found.cost += cost
                if not _take(found, runs, selection, limits, reverse=reverse) or found.is_full(limits):
                    break
        return found

    def _entries(
        self, index: EventIndex, context: int, after: int, *, reverse: bool
    ) -> Iterator[tuple[list[LoggedRun], int]]:
        """Yield the runs of each entry, and what it cost to read, from the one that holds the first event wanted on."""
        head = index.position(context)
        start = min(after, head)
        border = start if reverse else start + 1  # the next position that must come
        first = True
        for row in index.positions.rows(context, start, reverse=reverse):
            # The first row may hold positions before the range; each one after it begins where the one before ends.
            beginning = row.last_position if reverse else row.first_position
            if not row.first_position <= border <= row.last_position or (beginning != border and not first):
                break
            yield self._runs(index.partition, context, row)
            first = False
            border = row.first_position - 1 if reverse else row.last_position + 1
        if border != (0 if reverse else head + 1):
            raise DamagedError(f"context {context} has a hole at position {border} of partition {index.partition}")

    def _runs(self, partition: int, context: int, row: PositionRow) -> tuple[list[LoggedRun], int]:
        key = (partition, row.index)
        kept = self._recent.get(key)
        if kept is not None:
            self._recent.move_to_end(key)
            return kept[1], ENTRY_COST_BYTES
        data = self._store.entry(partition, row.index)
        runs = _unpack(data, context, row)
        self._keep(key, len(data), runs)
        return runs, ENTRY_COST_BYTES + len(data)

    def _keep(self, key: tuple[int, int], size: int, runs: list[LoggedRun]) -> None:
        self._recent[key] = (size, runs)
        self._recent_bytes += size
        while self._recent_bytes > RECENT_BYTES_MAX:
            _, (dropped, _) = self._recent.popitem(last=False)
            self._recent_bytes -= dropped


def _take(found: Range, runs: list[LoggedRun], selection: Selection, limits: Limits, *, reverse: bool) -> bool:
    """Add what is wanted of an entry's runs; return False where the range has to end among them."""
    for logged in reversed(runs) if reverse else runs:
        if logged.position > found.through if reverse else logged.last_position <= found.through:
            continue
        low, high = (1, found.through) if reverse else (found.through + 1, logged.last_position)
        row = selection.pick(logged, low, high)
        if row is not None and not found.takes(row, limits):
            return False
        found.through = logged.position - 1 if reverse else logged.last_position
        if found.is_full(limits):
            return False
    return True


def _unpack(data: bytes, context: int, row: PositionRow) -> list[LoggedRun]:
    """Return an entry's runs, verified against its row and against each other."""
    entry = Entry.decode(data, with_digest=False)  # it was verified when it was appended here; the checksums remain
    if (entry.context, entry.index, entry.first_position, entry.event_count) != (
        context,
        row.index,
        row.first_position,
        row.count,
    ):
        raise DamagedError(f"the index of position {row.first_position} leads to another entry than {row.index}")
    runs: list[LoggedRun] = []
    place = 0
    for record in iterate_body(entry.body):
        if record.kind != RecordKind.RUN:
            continue
        run = unpack_run(record.payload)
        if run.place != place:
            raise DamagedError(f"entry {entry.index} has a run at {run.place}, not at {place}")
        runs.append(LoggedRun(entry.first_position + place, entry.timestamp + place, run, record.events))
        place += size_of(run.counts, len(run.streams))
    if place != entry.event_count:
        raise DamagedError(f"entry {entry.index} holds {place} events, its header says {entry.event_count}")
    return runs
