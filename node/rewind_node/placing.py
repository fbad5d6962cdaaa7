"""Replicas between the store and the node: made when the cluster is founded or joined, loaded at each start."""

from typing import TYPE_CHECKING

from rewind_cluster.cluster_map import Founding
from rewind_cluster.membership import Membership
from rewind_cluster.names import CONTROL
from rewind_cluster.raft_messages import ReplicaId
from rewind_node.control_partition import ControlPartition
from rewind_node.data_partition import DataPartition
from rewind_node.repair import DROP_ROWS
from rewind_node.replica import Replica
from rewind_node.space import has_space
from rewind_node.store import ReplicaState, Store

if TYPE_CHECKING:
    from rewind_node.node import Node


def create_replica(store: Store, partition: int, replica: ReplicaId, membership: Membership) -> None:
    """Put a replica without a log into the store, uncommitted there."""
    store.create_partition(partition)
    store.put_replica_state(partition, _first_state(replica, membership))


def _first_state(replica: int, membership: Membership) -> ReplicaState:
    """Return the state of a replica that has no log yet."""
    return ReplicaState(
        replica=replica,
        term=0,
        vote=0,
        applied=0,
        membership=membership.pack(),
        membership_index=0,
        previous_membership=b"",
        previous_index=0,
    )


def create_founding_replicas(store: Store, founding: Founding, node_id: str) -> None:
    """Put the replicas that a founding record places on a node into the store, uncommitted there."""
    for partition in range(founding.partitions + 1):
        placement = founding.placement(partition)
        for replica, member in placement.members.items():
            if member.node == node_id:
                create_replica(store, partition, replica, placement)


def load_replica(node: "Node", partition: int) -> Replica:
    """Return the stored replica of a partition, or raise `DamagedError`."""
    assert node.map is not None
    state = node.store.replica_state(partition)
    if state is not None and state.applied == 0:
        while not node.store.drop_indexes(partition, DROP_ROWS):
            pass  # rows that an unfinished repair has left: a replica that has applied nothing has none
    replica: Replica
    if partition == CONTROL:
        replica = ControlPartition(
            node.store,
            node.options,
            node.pick,
            node.now_us,
            cluster_map=node.map,
            clock=node.clock,
            outbox=node.outbox,
        )
    else:
        replica = DataPartition(
            partition,
            node.store,
            node.options,
            node.pick,
            node.now_us,
            cluster_map=node.map,
            clock=node.clock,
            outbox=node.outbox,
            has_space=lambda led: has_space(node, led),
            ranges=node.ranges,
            now=lambda: node.now_us,
        )
    node.clock.observe(replica.raft.log.last_timestamp)
    replica.raft.storage_full = node.storage_exhausted
    return replica
