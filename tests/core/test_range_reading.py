"""Ranges read from a log: an index that leads elsewhere is damage, and so is a run out of its place."""

import pytest

from rewind_cluster.columns import Events, pack_events
from rewind_cluster.entry import NO_DIGEST, Entry, EntryKind
from rewind_cluster.errors import DamagedError
from rewind_cluster.names import MESSAGE_BYTES_MAX
from rewind_cluster.records import Run, pack_run
from rewind_node.applying import EventIndex
from rewind_node.memory_engine import MemoryEngine
from rewind_node.range_reading import Limits, RangeReader
from rewind_node.selecting import Selection
from rewind_node.store import PositionRow, Store

CONTEXT = 1
LIMITS = Limits(4096, 1 << 20, 1 << 30)


def entry_of(index, first_position, places=(0, 1), count=2, context=CONTEXT):
    events = pack_events(Events(bytes(16), ["T"], [b"d"], None))
    body = b"".join(pack_run(Run(1, 1 + place, 1, place, ["s"], [1], None, None), events) for place in places)
    return Entry.build(
        EntryKind.RECORDS,
        term=1,
        index=index,
        timestamp=9,
        previous_digest=NO_DIGEST,
        body=body,
        context=context,
        first_position=first_position,
        event_count=count,
    )


def read(entries, rows, after=0, *, reverse=False):
    store = Store(MemoryEngine())
    store.create_partition(1)
    store.append_entries(1, entries)
    index = EventIndex(1, store, 0)
    for row in rows:
        index.positions.add(CONTEXT, row)
    return RangeReader(store).read(index, CONTEXT, after, Selection(), LIMITS, reverse=reverse)


def test_a_sound_log_is_read_to_its_end():
    found = read([entry_of(1, 1), entry_of(2, 3)], [PositionRow(1, 2, 1), PositionRow(3, 2, 2)])

    assert (found.after, found.through, found.events, len(found.rows)) == (0, 4, 4, 4)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("entries", "rows"),
    [
        ([entry_of(1, 1)], [PositionRow(1, 2, 2)]),  # no such entry
        ([entry_of(1, 1), entry_of(2, 3)], [PositionRow(1, 2, 2), PositionRow(3, 2, 1)]),  # another's
        ([entry_of(1, 1, context=2)], [PositionRow(1, 2, 1)]),  # another context's
        ([entry_of(1, 1)], [PositionRow(1, 3, 1)]),  # another count
        ([entry_of(1, 1, places=(0, 2))], [PositionRow(1, 2, 1)]),  # a run out of place
        ([entry_of(1, 1, places=(0,))], [PositionRow(1, 2, 1)]),  # fewer events than its header says
        ([entry_of(1, 1), entry_of(2, 5)], [PositionRow(1, 2, 1), PositionRow(5, 2, 2)]),  # a hole
        ([entry_of(1, 1), entry_of(2, 2)], [PositionRow(1, 2, 1), PositionRow(2, 2, 2)]),  # an overlap
        ([entry_of(1, 3)], [PositionRow(3, 2, 1)]),  # the beginning is missing
    ],
)
def test_an_index_that_does_not_fit_the_log_is_damage(entries, rows, reverse):
    with pytest.raises(DamagedError):
        read(entries, rows, after=rows[-1].last_position if reverse else 0, reverse=reverse)


def test_a_damaged_entry_is_never_served():
    entry = entry_of(1, 1)
    store = Store(MemoryEngine())
    store.create_partition(1)
    store.append_entries(1, [entry])
    store.engine.put("log:1", [((1).to_bytes(8), entry.data[:-1] + b"\xff")])
    index = EventIndex(1, store, 0)
    index.positions.add(CONTEXT, PositionRow(1, 2, 1))

    with pytest.raises(DamagedError, match="checksum"):
        RangeReader(store).read(index, CONTEXT, 0, Selection(), LIMITS, reverse=False)


def test_the_memory_of_entries_read_lately_is_bounded():
    store = Store(MemoryEngine())
    store.create_partition(1)
    index = EventIndex(1, store, 0)
    for number in range(1, 31):
        data = pack_events(Events(bytes(16), ["T"], [bytes(1 << 20)], None))
        body = pack_run(Run(1, number, 1, 0, ["s"], [number], None, None), data)
        entry = Entry.build(
            EntryKind.RECORDS,
            term=1,
            index=number,
            timestamp=number,
            previous_digest=NO_DIGEST,
            body=body,
            context=CONTEXT,
            first_position=number,
            event_count=1,
        )
        store.append_entries(1, [entry])
        index.positions.add(CONTEXT, PositionRow(number, 1, number))
    reader = RangeReader(store)

    found = reader.read(index, CONTEXT, 0, Selection(), Limits(99, MESSAGE_BYTES_MAX * 9, 1 << 40), reverse=False)

    assert found.through == 30
    assert 1 <= len(reader._recent) <= 8
