"""Whole nodes in a running cluster, told anything at all by clients and by other nodes.

What a stranger makes up may be refused, and cost its own connection; it never ends a node, and the cluster goes on
serving. Of what was once said in earnest nothing may do harm when it comes again, later, or in another order: that is
what networks do.
"""

from typing import Any

import msgpack
import pytest
import structlog
from fuzzing.borrowed import core
from fuzzing.material import (
    NUMBERS,
    RAW_VALUES,
    UINT_MAX,
    header_frames,
    messages,
    mutations,
    nested,
    nested_lies,
    raw_array,
    search,
)
from hypothesis import given
from hypothesis import strategies as st

from rewind_cluster.client_messages import (
    CLIENT_CODEC,
    AppendBatch,
    AppendPart,
    AppendRequest,
    Code,
    CreateContext,
    FindContext,
    GetMap,
    GetStatus,
    GetVersion,
    Hello,
    ListContexts,
    ListStreams,
    OpenSession,
    Ping,
    ReadStream,
    pack_batch,
)
from rewind_cluster.cluster_map import NodeInfo
from rewind_cluster.entry import NO_DIGEST, Entry, EntryKind
from rewind_cluster.peer_messages import (
    PEER_CODEC,
    EntriesAre,
    FetchEntries,
    PeerHello,
    PeerHelloRequired,
    PeerRefused,
    PeerStatus,
    PeerWelcome,
    RaftBatch,
)
from rewind_cluster.raft_messages import (
    Append,
    AppendReply,
    Envelope,
    Heartbeat,
    HeartbeatReply,
    ReplicaId,
    TimeoutNow,
    Vote,
    VoteReply,
    pack_envelope,
)
from rewind_node.client_protocol import DEADLINE_AHEAD_MAX_US
from rewind_node.exits import ForeignClusterError, UsageError

PARTITIONS = 2
DEFAULT = 1
STREAM = "order-1"
SMALL = st.integers(0, 4)
MOSTLY_SMALL = st.one_of(SMALL, NUMBERS)
ALIVE_TURNS = 40


@pytest.fixture(autouse=True)
def quiet_logs() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


def started(seed: int = 1) -> tuple[core.Cluster, core.TestClient]:
    cluster = core.Cluster(3, partitions=PARTITIONS, seed=seed).start()
    client = cluster.client()
    client.append(STREAM, core.events_named("first"), 0)
    return cluster, client


def check_serving(cluster: core.Cluster) -> None:
    """Assert that the cluster still takes an append, after an election if need be, and reads it."""
    client = cluster.client("afterwards")
    cluster.heal()
    cluster.turns(ALIVE_TURNS)
    for stream in ("after-1", "after-2", "after-3"):
        partition = cluster.partition_of(stream)
        cluster.await_leader(partition)
        version = client.version(stream)

        assert core.places(client.append(stream, core.events_named(f"event {version}"), version))[0][0] == version + 1
        assert client.version(stream) == version + 1


# Clients.

STREAM_NAMES = st.one_of(st.sampled_from([STREAM, "{a}b", "a" * 255, "a" * 256, "", "\0"]), st.text(max_size=5))
EVENTS = st.one_of(
    st.just(core.events_named("a")),
    mutations(st.just(core.events_named("a", "b"))),
    st.binary(max_size=20),
    RAW_VALUES,
    st.lists(RAW_VALUES, min_size=3, max_size=5).map(raw_array),
    st.builds(
        lambda types, datas, metadatas: raw_array(
            [msgpack.packb(b"i" * 16), *(b"\x91" + raw for raw in (types, datas, metadatas))]
        ),
        RAW_VALUES,
        RAW_VALUES,
        st.one_of(RAW_VALUES, RAW_VALUES.map(msgpack.packb)),
    ),
)
BATCHES = st.lists(
    st.builds(
        AppendRequest,
        st.one_of(st.integers(1, 5), st.integers(1, UINT_MAX)),
        st.booleans(),
        st.lists(
            st.builds(AppendPart, STREAM_NAMES, st.one_of(st.integers(-1, 3), st.integers(-1, UINT_MAX)), EVENTS),
            min_size=1,
            max_size=3,
        ).map(tuple),
    ),
    min_size=1,
    max_size=4,
).map(pack_batch)


def client_requests(now_us: int, session: int) -> st.SearchStrategy[Any]:
    """Draw requests as a client sends them, with numbers that fit now and then."""
    deadlines = st.one_of(st.integers(now_us, now_us + DEADLINE_AHEAD_MAX_US), NUMBERS)
    partitions = st.one_of(st.integers(0, PARTITIONS + 1), NUMBERS)
    common: dict[str, Any] = {"partition": partitions, "deadline_us": deadlines}
    reads: dict[str, Any] = {**common, "context": MOSTLY_SMALL, "at_least": MOSTLY_SMALL}
    return st.one_of(
        messages(Hello, cluster_id=st.just(""), versions=st.just([1])),
        messages(Ping),
        messages(GetMap),
        messages(GetStatus),
        messages(FindContext, deadline_us=deadlines),
        messages(CreateContext, deadline_us=deadlines, name=st.sampled_from(["default", "c1", "", "a b"])),
        messages(ListContexts, deadline_us=deadlines),
        messages(OpenSession, **common),
        messages(ReadStream, **reads, stream=STREAM_NAMES, after=st.none() | MOSTLY_SMALL),
        messages(GetVersion, **reads, stream=STREAM_NAMES),
        messages(ListStreams, **reads, prefix=STREAM_NAMES, after=st.none() | STREAM_NAMES),
        messages(
            AppendBatch,
            **common,
            context=MOSTLY_SMALL,
            session=st.one_of(st.just(session), NUMBERS),
            epoch=MOSTLY_SMALL,
            low=SMALL,
        ),
    )


def client_frames(now_us: int, session: int) -> st.SearchStrategy[list[bytes]]:
    """Draw messages of clients, most of them nearly right."""
    headers = st.one_of(client_requests(now_us, session).map(CLIENT_CODEC.encode), header_frames(CLIENT_CODEC))
    bodies = st.one_of(BATCHES, mutations(BATCHES), RAW_VALUES, st.binary(max_size=9))
    return st.builds(lambda header, frames: [header, *frames], headers, st.lists(bodies, max_size=2))


@search(30)
@given(st.data())
def test_nothing_a_client_says_ends_a_node(data: st.DataObject) -> None:
    cluster, client = started()
    for host in cluster.hosts:
        client.hello(host)
    frames = client_frames(cluster.now_us, client.sessions[cluster.partition_of(STREAM)])
    for host, message in data.draw(st.lists(st.tuples(st.integers(0, 2), frames), min_size=5, max_size=25)):
        client.send_raw(cluster.hosts[host], message)
        if data.draw(st.booleans()):
            cluster.turns(1)
        if data.draw(st.integers(0, 3)) == 0:
            client.send(cluster.hosts[host], Hello([1], "", "fuzz", 0, {}, None))

    cluster.turns(ALIVE_TURNS)

    assert all(host.node is not None for host in cluster.hosts)
    check_serving(cluster)


def test_values_nested_deeper_than_they_can_be_shown_are_refused() -> None:
    cluster, client = started()
    host = cluster.hosts[0]
    deep = nested(1020)
    for frames in (
        [raw_array([b"\x01", deep, b"\xa0", b"\xa0", b"\x00", b"\x80", b"\xc0"])],
        [raw_array([b"\x01", b"\x91\x01", b"\xa0", b"\xa0", b"\x00", b"\x81\xa1a" + deep, b"\xc0"])],
    ):
        client.send_raw(host, frames)
        cluster.turns(2)
    for place in range(1, 4):
        columns = [msgpack.packb(b"i" * 16), b"\x91\xa1T", b"\x91\xc4\x00", b"\x91\xc0"]
        columns[place] = b"\x91" + deep
        answer = client.append(STREAM, raw_array(columns))
        assert answer[0] == Code.INVALID
        assert len(answer[1]) < 1000

    check_serving(cluster)


def test_metadata_that_promises_much_and_holds_nothing_is_refused_at_a_low_price() -> None:
    cluster, client = started()
    lies = [nested_lies(5000)] * 1000
    columns = (b"i" * 16 * len(lies), ["T"] * len(lies), [b""] * len(lies), lies)

    answer = client.append(STREAM, msgpack.packb(columns))

    assert answer[0] == Code.INVALID
    check_serving(cluster)


# Other nodes.


def stranger_hello(cluster: core.Cluster, node: list[Any], cluster_id: str | None = None) -> PeerHello:
    own = cluster.hosts[0].core.cluster_id if cluster_id is None else cluster_id
    return PeerHello([1], own, node, b"its-nonce", list(cluster.seeds), PARTITIONS, 3, None, 0)


def member_hello(cluster: core.Cluster, host: core.Host) -> PeerHello:
    me = NodeInfo(host.node_id, host.name, host.address, host.peer_address, host.address, {})
    return stranger_hello(cluster, me.pack())


def tell(host: core.Host, route: bytes, frames: list[bytes]) -> None:
    host.inbox.append(lambda node: node.peer_protocol.received(route, frames))


REPLICA_IDS = st.one_of(st.integers(1, 3), st.integers(1, UINT_MAX)).map(ReplicaId)
TERMS = st.one_of(st.integers(0, 8), NUMBERS)


@st.composite
def forged_entries(draw: st.DrawFn, prev_index: int, term: int) -> tuple[Entry, ...]:
    made: list[Entry] = []
    for place in range(draw(st.integers(0, 3))):
        made.append(
            Entry.build(
                draw(st.sampled_from(list(EntryKind))),
                term=term,
                index=min(UINT_MAX, prev_index + place + 1),
                timestamp=draw(NUMBERS),
                previous_digest=made[-1].digest if made else draw(st.sampled_from([NO_DIGEST, b"d" * 16])),
                body=draw(st.one_of(st.just(b""), RAW_VALUES, st.binary(max_size=9))),
                context=draw(SMALL),
                first_position=draw(MOSTLY_SMALL),
                event_count=draw(SMALL),
            )
        )
    return tuple(made)


@st.composite
def forged_messages(draw: st.DrawFn) -> Any:
    term = draw(TERMS)
    kind = draw(st.sampled_from([Vote, VoteReply, AppendReply, Heartbeat, HeartbeatReply, TimeoutNow, Append]))
    if kind is Append:
        prev_index = draw(MOSTLY_SMALL)
        return Append(term, prev_index, draw(TERMS), draw(MOSTLY_SMALL), draw(forged_entries(prev_index, term)))
    return draw(messages(kind, term=st.just(term)))


def raft_frames(cluster_id: str) -> st.SearchStrategy[list[bytes]]:
    """Draw batches of Raft messages with numbers made up."""

    @st.composite
    def batch(draw: st.DrawFn) -> list[bytes]:
        packed, frames = [], []
        for _ in range(draw(st.integers(1, 4))):
            partition = draw(st.one_of(st.integers(0, PARTITIONS), NUMBERS))
            array, entries = pack_envelope(
                Envelope(partition, draw(REPLICA_IDS), draw(REPLICA_IDS), draw(forged_messages()))
            )
            packed.append(array)
            frames += entries
        message = RaftBatch(cluster_id, draw(NUMBERS), draw(st.booleans()), packed)
        return [PEER_CODEC.encode(message), *frames]

    return batch()


def peer_frames(cluster: core.Cluster) -> st.SearchStrategy[list[bytes]]:
    """Draw messages of nodes, most of them nearly right."""
    own = cluster.hosts[0].core.cluster_id
    cluster_ids = st.one_of(st.just(own), st.text(max_size=4))
    member = NodeInfo(cluster.hosts[1].node_id, "n2", "host2:7070", "host2:7071", "host2:7070", {}).pack()
    nodes = st.one_of(
        st.just(member), st.just(["x" * 32, "nx", "h:1", "h:2", "h:3", {}]), st.lists(RAW_LIKE, max_size=7)
    )
    row = st.tuples(
        MOSTLY_SMALL, st.sampled_from(["leader", "follower"]), st.just("x"), NUMBERS, NUMBERS, NUMBERS, st.just([])
    )
    valid = st.one_of(
        messages(PeerHello, cluster_id=cluster_ids, node=nodes, versions=st.just([1])),
        messages(PeerWelcome, cluster_id=cluster_ids, node=nodes),
        messages(PeerRefused, cluster_id=cluster_ids, code=st.sampled_from(["version", "malformed", "x"])),
        messages(PeerHelloRequired),
        messages(PeerStatus, cluster_id=cluster_ids, replicas=st.lists(row, max_size=3)),
        messages(FetchEntries, cluster_id=cluster_ids, partition=MOSTLY_SMALL, first=MOSTLY_SMALL, last=MOSTLY_SMALL),
        messages(EntriesAre, cluster_id=cluster_ids, partition=MOSTLY_SMALL, replica=MOSTLY_SMALL, first=MOSTLY_SMALL),
        messages(RaftBatch, cluster_id=cluster_ids),
    )
    headers = st.one_of(valid.map(PEER_CODEC.encode), header_frames(PEER_CODEC))
    return st.builds(lambda header, frames: [header, *frames], headers, st.lists(st.binary(max_size=90), max_size=2))


RAW_LIKE = st.one_of(
    st.text(max_size=4), NUMBERS, st.none(), st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2)
)


@search(30)
@given(st.data())
def test_nothing_a_stranger_says_to_a_peers_address_ends_a_node(data: st.DataObject) -> None:
    cluster, _ = started()
    frames = peer_frames(cluster)
    for host in cluster.hosts:
        tell(host, b"stranger", [PEER_CODEC.encode(member_hello(cluster, cluster.hosts[1]))])
    for number, message in data.draw(st.lists(st.tuples(st.integers(0, 2), frames), min_size=5, max_size=25)):
        tell(cluster.hosts[number], b"stranger", message)
        if data.draw(st.booleans()):
            cluster.turns(1)

    cluster.turns(ALIVE_TURNS)

    assert all(host.node is not None for host in cluster.hosts)
    check_serving(cluster)


@search(30)
@given(st.data())
def test_nothing_that_answers_on_a_link_ends_a_node(data: st.DataObject) -> None:
    cluster, _ = started()
    frames = peer_frames(cluster)
    answers = st.tuples(st.integers(0, 2), st.integers(0, 2), frames)
    for number, other, message in data.draw(st.lists(answers, min_size=5, max_size=25)):
        host = cluster.hosts[number]
        address = cluster.hosts[other].peer_address
        host.inbox.append(lambda node, a=address, f=message: node.peer_protocol.link_received(a, f))
        try:
            cluster.turns(1)
        except (UsageError, ForeignClusterError):
            return  # a node that is told at its start that it is in the wrong place ends with this

    cluster.turns(ALIVE_TURNS)

    assert all(host.node is not None for host in cluster.hosts)


@search(40)
@given(st.data())
def test_made_up_raft_messages_end_no_node(data: st.DataObject) -> None:
    cluster, _ = started()
    for host in cluster.hosts:
        tell(host, b"forger", [PEER_CODEC.encode(member_hello(cluster, cluster.hosts[1]))])
    frames = raft_frames(cluster.hosts[0].core.cluster_id)
    for number, message in data.draw(st.lists(st.tuples(st.integers(0, 2), frames), min_size=3, max_size=15)):
        tell(cluster.hosts[number], b"forger", message)
        cluster.turns(data.draw(st.integers(0, 3)))

    cluster.turns(3000)  # elections come and go

    assert all(host.node is not None for host in cluster.hosts)
