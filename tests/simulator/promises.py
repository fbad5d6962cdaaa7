"""What a cluster is promised to survive: no fault takes away more, else it would be right to lose data.

A replica is missing where its host has lost its data, where its vote or membership is damaged, and as long as a damaged
byte of it is not repaired. Of the voters of every partition a majority must be left, by every membership that any host
may still go by.
"""

from collections.abc import Iterator

from rewind_cluster.cluster_map import Founding, NodeInfo
from rewind_cluster.errors import DamagedError
from rewind_cluster.membership import Membership
from rewind_node.store_layout import INDEX_TABLES, LOG_PREFIX, RAFT, U16, unpack_state
from simulator.disk import Flip
from simulator.host import Host
from simulator.world import World


def partition_of(flip: Flip) -> int:
    """Return the partition that a damaged row belongs to."""
    if flip.table.startswith(LOG_PREFIX):
        return int(flip.table.removeprefix(LOG_PREFIX))
    assert flip.table in (RAFT, *INDEX_TABLES)
    return int.from_bytes(flip.key[: U16.size])


def is_missing(host: Host, partition: int) -> bool:
    """Return whether a host's replica of a partition does not count, now or for good.

    One emptied before the founding may yet be founded on as it was: it is not sure to count until that is over.
    """
    if host.lost or (host.wiped and host.world.founding is None):
        return True
    if any(partition_of(flip) == partition for flip in host.engine.damaged_rows()):
        return True
    return host.node is not None and partition in host.node.infirmary.repairs


def is_lost(host: Host, partition: int) -> bool:
    """Return whether a host's replica of a partition never comes back: its data or its vote has gone."""
    if host.lost:
        return True
    repair = host.node.infirmary.repairs.get(partition) if host.node is not None else None
    return repair is not None and repair.hopeless


def may_lose(world: World, host: Host) -> bool:
    """Return whether a host may lose all its data."""
    return all(may_miss(world, host, partition) for partition in range(world.shape.partitions + 1))


def may_miss(world: World, host: Host, partition: int) -> bool:
    """Return whether a host's replica of a partition may be missing."""
    return all(has_majority(world, partition, each, without=host) for each in memberships(world, partition))


def has_majority(world: World, partition: int, membership: Membership, without: Host | None = None) -> bool:
    """Return whether the replicas that are not missing, `without` one host's, are a majority of a membership."""
    left = {_identity(host) for host in world.hosts if host is not without and not is_missing(host, partition)}
    voters = [membership.members[voter].node for voter in membership.voters]
    return 2 * sum(voter in left for voter in voters) > len(voters)


def memberships(world: World, partition: int) -> Iterator[Membership]:
    """Yield the memberships of a partition that a host goes by, or may go by again."""
    founding = world.founding
    if founding is None:
        nodes = [_prospect(host) for host in world.hosts if host.is_seed]
        yield Founding("", world.shape.partitions, world.shape.replication_factor, tuple(nodes)).placement(partition)
        return
    stored = [found for host in world.hosts for found in _stored(host, partition)]
    yield from stored or [founding.placement(partition)]


def _prospect(host: Host) -> NodeInfo:
    return NodeInfo(_identity(host), host.name, host.address, host.peer_address, host.address)


def _identity(host: Host) -> str:
    """Return a host's node ID, or a stand-in as long as it has none."""
    return host.node_id or host.name


def _stored(host: Host, partition: int) -> list[Membership]:
    replica = host.node.replicas.get(partition) if host.node is not None else None
    if replica is not None:
        found = [replica.raft.membership, replica.raft.previous_membership]
        return [membership for membership in found if membership is not None and membership.members]
    key = U16.pack(partition)
    value = host.engine.get(RAFT, key) if RAFT in host.engine.tables() else None
    if value is None:
        return []
    try:
        state = unpack_state(key, value)
    except DamagedError:
        return []
    packed = [state.membership, state.previous_membership]
    return [membership for each in packed if each and (membership := Membership.unpack(each)).members]
