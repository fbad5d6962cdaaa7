"""The map as the client knows it: which partition owns a stream, who leads it, where the nodes are.

What nodes say may be old. The map with the highest index is right about nodes and slots; of the leaders that were named
the one of the highest term is right, whoever told it, for a majority has voted in that term and has it on disk. A term
without a name proves nothing: whoever tells it may be alone in it, above a leader that serves and that it cannot reach,
or may forget it in a crash. So it never keeps a leader of a lower term from being believed, and only the leader's own
word ends its leading.
"""

from bisect import bisect_right
from dataclasses import dataclass

from rewind_cluster.client_messages import MapIs
from rewind_cluster.cluster_map import ADDRESS
from rewind_cluster.errors import ProtocolError
from rewind_cluster.names import SLOTS, slot
from rewind_cluster.wire import check_shape


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads a partition in a term; `node_id` is "" where nobody is known to."""

    term: int
    node_id: str


NO_LEADER = Leader(0, "")


@dataclass(frozen=True, slots=True)
class Slots:
    """Ranges of slots in order: where each begins, and the partition that owns it."""

    firsts: tuple[int, ...]
    partitions: tuple[int, ...]

    def partition_of(self, stream: str) -> int:
        """Return the partition that owns a stream."""
        return self.partitions[bisect_right(self.firsts, slot(stream)) - 1]


class Routing:
    """The newest map and leaders. Any thread may read `slots` and `partitions`: they are replaced, not changed."""

    def __init__(self) -> None:
        self.index = -1
        self.slots: Slots | None = None
        self.partitions: tuple[int, ...] = ()
        self.addresses: dict[str, str] = {}  # by node ID
        self.names: dict[str, str] = {}
        self.replicas: dict[int, tuple[str, ...]] = {}
        self._leaders: dict[int, Leader] = {}

    def leader(self, partition: int) -> Leader:
        """Return the partition's leader as far as it is known."""
        return self._leaders.get(partition, NO_LEADER)

    def name(self, node_id: str) -> str:
        """Return how to call a node in a message to people."""
        return self.names.get(node_id, node_id) or "no node"

    def learn_leader(self, partition: int, leader: Leader, *, told_by: str) -> bool:
        """Take in who leads a partition, and return whether that changed anything.

        Of an equal term only the first name counts.
        """
        known = self.leader(partition)
        if leader.term < known.term:
            return False
        if leader.node_id:
            if known.node_id and leader.term == known.term:
                return False
        elif known.node_id and told_by == known.node_id:
            leader = Leader(min(leader.term, known.term + 1), "")  # it leads never again in a term that it has left
        else:
            return False
        self._leaders[partition] = leader
        return True

    def learn_map(self, message: MapIs, told_by: str) -> list[int]:
        """Take in a map and return the partitions whose leader changed, or raise `ProtocolError`."""
        leaders = [check_shape("a leader in the map", row, int, int, str)[:3] for row in message.leaders]
        if message.index > self.index:
            self._learn_layout(message)
        return [
            partition
            for partition, term, node_id in leaders
            if self.learn_leader(partition, Leader(term, node_id), told_by=told_by)
        ]

    def _learn_layout(self, message: MapIs) -> None:
        ranges = [check_shape("a range of slots in the map", row, int, int)[:2] for row in message.slots]
        nodes = [check_shape("a node in the map", row, str, str, str)[:3] for row in message.nodes]
        replicas = [check_shape("replicas in the map", row, int, list)[:2] for row in message.replicas]
        if not all(ADDRESS.match(address) for _, _, address in nodes):
            raise ProtocolError("the map holds an address that is not HOST:PORT")
        if not all(type(node_id) is str for _, node_ids in replicas for node_id in node_ids):
            raise ProtocolError("the map holds a replica on a node whose ID is not a text")
        firsts = tuple(first for first, _ in ranges)
        if not firsts or firsts[0] != 0 or list(firsts) != sorted(set(firsts)) or firsts[-1] >= SLOTS:
            raise ProtocolError("the map's slots do not begin with 0, or are out of order")
        self.slots = Slots(firsts, tuple(partition for _, partition in ranges))
        self.partitions = tuple(sorted(set(self.slots.partitions)))
        self.addresses = {node_id: address for node_id, _, address in nodes}
        self.names = {node_id: name for node_id, name, _ in nodes}
        self.replicas = {partition: tuple(node_ids) for partition, node_ids in replicas}
        self.index = message.index
