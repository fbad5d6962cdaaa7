"""Events by position: the messages of `read_all` and of subscriptions, and the rows that both carry.

Both speak in ranges. A range covers the positions beyond the lower of `after` and `through` up to the higher, whatever
a filter took out, so `through` is the next range's `after`, in both directions, and an empty range has both equal. Who
receives ranges checks that each begins where the one before ended: a hole or an overlap cannot go unnoticed.

A row is a run's events, as columns, see `rewind_cluster.columns`: all of them as they are stored, or those that a
filter took or that a range begins with. Rows hold events of their range only, in the order asked for; the events of a
row always ascend.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgpack

from rewind_cluster.client_messages import CLIENT_CODEC
from rewind_cluster.columns import Counts, Events, are_counts, size_of, unpack_columns
from rewind_cluster.errors import ProtocolError
from rewind_cluster.wire import UINT_MAX, Frame, message, unpack_frame

ROW_FIELDS = 7
WINDOW_BYTES_MAX = 1024 * 1024  # of one subscription: more than a node sends it before it hears of what was consumed
CLIENT_WINDOWS_BYTES_MAX = 8 * 1024 * 1024  # of one connection's together: as much as a node keeps for a slow one
SIGN_OF_LIFE_INTERVAL_US = 1_000_000  # a subscription that has nothing to say says so
_INTEGERS_ONLY = {int}
_TEXTS_ONLY = {str}


@message(CLIENT_CODEC, 24)
class Subscribe:
    """Asks for every event of a context in one partition, those after position `after`, past and to come.

    `subscription` is a number that the connection has not used. `types` and `prefix` of the stream's name filter: None
    and "" take all. At most `window_bytes` are sent and not consumed, or one row that is larger.
    """

    subscription: int
    partition: int
    context: int
    after: int
    types: list[Any] | None
    prefix: str
    window_bytes: int


@message(CLIENT_CODEC, 25)
class EventsAre:
    """A subscription's next range; the second frame holds its rows, perhaps none.

    It joins the one before, or `Subscribe`. With no rows it is a sign of life, at least one a second, and tells how far
    the filter has seen. `position` is the context's newest at this replica, which may be behind the leader's.
    """

    subscription: int
    after: int
    through: int
    position: int


@message(CLIENT_CODEC, 26)
class Consumed:
    """Everything up to `through` was consumed. MUST be sent at the latest when nothing received is left to consume."""

    subscription: int
    through: int


@message(CLIENT_CODEC, 27)
class Unsubscribe:
    """Ends a subscription. What is under way still arrives; nothing answers."""

    subscription: int


@message(CLIENT_CODEC, 28)
class SubscriptionEnded:
    """This node cannot go on serving a subscription: resume elsewhere. `code` and `text` as in `Failed`."""

    subscription: int
    code: int
    text: str


@message(CLIENT_CODEC, 36)
class ReadAll:
    """Asks for a context's events in one partition, by position.

    Forward those after position `after` (None: from the start), in reverse from position `after` (None: the newest)
    down. `types` and `prefix` filter as in `Subscribe`; `fresh`, `at_least` as in `ReadStream`.
    """

    request: int
    partition: int
    context: int
    after: int | None
    count_max: int
    bytes_max: int
    types: list[Any] | None
    prefix: str
    reverse: bool
    fresh: bool
    at_least: int
    deadline_us: int


@message(CLIENT_CODEC, 37)
class AllIs:
    """A range of a context; the second frame holds its rows, perhaps none.

    `position` is the context's newest in this partition when it was read. `more`: ask again after `through`.
    """

    request: int
    after: int
    through: int
    position: int
    more: bool


@message(CLIENT_CODEC, 38)
class GetPosition:
    """Asks for a context's newest position in one partition."""

    request: int
    partition: int
    context: int
    fresh: bool
    at_least: int
    deadline_us: int


@message(CLIENT_CODEC, 39)
class PositionIs:
    """A context's newest position in one partition, 0 where it has no event there."""

    request: int
    position: int


class EventRow(NamedTuple):
    """Events of one run. `position` and `timestamp` are those of the run's first event and rise by one with each.

    With `offsets` None these are all events of the run, and `streams`, `first_versions` and `counts` tell of its parts.
    Else an offset for each event, ascending, tells its place in the run; `streams` and `first_versions` then have an
    item for each event, and `counts` is None.
    """

    position: int
    timestamp: int
    offsets: Sequence[int] | None
    streams: Sequence[str]
    first_versions: Sequence[int]
    counts: Counts
    events: bytes

    @property
    def event_count(self) -> int:
        """How many events it holds."""
        return size_of(self.counts, len(self.streams))

    def by_event(self) -> tuple[Sequence[int], Sequence[int], Sequence[str], Sequence[int]]:
        """Return four columns with an item for each event: positions, timestamps, streams, versions."""
        if self.offsets is not None:
            positions, timestamps = ([first + offset for offset in self.offsets] for first in self[:2])
            return positions, timestamps, self.streams, self.first_versions
        streams, versions = self.streams, self.first_versions
        if self.counts is not None:
            parts = list(zip(streams, versions, self.counts, strict=True))
            streams = [stream for stream, _, count in parts for _ in range(count)]
            versions = [first + ahead for _, first, count in parts for ahead in range(count)]
        count = len(streams)
        return (
            range(self.position, self.position + count),
            range(self.timestamp, self.timestamp + count),
            streams,
            versions,
        )

    def unpack_events(self) -> Events:
        """Return the events, their shape verified, or raise `ProtocolError`."""
        return unpack_columns(self.events, self.event_count)


def pack_row(row: EventRow) -> bytes:
    """Return a row's bytes."""
    packed: bytes = msgpack.packb(row)
    return packed


def pack_rows(packed_rows: Sequence[bytes]) -> Frame:
    """Return the second frame of an `AllIs` or `EventsAre`, of rows that are packed already."""
    return b"".join((msgpack.Packer().pack_array_header(len(packed_rows)), *packed_rows))


def unpack_rows(frame: Frame, first: int, last: int) -> list[EventRow]:
    """Return rows whose positions are all within `first` to `last`, their shape verified but not their events."""
    rows = unpack_frame(frame)
    if type(rows) is not list:
        raise ProtocolError("the rows of a range are not an array")
    return [_unpack_row(row, first, last) for row in rows]


def _unpack_row(fields: Any, first: int, last: int) -> EventRow:
    if type(fields) is not list or len(fields) < ROW_FIELDS:
        raise ProtocolError(f"a row of events is not an array of {ROW_FIELDS} or more")
    row = EventRow._make(fields[:ROW_FIELDS])
    length = len(row.streams) if type(row.streams) is list else 0
    if (
        set(map(type, row[:2])) != _INTEGERS_ONLY
        or not length
        or type(row.first_versions) is not list
        or len(row.first_versions) != length
        or set(map(type, row.streams)) != _TEXTS_ONLY
        or set(map(type, row.first_versions)) != _INTEGERS_ONLY
        or not 1 <= min(row.first_versions) <= max(row.first_versions) <= UINT_MAX
        or type(row.events) is not bytes
        or not are_counts(row.counts, length=length)
        or not (row.offsets is None or (row.counts is None and _are_offsets(row.offsets, length)))
    ):
        raise ProtocolError("a row of events has columns that do not fit together")
    lowest = row.position + (row.offsets[0] if row.offsets else 0)
    highest = row.position + (row.offsets[-1] if row.offsets else row.event_count - 1)
    if row.position < 1 or row.timestamp < 0 or not first <= lowest <= highest <= last:
        raise ProtocolError(f"a row holds positions {lowest} to {highest}, outside its range of {first} to {last}")
    return row


def _are_offsets(offsets: object, length: int) -> bool:
    """Whether these are `length` numbers that ascend from 0 or above."""
    if type(offsets) is not list or len(offsets) != length or set(map(type, offsets)) != _INTEGERS_ONLY:
        return False
    return offsets[0] >= 0 and all(before < after for before, after in pairwise(offsets))
