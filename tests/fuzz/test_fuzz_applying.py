"""What is committed is applied: any entry whose checksums are right leads to a state that can be kept, or is damage.

Only a faulty leader or a forger makes the others. They must not end the replicas that hold them.
"""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from fuzzing.borrowed import store as machines
from fuzzing.material import NUMBERS, UINT_MAX, VALUES, search
from fuzzing.stored import ANY_BODIES, COLUMN, GROUP_RECORDS
from hypothesis import given
from hypothesis import strategies as st

from rewind_cluster.cluster_map import ClusterMap, Founding, NodeInfo
from rewind_cluster.entry import NO_DIGEST, Entry, EntryKind
from rewind_cluster.errors import DamagedError
from rewind_cluster.records import RecordKind, Refusal, Run, pack_record, pack_refusal, pack_run
from rewind_node.applying import SLICE_ROWS, EventIndex
from rewind_node.memory_engine import MemoryEngine
from rewind_node.overlay import Overlay
from rewind_node.store import PositionRow, Store

SMALL = st.integers(0, 3)
BELOW_0 = st.integers(-3, -1)
SESSIONS = st.sampled_from([1, 1, 1, 2, UINT_MAX])  # 1 is there
NAMES = st.one_of(
    st.sampled_from(["a", "b", "ü", "a" * 255, "a" * 256, "ä" * 128, "\U0010ffff" * 200, "a\0b", ""]),
    st.text(max_size=3),
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, int]:
    """Draw a body that fits its entry, and how many events it holds; in it a field may be anything at all."""
    packed, place = [], 0
    for _ in range(draw(st.integers(1, 3))):
        match draw(st.sampled_from(["run", "odd run", "odd run", "refusal", "odd refusal", "session", "group"])):
            case "group":
                packed.append(draw(GROUP_RECORDS))
            case "session":
                packed.append(pack_record(RecordKind.SESSION, ()))
            case "refusal" | "odd refusal" as kind:
                fields: list[Any] = [*draw(st.tuples(SESSIONS, NUMBERS, NUMBERS, NAMES, st.integers(-1, 5), NUMBERS))]
                if kind == "odd refusal":
                    fields[draw(st.integers(0, 5))] = draw(st.one_of(BELOW_0, VALUES))
                packed.append(pack_refusal(Refusal(*fields)))
            case kind:
                length = draw(st.integers(1, 3))
                streams = draw(st.lists(NAMES, min_size=length, max_size=length))
                versions = draw(st.lists(st.sampled_from([*[1] * 8, 2, 0, UINT_MAX]), min_size=length, max_size=length))
                counts = draw(st.none() | st.lists(st.integers(1, 3), min_size=length, max_size=length))
                fields = [draw(SESSIONS), draw(NUMBERS), draw(NUMBERS), place, streams, versions, counts, None]
                if kind == "odd run":
                    fields[draw(st.integers(0, 7))] = draw(st.one_of(BELOW_0, COLUMN))
                place += length if counts is None else sum(counts)
                packed.append(pack_run(Run(*fields), draw(st.binary(max_size=5))))
    return b"".join(packed), place


@st.composite
def committed(draw: st.DrawFn) -> Entry:
    body, count = draw(st.one_of(bodies(), bodies(), bodies(), st.tuples(ANY_BODIES, SMALL)))
    return Entry.build(
        EntryKind.RECORDS,
        term=1,
        index=1,
        timestamp=draw(st.integers(0, 1 << 62)),
        previous_digest=NO_DIGEST,
        body=body,
        context=draw(st.one_of(st.just(1), st.integers(0, (1 << 32) - 1))),
        first_position=draw(st.sampled_from([*[1] * 8, 0, 2, UINT_MAX])),
        event_count=count,
    )


GROUP_BODIES = st.lists(GROUP_RECORDS, min_size=1, max_size=12).map(b"".join)


@search(600)
@given(GROUP_BODIES)
def test_any_groups_records_lead_to_a_state_that_comes_back_as_it_was_or_are_damage(body: bytes) -> None:
    store = Store(MemoryEngine())
    index = EventIndex(1, store, 0)
    index.positions.add(1, PositionRow(1, 3, 1))
    records = Entry.build(
        EntryKind.RECORDS, term=1, index=1, timestamp=1, previous_digest=NO_DIGEST, body=body, context=0
    )
    try:
        applied = index.apply(records)
        keep(index, store)
    except DamagedError:
        return

    assert len(applied.groups) > 0
    kept = EventIndex(1, store, index.checkpointed).groups
    for group in index.groups.names(1):
        state = index.groups.find(1, group)
        assert state == kept.find(1, group)
        assert state is not None
        assert state.checkpoint <= 3
        assert all(not state.is_settled(position) for position in state.failed)
        assert all(state.is_settled(position) for position in state.parked)


def keep(index: EventIndex, store: Store) -> None:
    """Take a checkpoint of all that has been applied, and read it as a restart does."""
    index.begin_checkpoint()
    while index.checkpointing:
        index.write_checkpoint(SLICE_ROWS)
    store.commit()
    EventIndex(1, store, index.checkpointed)


@search(600)
@given(committed())
def test_any_entry_leads_to_a_state_that_can_be_kept_or_is_damage(entry: Entry) -> None:
    store = Store(MemoryEngine())
    index = EventIndex(1, store, 0)
    index.sessions.opened(1)
    try:
        applied = index.apply(entry)
        keep(index, store)
    except DamagedError:
        return

    for run in applied.runs:
        for stream in run.streams:
            assert index.head(entry.context, stream) >= 1
    for settled in applied.settled:
        assert settled is None or settled.last_sequence >= settled.first_sequence


@search(60)
@given(committed())
def test_no_entry_fails_lmdb(entry: Entry) -> None:
    with tempfile.TemporaryDirectory() as directory:
        machine = machines.LmdbMachine(Path(directory), 1 << 20)
        try:
            store = Store(machine.engine)
            index = EventIndex(1, store, 0)
            index.sessions.opened(1)
            index.apply(entry)
            keep(index, store)
        except DamagedError:
            return
        finally:
            machine.stop()


@search(400)
@given(committed())
def test_any_entry_can_be_laid_over_the_applied_state_or_is_damage(entry: Entry) -> None:
    index = EventIndex(1, Store(MemoryEngine()), 0)
    index.sessions.opened(1)
    try:
        overlay = Overlay(index, [entry])
    except DamagedError:
        return
    assert overlay.tail_bytes == len(entry.data)
    try:
        overlay.applied(entry, index.apply(entry))
    except DamagedError:
        return

    assert overlay.tail_bytes == 0


@pytest.mark.parametrize("number", [0, -1, 10_001, 1 << 32, UINT_MAX])
def test_a_context_whose_number_no_key_could_hold_is_damage(number: int) -> None:
    node = NodeInfo("id", "name", "h:1", "h:2", "h:3", {})

    with pytest.raises(DamagedError):
        ClusterMap(Founding("c", 1, 1, (node,))).apply(1, RecordKind.CONTEXT, [number, "name", None])
