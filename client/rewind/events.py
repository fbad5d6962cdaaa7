"""What goes into a store and what comes out: new events, events, and the answers to appends.

An event that was read keeps its ID and metadata as they came, and decodes them when they are asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgpack

from rewind.tokens import Origin, make_token
from rewind_cluster.client_messages import ANY_VERSION
from rewind_cluster.clock import microseconds
from rewind_cluster.names import NO_STREAM as _NO_STREAM

ANY: Final = ANY_VERSION
"""`expected` of an append that takes whatever version the stream has."""
NO_STREAM: Final = _NO_STREAM
"""`expected` of an append that must be the stream's first."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_of(timestamp: int) -> datetime:
    """Return the time of a timestamp, in UTC, to the microsecond."""
    return _EPOCH + timedelta(microseconds=microseconds(timestamp))


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be appended.

    `type`: 1 to 255 bytes of UTF-8. `data`: at most 1 MiB, opaque to the cluster. `id`: drawn at random where it is
    None; give it where a retry must be recognised beyond this store's life. `metadata`: text to JSON values, at most
    64 KiB packed.

    >>> from uuid import NAMESPACE_URL, uuid5
    >>> event = NewEvent("OrderPlaced", b"{}", id=uuid5(NAMESPACE_URL, "order-1/placed"), metadata={"user": "7"})
    >>> store.append("order-1", event, expected=NO_STREAM) == store.append("order-1", event, expected=NO_STREAM)
    True
    """

    type: str
    data: bytes
    id: UUID | None = None
    metadata: Mapping[str, Any] | None = None


class Event(NamedTuple):
    """An event that was read.

    `version`: its place in its stream, from 1. `position`: its place in its context within `partition`, from 1.
    `timestamp`: of the hybrid logical clock, microseconds since the epoch times 4,096, plus a counter.
    `packed_id` and `packed_metadata` are what `id` and `metadata` decode.

    >>> result = store.append("order-1", NewEvent("OrderPlaced", b"{}", metadata={"user": "7"}))
    >>> [event] = store.read("order-1")
    >>> (event.stream, event.version, event.type, event.data, event.metadata)
    ('order-1', 1, 'OrderPlaced', b'{}', {'user': '7'})
    >>> (event.timestamp, event.position, event.partition) == (result.timestamp, result.position, result.partition)
    True
    >>> event.time.tzname()
    'UTC'
    """

    # A named tuple because a reader makes a million: a frozen dataclass takes five times as long.
    stream: str
    version: int
    type: str
    data: bytes
    timestamp: int
    position: int
    partition: int
    packed_id: bytes
    packed_metadata: bytes | None

    @property
    def id(self) -> UUID:
        """The event's ID."""
        return UUID(bytes=self.packed_id)

    @property
    def metadata(self) -> dict[str, Any]:
        """The event's metadata, decoded anew each time; empty where there is none."""
        if self.packed_metadata is None:
            return {}
        metadata: dict[str, Any] = msgpack.unpackb(self.packed_metadata)
        return metadata

    @property
    def time(self) -> datetime:
        """When the event was appended, in UTC, as the leader's clock said."""
        return time_of(self.timestamp)

    def __repr__(self) -> str:
        return (
            f"Event(stream={self.stream!r}, version={self.version}, type={self.type!r}, data={self.data!r}, "
            f"id={self.id!r}, metadata={self.metadata!r}, time={self.time.isoformat()!r}, position={self.position}, "
            f"partition={self.partition})"
        )


class AppendResult(NamedTuple):
    """Where an append's last event stands: `version` in its stream, `position` in its context within `partition`.

    `timestamp`: as an `Event` has it. `origin`: the context that it stands in.

    >>> result = store.append("order-1", [NewEvent("OrderPlaced", b"{}"), NewEvent("OrderPaid", b"")])
    >>> (result.version, result.partition == store.partition_of("order-1"))
    (2, True)
    """

    version: int
    position: int
    partition: int
    timestamp: int
    origin: Origin

    @property
    def time(self) -> datetime:
        """The timestamp as a time in UTC."""
        return time_of(self.timestamp)

    @property
    def token(self) -> str:
        """A token for `at_least`: a read with it sees this append."""
        return make_token(self.origin, {self.partition: self.position})

    def __repr__(self) -> str:
        return (
            f"AppendResult(version={self.version}, position={self.position}, partition={self.partition}, "
            f"time={self.time.isoformat()!r}, token={self.token!r})"
        )


@dataclass(frozen=True, slots=True)
class Context:
    """A context. `ordered`: all of it lives in one partition, `partition`, which is None otherwise.

    >>> context = store.create_context("journal", ordered=True)
    >>> (context.name, context.ordered, context.partition is None)
    ('journal', True, False)
    """

    name: str
    number: int
    partition: int | None

    @property
    def ordered(self) -> bool:
        """Whether the context has one total order, and atomic appends to any of its streams."""
        return self.partition is not None
