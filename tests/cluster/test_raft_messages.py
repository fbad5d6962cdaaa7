"""Envelopes on the wire: what is sent arrives, and nothing malformed gets past."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind_cluster.entry import NO_DIGEST, Entry, EntryKind
from rewind_cluster.errors import ProtocolError
from rewind_cluster.raft_messages import (
    APPEND_ENTRIES_MAX,
    NUMBER_MAX,
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


def entries(count: int, *, first: int = 1, term: int = 2) -> tuple[Entry, ...]:
    """Return entries that continue each other."""
    made: list[Entry] = []
    for index in range(first, first + count):
        digest = made[-1].digest if made else NO_DIGEST
        made.append(Entry.build(EntryKind.NOOP, term=term, index=index, timestamp=index, previous_digest=digest))
    return tuple(made)


MESSAGES = [
    Vote(7, 5, 4, True, False),
    VoteReply(7, True, False),
    Append(7, 0, 0, 1, entries(3)),
    Append(7, 9, 2, NUMBER_MAX, ()),
    AppendReply(7, 5, True, 4, 3, False),
    Heartbeat(7, 5, 9),
    HeartbeatReply(7, 9),
    TimeoutNow(TERM_MAX),
]


def envelope(message: Any) -> Envelope:
    """Return a message on its way."""
    return Envelope(3, ReplicaId(1), ReplicaId(NUMBER_MAX), message)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_is_packed_is_what_arrives(message: Any) -> None:
    packed, frames = pack_envelope(envelope(message))

    arrived = unpack_envelope(msgpack.unpackb(msgpack.packb(packed)), iter(frames))

    assert arrived == envelope(message)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_fields_of_a_later_version_are_passed_over(message: Any) -> None:
    packed, frames = pack_envelope(envelope(message))

    assert unpack_envelope([*packed, "new", None], iter(frames)) == envelope(message)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("wrong", [-1, NUMBER_MAX + 1, "1", None, 1.0, b"", []])
def test_no_field_may_have_another_type_or_range(message: Any, wrong: Any) -> None:
    packed, frames = pack_envelope(envelope(message))
    for place in range(len(packed)):
        fields = [*packed[:place], wrong, *packed[place + 1 :]]

        with pytest.raises(ProtocolError):
            unpack_envelope(fields, iter(frames))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_no_field_may_be_missing(message: Any) -> None:
    packed, frames = pack_envelope(envelope(message))
    for length in range(len(packed)):
        with pytest.raises(ProtocolError):
            unpack_envelope(packed[:length], iter(frames))


@pytest.mark.parametrize("fields", [None, 5, {}, "text", [], [0, 1, 2, 3, 4], [99, 1, 2, 3, 4], [True, 1, 2, 3, 4]])
def test_what_is_no_envelope_is_refused(fields: Any) -> None:
    with pytest.raises(ProtocolError):
        unpack_envelope(fields, iter([]))


@pytest.mark.parametrize("place", [2, 3])
def test_nobody_is_replica_0(place: int) -> None:
    packed, _ = pack_envelope(envelope(TimeoutNow(1)))
    packed[place] = 0

    with pytest.raises(ProtocolError):
        unpack_envelope(packed, iter([]))


def test_an_append_without_all_of_its_frames_is_refused() -> None:
    packed, frames = pack_envelope(envelope(Append(7, 0, 0, 1, entries(3))))

    with pytest.raises(ProtocolError):
        unpack_envelope(packed, iter(frames[:2]))


def test_an_append_takes_only_its_own_frames() -> None:
    packed, frames = pack_envelope(envelope(Append(7, 0, 0, 1, entries(2))))
    queue = iter([*frames, b"another message's"])

    unpack_envelope(packed, queue)

    assert list(queue) == [b"another message's"]


def test_an_append_of_too_many_entries_is_refused_before_they_are_read() -> None:
    packed, _ = pack_envelope(envelope(Append(7, 0, 0, 1, ())))
    packed[-1] = APPEND_ENTRIES_MAX + 1

    with pytest.raises(ProtocolError, match="limit"):
        unpack_envelope(packed, iter([]))


@pytest.mark.parametrize(
    "batch",
    [
        (entries(3)[0], entries(3)[2]),
        entries(3, first=2),
        entries(2, term=8),
        (*entries(1, term=3), *entries(2, term=2)[1:]),
        (entries(1)[0], entries(2, term=3)[1]),
    ],
    ids=["a hole", "a late start", "a term above the leader's", "a falling term", "a broken chain"],
)
def test_entries_that_do_not_continue_each_other_are_refused(batch: tuple[Entry, ...]) -> None:
    packed, frames = pack_envelope(envelope(Append(7, 0, 0, 1, batch)))

    with pytest.raises(ProtocolError):
        unpack_envelope(packed, iter(frames))


def test_a_flipped_bit_in_an_entry_is_the_senders_mistake_not_ours() -> None:
    packed, frames = pack_envelope(envelope(Append(7, 0, 0, 1, entries(1))))
    for place in range(len(frames[0])):
        damaged = bytearray(frames[0])
        damaged[place] ^= 1

        with pytest.raises(ProtocolError):
            unpack_envelope(packed, iter([bytes(damaged)]))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.binary() | st.text(), lambda inner: st.lists(inner, max_size=12)
    ),
    st.lists(st.binary(max_size=100)),
)
def test_whatever_arrives_there_is_no_other_error(fields: Any, frames: list[bytes]) -> None:
    try:
        unpack_envelope(fields, iter(frames))
    except ProtocolError:
        return
