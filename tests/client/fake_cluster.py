"""A cluster in memory that speaks the clients' protocol: commits are instant, and any node can be told to misbehave.

`FakeNode.handle` takes a message and returns answers; it knows no sockets, so the session's tests run it without any.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from appends_by_hand import again, unpack_batch
from fake_groups import FakeGroups, GroupRequest
from fake_ranges import FakeFeeds, on_range

from rewind_cluster.client_messages import (
    ANY_VERSION,
    CLIENT_CODEC,
    AppendBatch,
    AppendsDone,
    Code,
    ContextIs,
    ContextsAre,
    CreateContext,
    Failed,
    FindContext,
    GetMap,
    GetStatus,
    GetVersion,
    Hello,
    HelloRequired,
    LeaderIs,
    ListContexts,
    ListStreams,
    MapIs,
    OpenSession,
    Ping,
    Pong,
    ReadStream,
    SessionIs,
    StatusIs,
    StreamIs,
    StreamsAre,
    VersionIs,
    Welcome,
    pack_chunk,
)
from rewind_cluster.columns import ID_BYTES, unpack_events
from rewind_cluster.names import SLOTS, slot
from rewind_cluster.ranges import Consumed, GetPosition, ReadAll, Subscribe, Unsubscribe

Frames = list[bytes]
PING_INTERVAL_US = 1_000_000
NODE_CLOCK_AHEAD_US = 5_000_000  # a node's monotonic clock is not the client's


@dataclass
class Stored:
    first_version: int
    count: int
    first_position: int
    timestamp: int
    ids: bytes
    events: bytes


@dataclass
class FakeNode:
    cluster: "FakeCluster"
    id: str
    name: str
    address: str
    up: bool = True
    paused: bool = False  # takes messages and says nothing, as a stopped process
    hears: list[Any] = field(default_factory=list)  # every message that came
    clients: set[bytes] = field(default_factory=set)
    held: list[tuple[bytes, Frames]] = field(default_factory=list)
    answer: Callable[[Any, Any], list[Any] | None] | None = None  # (message, batch) -> messages in place of the usual
    refuse: Callable[[AppendBatch], Code | None] | None = None  # why a whole batch is refused, if it is
    refused: dict[tuple[bytes, int], int] = field(default_factory=dict)  # the newest epoch refused, by route, partition

    newest_max: int = 1 << 62  # it has no events beyond this position

    def __post_init__(self) -> None:
        self.feeds = FakeFeeds(self)

    def newest(self, context: int, partition: int) -> int:
        return min(self.newest_max, self.cluster.positions.get((context, partition), 0))

    def handle(self, route: bytes, frames: Frames, now_us: int) -> list[tuple[bytes, Frames]]:
        if self.paused:
            self.held.append((route, frames))
            return []
        message = CLIENT_CODEC.decode(frames[0])
        self.hears.append(message)
        batch = unpack_batch(frames[1:]) if isinstance(message, AppendBatch) else None
        scripted = self.answer(message, batch) if self.answer is not None else None
        if scripted is not None:
            return [(route, each if isinstance(each, list) else [CLIENT_CODEC.encode(each)]) for each in scripted]
        if isinstance(message, Hello):
            self.clients.add(route)
            clock = self.cluster.clock
            time_us = now_us + NODE_CLOCK_AHEAD_US
            welcome = Welcome(1, self.cluster.id, self.id, self.name, time_us, PING_INTERVAL_US, clock)
            return [(route, [CLIENT_CODEC.encode(welcome)])]
        if route not in self.clients:
            return [(route, [CLIENT_CODEC.encode(HelloRequired(self.id))])]
        if isinstance(message, Subscribe | Consumed | Unsubscribe):
            return [(route, answer) for answer in self.feeds.handle(route, message)]
        return [(route, answer) for answer in self._answer(route, message, batch, now_us)]

    def resume(self, now_us: int) -> list[tuple[bytes, Frames]]:
        """Go on after a pause: everything that came meanwhile is handled now."""
        self.paused = False
        held, self.held = self.held, []
        return [answer for route, frames in held for answer in self.handle(route, frames, now_us)]

    def _answer(self, route: bytes, message: Any, batch: Any, now_us: int) -> list[Frames]:
        cluster = self.cluster
        if isinstance(message, Ping):
            return [[CLIENT_CODEC.encode(Pong(cluster.clock, now_us + NODE_CLOCK_AHEAD_US))]]
        if isinstance(message, AppendBatch):
            return [[CLIENT_CODEC.encode(self.append(route, message, batch, now_us))]]
        if isinstance(message, GetMap):
            return [[CLIENT_CODEC.encode(cluster.map(message.request))]]
        if isinstance(message, GetStatus):
            return [[CLIENT_CODEC.encode(StatusIs(message.request, cluster.status()))]]
        partition = getattr(message, "partition", 0)
        anyone = isinstance(message, FindContext) or not getattr(message, "fresh", True)
        if not anyone and self.id != cluster.leader(partition):
            leader = cluster.leader(partition)
            term = cluster.terms[partition]
            return [[CLIENT_CODEC.encode(Failed(message.request, Code.NOT_LEADER, "not the leader", leader, term))]]
        if isinstance(message, GroupRequest):
            answer = cluster.groups.handle(message, now_us)
        elif isinstance(message, ReadAll | GetPosition):
            answer = on_range(self, message)
        else:
            answer = getattr(cluster, "on_" + type(message).__name__)(message)
        return [answer if isinstance(answer, list) else [CLIENT_CODEC.encode(answer)]]

    def append(self, route: bytes, message: AppendBatch, batch: list[Any], now_us: int) -> AppendsDone:
        cluster = self.cluster
        leader = cluster.leader(message.partition)
        key = (route, message.partition)
        answers: list[Any]
        if message.epoch <= self.refused.get(key, 0):
            answers = [[sequence, int(Code.EPOCH), "an earlier one was refused"] for sequence, _, _ in batch]
        elif message.deadline_us < now_us + NODE_CLOCK_AHEAD_US:
            self.refused[key] = message.epoch
            answers = [[sequence, int(Code.DEADLINE_PAST), "too late"] for sequence, _, _ in batch]
        elif self.refuse is not None and (code := self.refuse(message)) is not None:
            self.refused[key] = message.epoch
            answers = [[sequence, int(code), code.name.lower()] for sequence, _, _ in batch]
        elif leader != self.id:
            self.refused[key] = message.epoch
            term = cluster.terms[message.partition]
            answers = [[sequence, int(Code.NOT_LEADER), leader, term] for sequence, _, _ in batch]
        else:
            answers = [
                [sequence, *cluster.append(message, sequence, is_open, parts)] for sequence, is_open, parts in batch
            ]
        return AppendsDone(message.partition, message.session, message.epoch, answers, cluster.clock)

    def appends(self) -> list[AppendBatch]:
        return [message for message in self.hears if isinstance(message, AppendBatch)]


class FakeCluster:
    """The truth, shared by all nodes."""

    def __init__(self, addresses: list[str], partitions: int = 4, cluster_id: str = "cluster-1") -> None:
        self.id = cluster_id
        self.nodes = [
            FakeNode(self, f"id-{number}", f"node-{number}", address) for number, address in enumerate(addresses, 1)
        ]
        self.partitions = range(1, partitions + 1)
        self.terms = dict.fromkeys(range(partitions + 1), 1)
        self.leaders = {p: self.nodes[p % len(self.nodes)].id for p in range(partitions + 1)}
        self.attention: list[str] = []  # what a status says is amiss
        self.clock = 1_700_000_000_000_000 << 12
        self.contexts: dict[str, tuple[int, int | None]] = {"default": (1, None)}
        self.streams: dict[tuple[int, str], list[Stored]] = {}
        self.positions: dict[tuple[int, int], int] = {}
        self.sessions: dict[tuple[int, int], dict[int, list[Any]]] = {}
        self.lows: dict[tuple[int, int], int] = {}
        self.next_session = 100
        self.appended = 0
        self.groups = FakeGroups(self)

    def node(self, node_id: str) -> FakeNode:
        return next(node for node in self.nodes if node.id == node_id)

    def other(self, node: FakeNode) -> FakeNode:
        """Return a node that is not this one."""
        return next(each for each in self.nodes if each is not node)

    def leader(self, partition: int) -> str:
        return self.leaders[partition]

    def leading(self, partition: int) -> FakeNode:
        return self.node(self.leaders[partition])

    def elect(self, partition: int, node: FakeNode) -> list[tuple[FakeNode, bytes, Frames]]:
        """Make a node leader; returns what the nodes push."""
        self.terms[partition] += 1
        self.leaders[partition] = node.id
        news = CLIENT_CODEC.encode(LeaderIs(partition, self.terms[partition], node.id))
        return [(each, route, [news]) for each in self.nodes if each.up and not each.paused for route in each.clients]

    def pushes(self, now_us: int) -> list[tuple[FakeNode, bytes, Frames]]:
        """Return what nodes tell subscribers unasked."""
        up = [node for node in self.nodes if node.up and not node.paused]
        return [(node, route, frames) for node in up for route, frames in node.feeds.pushes(now_us)]

    def slot_ranges(self) -> list[list[int]]:
        count = len(self.partitions)
        return [[-(-p * SLOTS // count), p + 1] for p in range(count)]

    def partition_of(self, stream: str) -> int:
        return slot(stream) * len(self.partitions) // SLOTS + 1

    def map(self, request: int = 0) -> MapIs:
        return MapIs(
            request,
            self.id,
            7,
            self.slot_ranges(),
            [[node.id, node.name, node.address] for node in self.nodes],
            [[p, self.terms[p], leader] for p, leader in self.leaders.items()],
            [[p, [node.id for node in self.nodes]] for p in self.leaders],
        )

    def status(self) -> dict[str, Any]:
        return {
            "cluster_id": self.id,
            "attention": self.attention,
            "nodes": [
                {
                    "name": node.name,
                    "id": node.id,
                    "pid": 1,
                    "address": node.address,
                    "peer_address": node.address,
                    "http_address": node.address,
                    "state": "up" if node.up else "down",
                }
                for node in self.nodes
            ],
            "partitions": [
                {
                    "partition": p,
                    "leader": self.node(leader).name if leader else None,
                    "term": self.terms[p],
                    "commit": 1,
                    "replicas": [
                        {
                            "node": node.name,
                            "role": "leader" if node.id == leader else "follower",
                            "match": 1,
                            "applied": 1,
                        }
                        for node in self.nodes
                    ],
                }
                for p, leader in self.leaders.items()
            ],
        }

    # ── appends ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def append(self, message: AppendBatch, sequence: int, is_open: bool, parts: list[Any]) -> list[Any]:  # noqa: PLR0911 - one per way to end
        key = (message.partition, message.session)
        answers = self.sessions.get(key)
        if answers is None:
            return [int(Code.SESSION_UNKNOWN), "unknown session"]
        self.lows[key] = max(self.lows.get(key, 1), message.low)
        if sequence in answers:
            return answers[sequence]
        if sequence < self.lows[key]:
            return [int(Code.SETTLED), "settled"]
        for stream, expected, _ in parts:
            actual = self.version(message.context, stream)
            if expected not in (ANY_VERSION, actual):
                earlier = self._earlier(message, parts)
                if earlier is not None:
                    return earlier
                refusal = [int(Code.WRONG_VERSION), stream, expected, actual, is_open]
                if is_open:
                    answers[sequence] = refusal
                return refusal
            if self.partition_of(stream) != message.partition and not self._ordered(message.context):
                return [int(Code.WRONG_PARTITION), "another partition"]
        answers[sequence] = self._write(message, sequence, parts)
        return answers[sequence]

    def _write(self, message: AppendBatch, sequence: int, parts: list[Any]) -> list[Any]:
        places = []
        for stream, _, packed in parts:
            events = unpack_events(packed)
            first_version = self.version(message.context, stream) + 1
            first_position = self.positions.get((message.context, message.partition), 0) + 1
            self.clock += 1
            count = events.event_count
            stored = Stored(first_version, count, first_position, self.clock, events.ids, packed)
            self.streams.setdefault((message.context, stream), []).append(stored)
            self.positions[message.context, message.partition] = first_position + count - 1
            self.clock += count - 1
            self.appended += count
            places.append([first_version + count - 1, first_position + count - 1, self.clock])
        return again([sequence, 0, places])[1:]

    def _earlier(self, message: AppendBatch, parts: list[Any]) -> list[Any] | None:
        """Return the answer to an append whose events are there already (of one part)."""
        if len(parts) != 1 or parts[0][1] == ANY_VERSION:
            return None
        ((stream, expected, packed),) = parts
        ids = unpack_events(packed).ids
        last = expected + len(ids) // ID_BYTES
        if b"".join(self.ids(stream, message.context)[expected:last]) != ids:
            return None
        for stored in self.streams.get((message.context, stream), []):
            ahead = last - stored.first_version
            if 0 <= ahead < stored.count:
                return again([0, 0, [[last, stored.first_position + ahead, stored.timestamp + ahead]]])[1:]
        return None

    def _ordered(self, context: int) -> bool:
        return any(number == context and partition is not None for number, partition in self.contexts.values())

    def version(self, context: int, stream: str) -> int:
        stored = self.streams.get((context, stream))
        return stored[-1].first_version + stored[-1].count - 1 if stored else 0

    def ids(self, stream: str, context: int = 1) -> list[bytes]:
        run = b"".join(stored.ids for stored in self.streams.get((context, stream), []))
        return [run[start : start + ID_BYTES] for start in range(0, len(run), ID_BYTES)]

    # ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_OpenSession(self, message: OpenSession) -> Any:  # noqa: N802 - named after the message
        self.next_session += 1
        self.sessions[message.partition, self.next_session] = {}
        return SessionIs(message.request, message.partition, self.next_session)

    def on_FindContext(self, message: FindContext) -> Any:  # noqa: N802
        found = self.contexts.get(message.name)
        if found is None:
            return Failed(message.request, Code.CONTEXT_NOT_FOUND, f"no context {message.name!r}", "", 0)
        return ContextIs(message.request, found[0], message.name, found[1])

    def on_CreateContext(self, message: CreateContext) -> Any:  # noqa: N802
        found = self.contexts.get(message.name)
        if found is None:
            found = self.contexts[message.name] = (len(self.contexts) + 1, 1 if message.ordered else None)
        if (found[1] is not None) != message.ordered:
            return Failed(message.request, Code.CONTEXT_EXISTS, "it exists and is of the other kind", "", 0)
        return ContextIs(message.request, found[0], message.name, found[1])

    def on_ListContexts(self, message: ListContexts) -> Any:  # noqa: N802
        return ContextsAre(message.request, [[number, name, p] for name, (number, p) in self.contexts.items()])

    def on_GetVersion(self, message: GetVersion) -> Any:  # noqa: N802
        position = self.positions.get((message.context, message.partition), 0)
        if message.at_least > position:
            return Failed(message.request, Code.BEYOND_HEAD, "the token is beyond the newest event", "", 0)
        return VersionIs(message.request, self.version(message.context, message.stream), position)

    def on_ReadStream(self, message: ReadStream) -> Any:  # noqa: N802
        stored = self.streams.get((message.context, message.stream), [])
        version = self.version(message.context, message.stream)
        start = message.after if message.after is not None else (version if message.reverse else 0)
        if message.reverse:
            fit = [each for each in reversed(stored) if each.first_version <= start]
        else:
            fit = [each for each in stored if each.first_version + each.count - 1 > start]
        rows, count = [], 0
        for each in fit:
            rows.append((each.first_version, each.first_position, each.timestamp, each.events))
            count += each.count
            if count >= message.count_max:
                break
        position = self.positions.get((message.context, message.partition), 0)
        answer = StreamIs(message.request, version, position, len(rows) < len(fit))
        return [CLIENT_CODEC.encode(answer), pack_chunk(rows)]

    def on_ListStreams(self, message: ListStreams) -> Any:  # noqa: N802
        names = sorted(
            name
            for context, name in self.streams
            if context == message.context
            and name.startswith(message.prefix)
            and (message.after is None or name > message.after)
            and (self._ordered(context) or self.partition_of(name) == message.partition)
        )
        shown = names[: message.count_max]
        position = self.positions.get((message.context, message.partition), 0)
        return StreamsAre(message.request, shown, position, len(shown) < len(names))
