"""The protocol between clients and a node, as the node speaks it: handshakes, routing and limits.

A connection is its state from `Hello` on. A message without a state gets only `HelloRequired`; a malformed one ends the
state with an error, never the node.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, get_args

from rewind_cluster.batches import AppendRun, unpack_runs
from rewind_cluster.client_messages import (
    CLIENT_CODEC,
    PING_INTERVAL_US,
    PINGS_MISSED_MAX,
    AppendBatch,
    Code,
    ContextIs,
    CreateContext,
    Failed,
    FindContext,
    GetMap,
    GetStatus,
    GetVersion,
    Hello,
    HelloRequired,
    ListContexts,
    ListStreams,
    OpenSession,
    Ping,
    Pong,
    ReadStream,
    Refused,
    StatusIs,
    Welcome,
)
from rewind_cluster.errors import ClusterError, ProtocolError, TooLargeError
from rewind_cluster.names import CLUSTER_ID_SHOWN_MAX, CONTROL, check_context_name, check_stream_name
from rewind_cluster.ranges import Consumed, ReadAll, Subscribe, Unsubscribe
from rewind_cluster.wire import PROTOCOL_VERSIONS, TEXT_BYTES_MAX
from rewind_node.connections import Burst, Client, Frames
from rewind_node.data_partition import DataPartition, Read
from rewind_node.group_protocol import GroupProtocol, GroupRequest
from rewind_node.selecting import Selection

if TYPE_CHECKING:
    from rewind_node.node import Node

REQUEST_BYTES_MAX = 64 * 1024  # of a header: its largest texts are a few names of 4,096 characters, less than 20 KB
CLIENTS_MAX = 4096  # connections with a state; a process of an application needs one
DEADLINE_AHEAD_MAX_US = 3600 * 1_000_000  # no request occupies a queue for longer than an hour

Handler = Callable[[Client, Any, Frames], None]


class ClientProtocol:
    """What a node does with clients' messages."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._clients: dict[bytes, Client] = {}
        self._groups = GroupProtocol(node, self._fail)
        self._handlers: dict[type[Any], Handler] = {
            Ping: self._ping,
            GetMap: self._get_map,
            GetStatus: self._get_status,
            FindContext: self._in_time(self._find_context),
            CreateContext: self._in_time(self._create_context),
            ListContexts: self._in_time(self._list_contexts),
            OpenSession: self._in_time(self._open_session),
            AppendBatch: self._append,
            **dict.fromkeys(get_args(Read), self._in_time(self._read)),
            **dict.fromkeys(get_args(GroupRequest), self._in_time(self._group)),
            Subscribe: lambda client, message, _: node.subscriptions.subscribe(client, message),
            Consumed: lambda client, message, _: node.subscriptions.consumed(client, message),
            Unsubscribe: lambda client, message, _: node.subscriptions.unsubscribe(client, message),
        }

    def __len__(self) -> int:
        return len(self._clients)

    def received(self, route: bytes, frames: Frames) -> None:
        """Take in a message of a client."""
        client = self._clients.get(route)
        try:
            message = CLIENT_CODEC.decode(frames[0], REQUEST_BYTES_MAX)
            if isinstance(message, Hello):
                self._hello(route, message)
            elif client is None:
                self._node.outbox.send_to_route(route, HelloRequired(self._node.me.id))
            else:
                client.heard_us = self._node.now_us
                handler = self._handlers.get(type(message))
                if handler is None:
                    raise ProtocolError(f"{type(message).__name__} is never sent to a node")
                handler(client, message, frames[1:])
        except ProtocolError as error:
            self._refuse(route, "malformed", f"{error}; the client does not follow the protocol")

    def gone(self, route: bytes) -> None:
        """End a connection's state: what was sent to it did not arrive."""
        self._forget(route)

    def _forget(self, route: bytes) -> Client | None:
        self._node.subscriptions.client_gone(route)
        return self._clients.pop(route, None)

    def expire(self) -> None:
        """End the states of connections that have been silent for too long."""
        oldest = self._node.now_us - PING_INTERVAL_US * (PINGS_MISSED_MAX + 1)
        for route in [route for route, client in self._clients.items() if client.heard_us < oldest]:
            self._forget(route)

    def broadcast(self, message: object) -> None:
        """Tell every client something unasked."""
        for client in self._clients.values():
            self._node.outbox.send(client, message)

    # Handshake.

    def _hello(self, route: bytes, message: Hello) -> None:
        node = self._node
        if not any(version in PROTOCOL_VERSIONS for version in message.versions):
            text = f"this node speaks protocol versions {list(PROTOCOL_VERSIONS)}, not {message.versions}; upgrade one"
            self._refuse(route, "version", text)
        elif node.founding is None:
            self._refuse(route, "founding", f"this node belongs to no cluster yet: {'; '.join(node.obstacles)}")
        elif message.cluster_id and message.cluster_id != node.cluster_id:
            other = message.cluster_id[:CLUSTER_ID_SHOWN_MAX]
            text = f"this node belongs to cluster {node.cluster_id}, not {other}; check the addresses"
            self._refuse(route, "cluster", text)
        elif len(self._clients) >= CLIENTS_MAX and route not in self._clients:
            self._refuse(route, "overloaded", f"this node has {CLIENTS_MAX} clients, which is its limit; retry later")
        else:
            self._welcome(route, message)

    def _refuse(self, route: bytes, code: str, text: str) -> None:
        known = self._forget(route)
        self._node.metrics.handshakes_refused[code] += 1
        if code != "founding":
            self._node.log.info(
                "refused a client", program=known.program if known else "", reason=text, rewind_code=code
            )
        self._node.outbox.send_to_route(route, Refused(code, text[:TEXT_BYTES_MAX]))

    def _welcome(self, route: bytes, message: Hello) -> None:
        node = self._node
        node.clock.observe_client(message.clock, node.wall_us)
        self._forget(route)
        client = self._clients[route] = Client(route, message.program, node.now_us)
        welcome = Welcome(
            PROTOCOL_VERSIONS[-1],
            node.cluster_id,
            node.me.id,
            node.me.name,
            node.now_us,
            PING_INTERVAL_US,
            node.clock.latest,
        )
        node.outbox.send(client, welcome)

    # Deadlines.

    def _past(self, deadline_us: int) -> bool:
        now_us = self._node.now_us
        return not now_us <= deadline_us <= now_us + DEADLINE_AHEAD_MAX_US

    def _in_time(self, handler: Handler) -> Handler:
        """Return the handler of a request that is looked at only if it arrives before its deadline."""

        def handle(client: Client, message: Any, frames: Frames) -> None:
            if self._past(message.deadline_us):
                self._fail(client, message.request, Code.DEADLINE_PAST, "the request arrived after its deadline")
            else:
                handler(client, message, frames)

        return handle

    # Requests about the node and the map.

    def _ping(self, client: Client, message: Ping, _frames: Frames) -> None:
        node = self._node
        node.clock.observe_client(message.clock, node.wall_us)
        node.outbox.send(client, Pong(node.clock.latest, node.now_us))

    def _get_map(self, client: Client, message: GetMap, _frames: Frames) -> None:
        self._node.outbox.send(client, self._node.leaders.map_message(message.request))

    def _get_status(self, client: Client, message: GetStatus, _frames: Frames) -> None:
        self._node.outbox.send(client, StatusIs(message.request, self._node.status()))

    def _fail(self, client: Client, request: int, code: Code, text: str, partition: int | None = None) -> None:
        node = self._node
        node.metrics.refusals[code.name.lower()] += 1
        term, leader = (0, "") if partition is None else node.leaders.of(partition)
        node.outbox.send(client, Failed(request, code, text, leader, term))

    def _find_context(self, client: Client, message: FindContext, _frames: Frames) -> None:
        node = self._node
        known = node.map.context_numbers.get(message.name) if node.map else None
        if known is not None:
            assert node.map is not None
            context = node.map.contexts[known]
            node.outbox.send(client, ContextIs(message.request, context.number, context.name, context.partition))
        elif node.control is not None and node.control.leading:
            node.touch(node.control)
            node.control.find(client, message)
        else:
            self._fail(client, message.request, Code.NOT_LEADER, "ask the leader of partition 0", CONTROL)

    def _create_context(self, client: Client, message: CreateContext, _frames: Frames) -> None:
        node = self._node
        try:
            check_context_name(message.name)
        except ClusterError as error:
            self._fail(client, message.request, Code.INVALID, str(error))
            return
        if node.control is None or not node.control.create(client, message):
            self._fail(client, message.request, Code.NOT_LEADER, "ask the leader of partition 0", CONTROL)
        else:
            node.touch(node.control)

    def _list_contexts(self, client: Client, message: ListContexts, _frames: Frames) -> None:
        node = self._node
        if node.control is None or not node.control.leading:
            self._fail(client, message.request, Code.NOT_LEADER, "ask the leader of partition 0", CONTROL)
        else:
            node.touch(node.control)
            node.control.list(client, message)

    # Requests to a data partition.

    def _data_partition(self, number: int) -> DataPartition | None:
        replica = self._node.replicas.get(number)
        return replica if isinstance(replica, DataPartition) else None

    def _open_session(self, client: Client, message: OpenSession, _frames: Frames) -> None:
        replica = self._data_partition(message.partition)
        if replica is None or not replica.open_session(client, message):
            text = f"this node does not lead partition {message.partition}"
            self._fail(client, message.request, Code.NOT_LEADER, text, message.partition)
        else:
            self._node.touch(replica)

    def _group(self, client: Client, message: Any, _frames: Frames) -> None:
        replica = self._data_partition(message.partition)
        if replica is None:
            self._fail_without_replica(client, message.request, message.partition)
        else:
            self._groups.take(client, message, replica)

    def _fail_without_replica(self, client: Client, request: int, partition: int) -> None:
        code = Code.DAMAGED if partition in self._node.infirmary.repairs else Code.NOT_READY
        self._fail(client, request, code, "no sound replica of the partition is here", partition)

    def _append(self, client: Client, batch: AppendBatch, frames: Frames) -> None:
        node = self._node
        runs = unpack_runs(frames)
        node.clock.observe_client(batch.clock, node.wall_us)
        node.metrics.append_requests += sum(run.append_count for run in runs)
        replica = self._data_partition(batch.partition)
        if replica is None:
            self._refuse_batch(client, batch, runs, Code.NOT_READY, "no replica of the partition is here")
        elif self._past(batch.deadline_us):
            self._refuse_batch(client, batch, runs, Code.DEADLINE_PAST, "it arrived after its deadline")
        else:
            node.touch(replica)
            term, leader = node.leaders.of(batch.partition)
            replica.append(client, batch, runs, (leader, term))

    def _refuse_batch(
        self, client: Client, batch: AppendBatch, runs: Sequence[AppendRun], code: Code, text: str
    ) -> None:
        if self._node.map is not None and batch.partition in self._node.map.partitions:
            client.refused[batch.partition] = max(batch.epoch, client.refused.get(batch.partition, -1))
        self._node.metrics.refusals[code.name.lower()] += sum(run.append_count for run in runs)
        burst = Burst(client, batch.partition, batch.session, batch.epoch)
        self._node.outbox.refuse(burst, runs, (code, text), (code, text))

    def _read(self, client: Client, message: Read, _frames: Frames) -> None:
        node = self._node
        replica = self._data_partition(message.partition)
        try:
            _check_names(message)
        except ClusterError as error:
            code = Code.TOO_LARGE if isinstance(error, TooLargeError) else Code.INVALID
            self._fail(client, message.request, code, str(error))
            return
        if replica is None:
            self._fail_without_replica(client, message.request, message.partition)
        elif message.fresh and not replica.leading:
            text = f"this node does not lead partition {message.partition}"
            self._fail(client, message.request, Code.NOT_LEADER, text, message.partition)
        elif node.map is None or message.context not in node.map.contexts:
            self._fail(client, message.request, Code.CONTEXT_LAGGING, "this node has not heard of the context yet")
        else:
            node.touch(replica)
            replica.read(client, message)


def _check_names(message: Read) -> None:
    """Raise `InvalidArgumentError` where a read names what cannot be a stream or a type."""
    if isinstance(message, ReadStream | GetVersion):
        check_stream_name(message.stream)
    elif isinstance(message, ReadAll):
        Selection.check(message.types, message.prefix)
    elif isinstance(message, ListStreams):
        for name in filter(None, (message.prefix, message.after)):
            check_stream_name(name)
