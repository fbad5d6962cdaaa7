"""What fake nodes tell of events by position: ranges, and subscriptions with credit and signs of life.

A node may be told to see no further than a position, to say nothing, or to spoil what it sends.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rewind_cluster.client_messages import CLIENT_CODEC, Code, Failed
from rewind_cluster.columns import Events, pack_events, unpack_events
from rewind_cluster.ranges import (
    SIGN_OF_LIFE_INTERVAL_US,
    AllIs,
    Consumed,
    EventRow,
    EventsAre,
    GetPosition,
    PositionIs,
    ReadAll,
    Subscribe,
    SubscriptionEnded,
    Unsubscribe,
    pack_row,
    pack_rows,
)

Frames = list[bytes]
MESSAGE_POSITIONS = 100  # that a message covers
MESSAGE_BYTES = 512


def runs(cluster: Any, context: int, partition: int) -> list[tuple[str, Any]]:
    """Return a context's appends in one partition in the order of their positions: stream and what is stored."""
    ordered = any(number == context and at == partition for number, at in cluster.contexts.values())
    found = [
        (stream, stored)
        for (of, stream), appends in cluster.streams.items()
        if of == context and (ordered or cluster.partition_of(stream) == partition)
        for stored in appends
    ]
    return sorted(found, key=lambda each: each[1].first_position)


def rows_of(cluster: Any, message: Any, low: int, high: int, *, reverse: bool = False) -> bytes:
    """Return the frame of rows with the positions beyond `low` up to `high` that a message asks for."""
    rows = list(_rows(cluster, message, low, high))
    return pack_rows([pack_row(row) for row in (reversed(rows) if reverse else rows)])


def _rows(cluster: Any, message: Any, low: int, high: int) -> Iterator[EventRow]:
    for stream, stored in runs(cluster, message.context, message.partition):
        events = unpack_events(stored.events)
        offsets = [
            offset
            for offset, kind in enumerate(events.types)
            if low < stored.first_position + offset <= high
            and (message.types is None or kind in message.types)
            and stream.startswith(message.prefix)
        ]
        if len(offsets) == stored.count:
            versions, counts = [stored.first_version], [stored.count]
            yield EventRow(stored.first_position, stored.timestamp, None, [stream], versions, counts, stored.events)
        elif offsets:
            versions = [stored.first_version + offset for offset in offsets]
            packed = pack_events(_pick(events, offsets))
            yield EventRow(
                stored.first_position, stored.timestamp, offsets, [stream] * len(offsets), versions, None, packed
            )


def _pick(events: Events, offsets: list[int]) -> Events:
    picked = [events.slice(offset, offset + 1) for offset in offsets]
    return Events(
        b"".join(each.ids for each in picked),
        [each.types[0] for each in picked],
        [each.datas[0] for each in picked],
        None if events.metadatas is None else [each.metadatas[0] for each in picked if each.metadatas],
    )


def on_range(node: Any, message: ReadAll | GetPosition) -> Frames:
    """Answer a `ReadAll` or a `GetPosition`."""
    newest = node.newest(message.context, message.partition)
    if isinstance(message, GetPosition):
        return [CLIENT_CODEC.encode(PositionIs(message.request, newest))]
    if max(message.at_least, message.after or 0) > newest:
        return [CLIENT_CODEC.encode(Failed(message.request, Code.BEYOND_HEAD, "beyond the newest event", "", 0))]
    if message.reverse:
        after = newest if message.after is None else message.after
        through = max(0, after - message.count_max)
        answer = AllIs(message.request, after, through, newest, through > 0)
        return [CLIENT_CODEC.encode(answer), rows_of(node.cluster, message, through, after, reverse=True)]
    after = message.after or 0
    through = min(newest, after + message.count_max)
    answer = AllIs(message.request, after, through, newest, through < newest)
    return [CLIENT_CODEC.encode(answer), rows_of(node.cluster, message, after, through)]


@dataclass
class FakeSubscription:
    wanted: Subscribe
    through: int
    said_us: int = -SIGN_OF_LIFE_INTERVAL_US
    sent: list[tuple[int, int]] = field(default_factory=list)  # through and size of what was not consumed

    @property
    def unconsumed(self) -> int:
        return sum(size for _, size in self.sent)


class FakeFeeds:
    """The subscriptions at a fake node."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self.served: dict[tuple[bytes, int], FakeSubscription] = {}
        self.unconsumed_max = 0
        self.mute = False  # says nothing of subscriptions, not even that it lives
        self.muted: set[int] = set()  # partitions of whose subscriptions it says nothing
        self.ending: SubscriptionEnded | None = None  # what every new subscription is answered with
        self.spoil: Callable[[EventsAre, bytes], list[Frames]] | None = None  # what is sent in place of a message

    def handle(self, route: bytes, message: Any) -> list[Frames]:
        if isinstance(message, Subscribe):
            if self.ending is not None:
                ended = SubscriptionEnded(message.subscription, self.ending.code, self.ending.text)
                return [[CLIENT_CODEC.encode(ended)]]
            self.served[route, message.subscription] = FakeSubscription(message, message.after)
        elif isinstance(message, Unsubscribe):
            self.served.pop((route, message.subscription), None)
        elif isinstance(message, Consumed):
            served = self.served.get((route, message.subscription))
            if served is not None:
                served.sent = [each for each in served.sent if each[0] > message.through]
        return []

    def pushes(self, now_us: int) -> list[tuple[bytes, Frames]]:
        if self.mute:
            return []
        return [
            (route, frames)
            for (route, number), served in self.served.items()
            if served.wanted.partition not in self.muted
            for each in self._ranges(number, served, now_us)
            for frames in each
        ]

    def _ranges(self, number: int, served: FakeSubscription, now_us: int) -> Iterator[list[Frames]]:
        wanted = served.wanted
        newest = self._node.newest(wanted.context, wanted.partition)
        while served.through < newest and served.unconsumed < wanted.window_bytes:
            yield self._range(number, served, min(newest, served.through + MESSAGE_POSITIONS), newest, now_us)
        if now_us - served.said_us >= SIGN_OF_LIFE_INTERVAL_US:
            yield self._range(number, served, served.through, newest, now_us)

    def _range(self, number: int, served: FakeSubscription, through: int, newest: int, now_us: int) -> list[Frames]:
        frame = rows_of(self._node.cluster, served.wanted, served.through, through)
        message = EventsAre(number, served.through, through, newest)
        served.said_us, served.through = now_us, through
        if len(frame) > 1:
            served.sent.append((through, len(frame) + MESSAGE_BYTES))
        self.unconsumed_max = max(self.unconsumed_max, served.unconsumed)
        if self.spoil is not None:
            return self.spoil(message, frame)
        return [[CLIENT_CODEC.encode(message), frame]]
