"""Other nodes: the links that this node dials, the routes on which others have dialled it, and the handshake of both.

A link carries this node's messages to one address; a route brings another node's. Neither is used before its handshake:
cluster ID and protocol version are checked on both sides, and a stranger is refused with a reason. Raft messages are
sent to a node by its ID, never to whoever happens to answer at its address.

Several links may lead to one node: it is dialled as a seed and as a member, and the two addresses may be spelled
differently. The first that was welcomed carries what is sent to the node; when it drops, another takes over. So a node
counts as dropped when its last link has.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rewind_cluster.cluster_map import NODES_MAX, NodeInfo
from rewind_cluster.errors import ProtocolError
from rewind_cluster.names import CLUSTER_ID_SHOWN_MAX
from rewind_cluster.peer_messages import PEER_CODEC, PeerHello, PeerRefused, PeerWelcome
from rewind_cluster.wire import PROTOCOL_VERSIONS
from rewind_node.connections import Frames
from rewind_node.founding import Plan, Seed

REASONS_TOLD_MAX = 8  # of a node that may have one for each of a thousand partitions
REASON_SHOWN_MAX = 500  # characters
ROUTES_MAX = 4 * NODES_MAX  # a node that dials us as a seed and as a member has two, four once it has reconnected


@dataclass(slots=True)
class Link:
    """A connection that this node dials. `node` is who welcomed us; `self_link`: we did."""

    address: str
    up: bool = False
    node: NodeInfo | None = None
    seed: Seed | None = None
    self_link: bool = False
    foreign: str = ""  # the ID of the other cluster that answers there


@dataclass(slots=True)
class PeerReport:
    """What a node last said of itself, see `PeerStatus`."""

    pid: int
    state: str
    replicas: list[Any]
    reasons: list[str]
    heard_us: int


class Peers:
    """All links and routes of one node."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self.routes: dict[bytes, str] = {}  # routing ID → node ID
        self.reports: dict[str, PeerReport] = {}  # by node ID, of nodes in the map
        self.full: set[str] = set()  # nodes in the map whose disk space is below their reserve
        self.to_links: list[tuple[str, Frames]] = []
        self.to_routes: list[tuple[bytes, Frames]] = []
        self._carriers: dict[str, Link] = {}  # node ID → the link that carries what is sent to it

    def want(self, addresses: Iterable[str]) -> None:
        """Dial these addresses and no others."""
        wanted = set(addresses)
        for address in sorted(wanted - self.links.keys()):
            self.links[address] = Link(address)
        for address in self.links.keys() - wanted:
            self._forget(self.links.pop(address))

    @property
    def dialled(self) -> set[str]:
        """The addresses that should be connected: those of other nodes."""
        return {link.address for link in self.links.values() if not link.self_link}

    def link_to(self, node_id: str) -> Link | None:
        """Return the link to a node that has welcomed us, or None."""
        return self._carriers.get(node_id)

    def is_up(self, node_id: str) -> bool:
        """Return whether a node has welcomed us and not all connections to it have dropped."""
        return node_id in self._carriers

    @property
    def carriers(self) -> list[Link]:
        """One link to each node that has welcomed us."""
        return [link for link in self.links.values() if link.node and self._carriers[link.node.id] is link]

    def welcomed(self, link: Link, node: NodeInfo, seed: Seed) -> None:
        """Take in that a node welcomed us."""
        if link.node is not None and link.node.id != node.id:
            self._forget(link)  # what is meant for the node that was behind it is not for this one
        link.node, link.seed, link.foreign = node, seed, ""
        self._carriers.setdefault(node.id, link)

    def down(self, address: str) -> str | None:
        """Take in that a link dropped, and return the ID of the node to which it carried messages, if it did."""
        link = self.links.get(address)
        if link is None:
            return None
        link.up = False
        return self._forget(link)

    def _forget(self, link: Link) -> str | None:
        node, link.node, link.seed = link.node, None, None
        if node is None or self._carriers[node.id] is not link:
            return None
        del self._carriers[node.id]
        others = (other for other in self.links.values() if other.node and other.node.id == node.id)
        if (successor := next(others, None)) is not None:
            self._carriers[node.id] = successor
        return node.id

    def own_addresses(self) -> frozenset[str]:
        """Return the addresses at which this node met itself."""
        return frozenset(link.address for link in self.links.values() if link.self_link)

    def seeds(self) -> dict[str, Seed]:
        """Return what the nodes behind the links answered, by address."""
        return {link.address: link.seed for link in self.links.values() if link.seed is not None}

    def admit(self, route: bytes, node_id: str) -> None:
        """Take in that a node has dialled us; it may have several routes, and the oldest of all may be forgotten."""
        self.routes.pop(route, None)
        if len(self.routes) >= ROUTES_MAX:
            del self.routes[next(iter(self.routes))]
        self.routes[route] = node_id

    def send(self, link: Link, message: object, *frames: bytes) -> None:
        """Queue a message for a link."""
        self.to_links.append((link.address, [PEER_CODEC.encode(message), *frames]))

    def reply(self, route: bytes, message: object, *frames: bytes) -> None:
        """Queue a message for a route."""
        self.to_routes.append((route, [PEER_CODEC.encode(message), *frames]))

    def take(self) -> tuple[list[tuple[str, Frames]], list[tuple[bytes, Frames]]]:
        """Return what is queued for links and for routes."""
        queued = self.to_links, self.to_routes
        self.to_links, self.to_routes = [], []
        return queued


def plan_of(message: PeerHello | PeerWelcome) -> Plan:
    """Return the plan that a node told, or raise `ProtocolError`."""
    if not all(type(seed) is str for seed in message.seeds):
        raise ProtocolError("a seed is not a text")
    return Plan(tuple(message.seeds), message.partitions, message.replication_factor)


def check_versions(message: PeerHello, cluster_id: str) -> PeerRefused | None:
    """Return why a node that dialled us is refused, or None."""
    if not any(version in PROTOCOL_VERSIONS for version in message.versions):
        text = f"this node speaks protocol versions {list(PROTOCOL_VERSIONS)}, yours {message.versions}; upgrade one"
        return PeerRefused("version", text, cluster_id)
    if cluster_id and message.cluster_id and message.cluster_id != cluster_id:
        yours = message.cluster_id[:CLUSTER_ID_SHOWN_MAX]
        text = f"this node belongs to cluster {cluster_id}, yours to {yours}; check --seeds and --data-dir"
        return PeerRefused("cluster", text, cluster_id)
    return None
