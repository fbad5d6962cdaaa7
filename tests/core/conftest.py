"""Whole clusters of the shipped node core in one process: simulated time, network and disk, no socket and no sleep.

A `Cluster` runs turns of its hosts, a millisecond of simulated time apart. Messages of one turn arrive in the next. A
`TestClient` speaks the protocol in the raw, so that a test can send what a well-behaved client never would.
"""

import random
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from appends_by_hand import AppendPart, AppendRequest, again, answers_by_number, pack_batch

from rewind_cluster.client_messages import (
    ANY_VERSION,
    CLIENT_CODEC,
    AppendBatch,
    AppendsDone,
    Code,
    Failed,
    GetVersion,
    Hello,
    OpenSession,
    ReadStream,
    SessionIs,
    Welcome,
    unpack_chunk,
)
from rewind_cluster.cluster_map import NodeInfo
from rewind_cluster.columns import Events, pack_events, unpack_events
from rewind_cluster.names import slot
from rewind_cluster.raft import Role
from rewind_cluster.raft_options import RaftOptions
from rewind_node.founding import Plan
from rewind_node.memory_engine import MemoryEngine
from rewind_node.node import Node
from rewind_node.store import Store

TURN_US = 1000
PATIENCE_TURNS = 20_000
DEFAULT = 1  # the number of the context `default`


def events_named(*names: str, types: str = "Happened") -> bytes:
    """Pack one event per name; its ID follows from the name, so that the same name is the same event."""
    ids = b"".join(zlib.crc32(name.encode()).to_bytes(16) for name in names)
    return pack_events(Events(ids, [types] * len(names), [name.encode() for name in names], [None] * len(names)))


def places(answer: list[Any]) -> list[list[int]]:
    """Return version and position of each part of an append that took effect."""
    assert answer[0] == Code.OK, answer
    return [[version, position] for version, position, _ in answer[1]]


class Host:
    """One machine: an engine that survives crashes, and a node core while it is up."""

    def __init__(self, cluster: "Cluster", number: int, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.address = f"host{number}:7070"
        self.peer_address = f"host{number}:7071"
        self.engine = MemoryEngine()
        self.node_id = f"{number:032x}"
        self.node: Node | None = None
        self.full = False
        self.exhausted = False
        self.paused = False
        self.starts = 0
        self.inbox: list[Callable[[Node], None]] = []

    @property
    def core(self) -> Node:
        """The running core."""
        assert self.node is not None
        return self.node

    def start(self, **plan: Any) -> None:
        """Start the core on what the engine holds."""
        cluster = self.cluster
        self.starts += 1
        me = NodeInfo(self.node_id, self.name, self.address, self.peer_address, self.address, {})
        choices = {"seeds": cluster.seeds, "partitions": cluster.partitions, "replication_factor": cluster.factor}
        self.node = Node(
            me,
            Plan(**(choices | plan)),
            Store(self.engine),
            RaftOptions(),
            nonce=f"{self.name}-{self.starts}".encode(),
            pid=self.starts,
            pick=cluster.random.randint,
            new_id=lambda: f"{cluster.random.getrandbits(128):032x}",
            log=structlog.get_logger(),
            now_us=cluster.now_us,
            wall_us=cluster.now_us,
        )

    def crash(self) -> None:
        """Lose the core, and what the engine had not committed."""
        self.node = None
        self.inbox.clear()
        self.engine.crash()
        self.cluster.drop_links(self)

    def wipe(self) -> None:
        """Lose everything, the node's ID included."""
        self.crash()
        self.engine = MemoryEngine()
        self.node_id = f"{self.cluster.random.getrandbits(128):032x}"

    def turn(self) -> None:
        """Run one turn of the core, as the loop does."""
        node = self.node
        if node is None or self.paused:
            return
        node.begin_turn(self.cluster.now_us, self.cluster.now_us)
        node.set_storage_full(self.full, self.exhausted)
        inbox, self.inbox = self.inbox, []
        for deliver in inbox:
            deliver(node)
        node.tick()
        node.flush()
        self.cluster.carry(self)
        must_commit = node.persist()
        self.cluster.carry(self)
        if must_commit:
            node.store.commit()
        node.committed()
        self.cluster.carry(self)


class Cluster:
    """Hosts and the network between them."""

    def __init__(self, hosts: int, partitions: int = 2, factor: int = 3, seed: int = 1) -> None:
        self.random = random.Random(seed)
        self.now_us = 1_000_000
        self.partitions = partitions
        self.factor = factor
        self.hosts = [Host(self, number, f"n{number}") for number in range(1, hosts + 1)]
        self.seeds = tuple(host.peer_address for host in self.hosts)
        self.clients: dict[bytes, TestClient] = {}
        self.cuts: set[frozenset[str]] = set()
        self.lost_addresses: set[str] = set()
        self._links: dict[tuple[str, str], bytes] = {}  # (who dialled, address) → route
        self._routes: dict[bytes, tuple[str, str]] = {}
        self._numbers = 0

    def add_host(self, name: str) -> Host:
        """Add a machine that is no seed."""
        host = Host(self, len(self.hosts) + 1, name)
        self.hosts.append(host)
        return host

    def start(self) -> "Cluster":
        """Start every host and wait until each partition has a leader."""
        for host in self.hosts:
            host.start()
        self.until(lambda: all(self.leader(partition) for partition in range(self.partitions + 1)))
        return self

    # Time.

    def turns(self, count: int) -> None:
        """Let `count` milliseconds pass."""
        for _ in range(count):
            self.now_us += TURN_US
            self._connect()
            for host in self.hosts:
                host.turn()

    def until(self, condition: Callable[[], Any], turns: int = PATIENCE_TURNS) -> Any:
        """Let time pass until `condition` holds, and return what it returned."""
        for _ in range(turns):
            found = condition()
            if found:
                return found
            self.turns(1)
        raise AssertionError(f"nothing of the kind happened within {turns} ms")

    # Network.

    def host_at(self, address: str) -> Host | None:
        """Return the machine that an address belongs to."""
        return next((host for host in self.hosts if address in (host.peer_address, host.address)), None)

    def _reachable(self, one: Host, other: Host) -> bool:
        return frozenset((one.name + one.peer_address, other.name + other.peer_address)) not in self.cuts

    def cut(self, one: Host, other: Host) -> None:
        """Let nothing pass between two hosts any more, without telling either."""
        self.cuts.add(frozenset((one.name + one.peer_address, other.name + other.peer_address)))

    def heal(self) -> None:
        """Let everything pass again."""
        self.cuts.clear()

    def _connect(self) -> None:
        for host in self.hosts:
            if host.node is None or host.paused:
                continue
            for address in host.node.peers.dialled:
                other = None if address in self.lost_addresses else self.host_at(address)
                if (host.name + host.peer_address, address) in self._links or other is None or other.node is None:
                    continue
                self._numbers += 1
                route = b"peer-%d" % self._numbers
                self._links[host.name + host.peer_address, address] = route
                self._routes[route] = (host.peer_address, address)
                host.inbox.append(lambda node, address=address: node.link_up(address))

    def drop_links(self, gone: Host) -> None:
        """Tell everyone that their connections to a host have dropped."""
        self._drop_links(lambda dialler, address: gone in (dialler, self.host_at(address)))

    def lose(self, *addresses: str) -> None:
        """Let nobody reach these addresses any more, and tell those that were connected."""
        self.lost_addresses.update(addresses)
        self._drop_links(lambda _, address: address in addresses)

    def _drop_links(self, dropped: Callable[[Host, str], bool]) -> None:
        for (name, address), route in list(self._links.items()):
            dialler = next(host for host in self.hosts if host.name + host.peer_address == name)
            if dropped(dialler, address):
                del self._links[name, address], self._routes[route]
                if dialler.node is not None:
                    dialler.inbox.append(lambda node, address=address: node.link_down(address))

    def carry(self, host: Host) -> None:
        """Take what a core has queued to where it is delivered in the next turn."""
        node = host.core
        to_links, to_routes = node.peers.take()
        for address, frames in to_links:
            route = self._links.get((host.name + host.peer_address, address))
            other = self.host_at(address)
            if route is not None and other is not None and self._reachable(host, other):
                other.inbox.append(lambda core, r=route, f=frames: core.peer_protocol.received(r, f))
        for route, frames in to_routes:
            dialled = self._routes.get(route)
            dialler = self.host_at(dialled[0]) if dialled else None
            if dialled and dialler is not None and self._reachable(host, dialler):
                dialler.inbox.append(lambda core, a=dialled[1], f=frames: core.peer_protocol.link_received(a, f))
        for route, frames in node.take_client_frames():
            if route in self.clients:
                self.clients[route].received.append((host, CLIENT_CODEC.decode(frames[0]), frames[1:]))

    # Views.

    def leader(self, partition: int) -> Host | None:
        """Return the host that leads a partition and has committed in its term, the newest term's."""
        leading = [
            (host.node.replicas[partition].raft.term, host)
            for host in self.hosts
            if host.node is not None
            and not host.paused
            and partition in host.node.replicas
            and host.node.replicas[partition].raft.role is Role.LEADER
            and host.node.replicas[partition].raft.committed_in_term
        ]
        return max(leading, key=lambda pair: pair[0])[1] if leading else None

    def await_leader(self, partition: int) -> Host:
        """Wait for a leader."""
        host = self.until(lambda: self.leader(partition))
        assert isinstance(host, Host)
        return host

    def partition_of(self, stream: str) -> int:
        """Return the partition that a stream of a partitioned context belongs to."""
        return slot(stream) * self.partitions // 65536 + 1

    def client(self, name: str = "client") -> "TestClient":
        """Return a new client."""
        return TestClient(self, name)


class TestClient:
    """A client in the raw: one connection to every host, and nothing it would refuse to send."""

    __test__ = False

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.received: list[tuple[Host, Any, list[bytes]]] = []
        self.requests = 0
        self.sessions: dict[int, int] = {}
        self.sequences: dict[int, int] = {}
        self._connections: dict[str, int] = {}

    def route(self, host: Host) -> bytes:
        """Return the routing ID of the connection to a host."""
        route = f"{self.name}-{host.name}-{self._connections.setdefault(host.name, 1)}".encode()
        self.cluster.clients[route] = self
        return route

    def reconnect(self, host: Host) -> None:
        """Give up the connection to a host and open another."""
        self.cluster.clients.pop(self.route(host), None)
        self._connections[host.name] += 1

    def send(self, host: Host, message: object, *frames: bytes) -> None:
        """Send one message, with nothing before it."""
        self.send_raw(host, [CLIENT_CODEC.encode(message), *frames])

    def send_raw(self, host: Host, frames: list[bytes]) -> None:
        """Send any frames at all."""
        route = self.route(host)
        host.inbox.append(lambda node: node.client_protocol.received(route, frames))

    def hello(self, host: Host, cluster_id: str = "") -> Welcome:
        """Shake hands."""
        self.send(host, Hello([1], cluster_id, self.name, 0, {}, None))
        message, _ = self.await_message(lambda m: isinstance(m, Welcome), host)
        assert isinstance(message, Welcome)
        return message

    def await_message(self, wanted: Callable[[Any], bool], host: Host | None = None) -> tuple[Any, list[bytes]]:
        """Wait for a message, from `host` if given, and take it out of those received."""

        def find() -> tuple[Any, list[bytes]] | None:
            for number, (sender, message, frames) in enumerate(self.received):
                if wanted(message) and host in (None, sender):
                    del self.received[number]
                    return message, frames
            return None

        found = self.cluster.until(find)
        return found[0], found[1]

    @property
    def deadline_us(self) -> int:
        """A deadline ten seconds ahead."""
        return self.cluster.now_us + 10_000_000

    def ask(self, host: Host, kind: type[Any], *fields: Any) -> tuple[Any, list[bytes]]:
        """Send a request of `kind` with its number and these fields, and wait for the answer."""
        self.requests += 1
        number = self.requests
        self.send(host, kind(number, *fields))
        return self.await_message(lambda message: getattr(message, "request", None) == number)

    # Appends.

    def session(self, partition: int) -> int:
        """Return this client's session at a partition, opened at its leader if need be."""
        if partition not in self.sessions:
            leader = self.cluster.await_leader(partition)
            self.hello(leader)
            answer, _ = self.ask(leader, OpenSession, partition, self.deadline_us)
            assert isinstance(answer, SessionIs)
            self.sessions[partition] = answer.session
            self.sequences[partition] = 0
        return self.sessions[partition]

    def send_append(
        self,
        host: Host,
        partition: int,
        requests: list[AppendRequest],
        *,
        context: int = DEFAULT,
        epoch: int = 1,
        low: int = 1,
    ) -> None:
        """Send appends to a host, whether it leads or not."""
        batch = AppendBatch(partition, context, self.session(partition), epoch, low, self.deadline_us, 0)
        self.send(host, batch, *pack_batch(requests))

    def append(
        self,
        stream: str,
        events: bytes,
        expected: int = ANY_VERSION,
        *,
        host: Host | None = None,
        sequence: int | None = None,
        is_open: bool = False,
        epoch: int = 1,
        low: int = 1,
    ) -> list[Any]:
        """Append to one stream and return the answer: `[code, …]`."""
        partition = self.cluster.partition_of(stream)
        self.session(partition)
        if sequence is None:
            sequence = self.sequences[partition] = self.sequences[partition] + 1
        host = host or self.cluster.await_leader(partition)
        request = AppendRequest(sequence, is_open, (AppendPart(stream, expected, events),))
        self.send_append(host, partition, [request], epoch=epoch, low=low)
        return self.answer(partition, sequence)

    def answer(self, partition: int, sequence: int) -> list[Any]:
        """Wait for the answer to an append and return it without its number."""

        def answers(message: Any) -> bool:
            return (
                isinstance(message, AppendsDone)
                and message.partition == partition
                and any(answer[0] == sequence for answer in answers_by_number(message.answers))
            )

        message, _ = self.await_message(answers)
        told = answers_by_number(message.answers)
        answer = next(answer for answer in told if answer[0] == sequence)
        rest = [other if other[1] else again(other) for other in told if other is not answer]
        if rest:
            left = AppendsDone(message.partition, message.session, message.epoch, rest, message.clock)
            self.received.append((self.cluster.hosts[0], left, []))
        return list(answer[1:])

    # Reads.

    def read(self, stream: str, *, host: Host | None = None, fresh: bool = True, at_least: int = 0) -> list[str]:
        """Return the data of a stream's events, as text."""
        partition = self.cluster.partition_of(stream)
        host = host or self.cluster.await_leader(partition)
        self.hello(host)
        fields = (partition, DEFAULT, stream, 0, 1000, 1_000_000, False, fresh, at_least, self.deadline_us)
        answer, frames = self.ask(host, ReadStream, *fields)
        if isinstance(answer, Failed):
            raise AssertionError(f"{Code(answer.code).name}: {answer.text}")
        datas: list[str] = []
        for _, _, _, packed in unpack_chunk(frames[0]):
            datas += [data.decode() for data in unpack_events(packed).datas]
        return datas

    def version(self, stream: str, *, host: Host | None = None) -> int:
        """Return a stream's version, linearizably."""
        partition = self.cluster.partition_of(stream)
        host = host or self.cluster.await_leader(partition)
        self.hello(host)
        answer, _ = self.ask(host, GetVersion, partition, DEFAULT, stream, True, 0, self.deadline_us)
        assert not isinstance(answer, Failed), answer
        return int(answer.version)


@pytest.fixture(autouse=True)
def quiet_logs() -> None:
    """Keep the cores' log lines out of the tests' output."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


@pytest.fixture
def make_cluster() -> type[Cluster]:
    """Return the class of clusters, for tests that start one by hand."""
    return Cluster


@pytest.fixture
def cluster() -> Cluster:
    """Return a cluster of three hosts with two partitions, founded, each partition with a leader."""
    return Cluster(3).start()


@pytest.fixture
def named() -> Callable[..., bytes]:
    """Return the function that packs one event per name."""
    return events_named


@pytest.fixture
def places_of() -> Callable[[list[Any]], list[list[int]]]:
    """Return the function that takes version and position out of an answer."""
    return places
