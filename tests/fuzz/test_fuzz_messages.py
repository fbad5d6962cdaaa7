"""Messages of both protocols: any frame becomes a message or a `ProtocolError`, at a bounded cost."""

from itertools import repeat
from typing import Any

import msgpack
import pytest
from fuzzing.material import (
    FRAME_OVERHEAD_BYTES,
    NUMBERS,
    RAW_VALUES,
    UINT_MAX,
    classes_of,
    frames_with_a_wrong_field,
    header_frames,
    messages,
    mutations,
    nested,
    nested_lies,
    peak_bytes,
    raw_array,
    search,
)
from hypothesis import given
from hypothesis import strategies as st

from rewind_cluster.client_messages import (
    CLIENT_CODEC,
    AppendPart,
    AppendRequest,
    pack_batch,
    pack_chunk,
    unpack_batch,
    unpack_chunk,
)
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

REQUESTS = st.builds(
    AppendRequest,
    st.integers(1, UINT_MAX),
    st.booleans(),
    st.lists(
        st.builds(AppendPart, st.text(max_size=9), st.integers(-1, UINT_MAX), st.binary(max_size=9)),
        min_size=1,
        max_size=3,
    ).map(tuple),
)
BATCHES = st.lists(REQUESTS, min_size=1, max_size=4)


@search(200)
@given(BATCHES)
def test_a_batch_comes_out_as_it_went_in(requests: list[AppendRequest]) -> None:
    rows = unpack_batch(pack_batch(requests))

    assert [[row[0], row[1], [tuple(part) for part in row[2]]] for row in rows] == [
        [each.sequence, each.open, [(part.stream, part.expected, part.events) for part in each.parts]]
        for each in requests
    ]


@search(500)
@given(st.one_of(st.binary(max_size=40), RAW_VALUES, mutations(BATCHES.map(pack_batch))))
def test_any_batch_has_the_shape_of_appends_or_is_a_protocol_error(frame: bytes) -> None:
    try:
        rows = unpack_batch(frame)
    except ProtocolError:
        return

    for sequence, is_open, parts, *_ in rows:
        assert (type(sequence), type(is_open)) == (int, bool)
        assert all([type(item) for item in part[:3]] == [str, int, bytes] for part in parts)


@search(300)
@given(
    st.one_of(
        RAW_VALUES,
        mutations(st.lists(st.tuples(NUMBERS, NUMBERS, st.binary(max_size=9)), max_size=3).map(pack_chunk)),
        st.lists(RAW_VALUES, max_size=4).map(raw_array).map(lambda row: raw_array([row])),
    )
)
def test_any_chunk_of_a_stream_has_the_shape_of_records_or_is_a_protocol_error(frame: bytes) -> None:
    try:
        rows = unpack_chunk(frame)
    except ProtocolError:
        return

    assert all([type(item) for item in row[:3]] == [int, int, bytes] for row in rows)


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

DECODERS = [CLIENT_CODEC.decode, PEER_CODEC.decode, unpack_batch, unpack_chunk]


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
