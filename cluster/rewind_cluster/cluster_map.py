"""What partition 0 says: nodes, contexts, slots, and where replicas were placed when the cluster was founded.

The map is a state machine: a founding record, then the records of partition 0's log in order. Every node holds one and
all that have applied the same index hold the same.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import msgpack

from rewind_cluster.errors import ClusterError, DamagedError, InvalidArgumentError, ProtocolError
from rewind_cluster.membership import NODE_BYTES_MAX, Member, Membership
from rewind_cluster.names import CONTEXTS_MAX, CONTROL, DEFAULT_CONTEXT, PARTITIONS_MAX, SLOTS, check_context_name
from rewind_cluster.raft_messages import ReplicaId
from rewind_cluster.records import RecordKind, pack_record
from rewind_cluster.wire import check_shape, unpack

CONTROL_VOTERS_MAX = 5  # more voters would make partition 0 slower without making it safer in practice
NODES_MAX = 1000
FIELD_BYTES_MAX = 1024
NODE_FIELDS = 6
LABELS_MAX = 32  # of one node: all of them are in every node's memory and in the map
# What every node can try to dial: ZeroMQ takes no host that begins with anything but a letter or a digit.
ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*):[0-9]{1,5}\Z")


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One node, as it describes itself. Addresses are `host:port` texts, resolved at each connection."""

    id: str
    name: str
    address: str
    peer_address: str
    http_address: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def pack(self) -> list[Any]:
        """Return the node as a msgpack array."""
        return [self.id, self.name, self.address, self.peer_address, self.http_address, dict(self.labels)]

    @classmethod
    def unpack(cls, fields: Any) -> "NodeInfo":
        """Return the node in an array from the network or the log, or raise `ProtocolError`."""
        if type(fields) is not list or len(fields) < NODE_FIELDS:
            raise ProtocolError("a node is not an array of 6 or more")
        texts, labels = fields[:5], fields[5]
        if not all(type(text) is str and 0 < len(text) <= FIELD_BYTES_MAX for text in texts):
            raise ProtocolError("a node's ID, name or address is not a short text")
        if any(len(text.encode()) > NODE_BYTES_MAX for text in texts[:2]):
            raise ProtocolError(f"a node's ID or name is over the limit of {NODE_BYTES_MAX} bytes")
        if not all(ADDRESS.match(text) for text in texts[2:]):
            raise ProtocolError("a node's address is not HOST:PORT")
        if type(labels) is not dict or not all(type(k) is str and type(v) is str for k, v in labels.items()):
            raise ProtocolError("a node's labels are not a map of texts")
        if len(labels) > LABELS_MAX or any(len(text) > FIELD_BYTES_MAX for pair in labels.items() for text in pair):
            raise ProtocolError(f"a node has more than {LABELS_MAX} labels, or a longer one than any can be")
        return cls(texts[0], texts[1], texts[2], texts[3], texts[4], labels)


@dataclass(frozen=True, slots=True)
class Founding:
    """The record that made a cluster: written once, by one node, and never changed."""

    cluster_id: str
    partitions: int
    replication_factor: int
    nodes: tuple[NodeInfo, ...]

    def pack(self) -> bytes:
        """Return the record's bytes."""
        packed: bytes = msgpack.packb(
            (self.cluster_id, self.partitions, self.replication_factor, [node.pack() for node in self.nodes])
        )
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> "Founding":
        """Return the record in `packed`, or raise `ProtocolError`."""
        try:
            cluster_id, partitions, factor, nodes = unpack(packed)[:4]
            founding = cls(cluster_id, partitions, factor, tuple(NodeInfo.unpack(node) for node in nodes))
        except ClusterError:
            raise
        except Exception as error:
            raise ProtocolError(f"a founding record cannot be read: {error}") from error
        if type(cluster_id) is not str or type(partitions) is not int or type(factor) is not int:
            raise ProtocolError("a founding record has fields of the wrong kind")
        if len(cluster_id) > FIELD_BYTES_MAX:
            raise ProtocolError(f"a founding record names a cluster in {len(cluster_id)} characters")
        if not (1 <= partitions <= PARTITIONS_MAX and factor >= 1 and 1 <= len(nodes) <= NODES_MAX):
            raise ProtocolError("a founding record is outside the limits")
        return founding

    def placement(self, partition: int) -> Membership:
        """Return the first membership of a partition: replica k is that of the k-th node.

        Partition 0 has a replica on every node, the first five of them voters. Any other has as many as the replication
        factor allows, dealt out in turn, all voters. Voters are always odd in number: an even one bears no more faults.
        """
        count = len(self.nodes)
        if partition == CONTROL:
            voters = _odd(min(CONTROL_VOTERS_MAX, count))
            places = list(range(count))
        else:
            voters = _odd(min(self.replication_factor, count))
            places = [(partition - 1 + step) % count for step in range(voters)]
        return Membership(
            {ReplicaId(place + 1): Member(self.nodes[place].id, rank < voters) for rank, place in enumerate(places)}
        )

    def first_leader(self, partition: int) -> str:
        """Return the node ID of the voter that should campaign first, so that leaders are spread from the start."""
        nodes = [member.node for member in self.placement(partition).members.values() if member.voter]
        return nodes[partition % len(nodes)]


def _odd(number: int) -> int:
    return number if number % 2 else number - 1


@dataclass(frozen=True, slots=True)
class ContextInfo:
    """A context. `partition` is where all of an ordered context lives, None for a partitioned one."""

    number: int
    name: str
    partition: int | None


class ClusterMap:
    """The state that partition 0's log has led to, up to `index`."""

    def __init__(self, founding: Founding) -> None:
        self.founding = founding
        self.index = 0
        self.nodes = {node.id: node for node in founding.nodes}
        self.joined: dict[str, int] = {}  # the index of the first record about a node
        default = ContextInfo(1, DEFAULT_CONTEXT, None)
        self.contexts = {default.number: default}
        self.context_numbers = {default.name: default.number}

    @property
    def cluster_id(self) -> str:
        """The cluster's ID."""
        return self.founding.cluster_id

    @property
    def partitions(self) -> range:
        """The numbers of the data partitions."""
        return range(1, self.founding.partitions + 1)

    def apply(self, index: int, kind: int, payload: Sequence[Any]) -> None:
        """Take in one record of partition 0's log; a kind not known here raises `DamagedError`."""
        try:
            if kind == RecordKind.CONTEXT:
                number, name = check_shape("a context", payload, int, str)[:2]
                partition = payload[2]
                if not 1 <= number <= CONTEXTS_MAX:
                    raise DamagedError(f"a context has the number {number}, beyond the limit of {CONTEXTS_MAX}")
                if partition is not None and (type(partition) is not int or partition not in self.partitions):
                    raise DamagedError(f"context {number} is in a partition that there is not")
                self.contexts[number] = ContextInfo(number, name, partition)
                self.context_numbers[name] = number
            elif kind == RecordKind.NODE:
                node = NodeInfo.unpack(payload[0])
                self.nodes[node.id] = node
                self.joined.setdefault(node.id, index)
            else:
                raise DamagedError(f"partition 0 holds a record of the unknown kind {kind}; upgrade this node")
        except (TypeError, LookupError, ProtocolError) as error:
            raise DamagedError(f"a record of partition 0 at {index} cannot be read: {error}") from error

    def slot_ranges(self) -> list[tuple[int, int]]:
        """Return `(first slot, partition)` of each range of slots, in order."""
        count = self.founding.partitions
        return [(-(-partition * SLOTS // count), partition + 1) for partition in range(count)]

    def partition_of_slot(self, slot: int) -> int:
        """Return the partition that owns a slot."""
        return slot * self.founding.partitions // SLOTS + 1

    def owns_all(self, partition: int, streams: Iterable[str]) -> bool:
        """Return whether a partition owns the slots of streams without tags."""
        slots = {crc32(stream.encode()) % SLOTS for stream in streams}
        # A partition's slots lie next to each other.
        return self.partition_of_slot(min(slots)) == partition == self.partition_of_slot(max(slots))

    def partition_for_ordered(self) -> int:
        """Return the partition that should take the next ordered context: the one with the fewest."""
        load = dict.fromkeys(self.partitions, 0)
        for context in self.contexts.values():
            if context.partition is not None:
                load[context.partition] += 1
        return min(load, key=lambda partition: (load[partition], partition))

    def node_named(self, name: str) -> NodeInfo | None:
        """Return the node of this name, if there is one."""
        return next((node for node in self.nodes.values() if node.name == name), None)


def context_record(number: int, name: str, partition: int | None) -> bytes:
    """Return the record that creates a context, or raise `InvalidArgumentError`."""
    check_context_name(name)
    if number > CONTEXTS_MAX:
        raise InvalidArgumentError(f"there are {CONTEXTS_MAX} contexts already, which is the limit")
    return pack_record(RecordKind.CONTEXT, (number, name, partition))


def node_record(node: NodeInfo) -> bytes:
    """Return the record that adds a node or changes its addresses."""
    return pack_record(RecordKind.NODE, (node.pack(),))
