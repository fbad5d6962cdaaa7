"""Runs of appends as columns: what a client sends, what a log keeps, and what is refused on the way in."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind_cluster.batches import BATCH_APPENDS_MAX, AppendRun, pack_runs, unpack_runs
from rewind_cluster.columns import Events, are_counts, check_events, pack_events, starts, unpack_events
from rewind_cluster.errors import DamagedError, InvalidArgumentError, ProtocolError, TooLargeError
from rewind_cluster.names import DATA_BYTES_MAX, METADATA_BYTES_MAX
from rewind_cluster.records import Run, iterate_body, pack_run, unpack_record, unpack_run

NO_EVENTS = pack_events(Events(bytes(16), ["T"], [b""], None))


def events_of(count: int, *, metadata: bool = False) -> Events:
    ids = b"".join(number.to_bytes(16) for number in range(count))
    maps = [msgpack.packb({"n": number}) if number % 2 else None for number in range(count)]
    return Events(
        ids,
        [f"T{number % 3}" for number in range(count)],
        [b"%d" % number for number in range(count)],
        maps if metadata else None,
    )


def a_run(**changes: object) -> AppendRun:
    usual = AppendRun(1, b"", ["a", "b", "c"], [0, -1, 7], None, None, pack_events(events_of(3)))
    return usual._replace(**changes)


@st.composite
def runs(draw: st.DrawFn) -> AppendRun:
    parts = draw(st.none() | st.lists(st.integers(1, 3), min_size=1, max_size=5))
    length = draw(st.integers(1, 5)) if parts is None else sum(parts)
    counts = draw(st.none() | st.lists(st.integers(1, 4), min_size=length, max_size=length))
    appends = length if parts is None else len(parts)
    opens = draw(st.just(b"") | st.lists(st.booleans(), min_size=appends, max_size=appends).map(bytes))
    total = length if counts is None else sum(counts)
    return AppendRun(
        draw(st.integers(1, 1 << 40)),
        opens,
        draw(st.lists(st.sampled_from(["a", "b", "ü"]), min_size=length, max_size=length)),
        draw(st.lists(st.integers(-1, 1 << 40), min_size=length, max_size=length)),
        counts,
        parts,
        pack_events(events_of(total, metadata=draw(st.booleans()))),
    )


@given(st.lists(runs(), min_size=1, max_size=4))
def test_runs_arrive_as_they_were_sent(sent: list[AppendRun]) -> None:
    first = 1
    for number, run in enumerate(sent):
        sent[number] = run._replace(first_sequence=first)
        first = sent[number].sequences[-1] + 1 + number

    assert unpack_runs(pack_runs(sent)) == sent


@given(runs())
def test_a_split_run_holds_the_same_appends_one_by_one(run: AppendRun) -> None:
    events = unpack_events(run.events)

    singles = run.split(events)

    assert [single.first_sequence for single in singles] == list(run.sequences)
    assert all(single.append_count == 1 for single in singles)
    assert [stream for single in singles for stream in single.streams] == run.streams
    assert [version for single in singles for version in single.expected] == run.expected
    assert [single.open for single in singles] == [bool(byte) for byte in run.opens or bytes(run.append_count)]
    pieces = [check_events(single.events, single.event_count) for single in singles]
    assert b"".join(piece.ids for piece in pieces) == events.ids
    assert [data for piece in pieces for data in piece.datas] == events.datas
    none = [None]
    metadatas = [each for piece in pieces for each in piece.metadatas or none * piece.event_count]
    assert metadatas == list(events.metadatas or none * events.event_count)


def test_where_pieces_start_and_stop() -> None:
    assert list(starts(None, 3)) == [(0, 1), (1, 2), (2, 3)]
    assert list(starts([2, 1, 3], 3)) == [(0, 2), (2, 3), (3, 6)]


@pytest.mark.parametrize("counts", [[], [0, 3], [True, 2], [1.0, 2], "12", [1, 2, 3], [-1, 4]])
def test_counts_that_do_not_divide_three_are_none(counts: object) -> None:
    assert not are_counts(counts, whole=3)


@pytest.mark.parametrize(
    "changes",
    [
        {"first_sequence": 0},
        {"first_sequence": (1 << 64) - 1},
        {"first_sequence": True},
        {"opens": b"\1"},
        {"opens": None},
        {"streams": []},
        {"streams": ["a", "b"]},
        {"streams": ["a", "b", b"c"]},
        {"expected": [0, 0, -2]},
        {"expected": [0, 0, None]},
        {"expected": [0, 0, True]},
        {"counts": [1, 2]},
        {"counts": [1, 1, 0]},
        {"parts": [1, 1]},
        {"parts": [4]},
    ],
)
def test_a_run_with_columns_that_do_not_fit_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        unpack_runs(pack_runs([a_run(**changes)]))


@pytest.mark.parametrize("frames", [[], [b"\x90"], [b"\x90", b""], [b"\xc0", b""], pack_runs([a_run()])[:1]])
def test_frames_that_are_no_runs_are_refused(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        unpack_runs(frames)


def test_a_batch_of_too_many_appends_is_refused() -> None:
    half = BATCH_APPENDS_MAX // 2 + 1
    run = AppendRun(1, b"", ["s"] * half, [0] * half, None, None, b"")

    assert len(unpack_runs(pack_runs([run]))) == 1
    with pytest.raises(ProtocolError):
        unpack_runs(pack_runs([run, run._replace(first_sequence=half + 1)]))


def test_numbers_that_do_not_rise_are_refused() -> None:
    run = a_run()

    assert len(unpack_runs(pack_runs([run, run._replace(first_sequence=4)]))) == 2
    with pytest.raises(ProtocolError):
        unpack_runs(pack_runs([run, run._replace(first_sequence=3)]))


def test_the_largest_append_of_a_run_is_counted_in_events() -> None:
    assert a_run().largest_append == 1
    assert a_run(counts=[2, 9, 1]).largest_append == 9
    assert a_run(parts=[1, 2]).largest_append == 2
    assert a_run(counts=[2, 9, 1], parts=[1, 2]).largest_append == 10


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"ids": bytes(15)}, ProtocolError),
        ({"types": ["T", "T"]}, ProtocolError),
        ({"types": [b"T"]}, ProtocolError),
        ({"types": [["T"]]}, ProtocolError),
        ({"types": "T"}, ProtocolError),
        ({"datas": b"x"}, ProtocolError),
        ({"metadatas": [None, None]}, ProtocolError),
        ({"types": [""]}, InvalidArgumentError),
        ({"types": ["a\nb"]}, InvalidArgumentError),
        ({"types": ["T" * 256]}, TooLargeError),
        ({"datas": ["text"]}, InvalidArgumentError),
        ({"datas": [bytes(DATA_BYTES_MAX + 1)]}, TooLargeError),
        ({"metadatas": [b"\xc1"]}, InvalidArgumentError),
        ({"metadatas": [msgpack.packb([1])]}, InvalidArgumentError),
        ({"metadatas": [msgpack.packb({1: 2})]}, InvalidArgumentError),
        ({"metadatas": [msgpack.packb({"k": bytes(METADATA_BYTES_MAX)})]}, TooLargeError),
        ({"metadatas": ["map"]}, InvalidArgumentError),
    ],
)
def test_events_outside_the_rules_are_refused(changes: dict[str, object], error: type[Exception]) -> None:
    events = unpack_events(NO_EVENTS)._replace(**changes)

    with pytest.raises(error):
        check_events(pack_events(events), 1)


def test_an_event_as_large_as_may_be_is_taken_among_others() -> None:
    events = Events(bytes(32), ["T", "U"], [bytes(DATA_BYTES_MAX), b""], None)

    assert check_events(pack_events(events), 2).types == ["T", "U"]


def test_a_record_of_appends_comes_back_whole() -> None:
    run = Run(7, 40, 38, 5, ["a", "b"], [1, 9], [2, 1], [1, 1])
    events = pack_events(events_of(3))

    record = unpack_record(pack_run(run, events))

    assert unpack_run(record.payload) == run
    assert record.events == events
    assert (run.append_count, run.event_count, run.last_versions) == (2, 3, [2, 9])


def test_every_flipped_bit_of_a_record_is_noticed() -> None:
    record = pack_run(Run(7, 40, 38, 5, ["a"], [1], None, None), NO_EVENTS)

    for place in range(len(record) * 8):
        damaged = bytearray(record)
        damaged[place // 8] ^= 1 << place % 8
        try:
            found = unpack_record(bytes(damaged))
        except DamagedError:
            continue
        # Only how the numbers are written may differ, never what they say.
        assert (found.payload, found.events) == ([7, 40, 38, 5, ["a"], [1], None, None], NO_EVENTS)


@pytest.mark.parametrize(
    "payload",
    [
        [],
        [1, 1, 1, 0, ["a"], [1], None],
        [1, 1, 1, 0, [], [], None, None],
        [1, 1, 1, 0, ["a"], [1, 2], None, None],
        [1, 1, 1, 0, ["a"], [1], [1, 1], None],
        [1, 1, 1, 0, ["a"], [1], None, [2]],
        [1, 1, 1, 0, "a", [1], None, None],
    ],
)
def test_a_record_whose_columns_do_not_fit_is_damage(payload: list[object]) -> None:
    with pytest.raises(DamagedError):
        unpack_run(payload)


def test_the_records_of_a_body_tell_their_places() -> None:
    runs_stored = [Run(1, 1, 1, 0, ["a"], [1], None, None), Run(2, 1, 1, 1, ["b"], [1], None, None)]
    packed = [pack_run(run, NO_EVENTS) for run in runs_stored]

    records = list(iterate_body(b"".join(packed)))

    assert [unpack_run(record.payload) for record in records] == runs_stored
    assert [(record.offset, record.length) for record in records] == [
        (0, len(packed[0])),
        (len(packed[0]), len(packed[1])),
    ]
    with pytest.raises(DamagedError):
        list(iterate_body(b"".join(packed)[:-1]))
