"""The requests there are: each function builds one, with the message it sends and what its answer becomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewind.events import Context
from rewind.requests import Kind, Place, Request
from rewind.rows import Filter, Rows, take_rows
from rewind.tokens import Origin
from rewind_cluster.client_messages import (
    ContextIs,
    ContextsAre,
    CreateContext,
    FindContext,
    GetMap,
    GetStatus,
    GetVersion,
    ListContexts,
    ListStreams,
    MapIs,
    OpenSession,
    ReadStream,
    SessionIs,
    StatusIs,
    StreamIs,
    StreamsAre,
    VersionIs,
    unpack_chunk,
)
from rewind_cluster.columns import Events, unpack_events
from rewind_cluster.errors import ProtocolError
from rewind_cluster.ranges import AllIs, GetPosition, PositionIs, ReadAll
from rewind_cluster.wire import Frame, check_shape

Frames = Sequence[Frame]


@dataclass(frozen=True, slots=True)
class View:
    """How new a read must be: linearizable or not, and the position its partition must have reached."""

    fresh: bool
    at_least: int

    @property
    def place(self) -> Place:
        """Who may answer."""
        return Place.LEADER if self.fresh else Place.REPLICA


@dataclass(frozen=True, slots=True)
class StoredAppend:
    """An append to a stream as a chunk holds it: its first event's version, position and timestamp."""

    first_version: int
    position: int
    timestamp: int
    events: Events


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of a stream's appends in the order asked for, the context's newest position, and whether there is more."""

    appends: list[StoredAppend]
    position: int
    more: bool


@dataclass(frozen=True, slots=True)
class Range:
    """The context's events beyond the lower of `after` and `through` up to the higher, and its newest position."""

    after: int
    through: int
    position: int
    rows: Rows


@dataclass(frozen=True, slots=True)
class Names:
    """A run of the names of streams, and whether there are more."""

    names: list[str]
    more: bool


def get_map(timeout_us: int) -> Request:
    """Return a request for the map. Its result is None: the session keeps the map."""
    return Request(
        "connecting to a cluster",
        timeout_us,
        lambda number, _: GetMap(number),
        MapIs,
        lambda _, __: None,
        kind=Kind.CONNECT,
    )


def get_status(timeout_us: int) -> Request:
    """Return a request for what a node knows of the cluster, a dict as `/api/status` has it."""

    def take(message: StatusIs, _: Frames) -> dict[str, Any]:
        return message.status

    return Request("asking for the cluster's status", timeout_us, lambda number, _: GetStatus(number), StatusIs, take)


def find_context(name: str, timeout_us: int) -> Request:
    """Return a request for a context by its name."""
    return Request(
        f"finding context {name!r}",
        timeout_us,
        lambda number, deadline_us: FindContext(number, name, deadline_us),
        ContextIs,
        _take_context,
        kind=Kind.CONNECT,
    )


def create_context(name: str, timeout_us: int, *, ordered: bool) -> Request:
    """Return a request to create a context, or to find it where it is there and of the same kind."""
    return Request(
        f"creating context {name!r}",
        timeout_us,
        lambda number, deadline_us: CreateContext(number, name, ordered, deadline_us),
        ContextIs,
        _take_context,
        kind=Kind.WRITE,
    )


def _take_context(message: ContextIs, _: Frames) -> Context:
    return Context(message.name, message.number, message.partition)


def list_contexts(timeout_us: int) -> Request:
    """Return a request for all contexts."""

    def take(message: ContextsAre, _: Frames) -> list[Context]:
        rows = [check_shape("a context", row, int, str) for row in message.contexts]
        return [Context(row[1], row[0], row[2] if len(row) > 2 else None) for row in rows]  # noqa: PLR2004 - partition

    return Request(
        "listing contexts",
        timeout_us,
        ListContexts,
        ContextsAre,
        take,
    )


def open_session(partition: int, timeout_us: int) -> Request:
    """Return a request for a session at a partition's leader. Its result is the session's ID."""

    def take(message: SessionIs, _: Frames) -> int:
        if message.partition != partition:
            raise ProtocolError(f"a session of partition {message.partition} was opened in place of {partition}")
        return message.session

    return Request(
        f"opening a session at partition {partition}",
        timeout_us,
        lambda number, deadline_us: OpenSession(number, partition, deadline_us),
        SessionIs,
        take,
        place=Place.LEADER,
        partition=partition,
    )


def get_version(origin: Origin, partition: int, stream: str, view: View, timeout_us: int) -> Request:
    """Return a request for a stream's version, 0 where it does not exist."""

    def take(message: VersionIs, _: Frames) -> int:
        return message.version

    return Request(
        f"asking for the version of stream {stream!r} (partition {partition})",
        timeout_us,
        lambda number, deadline_us: GetVersion(
            number, partition, origin.context, stream, view.fresh, view.at_least, deadline_us
        ),
        VersionIs,
        take,
        place=view.place,
        partition=partition,
    )


def read_chunk(
    origin: Origin,
    partition: int,
    stream: str,
    view: View,
    timeout_us: int,
    *,
    after: int | None,
    count_max: int,
    bytes_max: int,
    reverse: bool,
) -> Request:
    """Return a request for a chunk of a stream."""

    def make(number: int, deadline_us: int) -> ReadStream:
        return ReadStream(
            number,
            partition,
            origin.context,
            stream,
            after,
            count_max,
            bytes_max,
            reverse,
            view.fresh,
            view.at_least,
            deadline_us,
        )

    def take(message: StreamIs, frames: Frames) -> Chunk:
        rows = unpack_chunk(frames[0]) if frames else []
        return Chunk([_stored_append(row) for row in rows], message.position, message.more)

    return Request(
        f"reading stream {stream!r} (partition {partition})",
        timeout_us,
        make,
        StreamIs,
        take,
        place=view.place,
        partition=partition,
    )


def _stored_append(row: list[Any]) -> StoredAppend:
    first_version, position, timestamp, packed = row[:4]
    return StoredAppend(first_version, position, timestamp, unpack_events(packed))


def list_streams(
    origin: Origin, partition: int, prefix: str, view: View, timeout_us: int, *, after: str | None, count_max: int
) -> Request:
    """Return a request for names of streams in one partition, in bytewise order."""

    def take(message: StreamsAre, _: Frames) -> Names:
        if not all(type(name) is str for name in message.names):
            raise ProtocolError("a stream's name is not a text")
        return Names(message.names, message.more)

    def make(number: int, deadline_us: int) -> ListStreams:
        return ListStreams(
            number, partition, origin.context, prefix, after, count_max, view.fresh, view.at_least, deadline_us
        )

    return Request(
        f"listing streams (partition {partition})",
        timeout_us,
        make,
        StreamsAre,
        take,
        place=view.place,
        partition=partition,
    )


def read_range(
    origin: Origin,
    partition: int,
    view: View,
    timeout_us: int,
    wanted: Filter,
    *,
    after: int | None,
    count_max: int,
    bytes_max: int,
    reverse: bool,
) -> Request:
    """Return a request for a range of the context in one partition, in reverse from `after` (None: the newest) down."""

    def make(number: int, deadline_us: int) -> ReadAll:
        return ReadAll(
            number,
            partition,
            origin.context,
            after,
            count_max,
            bytes_max,
            wanted.wire_types(),
            wanted.prefix,
            reverse,
            view.fresh,
            view.at_least,
            deadline_us,
        )

    def take(message: AllIs, frames: Frames) -> Range:
        if message.after != message.through and (message.through < message.after) != reverse:
            raise ProtocolError(f"a range from {message.after} to {message.through} goes the wrong way")
        rows = take_rows(partition, frames, message.after, message.through, wanted, reverse=reverse)
        return Range(message.after, message.through, message.position, rows)

    return Request(
        f"reading the context's events (partition {partition})",
        timeout_us,
        make,
        AllIs,
        take,
        place=view.place,
        partition=partition,
    )


def get_position(origin: Origin, partition: int, view: View, timeout_us: int) -> Request:
    """Return a request for the context's newest position in one partition, 0 where it has no event there."""

    def take(message: PositionIs, _: Frames) -> int:
        return message.position

    return Request(
        f"asking for the newest position (partition {partition})",
        timeout_us,
        lambda number, deadline_us: GetPosition(
            number, partition, origin.context, view.fresh, view.at_least, deadline_us
        ),
        PositionIs,
        take,
        place=view.place,
        partition=partition,
    )
