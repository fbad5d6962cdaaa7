"""The client's core without input and output: every decision about where to send what, when, and what an answer means.

It is told what happens (`connected`, `disconnected`, `received`, `tick`) and what is wanted (`append`, `request`),
always with the time. `take` hands out what is to be done: addresses to hang up and to dial, messages to send, calls
that ended. It opens no socket, starts no thread and reads no clock, so that a simulator can run it as it is.

The blocking store and the asyncio store are shells around it. Neither decides anything.
"""

import logging
from collections.abc import Callable, Sequence
from itertools import count

from rewind.append import Append
from rewind.appending import Rejection, Writer
from rewind.asking import ELSEWHERE_US, Asking
from rewind.backoff import Backoff
from rewind.connection import SILENCE_US, Connection, Phase
from rewind.connections import Connections, Work
from rewind.errors import AccessDenied, Closed, ProtocolError
from rewind.feeds import Feeds
from rewind.groups import Groups
from rewind.inquiries import open_session
from rewind.requests import Request
from rewind.routing import Leader, Routing
from rewind_cluster.batches import pack_runs
from rewind_cluster.client_messages import (
    CLIENT_CODEC,
    AppendBatch,
    AppendsDone,
    Failed,
    GetMap,
    HelloRequired,
    LeaderIs,
    MapIs,
    Pong,
    Refused,
    Welcome,
)
from rewind_cluster.clock import HybridClock
from rewind_cluster.errors import ProtocolError as FrameError
from rewind_cluster.ranges import EventsAre, SubscriptionEnded
from rewind_cluster.wire import Frame

LOOK_US = 50_000  # how often a session that waits for something looks for silent nodes and unknown leaders
DEADLINE_GRAIN_US = 5_000  # deadlines are looked at no more often: each look is at all that is under way
SESSION_TIMEOUT_US = 10_000_000  # of opening a session; the appends that wait for it have deadlines of their own

logger = logging.getLogger("rewind.client")


class Session:
    """One client's dealings with one cluster. `random` gives numbers from 0 up to 1; `program` is for nodes' logs."""

    def __init__(self, seeds: Sequence[str], program: str, random: Callable[[], float]) -> None:
        self.routing = Routing()
        self.clock = HybridClock()
        self.wake_us = 0  # when `tick` is due
        self._random = random
        self._work = Work()
        self._connections = Connections(seeds, program, self.routing, self.clock, random, self._lose)
        self._asking = Asking(self._connections, self.routing, random, self._request_done)
        self.feeds = Feeds(self._connections, self.routing, random, self.request)
        self.groups = Groups(self.feeds, random, self.request)
        self._writers: dict[tuple[int, int], Writer] = {}  # by context and partition
        self._by_session: dict[tuple[int, int], Writer] = {}  # by partition and session
        self._opening: dict[Request, Writer] = {}
        self._dirty: dict[Writer, None] = {}  # to be looked at before the next `take` returns
        self._stalled: dict[Writer, None] = {}  # with work, and no leader, session or patience yet
        self._gathering: dict[Writer, int] = {}  # what waits to become larger batches, and until when
        self._epochs = count(1)  # of all writers together: a node compares those of one partition
        self._under_way = 0
        self._look_us = 0
        self._deadline_us: int | None = None  # no deadline of what is under way is earlier
        self._map_backoff = Backoff(random)
        self._map_due_us = 0
        self._map_wanted = False

    @property
    def cluster_id(self) -> str:
        """The cluster's ID, "" until a node told it."""
        return self._connections.cluster_id

    # ── what is wanted ──────────────────────────────────────────────────────────────────────────────────────────────

    def append(self, append: Append, now_us: int) -> None:
        """Take an append."""
        self._under_way += 1
        append.deadline_us = append.deadline_us or now_us + append.timeout_us
        if self._deadline_us is None or append.deadline_us < self._deadline_us:
            self._deadline_us = append.deadline_us
        key = (append.origin.context, append.partition)
        writer = self._writers.get(key)
        if writer is None:
            writer = self._writers[key] = Writer(append.partition, append.origin, self._epochs, self._random)
        writer.waiting.append(append)
        self._dirty[writer] = None

    def request(self, request: Request, now_us: int) -> None:
        """Take a request."""
        self._under_way += 1
        request.deadline_us = now_us + request.timeout_us
        if self._deadline_us is None or request.deadline_us < self._deadline_us:
            self._deadline_us = request.deadline_us
        self._asking.add(request)

    @property
    def writing(self) -> bool:
        """Whether an append, or anything else that writes, is under way."""
        return any(writer.busy for writer in self._writers.values()) or self._asking.writing

    def abandon(self) -> None:
        """End every call now, telling what is known of it: the store closes."""
        for writer in self._writers.values():
            writer.abandon(self._work.completed, "the store was closed")
        for request in self._asking.take_all():
            request.abandon()
            self._request_done(request)
        for consumers in (self.feeds, self.groups):
            consumers.end_all(lambda what: Closed(f"{what}: the store was closed meanwhile"))

    # ── what happens ────────────────────────────────────────────────────────────────────────────────────────────────

    def connected(self, address: str, now_us: int) -> None:
        """Take in that the socket to `address` has reached a node."""
        connection = self._connections.get(address)
        if connection is not None:
            self._connections.greet(connection, now_us)

    def disconnected(self, address: str, now_us: int) -> None:
        """Take in that the socket to `address` has lost its node; it goes on trying to connect."""
        connection = self._connections.get(address)
        if connection is not None and connection.phase is not Phase.DOWN:
            self._connections.dropped(connection)
            self._want_map(now_us)

    def received(self, address: str, frames: Sequence[Frame], now_us: int) -> None:
        """Take in a message."""
        connection = self._connections.get(address)
        if connection is None or not frames:
            return
        connection.heard(now_us)
        try:
            message = CLIENT_CODEC.decode(frames[0])
            if type(message) is AppendsDone:
                self._appends_done(message, now_us)
            elif isinstance(message, EventsAre | SubscriptionEnded):
                self.feeds.told(connection, message, frames[1:], now_us)
            else:
                self._handle(connection, message, frames[1:], now_us)
        except FrameError as error:
            logger.warning("node %s at %s broke the protocol: %s; connecting again", connection.name, address, error)
            self._connections.redial(connection)

    def tick(self, now_us: int) -> None:
        """Judge the time. Messages that have arrived must have been told before."""
        if now_us < self.wake_us:
            return
        self._look_us = 0
        self._connections.tick(now_us)
        self._look_for_silence(now_us)
        self.feeds.look(now_us)
        self._dirty.update(self._stalled)
        self._dirty.update(dict.fromkeys(writer for writer, due_us in self._gathering.items() if due_us <= now_us))
        if self._deadline_us is not None and self._deadline_us <= now_us:
            self._expire(now_us)

    def take(self, now_us: int) -> Work:
        """Return what is to be done after all that was told."""
        while self._dirty:
            self._feed(self._dirty.popitem()[0], now_us)
        self.groups.look(now_us)
        self._asking.dispatch(now_us)
        self.feeds.dispatch(now_us)
        if self._asking.leaderless or self.feeds.replicaless:
            self._map_wanted = True
        if self._map_wanted and now_us >= self._map_due_us:
            self._ask_for_map(now_us)
        work, self._work = self._work, Work()
        self._connections.take_work(work)
        self.feeds.take_work(work)
        self._under_way -= len(work.completed)
        self.wake_us = self._next_wake_us(now_us)
        return work

    # ── messages ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _handle(self, connection: Connection, message: object, frames: Sequence[Frame], now_us: int) -> None:
        if isinstance(message, Welcome):
            self._welcome(connection, message, now_us)
        elif isinstance(message, HelloRequired):
            if connection.ready:
                self._connections.greet(connection, now_us)
        elif isinstance(message, Refused):
            self._refused(connection, message.code, message.text, now_us)
        elif isinstance(message, Pong):
            self.clock.observe(message.clock)
            connection.ponged(message, now_us)
        elif isinstance(message, LeaderIs):
            self._learn_leader(message.partition, Leader(message.term, message.node_id), connection.node_id)
        elif isinstance(message, Failed):
            for partition in self._asking.failed(connection, message, now_us):
                self._leader_changed(partition)
        else:
            if isinstance(message, MapIs):
                self._learn_map(connection, message)
            self._asking.answered(connection, message, frames, now_us)

    def _welcome(self, connection: Connection, welcome: Welcome, now_us: int) -> None:
        pinned = self._connections.cluster_id
        if pinned and welcome.cluster_id != pinned:
            text = f"it belongs to cluster {welcome.cluster_id}, and this client to {pinned}"
            logger.warning("node %s at %s: %s; it is left alone", welcome.name, connection.address, text)
            self._refused(connection, "cluster", text, now_us)
            return
        self._connections.cluster_id = welcome.cluster_id
        self.clock.observe(welcome.clock)
        connection.welcomed(welcome, now_us)
        logger.info("connected to node %s at %s", welcome.name, connection.address)
        connection.send(now_us, CLIENT_CODEC.encode(GetMap(connection.number())))
        self._dirty.update(self._stalled)
        self._connections.dial_wanted()

    def _refused(self, connection: Connection, code: str, text: str, now_us: int) -> None:
        connection.refused(f"refused: {text}", now_us)
        self._lose(connection)
        if not all(each.phase is Phase.REFUSED for each in self._connections):
            return
        error = {"access": AccessDenied, "version": ProtocolError}.get(code)
        if error is not None:  # every node says so and none will change its mind within a call's time
            for request in self._asking.take_all():
                request.error = error(f"{request.what()}: {self._connections.troubles()}")
                self._request_done(request)
            for consumers in (self.feeds, self.groups):
                consumers.end_all(lambda what: error(f"{what}: {self._connections.troubles()}"))

    def _learn_map(self, connection: Connection, message: MapIs) -> None:
        if message.cluster_id != self.cluster_id:
            raise FrameError(f"it sent a map of cluster {message.cluster_id}")
        self._map_wanted = False
        for partition in self.routing.learn_map(message, connection.node_id):
            self._leader_changed(partition)
        self._dirty.update(self._stalled)
        self._connections.dial_wanted()

    def _learn_leader(self, partition: int, leader: Leader, told_by: str) -> None:
        if self.routing.learn_leader(partition, leader, told_by=told_by):
            name = self.routing.name(leader.node_id)
            logger.info("partition %d: %s leads in term %d", partition, name, leader.term)
            self._leader_changed(partition)

    def _leader_changed(self, partition: int) -> None:
        """Turn to a partition's new leader, without waiting for what the old one has not answered."""
        self._map_backoff.reset()
        leader = self.routing.leader(partition).node_id
        for writer in self._writers.values():
            if writer.partition == partition:
                if writer.target is not None and writer.target.node_id != leader:
                    writer.end_burst()
                writer.resume_us = 0
                self._dirty[writer] = None
        self._asking.leader_changed(partition)

    def _appends_done(self, message: AppendsDone, now_us: int) -> None:
        self.clock.observe(message.clock)
        writer = self._by_session.get((message.partition, message.session))
        if writer is None:
            return
        rejection = writer.answered(message.epoch, message.answers, self._work.completed)
        if rejection is not None:
            self._rejected(writer, rejection, now_us)
        if writer.has_work or writer.session_lost:
            self._dirty[writer] = None

    def _rejected(self, writer: Writer, rejection: Rejection, now_us: int) -> None:
        """Go on to a better leader at once, else after a while. Terms only rise, so this cannot go round in circles."""
        assert writer.target is not None
        refuser = writer.target.node_id
        writer.end_burst()
        if rejection.term:
            self._learn_leader(writer.partition, Leader(rejection.term, rejection.leader), refuser)
        better = self.routing.leader(writer.partition)
        if better.term > writer.target_term and better.node_id not in ("", refuser):
            return
        writer.resume_us = now_us + writer.backoff.next_us()
        if not rejection.leads:
            self._want_map(now_us)

    def _request_done(self, request: Request) -> None:
        writer = self._opening.pop(request, None)
        if writer is None and not (self.feeds.answered(request) or self.groups.answered(request)):
            self._work.completed.append(request)
            return
        self._under_way -= 1
        if writer is None:
            return
        self._dirty[writer] = None
        writer.session_opened(self._work.completed)
        if writer.session is not None:
            self._by_session[writer.partition, writer.session] = writer

    # ── sending ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _feed(self, writer: Writer, now_us: int) -> None:
        """Send what a writer has to send, if it has a leader and a session."""
        self._stalled.pop(writer, None)
        self._gathering.pop(writer, None)
        if writer.session_lost:
            old = writer.session
            if not writer.settle_lost_session(self._work.completed):
                return
            self._by_session.pop((writer.partition, old or 0), None)
        if not writer.has_work:
            return
        target = self._target(writer)
        if target is None:
            self._map_wanted = True
        if target is None or now_us < writer.resume_us or not self._has_session(writer, now_us):
            self._stalled[writer] = None
            return
        assert writer.session is not None
        writer.aim(target, self.routing.leader(writer.partition).term)
        due_us = writer.due_us(now_us)
        if due_us > now_us:
            self._gathering[writer] = due_us
            return
        for runs, deadline_us in writer.batches():
            header = AppendBatch(
                writer.partition,
                writer.origin.context,
                writer.session,
                writer.epoch,
                writer.low,
                target.node_time_us(deadline_us),
                self.clock.latest,
            )
            target.send(now_us, CLIENT_CODEC.encode(header), *pack_runs(runs))

    def _target(self, writer: Writer) -> Connection | None:
        """Return the connection to the leader: that of the current burst, where it still leads there."""
        leader = self.routing.leader(writer.partition).node_id
        if writer.target is not None and writer.target.ready and writer.target.node_id == leader:
            return writer.target
        return self._connections.to_node(leader)

    def _has_session(self, writer: Writer, now_us: int) -> bool:
        if writer.session is None and writer.opening is None:
            request = open_session(writer.partition, SESSION_TIMEOUT_US)
            writer.opening = request
            self._opening[request] = writer
            self.request(request, now_us)
        return writer.session is not None

    def _lose(self, connection: Connection) -> None:
        """Let go of what was sent on a connection: it may have arrived or not, and no answer will come."""
        self._asking.lost(connection)
        self.feeds.lost(connection)
        for writer in self._writers.values():
            if writer.target is connection:
                writer.lose_target()
                self._dirty[writer] = None

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _look_for_silence(self, now_us: int) -> None:
        """Ask others who leads where a node owes answers and says nothing: it may be stopped, or cut off from them."""
        targets = {id(writer.target) for writer in self._writers.values() if writer.unsettled}
        for connection in self._connections.ready():
            if not connection.requests and id(connection) not in targets:
                continue
            silent_us = connection.silent_us(now_us)
            if silent_us > SILENCE_US:
                self._map_wanted = True
            if silent_us > ELSEWHERE_US:
                self._asking.leave_silent(connection, now_us)

    def _want_map(self, now_us: int) -> None:
        self._map_wanted = True
        self._map_due_us = min(self._map_due_us, now_us + self._map_backoff.next_us())

    def _ask_for_map(self, now_us: int) -> None:
        self._map_wanted = False
        self._map_due_us = now_us + self._map_backoff.next_us()
        connection = self._connections.any_ready(unheard_us=now_us - SILENCE_US)
        if connection is not None:
            connection.send(now_us, CLIENT_CODEC.encode(GetMap(connection.number())))

    def _expire(self, now_us: int) -> None:
        why = self._connections.troubles()
        deadlines = [writer.expire(now_us, self._work.completed, why) for writer in self._writers.values()]
        deadlines.append(self._asking.expire(now_us, why))
        left = [deadline_us for deadline_us in deadlines if deadline_us is not None]
        self._deadline_us = max(min(left), now_us + DEADLINE_GRAIN_US) if left else None
        self._dirty.update(dict.fromkeys(each for each in self._writers.values() if each.session_lost or each.has_work))

    def _next_wake_us(self, now_us: int) -> int:
        """Return when to look again. What is due does not move away because something else happens meanwhile."""
        if self._under_way and not self._look_us:
            self._look_us = now_us + LOOK_US
        due = [self._look_us or now_us + LOOK_US * 20]
        due.extend(self._gathering.values())
        due.extend(writer.resume_us for writer in self._stalled if writer.resume_us > now_us)
        times_us = (self._deadline_us, self._connections.next_ping_us())
        tries_us = (self._asking.next_try_us(now_us), self.feeds.next_try_us(now_us), self.groups.next_look_us())
        due.extend(time_us for time_us in (*times_us, *tries_us) if time_us is not None)
        if self._map_wanted:
            due.append(self._map_due_us)
        return min(due)
