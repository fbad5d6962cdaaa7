"""From the client library's answers to a history's records."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgpack

from histories.history import AppendDone, EventContent, Outcome, Part, Place, Refusal, ScannedEvent, SeenEvent
from rewind import AppendResult, Event, NewEvent, OutcomeUnknown, ProtocolError, RewindError, WrongExpectedVersion

DIGEST_BYTES = 8  # enough to tell the events of a run apart


def digest_of(event_type: str, data: bytes, metadata: Mapping[str, Any] | bytes | None) -> str:
    """Return a short digest of what an event says. `metadata`: a map, or a packed one; none equals an empty one."""
    packed = metadata if isinstance(metadata, bytes) else msgpack.packb(dict(metadata)) if metadata else b""
    content = msgpack.packb((event_type, data, packed))
    return blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def content_of(event: NewEvent) -> EventContent:
    """Return a new event as a history has it. Its ID must be given."""
    assert event.id is not None, "what is recorded has an ID of the recorder's choice"
    return EventContent(event.id.hex, digest_of(event.type, bytes(event.data), event.metadata))


def part_of(stream: str, expected: int, events: NewEvent | Sequence[NewEvent]) -> Part:
    """Return a part of an append as a history has it."""
    listed = [events] if isinstance(events, NewEvent) else events
    return Part(stream, expected, tuple(content_of(event) for event in listed))


def seen_event(event: Event) -> SeenEvent:
    """Return an event that was read as a history has it."""
    digest = digest_of(event.type, event.data, event.metadata)
    return SeenEvent(event.version, event.position, event.timestamp, event.id.hex, digest)


def scanned_event(event: Event) -> ScannedEvent:
    """Return an event that a subscription or `read_all` gave as a history has it."""
    return ScannedEvent(event.stream, *seen_event(event))


def append_done(
    client: int,
    number: int,
    context: int,
    partition: int,
    begun_us: int,
    ended_us: int | None,
    parts: tuple[Part, ...],
    answer: AppendResult | Sequence[AppendResult] | RewindError | None,
) -> AppendDone:
    """Return the record of an append that ended with a result, with an error or, where nobody was told, with None."""
    outcome = Outcome.FAILED
    places: tuple[Place, ...] = ()
    refusal = None
    if answer is None or isinstance(answer, OutcomeUnknown | ProtocolError):  # garbage in answer to it says nothing
        outcome = Outcome.UNKNOWN
    elif isinstance(answer, WrongExpectedVersion):
        outcome, refusal = Outcome.REFUSED, Refusal(answer.stream, answer.expected, answer.actual)
    elif not isinstance(answer, RewindError):
        results = [answer] if isinstance(answer, AppendResult) else answer
        outcome = Outcome.OK
        places = tuple(Place(result.version, result.position, result.timestamp) for result in results)
    return AppendDone(client, number, context, partition, begun_us, ended_us, parts, outcome, places, refusal)
