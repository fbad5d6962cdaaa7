"""A session and a fake cluster joined without sockets, under a clock that only moves when a test says so."""

import random
from types import ModuleType
from typing import Any

from rewind import inquiries
from rewind.append import Append
from rewind.calls import Calls
from rewind.errors import RewindError
from rewind.events import ANY, Event, NewEvent
from rewind.feed import Batch, Tail
from rewind.inbox import Inbox
from rewind.requests import Call, Request
from rewind.session import Session

START_US = 1_000_000_000


class Watcher:
    """The consumer of a subscription. `take` pops what has come."""

    def __init__(self, lab: "Lab", tail: Tail, eager: bool) -> None:
        self.tail = tail
        self.eager = eager
        self.events: list[Event] = []
        self._lab = lab
        self.inbox = Inbox(tail.origin, tail.positions, lambda batch: lab.session.feeds.consumed(batch, lab.now_us))
        tail.consumer = self
        lab.session.feeds.add(tail, lab.now_us)

    def put(self, batch: Batch) -> None:
        self.inbox.put(batch)
        if self.eager:
            self.take()

    def end(self, error: RewindError | None) -> None:
        self.inbox.end(error)

    def take(self, count: int | None = None) -> list[Event]:
        """Pop events, all or so many."""
        taken = []
        while (count is None or len(taken) < count) and (event := self.inbox.pop()) is not None:
            taken.append(event)
        self.events += taken
        return taken

    def close(self) -> None:
        self.inbox.end(None)
        self._lab.session.feeds.remove(self.tail, self._lab.now_us)


class Lab:
    """`settle` lets everything happen that needs no time; `advance` and `run_until` let time pass."""

    def __init__(self, fake_cluster: ModuleType, *, nodes: int = 3, partitions: int = 4, seeds: int = 1) -> None:
        addresses = [f"host-{number}:7070" for number in range(1, nodes + 1)]
        self.cluster = fake_cluster.FakeCluster(addresses, partitions)
        self.session = Session(addresses[:seeds], "test", random.Random(7).random)
        self.calls = Calls(self.session.routing, 10_000_000)
        self.now_us = START_US
        self.sockets: dict[str, int] = {}
        self.routes: dict[str, bytes] = {}  # of the addresses that are connected
        self.lossy: set[str] = set()  # addresses whose answers get lost
        self.ended: list[Call] = []
        self._incarnation = 0

    # ── the network ─────────────────────────────────────────────────────────────────────────────────────────────────

    def settle(self) -> None:
        """Carry messages to and fro until nothing moves."""
        for _ in range(10_000):
            self.session.tick(self.now_us)
            work = self.session.take(self.now_us)
            self.ended.extend(work.completed)
            moved = bool(work.send or work.completed)
            if work.sockets is not None:
                moved = self._open(work.sockets) or moved
            for address, messages in work.send:
                for frames in messages:
                    self._send(address, frames)
            moved = self._hand_on(work) or moved
            news = self.cluster.pushes(self.now_us)
            self.push(news)
            if not (moved or news) and not self._reconnect():
                return
        raise AssertionError("the session never comes to rest")

    def _hand_on(self, work: Any) -> bool:
        for batch in work.batches:
            batch.consumer.put(batch)
        for tail in work.ended:
            tail.consumer.end(tail.error)
        return bool(work.batches or work.ended)

    def _open(self, wanted: dict[str, int]) -> bool:
        for address in [address for address, made in self.sockets.items() if wanted.get(address) != made]:
            del self.sockets[address]
            self.routes.pop(address, None)
        self.sockets = dict(wanted)
        return True

    def _reconnect(self) -> bool:
        moved = False
        for node in self.cluster.nodes:
            if node.address in self.sockets and node.address not in self.routes and node.up:
                self._incarnation += 1
                self.routes[node.address] = f"{node.address}#{self._incarnation}".encode()
                self.session.connected(node.address, self.now_us)
                moved = True
        return moved

    def _send(self, address: str, frames: Any) -> None:
        route = self.routes.get(address)
        node = next(node for node in self.cluster.nodes if node.address == address)
        if route is not None:
            self._deliver(node, node.handle(route, list(frames), self.now_us))

    def _deliver(self, node: Any, answers: Any) -> None:
        for route, frames in answers:
            if self.routes.get(node.address) == route and node.address not in self.lossy:
                self.session.received(node.address, frames, self.now_us)

    def push(self, news: Any) -> None:
        """Deliver what nodes push, as `FakeCluster.elect` returns it."""
        for node, route, frames in news:
            self._deliver(node, [(route, frames)])

    def crash(self, node: Any) -> None:
        """Take a node down; its connection drops."""
        node.up = False
        node.clients.clear()
        self.drop(node)

    def drop(self, node: Any) -> None:
        """Break the connection to a node; it is made again as soon as the node is up."""
        self.routes.pop(node.address, None)
        self.session.disconnected(node.address, self.now_us)

    def resume(self, node: Any) -> None:
        """Let a paused node go on."""
        self._deliver(node, node.resume(self.now_us))

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def advance(self, us: int) -> None:
        """Let time pass, stopping wherever the session wants to look at it."""
        until_us = self.now_us + us
        self.settle()
        while self.now_us < until_us:
            self.now_us = min(until_us, max(self.now_us + 1, self.session.wake_us))
            self.settle()

    def run(self, *calls: Call) -> None:
        """Let time pass until calls have ended; a minute at most."""
        for _ in range(6000):
            self.settle()
            if all(call in self.ended for call in calls):
                return
            self.advance(10_000)
        raise AssertionError("a call never ended")

    # ── calls ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def connect(self) -> "Lab":
        """Find the map and the default context."""
        asked = [inquiries.get_map(10_000_000), inquiries.find_context("default", 10_000_000)]
        for request in asked:
            self.session.request(request, self.now_us)
            self.run(request)
            assert request.error is None, request.error
        self.calls.open_context(asked[1].result, self.session.cluster_id)
        self.ended.clear()
        for node in self.cluster.nodes:
            node.hears.clear()
        return self

    def append(self, stream: str = "s", expected: int = ANY, timeout: float = 10.0, data: bytes = b"") -> Append:
        """Begin an append of one event."""
        append = self.calls.append(stream, NewEvent("T", data), expected, timeout)
        self.session.append(append, self.now_us)
        return append

    def subscribe(self, after: Any = None, types: Any = None, prefix: str = "", *, eager: bool = True) -> "Watcher":
        """Begin a subscription, whose consumer takes what comes at once if it is `eager`."""
        beginning = self.calls.subscribe(after, types, prefix, None)
        for partition, request in beginning.wanted():
            beginning.take(partition, self.ask(request).result)
        return Watcher(self, beginning.tail(), eager)

    def ask(self, request: Request) -> Request:
        """Make a request and wait for its end."""
        self.session.request(request, self.now_us)
        self.run(request)
        return request
