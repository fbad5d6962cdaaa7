"""What is stored and sent inside messages: entries, records, events, memberships and founding records."""

from typing import Any

import msgpack
import pytest
from fuzzing.material import (
    EMPTIES,
    FRAME_OVERHEAD_BYTES,
    NUMBERS,
    RAW_VALUES,
    TEXTS,
    UINT_MAX,
    VALUES,
    full_of,
    mutations,
    nested,
    nested_lies,
    peak_bytes,
    raw_array,
    refusal,
    search,
)
from fuzzing.stored import BODIES, ODD_RECORDS, PAYLOADS, RECORDS, REFUSALS, RUNS
from hypothesis import given
from hypothesis import strategies as st

from rewind_cluster.cluster_map import ClusterMap, Founding, NodeInfo
from rewind_cluster.columns import Events, check_events, pack_events, unpack_columns, unpack_events
from rewind_cluster.entry import HEADER_BYTES, NO_DIGEST, Entry, EntryKind, read_place
from rewind_cluster.errors import DamagedError, InvalidArgumentError, ProtocolError
from rewind_cluster.membership import Member, Membership
from rewind_cluster.names import STREAM_BYTES_MAX, check_context_name, check_stream_name, slot
from rewind_cluster.raft_messages import ReplicaId
from rewind_cluster.records import (
    RecordKind,
    Refusal,
    Run,
    iterate_body,
    pack_refusal,
    pack_run,
    unpack_record,
    unpack_refusal,
    unpack_run,
)
from rewind_node.founding import check_record

U32 = st.integers(0, (1 << 32) - 1)
ENTRIES = st.builds(
    Entry.build,
    st.sampled_from(EntryKind),
    term=NUMBERS,
    index=NUMBERS,
    timestamp=NUMBERS,
    previous_digest=st.just(NO_DIGEST) | st.binary(min_size=16, max_size=16),
    body=st.binary(max_size=60),
    context=U32,
    first_position=NUMBERS,
    event_count=U32,
)

# Entries.


@search(300)
@given(ENTRIES)
def test_an_entry_comes_out_as_it_went_in(entry: Entry) -> None:
    assert Entry.decode(entry.data) == entry
    assert read_place(entry.data) == (entry.first_position, entry.timestamp)


@search(600)
@given(st.data())
def test_no_accident_to_an_entry_goes_unnoticed(data: st.DataObject) -> None:
    entry = data.draw(ENTRIES)
    damaged = data.draw(st.one_of(st.binary(max_size=200), mutations(st.just(entry.data))))
    if damaged == entry.data:
        return

    with pytest.raises(DamagedError):
        Entry.decode(damaged)


@search(300)
@given(st.data())
def test_no_accident_to_a_header_goes_unnoticed_where_only_the_place_is_read(data: st.DataObject) -> None:
    entry = data.draw(ENTRIES)
    damaged = data.draw(mutations(st.just(entry.data[:HEADER_BYTES])))
    if damaged[:HEADER_BYTES] == entry.data[:HEADER_BYTES]:
        return

    with pytest.raises(DamagedError):
        read_place(damaged)


# Records.


@search(200)
@given(st.lists(st.one_of(st.tuples(RUNS, st.binary(max_size=9)), REFUSALS), max_size=4))
def test_records_come_out_as_they_went_in(written: list[tuple[Run, bytes] | Refusal]) -> None:
    packed = [pack_refusal(each) if isinstance(each, Refusal) else pack_run(*each) for each in written]

    for records in (iterate_body(b"".join(packed)), map(unpack_record, packed)):
        read = [
            (unpack_run(record.payload), record.events)
            if record.kind == RecordKind.RUN
            else unpack_refusal(record.payload)
            for record in records
        ]
        assert read == written


def check_run(run: Run) -> None:
    """Assert what everything after `unpack_run` relies on."""
    assert all(type(number) is int and 0 <= number <= UINT_MAX for number in run[:4])
    assert len(run.streams) == len(run.first_versions) == len(run.last_versions) >= run.append_count > 0
    assert run.event_count >= len(run.streams)
    assert sum(run.parts or [1] * len(run.streams)) == len(run.streams)
    for stream, first, last in zip(run.streams, run.first_versions, run.last_versions, strict=True):
        assert len(stream.encode()) <= STREAM_BYTES_MAX
        assert "\0" not in stream
        assert 1 <= first <= last <= UINT_MAX + UINT_MAX


@search(600)
@given(st.one_of(st.binary(max_size=60), mutations(BODIES), st.lists(st.one_of(RECORDS, ODD_RECORDS)).map(b"".join)))
def test_any_body_is_read_to_its_end_or_is_damage(body: bytes) -> None:
    end = 0
    try:
        for record in iterate_body(body):
            assert record.offset == end
            end = record.offset + record.length
            (unpack_refusal if record.kind == RecordKind.REFUSAL else unpack_run)(record.payload)
    except DamagedError:
        return

    assert end == len(body)


@search(600)
@given(PAYLOADS)
def test_any_payload_is_a_run_that_can_be_applied_or_is_damage(payload: Any) -> None:
    told = refusal(lambda: unpack_run(payload), DamagedError)

    if told is None:
        check_run(unpack_run(payload))


@search(400)
@given(PAYLOADS)
def test_any_payload_is_a_refusal_that_can_be_applied_or_is_damage(payload: Any) -> None:
    told = refusal(lambda: unpack_refusal(payload), DamagedError)
    if told is not None:
        return

    read = unpack_refusal(payload)
    assert all(type(number) is int and 0 <= number <= UINT_MAX for number in read[:3])
    assert (type(read.stream), type(read.expected), type(read.actual)) == (str, int, int)


@search(600)
@given(st.one_of(st.binary(max_size=60), mutations(RECORDS), ODD_RECORDS))
def test_any_record_is_read_or_is_damage(packed: bytes) -> None:
    try:
        record = unpack_record(packed)
    except DamagedError:
        return

    assert (record.offset, record.length, type(record.kind), type(record.events)) == (0, len(packed), int, bytes)


@search(400)
@given(st.data())
def test_no_accident_to_a_record_changes_what_it_says(data: st.DataObject) -> None:
    packed = data.draw(RECORDS)
    whole = unpack_record(packed)
    try:
        damaged = unpack_record(data.draw(mutations(st.just(packed))))
    except DamagedError:
        return

    assert (damaged.payload, damaged.events) == (whole.payload, whole.events)


@pytest.mark.parametrize("payload", [5, None, {}, "a text of ten", b"ten bytes!", [], list(range(9)), {"a": 1}])
def test_a_payload_that_is_no_array_is_damage_and_no_failure_of_ours(payload: Any) -> None:
    with pytest.raises(DamagedError):
        unpack_run(payload)
    with pytest.raises(DamagedError):
        unpack_refusal(payload[:5] if isinstance(payload, list) else payload)


def test_a_record_that_is_a_map_is_damage() -> None:
    with pytest.raises(DamagedError):
        list(iterate_body(msgpack.packb({"kind": 1})))


@pytest.mark.parametrize("stream", ["a" * 256, "ä" * 128, "€" * 255, "a\0b"])
def test_a_run_of_a_stream_that_no_key_can_hold_is_damage(stream: str) -> None:
    with pytest.raises(DamagedError):
        unpack_run([1, 1, 1, 0, ["a", stream], [1, 1], None, None])


@pytest.mark.parametrize("place", range(4))
def test_a_run_with_a_number_below_0_is_damage(place: int) -> None:
    payload: list[Any] = [1, 1, 1, 0, ["a"], [1], None, None]
    payload[place] = -1

    with pytest.raises(DamagedError):
        unpack_run(payload)


def test_a_run_after_whose_versions_none_could_follow_is_damage() -> None:
    with pytest.raises(DamagedError):
        unpack_run([1, 1, 1, 0, ["a"], [UINT_MAX], [2], None])


@pytest.mark.parametrize("place", range(3))
def test_a_refusal_with_a_number_below_0_is_damage(place: int) -> None:
    payload: list[Any] = [1, 1, 1, "s", -1, 0]
    payload[place] = -1

    with pytest.raises(DamagedError):
        unpack_refusal(payload)


# Events.


@st.composite
def events_of(draw: st.DrawFn) -> Events:
    count = draw(st.integers(1, 3))
    metadata = st.none() | st.just(msgpack.packb({"a": [1, {}]}))
    columns = [
        st.text("abcä", min_size=1, max_size=9),
        st.binary(max_size=9),
        metadata,
    ]
    types, datas, metadatas = (draw(st.lists(column, min_size=count, max_size=count)) for column in columns)
    ids = draw(st.binary(min_size=16 * count, max_size=16 * count))
    return Events(ids, types, datas, draw(st.sampled_from([None, metadatas])))


EVENTS = events_of()


@search(150)
@given(EVENTS)
def test_events_come_out_as_they_went_in(events: Events) -> None:
    packed, count = pack_events(events), events.event_count

    assert check_events(packed, count) == unpack_columns(packed, count) == unpack_events(packed) == events


def test_columns_that_a_later_version_adds_are_passed_over() -> None:
    events = Events(b"i" * 16, ["T"], [bytes(600)], None)

    assert check_events(msgpack.packb([*events, [1], None]), 1) == events


@st.composite
def odd_columns(draw: st.DrawFn) -> bytes:
    """Draw events with a column, or an item of one, that is anything at all; some too long to be taken on trust."""
    columns = [msgpack.packb(b"i" * 16), b"\x91\xa1T", b"\x91" + msgpack.packb(bytes(draw(st.sampled_from([0, 600]))))]
    columns.append(draw(st.sampled_from([b"\x91\xc0", b"\xc0"])))
    place = draw(st.integers(0, 3))
    raw = draw(RAW_VALUES)
    wrapped = b"\xc5" + len(raw).to_bytes(2) + raw if len(raw) < 1 << 16 else raw
    columns[place] = draw(st.sampled_from([raw, b"\x91" + raw, b"\x91" + wrapped]))
    return raw_array(columns)


ANY_EVENTS = st.one_of(st.binary(max_size=60), mutations(EVENTS.map(pack_events)), odd_columns(), RAW_VALUES)


@search(600)
@given(ANY_EVENTS, st.integers(1, 3))
def test_any_events_keep_the_rules_or_are_refused_with_a_short_reason(packed: bytes, count: int) -> None:
    told = refusal(lambda: check_events(packed, count), ProtocolError, InvalidArgumentError)
    if told is not None:
        assert len(told) < 2000
        return

    events = check_events(packed, count)
    assert len(events.ids) == 16 * count == 16 * len(events.types) == 16 * len(events.datas)
    assert events.metadatas is None or len(events.metadatas) == count
    assert all(type(name) is str for name in events.types)
    assert all(type(data) is bytes for data in events.datas)
    assert unpack_columns(packed, count) == unpack_events(packed) == events


@search(400)
@given(ANY_EVENTS, st.integers(1, 3))
def test_any_events_have_the_shape_of_columns_or_are_a_protocol_error(packed: bytes, count: int) -> None:
    told = refusal(lambda: unpack_columns(packed, count), ProtocolError)

    assert told is None or len(told) < 2000
    if told is None:
        events = unpack_columns(packed, count)
        assert all(events.slice(place, place + 1).event_count == 1 for place in range(count))


@search(300)
@given(ANY_EVENTS)
def test_any_stored_events_are_read_or_are_damage(packed: bytes) -> None:
    try:
        events = unpack_events(packed)
    except DamagedError:
        return

    assert {type(data) for data in events.datas} == {bytes}
    assert {type(metadata) for metadata in events.metadatas or ()} <= {bytes, type(None)}


@pytest.mark.parametrize("size", [500, 5000, 60_000])
def test_events_that_promise_much_and_hold_nothing_cost_little(size: int) -> None:
    lies = nested_lies(size)
    in_metadata = (b"i" * 16 * 20, ["T"] * 20, [b""] * 20, [lies] * 20)

    def attempt() -> None:
        for packed in (lies, raw_array([lies] * 4), msgpack.packb(in_metadata), raw_array([nested(1020)] * 4)):
            for count in (20, 10_000):
                with pytest.raises((ProtocolError, InvalidArgumentError)):
                    check_events(packed, count)

    assert peak_bytes(attempt) < 100 * size + FRAME_OVERHEAD_BYTES


@pytest.mark.parametrize("item", EMPTIES)
@pytest.mark.parametrize("count", [64, 10_000])
def test_events_of_nothing_but_empty_things_are_refused_before_they_are_made(item: bytes, count: int) -> None:
    """One in each byte: a few MiB would take a node seconds, and a hundred times their size."""
    packed = full_of(item, count, 1 << 19)

    for events in (packed, raw_array([packed] * 2), raw_array([msgpack.packb(bytes(16 * count)), packed])):
        told: list[str | None] = []
        peak = peak_bytes(
            lambda events=events, told=told: told.append(refusal(lambda: check_events(events, count), ProtocolError))
        )
        assert told != [None]
        assert peak < 4 * len(events) + FRAME_OVERHEAD_BYTES


def test_metadata_of_nothing_but_empty_arrays_takes_no_room_of_its_own() -> None:
    metadata = b"\x81\xa1k\xdc" + (60_000).to_bytes(2) + b"\x90" * 60_000
    packed = pack_events(Events(b"i" * 16, ["T"], [b""], [metadata]))

    assert peak_bytes(lambda: check_events(packed, 1)) < 12 * len(packed)


# Memberships, nodes, founding records.

MEMBERSHIPS = st.dictionaries(
    st.integers(1, UINT_MAX).map(ReplicaId),
    st.builds(Member, st.text(min_size=1, max_size=9), st.booleans()),
    max_size=4,
).map(Membership)


@search(150)
@given(MEMBERSHIPS)
def test_a_membership_comes_out_as_it_went_in(membership: Membership) -> None:
    assert Membership.unpack(membership.pack()) == membership


@search(500)
@given(
    st.one_of(
        st.binary(max_size=40),
        RAW_VALUES,
        mutations(MEMBERSHIPS.map(Membership.pack)),
        st.lists(RAW_VALUES, max_size=4).map(raw_array).map(lambda row: raw_array([row])),
    )
)
def test_any_membership_keeps_the_rules_or_is_damage(packed: bytes) -> None:
    try:
        membership = Membership.unpack(packed)
    except DamagedError:
        return

    assert Membership.unpack(membership.pack()) == membership


ADDRESSES = st.builds(
    lambda host, port: f"{host}:{port}",
    st.sampled_from(["db1", "10.0.0.7", "[::1]", "a-b.c_d"]),
    st.integers(1, 65_535),
)
NODES = st.builds(
    NodeInfo,
    st.text("0123456789abcdef", min_size=1, max_size=32),
    st.text("abc", min_size=1, max_size=9),
    ADDRESSES,
    ADDRESSES,
    ADDRESSES,
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
FOUNDINGS = st.builds(
    Founding,
    st.text("abc", min_size=1),
    st.integers(1, 1024),
    st.integers(1, UINT_MAX),
    st.lists(NODES, min_size=1, max_size=5).map(tuple),
)


@search(150)
@given(FOUNDINGS)
def test_a_founding_record_comes_out_as_it_went_in_and_places_an_odd_number_of_voters(founding: Founding) -> None:
    assert Founding.unpack(founding.pack()) == founding

    if len({node.id for node in founding.nodes}) == len(founding.nodes):
        assert len(founding.placement(1).voters) % 2 == 1


@st.composite
def odd_foundings(draw: st.DrawFn) -> bytes:
    """Draw founding records with one field, of theirs or of a node, that is anything at all."""
    node = [msgpack.packb(value) for value in draw(NODES).pack()]
    fields = [msgpack.packb(value) for value in ("c", 1, 1)]
    target = draw(st.sampled_from([node, fields]))
    target[draw(st.integers(0, len(target) - 1))] = draw(RAW_VALUES)
    nodes = raw_array([raw_array(node)])
    return raw_array([*fields, draw(st.one_of(st.just(nodes), RAW_VALUES))])


@search(600)
@given(st.one_of(st.binary(max_size=60), mutations(FOUNDINGS.map(Founding.pack)), odd_foundings(), RAW_VALUES))
def test_any_founding_record_keeps_the_rules_or_is_a_protocol_error(packed: bytes) -> None:
    try:
        founding = check_record(packed)
    except ProtocolError:
        return

    assert Founding.unpack(founding.pack()) == founding
    assert founding.placement(1).voters
    assert founding.first_leader(0)


@pytest.mark.parametrize(
    "address", ["-a:1", ".:1", "_a:1", "*:1", ":1", "a:", "a:1\n", "a b:1", "a:+1", "é:1", "a:1:2"]
)
def test_a_node_that_no_socket_can_dial_is_a_protocol_error(address: str) -> None:
    with pytest.raises(ProtocolError):
        NodeInfo.unpack(["id", "name", "h:1", address, "h:3", {}])


@pytest.mark.parametrize("labels", [{str(number): "" for number in range(33)}, {"a": "x" * 1025}, {"x" * 1025: ""}])
def test_a_node_with_labels_beyond_all_limits_is_a_protocol_error(labels: dict[str, str]) -> None:
    with pytest.raises(ProtocolError):
        NodeInfo.unpack(["id", "name", "h:1", "h:2", "h:3", labels])


@search(400)
@given(NUMBERS, st.sampled_from([*RecordKind, 0, 99]), PAYLOADS)
def test_any_record_of_partition_0_is_applied_or_is_damage(index: int, kind: int, payload: Any) -> None:
    node = NodeInfo("id", "name", "h:1", "h:2", "h:3", {})
    cluster_map = ClusterMap(Founding("c", 1, 1, (node,)))
    try:
        cluster_map.apply(index, kind, payload)
    except DamagedError:
        return

    assert kind in (RecordKind.CONTEXT, RecordKind.NODE)


# Names.


@search(400)
@given(st.one_of(TEXTS, st.text(max_size=90), VALUES))
def test_any_name_is_taken_or_refused_with_a_short_reason(name: Any) -> None:
    for check in (check_context_name, check_stream_name):
        told = refusal(lambda check=check: check(name), InvalidArgumentError)

        assert told is None or len(told) < 20_000
        assert told is not None or 0 <= slot(name) <= 0xFFFF
