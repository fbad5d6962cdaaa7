"""The protocol between nodes, as one node speaks it: handshakes, founding, Raft batches and reports.

A message either has its effect or ends the state of the connection it came on; it never ends the node. The exception is
a node that finds, at its start, that it does not belong where it was sent: it ends with a clear error before it has
done anything.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from rewind_cluster.cluster_map import NODES_MAX, NodeInfo
from rewind_cluster.errors import ClusterError, ProtocolError
from rewind_cluster.names import CLUSTER_ID_SHOWN_MAX, CONTROL
from rewind_cluster.peer_messages import (
    PEER_CODEC,
    EntriesAre,
    FetchEntries,
    PeerHello,
    PeerHelloRequired,
    PeerRefused,
    PeerStatus,
    PeerWelcome,
    RaftBatch,
)
from rewind_cluster.raft_messages import Envelope, pack_envelope, unpack_envelope
from rewind_cluster.wire import PROTOCOL_VERSIONS, check_shape
from rewind_node.connections import Frames
from rewind_node.exits import ForeignClusterError, UsageError
from rewind_node.founding import Seed, check_record
from rewind_node.peers import (
    REASON_SHOWN_MAX,
    REASONS_TOLD_MAX,
    Link,
    PeerReport,
    check_versions,
    plan_of,
)

if TYPE_CHECKING:
    from rewind_node.node import Node

HEADER_BYTES_MAX = 2 * 1024 * 1024  # a founding record of 1,000 nodes with 2 KB each; other messages are smaller
FOREIGN_GRACE_US = 3_000_000  # how long a node that starts looks for its own cluster where another one answers


class PeerProtocol:
    """What a node does with other nodes' messages."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._met_own_cluster = False
        self._foreign_since_us: int | None = None
        self._on_route: dict[type[Any], Callable[[bytes, Any, Iterator[bytes]], None]] = {
            PeerHello: self._hello,
            RaftBatch: self._raft,
            PeerStatus: self._status,
            FetchEntries: self._fetch,
        }
        self._on_link: dict[type[Any], Callable[[Link, Any, Iterator[bytes]], None]] = {
            PeerWelcome: self._welcome,
            PeerRefused: self._refused,
            PeerHelloRequired: self._hello_required,
            EntriesAre: self._entries,
        }

    # Messages that this node starts.

    def hello(self, link: Link) -> None:
        """Introduce this node to whoever answers at a link's address."""
        self._node.peers.send(link, self._introduce(PeerHello))

    def repeat_hellos(self) -> None:
        """Introduce this node again where nobody has answered: the hello or its answer may have been lost."""
        for link in self._node.peers.links.values():
            if link.up and link.node is None and not link.self_link and not link.foreign:
                self.hello(link)

    def send_founding(self) -> None:
        """Pass the founding record on to every node that this one has met: a second hello carries it."""
        for link in self._node.peers.links.values():
            if link.up and not link.self_link:
                self.hello(link)

    def send(self, envelopes: Iterable[Envelope]) -> None:
        """Send the Raft messages of a turn: those to the same node, whatever the partition, as one message."""
        node = self._node
        by_node: dict[str, tuple[list[Any], list[bytes]]] = {}
        for envelope in envelopes:
            node_id = node.node_of(node.replicas[envelope.partition], envelope.to)
            packed, entries = pack_envelope(envelope)
            batch = by_node.setdefault(node_id, ([], []))
            batch[0].append(packed)
            batch[1].extend(entries)
        if not by_node:
            return
        clock = node.clock.read(node.wall_us)
        for node_id, (batched, frames) in by_node.items():
            link = node.peers.link_to(node_id)
            if link is not None:
                node.peers.send(link, RaftBatch(node.cluster_id, clock, node.storage_full, batched), *frames)

    def report(self, message: PeerStatus) -> None:
        """Tell the other nodes how this one is doing."""
        if self._node.founding is None:
            return
        for link in self._node.peers.carriers:
            self._node.peers.send(link, message)

    def _introduce(self, kind: type[Any]) -> Any:
        node = self._node
        versions: Any = list(PROTOCOL_VERSIONS) if kind is PeerHello else PROTOCOL_VERSIONS[-1]
        return kind(
            versions,
            node.cluster_id,
            node.me.pack(),
            node.nonce,
            list(node.plan.seeds),
            node.plan.partitions,
            node.plan.replication_factor,
            node.founding.pack() if node.founding else None,
            node.clock.latest,
        )

    # What arrives.

    def received(self, route: bytes, frames: Frames) -> None:
        """Take in a message of a node that dialled us."""
        try:
            message = PEER_CODEC.decode(frames[0], HEADER_BYTES_MAX)
            if route not in self._node.peers.routes and not isinstance(message, PeerHello):
                self._node.peers.reply(route, PeerHelloRequired(self._node.nonce))
                return
            handler = self._on_route.get(type(message))
            if handler is None:
                raise ProtocolError(f"{type(message).__name__} is never sent to a peer's address")
            handler(route, message, iter(frames[1:]))
        except ProtocolError as error:
            node_id = self._node.peers.routes.pop(route, "")
            self._count_refusal("malformed")
            self._node.log.info(
                "refused a malformed message from a peer", peer=self._node.name_of(node_id), reason=str(error)
            )
            text = f"{error}; this address is for nodes, clients are served at {self._node.me.address}"
            self._node.peers.reply(route, PeerRefused("malformed", text, self._node.cluster_id))

    def link_received(self, address: str, frames: Frames) -> None:
        """Take in an answer of a node that this one dialled."""
        link = self._node.peers.links.get(address)
        if link is None:
            return
        try:
            message = PEER_CODEC.decode(frames[0], HEADER_BYTES_MAX)
            handler = self._on_link.get(type(message))
            if handler is None:
                raise ProtocolError(f"{type(message).__name__} is never an answer")
            handler(link, message, iter(frames[1:]))
        except ProtocolError as error:
            self._node.log.info("ignored a malformed answer from a peer", address=address, reason=str(error))

    # Handshakes.

    def _hello(self, route: bytes, message: PeerHello, _frames: Iterator[bytes]) -> None:
        node = self._node
        stranger = NodeInfo.unpack(message.node)
        plan_of(message)
        if message.nonce == node.nonce:
            node.peers.reply(route, self._introduce(PeerWelcome))
            return
        refusal = check_versions(message, node.cluster_id) or self._name_in_use(stranger)
        if refusal is not None:
            self._count_refusal(refusal.code)
            node.log.info("refused a node", name=stranger.name, address=stranger.peer_address, reason=refusal.text)
            node.peers.reply(route, refusal)
            return
        if message.founding is not None:
            self._learn_founding(message.founding, message.cluster_id)
        node.clock.observe(message.clock)
        node.peers.admit(route, stranger.id)
        node.peers.reply(route, self._introduce(PeerWelcome))
        self._learn_node(stranger)

    def _learn_node(self, stranger: NodeInfo) -> None:
        node = self._node
        if node.map is None or node.control is None:
            return
        named = node.map.node_named(stranger.name)
        if named is None or named.id == stranger.id:
            node.control.learn_node(stranger)
            node.touch(node.control)

    def _name_in_use(self, stranger: NodeInfo) -> PeerRefused | None:
        node = self._node
        if stranger.name == node.me.name:
            holder = node.me
        else:
            up = (link.node for link in node.peers.carriers if link.node is not None)
            found = next((other for other in up if other.name == stranger.name and other.id != stranger.id), None)
            if found is None:
                return None
            holder = found
        text = f"the name {stranger.name!r} is in use by the node at {holder.peer_address}; choose another --name"
        return PeerRefused("name", text, node.cluster_id)

    def _learn_founding(self, packed: bytes, cluster_id: str) -> None:
        node = self._node
        if node.founding is None and check_record(packed).cluster_id == cluster_id:
            node.accept_founding(packed)
        if node.cluster_id != cluster_id:
            raise ProtocolError("a hello's founding record names another cluster than the hello")

    def _welcome(self, link: Link, message: PeerWelcome, _frames: Iterator[bytes]) -> None:
        node = self._node
        if message.nonce == node.nonce:
            link.self_link = True
            return
        other = NodeInfo.unpack(message.node)
        if node.cluster_id and message.cluster_id and message.cluster_id != node.cluster_id:
            self._met_foreigner(link, message.cluster_id)
            return
        if message.founding is not None:
            self._learn_founding(message.founding, message.cluster_id)
        if message.cluster_id:
            self._met_own_cluster = True
        node.clock.observe(message.clock)
        was_up = node.peers.is_up(other.id)
        node.peers.welcomed(link, other, Seed(other, plan_of(message), message.cluster_id))
        self._learn_node(other)
        if not was_up:
            node.log.info("connected to a node", peer=other.name, address=link.address)
            node.node_welcomed(other.id)
        self._check_own_name(other)

    def _check_own_name(self, other: NodeInfo) -> None:
        node = self._node
        if node.map is None or not node.joining:
            return
        holder = node.map.node_named(node.me.name)
        if holder is not None and holder.id != node.me.id:
            why = (
                f"the cluster knows the name {node.me.name!r} as node {holder.id}, whose data this directory does not "
                "hold; this node waits to be given replicas, and votes for nothing until then"
            )
            if node.joining != why:
                node.joining = why
                node.log.warning("joining as new", met=other.name, reason=why)

    def _refused(self, link: Link, message: PeerRefused, _frames: Iterator[bytes]) -> None:
        node = self._node
        node.log.info("a node refused this one", address=link.address, reason=message.text)
        if message.code == "name" and (node.founding is None or node.joining):
            raise UsageError(message.text)
        if message.code == "cluster":
            self._met_foreigner(link, message.cluster_id)

    def _met_foreigner(self, link: Link, cluster_id: str) -> None:
        node = self._node
        if link.foreign != cluster_id:
            link.foreign = cluster_id
            node.log.warning(
                "another cluster answers at an address of this one",
                address=link.address,
                cluster=cluster_id,
                own_cluster=node.cluster_id,
            )
        if self._foreign_since_us is None:
            self._foreign_since_us = node.now_us

    def check_foreign(self) -> None:
        """End a node that finds another cluster where it looks for its own, and nobody of its own."""
        node = self._node
        if self._met_own_cluster or self._foreign_since_us is None:
            return
        if node.now_us - self._foreign_since_us < FOREIGN_GRACE_US:
            return
        foreign = next((link for link in node.peers.links.values() if link.foreign), None)
        if foreign is not None:
            raise ForeignClusterError(
                f"the data directory belongs to cluster {node.cluster_id}, but {foreign.address} to cluster "
                f"{foreign.foreign}; check --data-dir and --seeds"
            )

    def _hello_required(self, link: Link, _message: PeerHelloRequired, _frames: Iterator[bytes]) -> None:
        self.hello(link)

    def _count_refusal(self, code: str) -> None:
        self._node.metrics.handshakes_refused[code] += 1

    # Between members.

    def _check_cluster(self, cluster_id: str) -> None:
        if cluster_id != self._node.cluster_id:
            theirs = cluster_id[:CLUSTER_ID_SHOWN_MAX]
            raise ProtocolError(f"a message of cluster {theirs} reached cluster {self._node.cluster_id}")

    def _raft(self, route: bytes, message: RaftBatch, frames: Iterator[bytes]) -> None:
        node = self._node
        self._check_cluster(message.cluster_id)
        node.clock.observe(message.clock)
        sender = node.peers.routes[route]
        if self._is_in_map(sender):
            (node.peers.full.add if message.full else node.peers.full.discard)(sender)
        for packed in message.envelopes:
            envelope = unpack_envelope(packed, frames)
            if self._names_newcomer(envelope):
                node.adopt_learner(envelope.to)
            replica = node.replicas.get(envelope.partition)
            if replica is not None and envelope.to == replica.raft.replica != envelope.sender:
                replica.heard(envelope.sender, sender)
                replica.raft.step(envelope, node.now_us)
                node.touch(replica)

    def _is_in_map(self, node_id: str) -> bool:
        """Return whether a node is one of the cluster's: of others nothing is kept, there is no end to them."""
        return self._node.map is not None and node_id in self._node.map.nodes

    def _names_newcomer(self, envelope: Envelope) -> bool:
        """Return whether a message is for a replica of partition 0 that this node has just been given.

        One that is here but damaged has made promises, and one of the founding was here once: neither may begin anew.
        """
        node = self._node
        return (
            envelope.partition == CONTROL
            and envelope.to > NODES_MAX
            and node.control is None
            and CONTROL not in node.infirmary.repairs
            and node.founding is not None
        )

    def _status(self, route: bytes, message: PeerStatus, _frames: Iterator[bytes]) -> None:
        self._check_cluster(message.cluster_id)
        sender = self._node.peers.routes[route]
        for row in message.replicas:
            check_shape("a replica's report", row, int, str, str, int, int, int, list)
            for match in row[6]:
                check_shape("a replica's match", match, str, int)
        check_shape("a node's reasons", message.reasons, *[str] * len(message.reasons))
        reasons = [reason[:REASON_SHOWN_MAX] for reason in message.reasons[:REASONS_TOLD_MAX]]
        if self._is_in_map(sender):
            report = PeerReport(message.pid, message.state, message.replicas, reasons, self._node.now_us)
            self._node.peers.reports[sender] = report

    # Repair.

    def _fetch(self, route: bytes, message: FetchEntries, _frames: Iterator[bytes]) -> None:
        node = self._node
        self._check_cluster(message.cluster_id)
        replica = node.replicas.get(message.partition)
        if replica is None or not replica.leading:
            return
        first = min(message.first, replica.raft.commit)
        entries: list[bytes] = []
        if not replica.guard(lambda: entries.extend(replica.committed_entries(first, message.last))):
            node.touch(replica)
            return
        answer = EntriesAre(node.cluster_id, message.partition, message.replica, first)
        node.peers.reply(route, answer, *entries)

    def _entries(self, _link: Link, message: EntriesAre, frames: Iterator[bytes]) -> None:
        node = self._node
        self._check_cluster(message.cluster_id)
        try:
            node.infirmary.received(message, list(frames))
        except ClusterError as error:
            node.log.info("a peer's entries do not repair this replica", partition=message.partition, reason=str(error))
