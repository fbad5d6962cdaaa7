"""All feeds of a session: which replica serves each, and what happens when it no longer does.

A feed goes to any replica of its partition that is connected, at random, so that readers scale with replicas. It begins
anew after what it has handed on, elsewhere if it can: when a connection drops, a node gives up, a replica falls silent,
what came does not join. It goes on trying for as long as the subscription lives, and complains in the log; only an
answer that no other node would change ends a subscription.

A replica may also be alive, talk, and be behind for good. So a feed that was told of nothing new for a while asks the
partition's leader for the newest position, and turns away from a replica that does not get there.
"""

import logging
from collections.abc import Callable, Sequence

from rewind.connection import SILENCE_US, Connection
from rewind.connections import Connections, Work
from rewind.errors import RewindError
from rewind.feed import STEADY_US, Batch, Feed, Tail
from rewind.inquiries import View, get_position
from rewind.requests import FINAL_ERRORS, Request
from rewind.routing import Routing
from rewind_cluster.client_messages import Code
from rewind_cluster.errors import ClusterError
from rewind_cluster.ranges import EventsAre, SubscriptionEnded
from rewind_cluster.wire import Frame

LOOK_US = 500_000  # how often all feeds are looked at
SILENT_US = 3_000_000  # three signs of life that did not come
BEHIND_US = 1_000_000  # a replica may learn a moment later what another has handed on
DOUBT_US = 10_000_000  # a feed that was told of nothing new for so long asks whether there is
INQUIRY_TIMEOUT_US = 5_000_000
ARRIVAL_US = 2_000_000  # what the leader knows of must have come by then
PATIENCE_US = 10_000_000  # a feed that fails for longer is worth a warning …
WARN_AGAIN_US = 60_000_000  # … and again each minute

logger = logging.getLogger("rewind.client")


class Feeds:
    """The feeds of a session. `ask` begins a request."""

    def __init__(
        self,
        connections: Connections,
        routing: Routing,
        random: Callable[[], float],
        ask: Callable[[Request, int], None],
    ) -> None:
        self.replicaless = False  # one of them waits for a replica that is not known or not connected
        self._connections = connections
        self._routing = routing
        self._random = random
        self._ask = ask
        self._tails: dict[Tail, list[Feed]] = {}
        self._idle: list[Feed] = []  # those that no replica serves
        self._served: dict[tuple[str, int], Feed] = {}  # by address and number
        self._inquiries: dict[Request, Feed] = {}
        self._look_us = 0
        self._batches: list[Batch] = []
        self._ended: list[Tail] = []

    # ── what is wanted ──────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, tail: Tail, now_us: int) -> None:
        """Begin a subscription."""
        feeds = self._tails[tail] = tail.feeds(self._random)
        for feed in feeds:
            self._fails(feed, "no replica of the partition is connected", now_us)
        self._idle.extend(feeds)

    def remove(self, tail: Tail, _: int) -> None:
        """End a subscription; its consumer wants no more."""
        for feed in self._tails.pop(tail, ()):
            self._leave(feed)
        self._idle = [feed for feed in self._idle if feed.tail is not tail]

    def consumed(self, batch: Batch, _: int) -> None:
        """Take in that a range was consumed."""
        batch.feed.consumed(batch)

    def end_all(self, error: Callable[[str], RewindError]) -> None:
        """End all subscriptions with an error, made from what they are."""
        for tail in list(self._tails):
            self._end(tail, error("subscription"))

    def _end(self, tail: Tail, error: RewindError) -> None:
        self.remove(tail, 0)
        tail.error = error
        self._ended.append(tail)

    def take_work(self, work: Work) -> None:
        """Move what is to be handed on into `work`."""
        if self._batches or self._ended:
            work.batches, self._batches = self._batches, []
            work.ended, self._ended = self._ended, []

    # ── finding a replica ───────────────────────────────────────────────────────────────────────────────────────────

    def dispatch(self, now_us: int) -> None:
        """Turn to replicas with the feeds that have none."""
        self.replicaless = False
        if not self._idle:
            return
        waiting, self._idle = self._idle, []
        for feed in waiting:
            if feed.not_before_us > now_us or not feed.has_room:
                self._idle.append(feed)
                continue
            replicas = self._routing.replicas.get(feed.partition, ())
            connection = self._connections.any_ready(replicas, avoid=feed.avoid, unheard_us=now_us - SILENCE_US)
            if connection is None:
                self.replicaless = True
                self._idle.append(feed)
            else:
                feed.begin(connection, now_us)
                self._served[connection.address, feed.number] = feed

    def next_try_us(self, now_us: int) -> int | None:
        """Return when a feed that was put off is due."""
        return min((feed.not_before_us for feed in self._idle if feed.not_before_us > now_us), default=None)

    def lost(self, connection: Connection) -> None:
        """Take back the feeds of a connection that was lost."""
        for feed in [feed for feed in self._served.values() if feed.connection is connection]:
            self._fails(feed, f"lost the connection to node {connection.name}", feed.heard_us)
            self._leave(feed)
            self._idle.append(feed)

    def _leave(self, feed: Feed) -> None:
        if feed.connection is not None:
            del self._served[feed.connection.address, feed.number]
            feed.leave()

    def _begin_anew(self, feed: Feed, why: str, now_us: int, level: int = logging.INFO) -> None:
        assert feed.connection is not None
        failure = f"node {feed.connection.name}: {why}"
        if feed.failing_us and level == logging.INFO:
            level = logging.DEBUG  # once is news; what follows may come four times a second
        logger.log(level, "%s: %s; going on after position %d elsewhere", feed.what, failure, feed.through)
        self._fails(feed, failure, now_us)
        self._leave(feed)
        feed.not_before_us = now_us + feed.backoff.next_us()
        self._idle.append(feed)

    @staticmethod
    def _fails(feed: Feed, failure: str, now_us: int) -> None:
        feed.failure = failure
        if not feed.failing_us:
            feed.failing_us = now_us
            feed.warn_us = now_us + PATIENCE_US

    # ── what nodes say ──────────────────────────────────────────────────────────────────────────────────────────────

    def told(
        self, connection: Connection, message: EventsAre | SubscriptionEnded, frames: Sequence[Frame], now_us: int
    ) -> None:
        """Take in a message of a subscription; one of a subscription that was left is passed over."""
        feed = self._served.get((connection.address, message.subscription))
        if feed is None or feed.connection is not connection:
            return
        if isinstance(message, EventsAre):
            self._take(feed, message, frames, now_us)
            return
        final = FINAL_ERRORS.get(message.code)
        why = message.text or (Code(message.code).name.lower() if message.code in set(Code) else str(message.code))
        if final is None:
            self._begin_anew(feed, why, now_us)
        else:
            self._end(feed.tail, final(f"{feed.what}: {why}"))

    def _take(self, feed: Feed, message: EventsAre, frames: Sequence[Frame], now_us: int) -> None:
        try:
            batch = feed.take(message, frames, now_us)
        except ClusterError as error:
            self._begin_anew(feed, str(error), now_us, logging.WARNING)
            return
        if batch is not None:
            self._batches.append(batch)
        if message.position >= feed.through:
            feed.behind_us = 0
        elif not feed.behind_us:
            feed.behind_us = now_us
        elif now_us - feed.behind_us >= BEHIND_US:
            self._begin_anew(feed, f"it is at position {message.position} and behind", now_us)

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def look(self, now_us: int) -> None:
        """Look for replicas that are silent or behind, and for feeds to complain of."""
        if now_us < self._look_us:
            return
        self._look_us = now_us + LOOK_US
        for feed in list(self._served.values()):
            self._look_at(feed, now_us)
        for feeds in self._tails.values():
            for feed in feeds:
                self._complain(feed, now_us)

    def _look_at(self, feed: Feed, now_us: int) -> None:
        feed.report()
        if now_us - feed.heard_us >= SILENT_US:
            self._begin_anew(feed, f"it said nothing for {(now_us - feed.heard_us) / 1e6:.1f} s", now_us)
        elif feed.expected is not None and feed.through >= feed.expected[0]:
            feed.expected = None
        elif feed.expected is not None and now_us - feed.expected[1] >= ARRIVAL_US and feed.is_starved:
            why = f"position {feed.expected[0]} is known to the leader and does not come"
            self._begin_anew(feed, why, now_us, logging.WARNING)
        elif now_us - max(feed.moved_us, feed.asked_us) >= DOUBT_US and feed.is_starved and feed.inquiry is None:
            self._inquire(feed, now_us)

    def _complain(self, feed: Feed, now_us: int) -> None:
        if not feed.failing_us:
            return
        if feed.connection is not None and now_us - feed.began_us >= STEADY_US:
            if now_us - feed.failing_us >= PATIENCE_US:
                logger.info("%s: node %s serves it again", feed.what, feed.connection.name)
            feed.failing_us = 0
            feed.backoff.reset()
        elif now_us >= feed.warn_us and feed.has_room:
            feed.warn_us = now_us + WARN_AGAIN_US
            failed_s = (now_us - feed.failing_us) / 1e6
            troubles = self._connections.troubles()
            logger.warning(
                "%s: no node has served it steadily for %.0f s, still trying after position %d; last: %s (%s)",
                feed.what, failed_s, feed.through, feed.failure, troubles,
            )  # fmt: skip

    def _inquire(self, feed: Feed, now_us: int) -> None:
        newest = View(fresh=True, at_least=0)
        inquiry = get_position(feed.tail.origin, feed.partition, newest, INQUIRY_TIMEOUT_US)
        feed.doubt(inquiry, now_us)
        self._inquiries[inquiry] = feed
        self._ask(inquiry, now_us)

    def answered(self, request: Request) -> bool:
        """Take in the end of a request, and return whether it was one of the feeds'."""
        feed = self._inquiries.pop(request, None)
        if feed is None:
            return False
        feed.inquiry = None
        if request.error is None and request.result > feed.through:
            feed.expected = (request.result, request.sent_us)
        return True
