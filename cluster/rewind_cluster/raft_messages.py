"""The messages of consensus, and their form on the wire.

Owns what replicas say to each other. Messages are immutable; all that arrives is validated in `unpack_envelope`, so
that the state machine behind it may trust types, ranges and the chain of a batch of entries.

An envelope travels as one msgpack array `[kind, partition, sender, to, …]`, followed by the message's fields in the
order of its class; for an `Append` the last field is the number of its entries, each of which follows as a frame of
its own. Readers accept longer arrays than they know.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, NewType, TypeAlias

from rewind_cluster.clock import CLOCK_MAX
from rewind_cluster.entry import Entry
from rewind_cluster.errors import DamagedError, ProtocolError

ReplicaId = NewType("ReplicaId", int)
NOBODY = ReplicaId(0)
NUMBER_MAX = (1 << 64) - 1
TERM_MAX = 1 << 62  # no run of elections gets there, and who is told such a term can still count on from it
TIMESTAMP_MAX = CLOCK_MAX + (1 << 59)  # the same of timestamps: each entry's is beyond that of the one before
APPEND_ENTRIES_MAX = 1024  # a mebibyte of entries as small as they get in practice; bounds the frames of one message


@dataclass(frozen=True, slots=True)
class Vote:
    """A candidate asks for a vote, or (`pre`) whether it would get one. `transfer`: its leader told it to."""

    term: int
    last_index: int
    last_term: int
    pre: bool
    transfer: bool


@dataclass(frozen=True, slots=True)
class VoteReply:
    """A vote. `term` is the term asked for where a pre-vote is granted, else the voter's own."""

    term: int
    granted: bool
    pre: bool


@dataclass(frozen=True, slots=True)
class Append:
    """A leader's entries after the one at `prev_index`; none of them asks only whether that one matches."""

    term: int
    prev_index: int
    prev_term: int
    commit: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class AppendReply:
    """A follower's answer. `full`: it takes no events for now, because its storage is full; that is no mismatch.

    `index` is the highest index known to match and durable; if `rejected`, the `prev_index` that did not match, with
    the last entry before it that may match as a hint.
    """

    term: int
    index: int
    rejected: bool
    hint_index: int
    hint_term: int
    full: bool


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A leader is there. `commit` is at most what the follower has; `round` 0 asks for no answer."""

    term: int
    commit: int
    round: int


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """The sender follows the leader of `term`, and did so after that leader began `round`."""

    term: int
    round: int


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader asks a voter to campaign at once and take over."""

    term: int


Message: TypeAlias = Vote | VoteReply | Append | AppendReply | Heartbeat | HeartbeatReply | TimeoutNow


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message from one replica of a partition to another."""

    partition: int
    sender: ReplicaId
    to: ReplicaId
    message: Message


_CLASSES: tuple[type[Any], ...] = (Vote, VoteReply, Append, AppendReply, Heartbeat, HeartbeatReply, TimeoutNow)
_KINDS = {cls: kind for kind, cls in enumerate(_CLASSES, start=1)}
_FIELDS = {
    cls: tuple(
        (field.name, field.type, TERM_MAX if field.name.endswith("term") else NUMBER_MAX)
        for field in fields(cls)
        if field.name != "entries"
    )
    for cls in _CLASSES
}
_ADDRESS_FIELDS = 4


def pack_envelope(envelope: Envelope) -> tuple[list[int | bool], list[bytes]]:
    """Return the envelope's array, ready for msgpack, and the bytes of its entries, one frame each."""
    message = envelope.message
    cls = type(message)
    packed: list[int | bool] = [_KINDS[cls], envelope.partition, envelope.sender, envelope.to]
    packed.extend(getattr(message, name) for name, _, _ in _FIELDS[cls])
    if not isinstance(message, Append):
        return packed, []
    packed.append(len(message.entries))
    return packed, [entry.data for entry in message.entries]


def unpack_envelope(packed: Any, frames: Iterator[bytes]) -> Envelope:
    """Return the envelope of an array, taking its entries from `frames`, or raise `ProtocolError`."""
    if type(packed) not in (list, tuple) or len(packed) < _ADDRESS_FIELDS:
        raise ProtocolError("an envelope is not an array of kind, partition, sender, receiver and fields")
    kind = _number(packed[0], "kind")
    if not 1 <= kind <= len(_CLASSES):
        raise ProtocolError(f"a message has the unknown kind {kind}")
    cls = _CLASSES[kind - 1]
    partition, sender, to = (_number(value, "address") for value in packed[1:_ADDRESS_FIELDS])
    if NOBODY in {sender, to}:
        raise ProtocolError("an envelope names replica 0, which nobody is")
    values = _unpack_fields(cls, packed)
    message = _unpack_append(values, packed, frames) if cls is Append else cls(*values)
    return Envelope(partition, ReplicaId(sender), ReplicaId(to), message)


def _unpack_fields(cls: type[Any], packed: list[Any]) -> list[int | bool]:
    specification = _FIELDS[cls]
    values = packed[_ADDRESS_FIELDS : _ADDRESS_FIELDS + len(specification)]
    if len(values) < len(specification):
        raise ProtocolError(f"a {cls.__name__} message has {len(values)} fields, not {len(specification)}")
    for value, (name, kind, number_max) in zip(values, specification, strict=True):
        if kind is int:
            if _number(value, name) > number_max:
                raise ProtocolError(f"the {name} {value} of a {cls.__name__} message is over the limit of {number_max}")
        elif type(value) is not bool:
            raise ProtocolError(f"the field {name} is not true or false")
    return values


def _unpack_append(values: list[int | bool], packed: list[Any], frames: Iterator[bytes]) -> Append:
    place = _ADDRESS_FIELDS + len(values)
    if len(packed) <= place:
        raise ProtocolError("an Append message does not say how many entries it has")
    count = _number(packed[place], "number of entries")
    if count > APPEND_ENTRIES_MAX:
        raise ProtocolError(f"an Append message of {count} entries is over the limit of {APPEND_ENTRIES_MAX}")
    term, prev_index, prev_term, commit = values
    if prev_term > term or prev_index + count > NUMBER_MAX:
        raise ProtocolError("an Append message contradicts itself")
    return Append(term, prev_index, prev_term, commit, _unpack_entries(term, prev_index, prev_term, count, frames))


def _unpack_entries(
    term_max: int, prev_index: int, prev_term: int, count: int, frames: Iterator[bytes]
) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    term, digest = prev_term, None
    for index in range(prev_index + 1, prev_index + count + 1):
        entry = _unpack_entry(next(frames, None))
        if entry.index != index or not term <= entry.term <= term_max:
            raise ProtocolError(
                f"entry {entry.index} of term {entry.term} is out of place at {index} after term {term}"
            )
        if digest is not None and entry.previous_digest != digest:
            raise ProtocolError(f"entry {index} does not continue the chain of digests")
        term, digest = entry.term, entry.digest
        entries.append(entry)
    return tuple(entries)


def _unpack_entry(frame: bytes | None) -> Entry:
    if type(frame) is not bytes:
        raise ProtocolError("an Append message has fewer frames than entries")
    try:
        entry = Entry.decode(frame)
    except DamagedError as error:
        raise ProtocolError(f"an entry was damaged on its way: {error}") from error
    if entry.last_timestamp > TIMESTAMP_MAX:
        raise ProtocolError(f"entry {entry.index} has timestamp {entry.last_timestamp}, after which none could follow")
    return entry


def _number(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value <= NUMBER_MAX:
        raise ProtocolError(f"the field {name} is not an unsigned 64-bit number")
    return value
