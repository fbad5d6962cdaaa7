"""Requests under way: each waits here until a fitting node is ready, and comes back until answered or too late."""

from collections.abc import Callable, Sequence
from itertools import chain

from rewind.backoff import Backoff
from rewind.connection import Connection
from rewind.connections import Connections
from rewind.requests import Kind, Place, Request
from rewind.routing import Leader, Routing
from rewind_cluster.client_messages import Code, Failed
from rewind_cluster.wire import Frame

ELSEWHERE_US = 1_000_000  # a request that any node may answer goes to another when one is silent this long, and one
# that any replica may answer when one is that long behind: it may be so for good, cut off, or replaced unknowingly


class Asking:
    """The requests of a session. `done` is called with each that has ended."""

    def __init__(
        self,
        connections: Connections,
        routing: Routing,
        random: Callable[[], float],
        done: Callable[[Request], None],
    ) -> None:
        self._connections = connections
        self._routing = routing
        self._random = random
        self._done = done
        self._parked: list[Request] = []
        self.leaderless = False  # one of them waits for a leader that is not known or not connected

    def add(self, request: Request) -> None:
        """Take a request."""
        self._parked.append(request)

    def dispatch(self, now_us: int) -> None:
        """Send what can be sent."""
        self.leaderless = False
        if not self._parked:
            return
        waiting, self._parked = self._parked, []
        for request in waiting:
            if request.not_before_us > now_us:
                self._parked.append(request)
                continue
            connection = self._choose(request)
            if connection is None:
                self.leaderless = True
                self._parked.append(request)
            else:
                until_us = now_us + ELSEWHERE_US if request.place is Place.REPLICA else request.deadline_us
                connection.ask(request, now_us, min(until_us, request.deadline_us))

    def _choose(self, request: Request) -> Connection | None:
        if request.place is Place.REPLICA:
            replicas = self._routing.replicas.get(request.partition, ())
            chosen = self._connections.any_ready(replicas, avoid=request.avoid)
            if chosen is not None:
                return chosen
        leader = self._connections.to_node(self._routing.leader(request.partition).node_id)
        if request.place is not Place.ANYONE:
            return leader
        if leader is not None and leader.node_id != request.avoid:
            return leader
        return self._connections.any_ready(avoid=request.avoid)

    def next_try_us(self, now_us: int) -> int | None:
        """Return when a request that was put off is due."""
        return min((each.not_before_us for each in self._parked if each.not_before_us > now_us), default=None)

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, connection: Connection, message: object, frames: Sequence[Frame], now_us: int) -> None:
        """Take in an answer; one to a request that has moved on is passed over."""
        request = connection.requests.pop(getattr(message, "request", 0), None)
        if request is None:
            return
        if request.answered(message, frames):
            self._done(request)
        else:
            self._put_off(request, now_us)

    def failed(self, connection: Connection, failed: Failed, now_us: int) -> list[int]:
        """Take in a refusal; returns the partitions whose leader is now known to be another."""
        request = connection.requests.pop(failed.request, None)
        if request is None:
            return []
        known = self._routing.leader(request.partition)
        changed = failed.term > 0 and self._routing.learn_leader(
            request.partition, Leader(failed.term, failed.node_id), told_by=connection.node_id
        )
        better = self._routing.leader(request.partition)
        if request.refused(failed):
            self._done(request)
        elif failed.code == Code.NOT_LEADER and better.node_id and better.term > known.term:
            request.not_before_us = 0
            self._parked.append(request)
        else:
            self._put_off(request, now_us)
        return [request.partition] if changed else []

    def _put_off(self, request: Request, now_us: int) -> None:
        # Each backs off by itself: that a node answers others does not mean that it wants this one again at once.
        request.backoff = request.backoff or Backoff(self._random)
        request.not_before_us = now_us + request.backoff.next_us()
        self._parked.append(request)

    # ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def lost(self, connection: Connection) -> None:
        """Take back the requests of a connection that was lost."""
        self._take_back(connection, list(connection.requests))

    def leader_changed(self, partition: int) -> None:
        """Turn to a partition's new leader with what waits for it, here or at a node that leads no longer."""
        leader = self._routing.leader(partition).node_id
        for request in self._parked:
            if request.partition == partition and request.place is Place.LEADER:
                request.not_before_us = 0
        for connection in self._connections:
            if connection.requests and connection.node_id != leader:
                self._take_back(
                    connection,
                    [
                        number
                        for number, request in connection.requests.items()
                        if request.partition == partition and request.place is Place.LEADER
                    ],
                )

    def leave_silent(self, connection: Connection, now_us: int) -> None:
        """Take back what another node may answer as well from one that says nothing."""
        self._take_back(
            connection,
            [
                number
                for number, request in connection.requests.items()
                if request.place is not Place.LEADER and now_us - request.sent_us >= ELSEWHERE_US
            ],
        )

    def _take_back(self, connection: Connection, numbers: list[int]) -> None:
        for number in numbers:
            request = connection.requests.pop(number)
            request.not_before_us = 0
            self._parked.append(request)

    def expire(self, now_us: int, why: str) -> int | None:
        """End the requests whose deadline has passed and return the earliest deadline left."""
        past = [request for request in self._parked if request.deadline_us <= now_us]
        self._parked = [request for request in self._parked if request.deadline_us > now_us]
        deadlines = [request.deadline_us for request in self._parked]
        for connection in self._connections:
            for number, request in list(connection.requests.items()):
                if request.deadline_us <= now_us:
                    past.append(connection.requests.pop(number))
                else:
                    deadlines.append(request.deadline_us)
        for request in past:
            request.expire(why)
            self._done(request)
        return min(deadlines, default=None)

    @property
    def writing(self) -> bool:
        """Whether one that writes is under way."""
        under_way = chain(self._parked, *(connection.requests.values() for connection in self._connections))
        return any(request.kind is Kind.WRITE for request in under_way)

    def take_all(self) -> list[Request]:
        """Return all requests under way, and forget them."""
        taken, self._parked = self._parked, []
        for connection in self._connections:
            taken.extend(connection.requests.values())
            connection.requests.clear()
        return taken
