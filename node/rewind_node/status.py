"""What a node knows of its cluster: its own replicas, and what the others last said of theirs.

It is answered without a quorum, from whatever is known here now; what is not known is null.
"""

from typing import TYPE_CHECKING, Any

from rewind_cluster.names import CONTROL
from rewind_cluster.peer_messages import PeerStatus
from rewind_cluster.raft import Role
from rewind_node.attention import attention
from rewind_node.peers import REASONS_TOLD_MAX

if TYPE_CHECKING:
    from rewind_node.node import Node
    from rewind_node.replica import Replica

REPORT_AGE_MAX_US = 5_000_000  # five reports missed: what they said is no longer known


def report(node: "Node") -> PeerStatus:
    """Return what this node tells the others of itself."""
    rows = list(_own_rows(node).values())
    return PeerStatus(node.cluster_id, node.pid, _own_state(node), rows, first_reasons(node))


def _own_rows(node: "Node") -> dict[int, list[Any]]:
    rows = {replica.partition: _row(node, replica) for replica in node.replicas.values()}
    for partition in node.infirmary.repairs:
        term, leader = node.leaders.of(partition)
        rows[partition] = [partition, "quarantined", leader, term, 0, 0, []]
    return rows


def _row(node: "Node", replica: "Replica") -> list[Any]:
    raft = replica.raft
    term, leader = node.leaders.of(replica.partition)
    matches: list[list[Any]] = []
    if raft.role is Role.LEADER:
        for member, place in raft.membership.members.items():
            progress = raft.progress(member)
            matches += [[place.node, raft.log.last_index if progress is None else progress.match]]
    return [replica.partition, _role(node, replica), leader, term, raft.commit, replica.applied, matches]


def _role(node: "Node", replica: "Replica") -> str:
    if replica.raft.role is Role.LEADER:
        return "leader"
    members = node.membership(replica.partition).members
    member = members.get(replica.raft.replica)
    return "follower" if member is not None and member.voter else "learner"


def _own_state(node: "Node") -> str:
    if node.draining:
        return "draining"
    return "joining" if node.founding is None or node.joining else "up"


def status(node: "Node") -> dict[str, Any]:
    """Return the document of `/api/status`."""
    reports = _reports(node)
    nodes = _nodes(node)
    partitions = [_partition(node, partition, reports) for partition in _partitions(node)]
    return {
        "cluster_id": node.cluster_id or None,
        "node": node.me.name,
        "ready": not reasons_not_ready(node),
        "reasons": reasons_not_ready(node),
        "attention": attention(nodes, partitions),
        "nodes": nodes,
        "partitions": partitions,
    }


def _partitions(node: "Node") -> list[int]:
    return [CONTROL, *node.map.partitions] if node.map else []


def _reports(node: "Node") -> dict[str, dict[int, list[Any]]]:
    """Return the newest rows of each node that is heard of, by node ID and partition."""
    rows = {node.me.id: _own_rows(node)}
    for node_id, peer in node.peers.reports.items():
        if node.now_us - peer.heard_us <= REPORT_AGE_MAX_US and node.peers.is_up(node_id):
            rows[node_id] = {row[0]: row for row in peer.replicas}
    return rows


def _nodes(node: "Node") -> list[dict[str, Any]]:
    known = dict(node.map.nodes) if node.map else {}
    known[node.me.id] = node.me
    rows = []
    for info in sorted(known.values(), key=lambda info: info.name):
        peer = node.peers.reports.get(info.id)
        own = info.id == node.me.id
        state = _own_state(node) if own else "down"
        pid = node.pid if own else None
        reasons = first_reasons(node) if own else None
        if not own and node.peers.is_up(info.id):
            state = peer.state if peer else "up"
            pid = peer.pid if peer else None
            reasons = peer.reasons if peer else None
        rows.append(
            {
                "name": info.name,
                "id": info.id,
                "pid": pid,
                "address": info.address,
                "peer_address": info.peer_address,
                "http_address": info.http_address,
                "state": state,
                "labels": dict(info.labels),
                "reasons": reasons,
            }
        )
    return rows


def _partition(node: "Node", partition: int, reports: dict[str, dict[int, list[Any]]]) -> dict[str, Any]:
    rows = {node_id: rows[partition] for node_id, rows in reports.items() if partition in rows}
    newest = max((row[3] for row in rows.values()), default=None)
    leading = next((row for row in rows.values() if row[3] == newest and row[1] == "leader"), None)
    told = next((row[2] for row in rows.values() if row[3] == newest and row[2]), None)
    if told is not None and told != node.me.id and not node.peers.is_up(told):
        told = None  # it has not been heard of since, so nobody knows whether it still leads
    matches = {match[0]: match[1] for match in leading[6]} if leading else {}
    replicas = []
    for member in node.membership(partition).members.values():
        row = rows.get(member.node)
        replicas.append(
            {
                "node": node.name_of(member.node),
                "role": row[1] if row else "follower" if member.voter else "learner",
                "match": matches.get(member.node),
                "applied": row[5] if row else None,
            }
        )
    return {
        "partition": partition,
        "leader": node.name_of(told) if told else None,
        "term": newest,
        "commit": leading[4] if leading else max((row[4] for row in rows.values()), default=None),
        "replicas": replicas,
    }


def reasons_not_ready(node: "Node") -> list[str]:
    """Return why this node should get no traffic, a line each."""
    if node.founding is None:
        return [f"waiting to found or join a cluster: {line}" for line in node.obstacles]
    lines = [node.joining] if node.joining else []
    if node.draining:
        lines.append("this node is handing its leaderships over, to stop")
    if node.storage_full:
        lines.append("too little free disk space: appends are refused; free some")
    lines += [
        f"partition {repair.partition}: the replica here is under quarantine: {repair.told}"
        for repair in node.infirmary.repairs.values()
    ]
    leaderless = [partition for partition in node.replicas if not node.leaders.of(partition)[1]]
    if leaderless and (away := _away(node)):
        lines.append(f"no connection to {away}: see whether they run, and whether the network lets them through")
    lines += [f"partition {partition} has no leader that this node knows of" for partition in leaderless]
    return lines


def _away(node: "Node") -> str:
    """Return the names of the nodes that are not connected."""
    known = node.map.nodes.values() if node.map else ()
    return ", ".join(sorted(info.name for info in known if info.id != node.me.id and not node.peers.is_up(info.id)))


def first_reasons(node: "Node") -> list[str]:
    """Return why this node is not ready, as far as others are told."""
    lines = reasons_not_ready(node)
    more = len(lines) - REASONS_TOLD_MAX
    return lines if more <= 0 else [*lines[: REASONS_TOLD_MAX - 1], f"and {more + 1} more"]
