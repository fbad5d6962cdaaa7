"""Records as they stand in a log, right and wrong: what a faulty leader, or a forger, could have written."""

from typing import Any

import msgpack
from hypothesis import strategies as st

from fuzzing.material import NUMBERS, RAW_VALUES, UINT_MAX, VALUES, mutations, raw_array
from rewind_cluster.records import VERSION_MAX, RecordKind, Refusal, Run, pack_record, pack_refusal, pack_run

STREAMS = st.text("abcä€", min_size=1, max_size=9)


COLUMN = st.one_of(VALUES, st.lists(st.one_of(st.integers(-1, 3), STREAMS, VALUES), max_size=3))


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, list[int] | None, list[int] | None]:
    """Draw how many parts a run has, the events of each, and the parts of each append."""
    parts = draw(st.none() | st.lists(st.integers(1, 3), min_size=1, max_size=4))
    length = draw(st.integers(1, 5)) if parts is None else sum(parts)
    counts = draw(st.none() | st.lists(st.integers(1, 1 << 32), min_size=length, max_size=length))
    return length, counts, parts


@st.composite
def runs(draw: st.DrawFn) -> Run:
    length, counts, parts = draw(shapes())
    versions = st.integers(1, VERSION_MAX)
    return Run(
        draw(NUMBERS),
        draw(NUMBERS),
        draw(NUMBERS),
        draw(NUMBERS),
        draw(st.lists(STREAMS, min_size=length, max_size=length)),
        draw(st.lists(versions, min_size=length, max_size=length)),
        counts,
        parts,
    )


RUNS = runs()
REFUSALS = st.builds(Refusal, NUMBERS, NUMBERS, NUMBERS, st.text(max_size=9), st.integers(-1, UINT_MAX), NUMBERS)


@st.composite
def group_payloads(draw: st.DrawFn) -> list[Any]:
    """Draw what a group's record holds, about positions up to 3; now and then a field is anything at all."""
    position = st.integers(1, 3) | st.integers(1, 3) | st.integers(0, 4)
    rows = st.lists(st.tuples(position, st.integers(0, 5), st.booleans()), max_size=2)
    parks = st.lists(st.tuples(position, st.integers(0, 5), st.text(max_size=3)), max_size=2)
    numbers = st.lists(position, max_size=3, unique=True).map(sorted)
    ranges = st.lists(st.integers(1, 4), max_size=3, unique=True).map(
        lambda found: [(each, each) for each in sorted(found)]
    )
    fields: dict[int, Any] = {
        1: st.tuples(st.sampled_from([b"a" * 16, b"b" * 16]), position, st.integers(1, 3), st.integers(0, 1)),
        2: st.tuples(st.just(1), ranges, rows, parks, numbers, st.booleans()),
        3: st.tuples(position),
        4: st.tuples(st.integers(0, 1)),
        5: st.tuples(numbers, st.booleans(), st.booleans()),
    }
    code = draw(st.sampled_from([1, 1, 2, 2, 2, 2, 3, 4, 5]))
    payload = [code, 1, draw(st.sampled_from("aab")), *draw(fields[code])]
    if draw(st.integers(0, 15)) == 15:
        payload[draw(st.integers(0, len(payload) - 1))] = draw(st.one_of(COLUMN, NUMBERS))
    return payload


GROUP_RECORDS = group_payloads().map(lambda payload: pack_record(RecordKind.GROUP, tuple(payload)))
RECORDS = st.one_of(
    st.builds(pack_run, RUNS, st.binary(max_size=20)),
    REFUSALS.map(pack_refusal),
    st.just(pack_record(RecordKind.SESSION, ())),
)
BODIES = st.lists(RECORDS, max_size=4).map(b"".join)


@st.composite
def odd_payloads(draw: st.DrawFn) -> list[Any]:
    """Draw a run's or a refusal's fields with one or two that are anything at all."""
    fields: list[Any] = list(draw(st.one_of(RUNS, REFUSALS)))
    for _ in range(draw(st.integers(1, 2))):
        fields[draw(st.integers(0, len(fields) - 1))] = draw(COLUMN)
    return fields


PAYLOADS = st.one_of(VALUES, st.lists(VALUES, min_size=6, max_size=9), odd_payloads())
ODD_RECORDS = st.one_of(  # whole, and of a shape that no version writes
    RAW_VALUES,
    PAYLOADS.map(lambda payload: msgpack.packb((1, 0, msgpack.packb(payload), b""))),
    st.lists(RAW_VALUES, max_size=5).map(raw_array),
    st.dictionaries(st.sampled_from(["0", "2"]), st.binary(max_size=5)).map(msgpack.packb),
)
ANY_BODIES = st.one_of(BODIES, mutations(BODIES), st.lists(st.one_of(RECORDS, ODD_RECORDS), max_size=3).map(b"".join))
