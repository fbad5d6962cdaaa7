"""Peers that do not belong to the cluster, and what they say, for tests of the core."""

import msgpack

from rewind_cluster.cluster_map import NodeInfo
from rewind_cluster.peer_messages import PEER_CODEC, PeerHello


def peer_says(host, *messages, route=b"stranger"):
    """Let an unknown peer send messages to a host; a tuple is a header frame in the raw."""
    for message in messages:
        frame = msgpack.packb(message) if isinstance(message, tuple) else PEER_CODEC.encode(message)
        host.inbox.append(lambda node, frame=frame: node.peer_protocol.received(route, [frame]))


def peer_hello(cluster, node, *, clock=0, founding=None, cluster_id=None, seeds=None):
    """Return the hello of a node that was started beside the cluster."""
    own = cluster.hosts[0].core.cluster_id if cluster_id is None else cluster_id
    seeds = list(cluster.seeds) if seeds is None else seeds
    return PeerHello([1], own, node, b"its-nonce", seeds, cluster.partitions, cluster.factor, founding, clock)


def stranger(name="n9", node_id="9" * 32, peer_address="host9:7071"):
    """Return the description of a node nobody started, packed."""
    return NodeInfo(node_id, name, "host9:7070", peer_address, "host9:7072", {}).pack()
