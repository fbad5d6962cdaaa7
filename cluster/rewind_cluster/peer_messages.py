"""The protocol between nodes: every message, its code and fields. `cluster/README.md` tells what they mean.

Each node dials every other; what it has to say goes over its own connection, and only handshakes are answered on it.
"""

from typing import Any

from rewind_cluster.wire import Codec, message

PEER_CODEC = Codec()


@message(PEER_CODEC, 1)
class PeerHello:
    """First message of a node's connection, and the same facts that `PeerWelcome` answers with.

    `nonce` is drawn at each start: who meets its own has dialled itself. `founding` is the founding record, if there is
    one.
    """

    versions: list[int]
    cluster_id: str
    node: list[Any]
    nonce: bytes
    seeds: list[Any]
    partitions: int
    replication_factor: int
    founding: bytes | None
    clock: int


@message(PEER_CODEC, 2)
class PeerWelcome:
    """The node that was dialled took the hello, and describes itself."""

    version: int
    cluster_id: str
    node: list[Any]
    nonce: bytes
    seeds: list[Any]
    partitions: int
    replication_factor: int
    founding: bytes | None
    clock: int


@message(PEER_CODEC, 3)
class PeerRefused:
    """The node that was dialled refuses. `code`: cluster, version, name, malformed.

    A client that has dialled a node's address for nodes reads it as its `Refused`, so the text is in the same place.
    """

    code: str
    text: str
    cluster_id: str


@message(PEER_CODEC, 4)
class PeerHelloRequired:
    """The node does not know this connection: nothing sent on it was looked at."""

    nonce: bytes


@message(PEER_CODEC, 10)
class RaftBatch:
    """Raft messages of one turn, of all partitions; the frames after it are their entries, in order.

    `full`: the sender's disk space is below its reserve.
    """

    cluster_id: str
    clock: int
    full: bool
    envelopes: list[Any]


@message(PEER_CODEC, 20)
class PeerStatus:
    """What a node says of itself about once a second, for `/api/status` on the others.

    `replicas`: [[partition, role, leader's node ID or "", term, commit, applied, [[node ID, match], …]], …]; the
    matches are known to leaders only. `reasons`: why it is not ready, lines of text for people, the first few.
    """

    cluster_id: str
    pid: int
    state: str
    replicas: list[Any]
    reasons: list[Any]


@message(PEER_CODEC, 30)
class FetchEntries:
    """Asks the leader for committed entries `first` to `last` of a partition, to repair a replica under quarantine.

    Where `first` is not committed yet, it answers with the last one that is.
    """

    cluster_id: str
    partition: int
    replica: int
    first: int
    last: int


@message(PEER_CODEC, 31)
class EntriesAre:
    """Committed entries from `first` on; the frames after it hold them."""

    cluster_id: str
    partition: int
    replica: int
    first: int
