"""Consumer groups in the node's metrics: how far they lag, what they have parked, and what nobody consumes."""

from functools import partial
from typing import TYPE_CHECKING

from rewind_cluster.groups import NO_MEMBER
from rewind_node.data_partition import DataPartition

if TYPE_CHECKING:
    from rewind_node.node import Node


def measure_groups(node: "Node") -> None:
    """Set the gauges of groups: each is the sum over the partitions that this node leads."""
    metrics = node.metrics
    metrics.group_lag_events, metrics.group_parked_events, metrics.group_partitions_idle = {}, {}, {}
    for replica in node.replicas.values():
        if isinstance(replica, DataPartition) and replica.leading:
            replica.guard(partial(_measure, node, replica))


def _measure(node: "Node", replica: DataPartition) -> None:
    metrics, desk = node.metrics, replica.group_desk
    for (context, group), state in replica.index.groups.items():
        known = node.map.contexts.get(context) if node.map is not None else None
        name = f"{known.name if known is not None else context}/{group}"
        lag = replica.index.position(context) - state.checkpoint - state.settled_count
        idle = state.owner == NO_MEMBER or (desk is not None and not desk.is_alive((context, group)))
        for gauge, value in (
            (metrics.group_lag_events, lag),
            (metrics.group_parked_events, len(state.parked)),
            (metrics.group_partitions_idle, int(idle)),
        ):
            gauge[name] = gauge.get(name, 0) + value
