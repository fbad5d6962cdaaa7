"""Messages of both protocols: any frame becomes a message or a `ProtocolError`, at a bounded cost."""

from itertools import repeat
from typing import Any

import msgpack
import pytest
from fuzzing.material import (
    EMPTIES,
    FRAME_OVERHEAD_BYTES,
    NUMBERS,
    RAW_VALUES,
    UINT_MAX,
    classes_of,
    frames_with_a_wrong_field,
    full_of,
    header_frames,
    messages,
    mutations,
    nested,
    nested_lies,
    peak_bytes,
    raw_array,
    refusal,
    search,
)
from hypothesis import given
from hypothesis import strategies as st

from rewind_cluster.batches import (
    BATCH_APPENDS_MAX,
    BATCH_BYTES_MAX,
    BATCH_EVENTS_MAX,
    AppendRun,
    pack_runs,
    unpack_runs,
)
from rewind_cluster.client_messages import CLIENT_CODEC, pack_chunk, unpack_chunk
from rewind_cluster.columns import starts
from rewind_cluster.entry import NO_DIGEST, Entry, EntryKind
from rewind_cluster.errors import ProtocolError
from rewind_cluster.peer_messages import PEER_CODEC
from rewind_cluster.raft_messages import (
    TERM_MAX,
    Append,
    AppendReply,
    Envelope,
    Heartbeat,
    HeartbeatReply,
    ReplicaId,
    TimeoutNow,
    Vote,
    VoteReply,
    pack_envelope,
    unpack_envelope,
)
from rewind_cluster.wire import Codec, unpack_frame
from rewind_node.client_protocol import REQUEST_BYTES_MAX
from rewind_node.peer_protocol import HEADER_BYTES_MAX

CODECS = [CLIENT_CODEC, PEER_CODEC]
KINDS = [(codec, kind) for codec in CODECS for kind in classes_of(codec)]
ENVELOPE_KINDS = [Vote, VoteReply, AppendReply, Heartbeat, HeartbeatReply, TimeoutNow]


def decoded(codec: Codec, frame: bytes) -> Any:
    try:
        return codec.decode(frame)
    except ProtocolError:
        return None


# Header frames.


@pytest.mark.parametrize("codec", CODECS)
def test_any_header_frame_becomes_a_message_that_can_be_sent_on_or_a_protocol_error(codec: Codec) -> None:
    @search(400)
    @given(header_frames(codec))
    def check(frame: bytes) -> None:
        message = decoded(codec, frame)
        assert message is None or type(message) in classes_of(codec)

    check()


@pytest.mark.parametrize(("codec", "kind"), KINDS, ids=[kind.__name__ for _, kind in KINDS])
def test_every_message_comes_out_as_it_went_in(codec: Codec, kind: type[Any]) -> None:
    @search(15)
    @given(messages(kind))
    def check(message: Any) -> None:
        frame = codec.encode(message)

        assert codec.encode(codec.decode(frame)) == frame  # of the bytes, because not-a-number equals nothing

    check()


@pytest.mark.parametrize(("codec", "kind"), KINDS, ids=[kind.__name__ for _, kind in KINDS])
def test_a_field_of_any_kind_at_all_is_taken_or_refused(codec: Codec, kind: type[Any]) -> None:
    @search(25)
    @given(frames_with_a_wrong_field(codec, kind))
    def check(frame: bytes) -> None:
        decoded(codec, frame)

    check()


# What is in frames.

EXPECTED = st.integers(-1, UINT_MAX)


@st.composite
def append_runs(draw: st.DrawFn) -> AppendRun:
    parts = draw(st.none() | st.lists(st.integers(1, 3), min_size=1, max_size=4))
    length = draw(st.integers(1, 5)) if parts is None else sum(parts)
    counts = draw(st.none() | st.lists(st.integers(1, 4096), min_size=length, max_size=length))
    appends = length if parts is None else len(parts)
    return AppendRun(
        draw(st.integers(1, UINT_MAX - 10)),
        draw(st.just(b"") | st.binary(min_size=appends, max_size=appends)),
        draw(st.lists(st.text(max_size=9), min_size=length, max_size=length)),
        draw(st.lists(EXPECTED, min_size=length, max_size=length)),
        counts,
        parts,
        draw(st.binary(max_size=9)),
    )


RUNS = append_runs()
BATCHES = st.lists(RUNS, min_size=1, max_size=3)


@search(200)
@given(st.lists(RUNS, min_size=1, max_size=3))
def test_runs_of_appends_come_out_as_they_went_in(runs: list[AppendRun]) -> None:
    if sum(run.event_count for run in runs) > BATCH_EVENTS_MAX:
        runs = [run._replace(counts=None) for run in runs]
    first = 1
    for number, run in enumerate(runs):
        runs[number] = run._replace(first_sequence=first)
        first = runs[number].sequences[-1] + 1

    assert unpack_runs(pack_runs(runs)) == runs


COLUMN = st.one_of(
    RAW_VALUES,
    st.lists(st.one_of(st.integers(-2, 3), st.text(max_size=3), NUMBERS), max_size=4).map(msgpack.packb),
)


@st.composite
def broken_batches(draw: st.DrawFn) -> list[bytes]:
    """Draw a batch in which columns are anything at all, frames were damaged, dropped, doubled or swapped."""
    frames: list[bytes] = []
    for run in draw(BATCHES):
        columns = [msgpack.packb(column) for column in run[:6]]
        for _ in range(draw(st.integers(0, 2))):
            columns[draw(st.integers(0, 5))] = draw(COLUMN)
        if draw(st.integers(0, 5)) == 0:
            columns.append(draw(st.one_of(COLUMN, st.just(msgpack.packb(bytes(600))))))
        head = raw_array(columns)
        frames += [draw(st.one_of(st.just(head), mutations(st.just(head)))), run.events]
    match draw(st.integers(0, 9)):
        case 0:
            del frames[draw(st.integers(0, len(frames) - 1))]
        case 1:
            frames.append(draw(st.one_of(st.sampled_from(frames), RAW_VALUES)))
        case 2:
            frames = draw(st.permutations(frames))
    return frames


@search(500)
@given(broken_batches())
def test_any_batch_is_runs_whose_columns_fit_or_a_protocol_error(frames: list[bytes]) -> None:
    try:
        runs = unpack_runs(frames)
    except ProtocolError:
        return

    for run in runs:
        parts, events = len(run.streams), run.event_count
        assert len(run.expected) == parts > 0
        assert {type(stream) for stream in run.streams} == {str}
        assert all(type(version) is int and version >= -1 for version in run.expected)
        assert 1 <= run.first_sequence <= run.sequences[-1] <= UINT_MAX
        assert len(run.opens) in (0, run.append_count)
        assert list(starts(run.parts, run.append_count))[-1][1] == parts
        assert list(starts(run.counts, parts))[-1][1] == events >= run.largest_append >= 1
    assert sum(run.append_count for run in runs) <= BATCH_APPENDS_MAX
    assert sum(run.event_count for run in runs) <= BATCH_EVENTS_MAX


def test_a_batch_of_too_many_events_is_a_protocol_error_before_any_is_read() -> None:
    run = AppendRun(1, b"", ["s"], [0], [BATCH_EVENTS_MAX], None, b"")

    assert unpack_runs(pack_runs([run])) == [run]
    with pytest.raises(ProtocolError, match="events"):
        unpack_runs(pack_runs([run._replace(counts=[BATCH_EVENTS_MAX + 1])]))
    with pytest.raises(ProtocolError, match="events"):
        unpack_runs(pack_runs([run, run._replace(first_sequence=2)]))


def test_a_batch_of_too_many_frames_or_bytes_is_a_protocol_error() -> None:
    head, events = pack_runs([AppendRun(1, b"", ["s"], [0], None, None, bytes(BATCH_BYTES_MAX // 2))])

    assert len(unpack_runs([head, events])) == 1
    with pytest.raises(ProtocolError, match="limit"):
        unpack_runs([head, events] * 2)
    with pytest.raises(ProtocolError, match="limit"):
        unpack_runs([b"", b""] * (BATCH_APPENDS_MAX + 1))


def test_a_run_of_the_longest_names_there_are_is_taken() -> None:
    run = AppendRun(1, b"", ["s" * 255] * 4096, [UINT_MAX] * 4096, [1] * 4096, [4096], b"")

    assert unpack_runs(pack_runs([run])) == [run]


def test_fields_that_a_later_version_adds_to_a_run_are_passed_over() -> None:
    run = AppendRun(1, b"", ["s" * 255] * 4, [0] * 4, None, None, b"")

    assert unpack_runs([msgpack.packb([*run[:6], [1, 2], "x"]), b""]) == [run]


CHUNK_ROWS = st.tuples(NUMBERS, NUMBERS, NUMBERS, st.binary(max_size=9))


@search(300)
@given(
    st.one_of(
        RAW_VALUES,
        mutations(st.lists(CHUNK_ROWS, max_size=3).map(pack_chunk)),
        st.lists(RAW_VALUES, max_size=5).map(raw_array).map(lambda row: raw_array([row])),
    )
)
def test_any_chunk_of_a_stream_has_the_shape_of_appends_or_is_a_protocol_error(frame: bytes) -> None:
    try:
        rows = unpack_chunk(frame)
    except ProtocolError:
        return

    assert all([type(item) for item in row[:4]] == [int, int, int, bytes] for row in rows)


# Envelopes.


def entries(prev_index: int, terms: list[int]) -> tuple[Entry, ...]:
    made: list[Entry] = []
    for place, term in enumerate(sorted(terms)):
        digest = made[-1].digest if made else NO_DIGEST
        index = prev_index + place + 1
        made.append(Entry.build(EntryKind.NOOP, term=term, index=index, timestamp=place + 1, previous_digest=digest))
    return tuple(made)


TERMS = st.one_of(st.sampled_from([0, 1, TERM_MAX]), st.integers(0, TERM_MAX))


@st.composite
def appends(draw: st.DrawFn) -> Append:
    term = draw(TERMS)
    prev_term = draw(st.integers(0, term))
    prev_index = draw(st.integers(0, UINT_MAX - 10))
    made = entries(prev_index, draw(st.lists(st.integers(prev_term, term), max_size=3)))
    return Append(term, prev_index, prev_term, draw(NUMBERS), made)


ENVELOPES = st.builds(
    Envelope,
    NUMBERS,
    st.integers(1, UINT_MAX).map(ReplicaId),
    st.integers(1, UINT_MAX).map(ReplicaId),
    st.one_of(
        appends(),
        st.builds(Vote, TERMS, NUMBERS, TERMS, st.booleans(), st.booleans()),
        st.builds(VoteReply, TERMS, st.booleans(), st.booleans()),
        st.builds(AppendReply, TERMS, NUMBERS, st.booleans(), NUMBERS, TERMS, st.booleans()),
        st.builds(Heartbeat, TERMS, NUMBERS, NUMBERS),
        st.builds(HeartbeatReply, TERMS, NUMBERS),
        st.builds(TimeoutNow, TERMS),
    ),
)


@search(300)
@given(ENVELOPES)
def test_every_envelope_comes_out_as_it_went_in(envelope: Envelope) -> None:
    packed, frames = pack_envelope(envelope)

    assert unpack_envelope(msgpack.unpackb(msgpack.packb(packed)), iter(frames)) == envelope


@st.composite
def broken_envelopes(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Draw an envelope with a field of any kind at all, and entries that were damaged, dropped or swapped."""
    packed, frames = pack_envelope(draw(ENVELOPES))
    parts = [msgpack.packb(value) for value in packed]
    for _ in range(draw(st.integers(0, 2))):
        parts[draw(st.integers(0, len(parts) - 1))] = draw(st.one_of(RAW_VALUES, NUMBERS.map(msgpack.packb)))
    if draw(st.booleans()):
        del parts[draw(st.integers(0, len(parts))) :]
    frames = draw(st.permutations(frames))
    return raw_array(parts), [draw(st.one_of(st.just(frame), mutations(st.just(frame)))) for frame in frames]


@search(600)
@given(broken_envelopes())
def test_any_envelope_is_what_consensus_may_trust_or_a_protocol_error(broken: tuple[bytes, list[bytes]]) -> None:
    packed, frames = broken
    try:
        envelope = unpack_envelope(unpack_frame(packed), iter(frames))
    except ProtocolError:
        return

    message = envelope.message
    assert 0 <= message.term <= TERM_MAX
    assert envelope.sender > 0 < envelope.to
    if isinstance(message, Append):
        for place, entry in enumerate(message.entries, start=1):
            assert entry.index == message.prev_index + place
            assert message.prev_term <= entry.term <= message.term


def test_a_term_that_could_not_be_counted_on_from_is_a_protocol_error() -> None:
    for message in (Vote(1, 0, 0, False, True), VoteReply(1, True, False), Heartbeat(1, 0, 0), TimeoutNow(1)):
        packed, _ = pack_envelope(Envelope(1, ReplicaId(1), ReplicaId(2), message))
        packed[4] = TERM_MAX + 1

        with pytest.raises(ProtocolError, match="term"):
            unpack_envelope(packed, iter(()))


def test_an_entry_after_whose_timestamp_none_could_follow_is_a_protocol_error() -> None:
    entry = Entry.build(EntryKind.NOOP, term=1, index=1, timestamp=UINT_MAX, previous_digest=NO_DIGEST)
    packed, frames = pack_envelope(Envelope(1, ReplicaId(1), ReplicaId(2), Append(1, 0, 0, 0, (entry,))))

    with pytest.raises(ProtocolError, match="timestamp"):
        unpack_envelope(packed, iter(frames))


# What it may cost.


def unpack_head(head: bytes) -> list[AppendRun]:
    """Read a run of appends that has no events to speak of."""
    return unpack_runs([head, b""])


DECODERS = [CLIENT_CODEC.decode, PEER_CODEC.decode, unpack_head, unpack_chunk]


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("size", [500, 5000, 500_000])
def test_arrays_that_promise_much_and_hold_nothing_cost_little(decode: Any, size: int) -> None:
    frames = [nested_lies(size), b"\x93" + nested_lies(size), *(lie + bytes(size) for lie in ARRAY_LIES)]

    def attempt() -> None:
        for frame in frames:
            with pytest.raises(ProtocolError):
                decode(frame)

    assert peak_bytes(attempt) < 20 * size + FRAME_OVERHEAD_BYTES


ARRAY_LIES = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]


@pytest.mark.parametrize("decode", DECODERS)
def test_the_deepest_frames_that_can_be_read_are_refused_with_a_text_of_bounded_length(decode: Any) -> None:
    for frame in (nested(1000), raw_array([b"\x01", nested(1000)]), raw_array([nested(1000)] * 12)):
        with pytest.raises(ProtocolError) as refused:
            decode(frame)

        assert len(str(refused.value)) < 1000


def test_an_append_of_more_entries_than_a_message_holds_reads_none_of_them() -> None:
    packed, _ = pack_envelope(Envelope(1, ReplicaId(1), ReplicaId(2), Append(1, 0, 0, 0, ())))
    packed[-1] = 1 << 40

    def attempt() -> None:
        with pytest.raises(ProtocolError):
            unpack_envelope(packed, repeat(b""))

    assert peak_bytes(attempt) < FRAME_OVERHEAD_BYTES


@pytest.mark.parametrize("item", EMPTIES)
def test_a_run_of_nothing_but_empty_things_is_refused_before_they_are_made(item: bytes) -> None:
    """One in each byte: 15 MiB would take a node six seconds, and 1.2 GB."""
    packed = full_of(item, 60_000, 1 << 18)

    for head in (packed, raw_array([packed] * 6), raw_array([b"\x01", b"\xc4\x00", *[packed] * 4])):
        told: list[str | None] = []
        peak = peak_bytes(lambda head=head, told=told: told.append(refusal(lambda: unpack_head(head), ProtocolError)))
        assert told != [None]
        assert peak < 4 * len(head) + FRAME_OVERHEAD_BYTES


@pytest.mark.parametrize(("codec", "bytes_max"), [(CLIENT_CODEC, REQUEST_BYTES_MAX), (PEER_CODEC, HEADER_BYTES_MAX)])
def test_a_header_beyond_its_limit_is_refused_unread(codec: Codec, bytes_max: int) -> None:
    within, beyond = (b"\xdd" + (size - 5).to_bytes(4) + b"\xc0" * (size - 5) for size in (bytes_max, bytes_max + 1))

    def attempt() -> None:
        with pytest.raises(ProtocolError, match="limit"):
            codec.decode(beyond, bytes_max)

    with pytest.raises(ProtocolError, match="code"):
        codec.decode(within, bytes_max)
    assert peak_bytes(attempt) < 10_000
