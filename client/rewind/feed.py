"""One partition's part of a subscription, and the subscription that such feeds make up.

A feed keeps the one promise that matters: what it hands on joins what it handed on before. It believes no range that
leaves a hole or overlaps, holds something else than was asked for, or cannot be read; then it begins anew after
`through`.

Credit bounds memory: a node sends no more than a window beyond what it was told is consumed. Whatever begins anew waits
until half a window is free, so a feed holds one and a half of them at most, and a row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rewind.backoff import Backoff
from rewind.connection import Connection
from rewind.errors import RewindError
from rewind.requests import Request
from rewind.rows import Filter, Rows, take_rows
from rewind.tokens import Origin
from rewind_cluster.client_messages import CLIENT_CODEC
from rewind_cluster.errors import ProtocolError
from rewind_cluster.ranges import WINDOW_BYTES_MAX, Consumed, EventsAre, Subscribe, Unsubscribe
from rewind_cluster.wire import Frame

WINDOWS_BYTES = 4 * 1024 * 1024  # of a subscription's feeds together: 40,000 small events, a tenth of a second's work
WINDOW_BYTES_MIN = 64 * 1024  # of one feed, for subscriptions to very many partitions
MESSAGE_BYTES = 512  # what a message counts beside its rows, as nodes count it
STEADY_US = 5_000_000  # a feed that a node served this long is in order: longer than nodes keep up appearances


@dataclass(slots=True, eq=False)
class Batch:
    """A range that a feed hands on.

    `head`: the context's newest position at the replica, where this is the first that it sent; else None.
    """

    feed: "Feed"
    rows: Rows
    through: int
    size: int  # as its window counts it
    head: int | None

    @property
    def consumer(self) -> "Consumer":
        """Who gets it."""
        assert self.feed.tail.consumer is not None
        return self.feed.tail.consumer


class Consumer(Protocol):
    """Who takes what a subscription brings; the shell's to provide."""

    def put(self, batch: Batch) -> None:
        """Take in a range."""

    def end(self, error: RewindError | None) -> None:
        """Take in that nothing comes any more."""


class Tail:
    """A subscription as the session sees it. `positions`: after what it begins in each partition.

    `sharing`: how many feeds share the memory for a subscription's windows, its own only if it is not given.
    """

    def __init__(
        self, origin: Origin, positions: Mapping[int, int], wanted: Filter, sharing: int | None = None
    ) -> None:
        self.origin = origin
        self.wanted = wanted
        self.error: RewindError | None = None
        self.consumer: Consumer | None = None
        self.positions = dict(positions)
        self._sharing = sharing or len(positions)

    def feeds(self, random: Callable[[], float]) -> list["Feed"]:
        """Return a feed for each partition."""
        share = min(WINDOW_BYTES_MAX, max(WINDOW_BYTES_MIN, WINDOWS_BYTES // self._sharing))
        return [Feed(self, partition, after, share, random) for partition, after in self.positions.items()]


class Feed:
    """A subscription's events of one partition."""

    def __init__(self, tail: Tail, partition: int, after: int, window: int, random: Callable[[], float]) -> None:
        self.tail = tail
        self.partition = partition
        self.through = after  # everything up to here was handed on
        self.connection: Connection | None = None  # to the replica that serves it
        self.number = 0  # of the subscription there
        self.avoid = ""  # the node that failed it last
        self.not_before_us = 0
        self.backoff = Backoff(random)
        self.heard_us = 0
        self.began_us = 0  # when the replica was asked
        self.moved_us = 0  # when something new came, or the replica was asked
        self.behind_us = 0  # since when the replica has been known to be behind `through`, if it is
        self.failing_us = 0  # since when no replica has served it steadily, if so
        self.failure = ""  # the last one, for people
        self.warn_us = 0  # when to complain (again)
        self.asked_us = 0  # when the leader was last asked for the newest position
        self.inquiry: Request | None = None  # under way, for the partition's newest position
        self.expected: tuple[int, int] | None = None  # a position that it must reach, and since when that is known
        self._window = window
        self._held = 0  # bytes that arrived and were not consumed
        self._unreported = 0  # bytes that were consumed and the node was not told
        self._consumed = after
        self._first = True  # the replica has said nothing yet

    @property
    def what(self) -> str:
        """What the feed is, for people."""
        return f"subscription to partition {self.partition}"

    @property
    def has_room(self) -> bool:
        """Whether a new window may be opened."""
        return self._held <= self._window // 2

    @property
    def is_starved(self) -> bool:
        """Whether a node must send what it has."""
        return self.connection is not None and self._held < self._window // 2

    # ── to the replica ──────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, connection: Connection, now_us: int) -> None:
        """Ask a replica for everything after `through`."""
        self.connection = connection
        self.number = connection.number()
        self.heard_us = self.began_us = self.moved_us = now_us
        self.behind_us = 0
        self.expected = None
        self._unreported = 0
        self._first = True
        wanted = self.tail.wanted
        subscribe = Subscribe(
            self.number,
            self.partition,
            self.tail.origin.context,
            self.through,
            wanted.wire_types(),
            wanted.prefix,
            self._window,
        )
        connection.send(now_us, CLIENT_CODEC.encode(subscribe))

    def leave(self) -> None:
        """Turn away from the replica, telling it so if it can still be told."""
        connection, self.connection = self.connection, None
        if connection is not None:
            self.avoid = connection.node_id
            if connection.ready:
                connection.tell(CLIENT_CODEC.encode(Unsubscribe(self.number)))

    def doubt(self, inquiry: Request, now_us: int) -> None:
        """Note that the leader is asked whether there is something new that the replica does not tell of."""
        self.inquiry = inquiry
        self.asked_us = now_us

    def consumed(self, batch: Batch) -> None:
        """Take in that the consumer is done with a range, and let the replica send more."""
        self._held -= batch.size
        self._consumed = batch.through
        self._unreported += batch.size
        if self._unreported >= self._window // 2 or not self._held:
            self.report()

    def report(self) -> None:
        """Tell the replica what was consumed since it was last told."""
        if self._unreported and self.connection is not None:
            self._unreported = 0
            self.connection.tell(CLIENT_CODEC.encode(Consumed(self.number, self._consumed)))

    # ── from the replica ────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, message: EventsAre, frames: Sequence[Frame], now_us: int) -> Batch | None:
        """Take in a range and return what is to be handed on, if anything.

        Raises `ProtocolError` or `DamagedError` where it does not join what came before, or is not what was asked for.
        """
        if message.after != self.through or message.through < message.after:
            kind = "leaves a hole" if message.after > self.through else "overlaps"
            raise ProtocolError(f"it sent {message.after} to {message.through} after {self.through}, which {kind}")
        rows = take_rows(self.partition, frames, message.after, message.through, self.tail.wanted)
        self.heard_us = now_us
        if message.through > self.through:
            self.moved_us = now_us
        elif not self._first:
            return None
        size = MESSAGE_BYTES + sum(map(len, frames)) if rows.count else 0
        head = message.position if self._first else None
        self.through = message.through
        self._held += size
        self._first = False
        return Batch(self, rows, message.through, size, head)
