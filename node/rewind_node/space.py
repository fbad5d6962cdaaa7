"""Disk space across a group: who can take appends, and who could lead instead of a node that cannot."""

from typing import TYPE_CHECKING

from rewind_cluster.raft_messages import ReplicaId

if TYPE_CHECKING:
    from rewind_node.node import Node
    from rewind_node.replica import Replica


def has_space(node: "Node", replica: "Replica") -> bool:
    """Return whether, as far as is known, this node and a majority of a partition's voters have disk space."""
    members = replica.raft.membership
    full = sum(members.members[voter].node in node.peers.full for voter in members.voters)
    return not node.storage_full and not replica.raft.quorum_full() and full <= (len(members.voters) - 1) // 2


def voter_with_space(node: "Node", replica: "Replica") -> ReplicaId | None:
    """Return the voter, as far along as any, whose node is up and has disk space, or None."""
    raft, peers = replica.raft, node.peers
    able = []
    for voter in raft.membership.voters:
        node_id, progress = raft.membership.members[voter].node, raft.progress(voter)
        if progress is not None and peers.is_up(node_id) and node_id not in peers.full:
            able.append((progress.match, voter))
    return max(able)[1] if able else None
