"""Who leads what, as far as this node knows, and who is told when that changes."""

from typing import TYPE_CHECKING

from rewind_cluster.client_messages import LeaderIs, MapIs
from rewind_cluster.names import CONTROL
from rewind_cluster.raft import Role

if TYPE_CHECKING:
    from rewind_node.node import Node
    from rewind_node.replica import Replica

NOBODY = (0, "")


class Leaders:
    """By partition: the newest term that was seen, and the ID of the node that leads in it, or ""."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._known: dict[int, tuple[int, str]] = {}

    def of(self, partition: int) -> tuple[int, str]:
        """Return term and leader of a partition."""
        return self._known.get(partition, NOBODY)

    def watch(self, replica: "Replica") -> None:
        """Note what a replica knows after a turn, and tell the log and the clients what has changed."""
        raft, node = replica.raft, self._node
        leader = node.node_of(replica, raft.leader) if raft.leader else ""
        term, known = self.of(replica.partition)
        if (raft.term, leader) == (term, known):
            return
        self._known[replica.partition] = (raft.term, leader)
        if raft.role is Role.CANDIDATE and raft.term != term:
            node.metrics.elections_started += 1
            node.log.info("campaigning", partition=replica.partition, term=raft.term)
        if leader and leader != known:
            node.metrics.leader_changes += 1
            node.log.info("leader", partition=replica.partition, leader=node.name_of(leader), term=raft.term)
        elif known and not leader:
            node.log.info("no leader", partition=replica.partition, before=node.name_of(known), term=raft.term)
        if leader or known:
            node.client_protocol.broadcast(LeaderIs(replica.partition, raft.term, leader))

    def map_message(self, request: int) -> MapIs:
        """Return the map as this node has it, leaders included."""
        node = self._node
        assert node.map is not None
        return MapIs(
            request,
            node.map.cluster_id,
            node.map.index,
            [list(pair) for pair in node.map.slot_ranges()],
            [[info.id, info.name, info.address] for info in node.map.nodes.values()],
            [[partition, term, leader] for partition, (term, leader) in self._known.items()],
            [
                [partition, [member.node for member in node.membership(partition).members.values()]]
                for partition in (CONTROL, *node.map.partitions)
            ],
        )
