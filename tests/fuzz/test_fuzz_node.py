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
    EMPTIES,
    FRAME_OVERHEAD_BYTES,
    NUMBERS,
    RAW_VALUES,
    UINT_MAX,
    header_frames,
    messages,
    mutations,
    nested,
    nested_lies,
    peak_bytes,
    raw_array,
    search,
)
from fuzzing.stored import ANY_BODIES
from hypothesis import given
from hypothesis import strategies as st

from rewind_cluster.batches import AppendRun, pack_runs
from rewind_cluster.client_messages import (
    CLIENT_CODEC,
    AppendBatch,
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
    Refused,
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
from rewind_node.replica import SENDERS_MAX

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
SIZES = st.none() | st.lists(st.integers(1, 3), min_size=1, max_size=3)


@st.composite
def append_runs(draw: st.DrawFn) -> AppendRun:
    """Draw runs as a client sends them, most of them with events that are theirs."""
    parts = draw(SIZES)
    length = draw(st.integers(1, 3)) if parts is None else sum(parts)
    counts = draw(st.none() | st.lists(st.integers(1, 2), min_size=length, max_size=length))
    total = length if counts is None else sum(counts)
    names = [f"event {number}" for number in range(draw(st.one_of(st.just(total), st.integers(1, 4))))]
    return AppendRun(
        draw(st.one_of(st.integers(1, 5), st.integers(1, UINT_MAX - 10))),
        draw(st.one_of(st.just(b""), st.just(b"\1" * (length if parts is None else len(parts))))),
        draw(st.lists(STREAM_NAMES, min_size=length, max_size=length)),
        draw(st.lists(st.one_of(st.integers(-1, 3), st.integers(-1, UINT_MAX)), min_size=length, max_size=length)),
        counts,
        parts,
        draw(st.one_of(st.just(core.events_named(*names)), EVENTS)),
    )


@st.composite
def batches(draw: st.DrawFn) -> list[bytes]:
    """Draw a batch's frames, and now and then an accident to one of them."""
    frames = pack_runs(draw(st.lists(append_runs(), min_size=1, max_size=3)))
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(frames) - 1))
        frames[place] = draw(st.one_of(mutations(st.just(frames[place])), RAW_VALUES, st.binary(max_size=9)))
    return frames


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
    bodies = st.one_of(batches(), st.lists(st.one_of(RAW_VALUES, st.binary(max_size=9)), max_size=2))
    return st.builds(lambda header, frames: [header, *frames], headers, bodies)


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
        answer = append_raw(cluster, client, raw_array(columns))
        assert answer[0] == Code.INVALID
        assert len(answer[1]) < 1000

    check_serving(cluster)


def test_metadata_that_promises_much_and_holds_nothing_is_refused_at_a_low_price() -> None:
    cluster, client = started()
    lies = [nested_lies(5000)] * 1000
    columns = (b"i" * 16 * len(lies), ["T"] * len(lies), [b""] * len(lies), lies)

    answer = append_raw(cluster, client, msgpack.packb(columns), len(lies))

    assert answer[0] == Code.INVALID
    check_serving(cluster)


def test_a_run_whose_events_cannot_be_told_apart_is_refused_append_by_append() -> None:
    cluster, client = started()
    partition = cluster.partition_of(STREAM)
    run = AppendRun(2, b"", [STREAM] * 3, [-1] * 3, None, None, core.events_named("a", "b"))

    send_run(cluster, client, run)
    told = [client.answer(partition, number) for number in run.sequences]

    assert [answer[0] for answer in told] == [Code.INVALID] * 3
    check_serving(cluster)


def test_a_header_as_large_as_a_frame_may_be_costs_its_connection_only_and_no_memory() -> None:
    cluster, client = started()
    host = cluster.hosts[0]
    for item in EMPTIES:
        size = (15 << 20) // len(item)
        header = b"\xdd" + size.to_bytes(4) + item * size

        peak = peak_bytes(lambda header=header: host.core.client_protocol.received(b"fuzz", [header]))
        peer_peak = peak_bytes(lambda header=header: host.core.peer_protocol.received(b"fuzz", [header]))
        link_peak = peak_bytes(
            lambda header=header: host.core.peer_protocol.link_received(cluster.hosts[1].peer_address, [header])
        )

        assert max(peak, peer_peak, link_peak) < FRAME_OVERHEAD_BYTES
    client.hello(host)
    check_serving(cluster)


@pytest.mark.parametrize("send_peers", [False, True], ids=["client", "node"])
def test_a_refusal_of_the_longest_cluster_id_can_be_read_by_who_sent_it(send_peers: bool) -> None:
    cluster, client = started()
    host = cluster.hosts[0]
    odd = "\U0010ffff" * 4096
    if send_peers:
        peers = host.core.peers
        host.core.peer_protocol.received(b"odd", [PEER_CODEC.encode(stranger_hello(cluster, odd_node(), odd))])
        tell_own = [PEER_CODEC.encode(member_hello(cluster, cluster.hosts[1]))]
        host.core.peer_protocol.received(b"odd", tell_own)
        host.core.peer_protocol.received(b"odd", [PEER_CODEC.encode(PeerStatus(odd, 1, "ok", [], []))])
        told = [PEER_CODEC.decode(frames[0]) for route, frames in peers.to_routes if route == b"odd"]
        refusals = [message for message in told if isinstance(message, PeerRefused)]
        assert [message.code for message in refusals] == ["cluster", "malformed"]
    else:
        client.send(host, Hello([1], odd, "fuzz", 0, {}, None))
        refused, _ = client.await_message(lambda message: isinstance(message, Refused))
        refusals = [refused]
        assert refused.code == "cluster"

    assert all(len(message.text) < 300 for message in refusals)


def send_run(cluster: core.Cluster, client: core.TestClient, run: AppendRun) -> None:
    partition = cluster.partition_of(STREAM)
    batch = AppendBatch(partition, DEFAULT, client.session(partition), 1, 1, client.deadline_us, 0)
    client.send(cluster.await_leader(partition), batch, *pack_runs([run]))


def append_raw(cluster: core.Cluster, client: core.TestClient, packed: bytes, count: int = 1) -> list[Any]:
    """Append events that may be none, as one append, and return the answer."""
    partition = cluster.partition_of(STREAM)
    client.sequences[partition] += 1
    sequence = client.sequences[partition]
    send_run(cluster, client, AppendRun(sequence, b"", [STREAM], [-1], [count], None, packed))
    return client.answer(partition, sequence)


# Other nodes.


def stranger_hello(cluster: core.Cluster, node: list[Any], cluster_id: str | None = None) -> PeerHello:
    own = cluster.hosts[0].core.cluster_id if cluster_id is None else cluster_id
    return PeerHello([1], own, node, b"its-nonce", list(cluster.seeds), PARTITIONS, 3, None, 0)


def member_hello(cluster: core.Cluster, host: core.Host) -> PeerHello:
    me = NodeInfo(host.node_id, host.name, host.address, host.peer_address, host.address, {})
    return stranger_hello(cluster, me.pack())


def odd_node() -> list[Any]:
    return NodeInfo("x" * 32, "nx", "h:1", "h:2", "h:3", {}).pack()


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
                body=draw(st.one_of(st.just(b""), RAW_VALUES, ANY_BODIES)),
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


def test_replicas_that_are_made_up_take_no_more_room_than_members_could() -> None:
    cluster, _ = started()
    host = cluster.hosts[0]
    replica = host.core.replicas[1]
    tell(host, b"forger", [PEER_CODEC.encode(member_hello(cluster, cluster.hosts[1]))])
    for first in range(10, 10 + 3 * SENDERS_MAX, SENDERS_MAX):
        envelopes = [
            pack_envelope(Envelope(1, ReplicaId(sender), replica.raft.replica, HeartbeatReply(0, 0)))[0]
            for sender in range(first, first + SENDERS_MAX)
        ]
        tell(host, b"forger", [PEER_CODEC.encode(RaftBatch(host.core.cluster_id, 0, False, envelopes))])
    cluster.turns(5)

    assert len(replica.senders) == SENDERS_MAX
    assert not replica.senders.keys() & replica.raft.membership.members.keys()
    check_serving(cluster)


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
