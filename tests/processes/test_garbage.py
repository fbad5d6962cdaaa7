"""Whatever is thrown at a node's addresses, it lives on, its clients notice nothing and its memory stays bounded."""

import asyncio
import random
import socket
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import msgpack
import pytest
from append_load import append_load
from raw_protocol import RawClient, RawPeer
from real_cluster import RealCluster
from recorded import Record

import rewind
from rewind import NewEvent
from rewind_cluster.client_messages import CLIENT_CODEC, ContextIs, FindContext, Ping, Pong, ReadStream
from rewind_cluster.names import MESSAGE_BYTES_MAX
from rewind_cluster.peer_messages import PEER_CODEC, PeerHello, PeerWelcome
from rewind_cluster.wire import PROTOCOL_VERSIONS, Codec
from rewind_node.local_cluster import HOST, LocalNode

pytestmark = pytest.mark.processes

SEED = 20_240_607
GROWTH_BYTES_MAX = 96 << 20  # what is under way in sockets, a few messages of the largest size, and the load's own
ZMTP_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)


def anonymous_bytes(pid: int | None) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


class Garbage:
    """Seeded bytes and messages that are almost right."""

    def __init__(self, cluster_id: str) -> None:
        self._random = random.Random(SEED)
        self._cluster_id = cluster_id

    def noise(self, size_max: int = 4096) -> bytes:
        return self._random.randbytes(self._random.randint(1, size_max))

    def value(self, depth: int = 0) -> Any:
        """Return anything that msgpack can say."""
        kind = self._random.randrange(9 if depth < 3 else 6)
        items = self._random.randrange(9)
        return (
            lambda: None,
            lambda: self._random.random() < 0.5,
            lambda: self._random.choice((-1, 0, 1, 7, 1 << 20, -(1 << 40))),
            self._random.random,
            lambda: self._random.choice(("", "x", "n1", "\ud7ff" * 5, "a" * 5000)),
            lambda: self.noise(40),
            lambda: [self.value(depth + 1) for _ in range(items)],
            lambda: [self.value(depth + 1) for _ in range(items)],
            lambda: {str(key): self.value(depth + 1) for key in range(items)},
        )[kind]()

    def headers(self, codec: Codec) -> Iterator[bytes]:
        """Yield, for each kind of message: cut short, with a field missing, with each field wrong, and scrambled."""
        for code, (kind, _) in sorted(codec._shapes.items()):
            hints = get_type_hints(kind)
            right = [self._right(field.name, hints[field.name]) for field in fields(kind)]
            whole = msgpack.packb([code, *right])
            yield whole[: self._random.randrange(len(whole))]
            yield msgpack.packb([code, *right[:-1]])
            for number in range(len(right)):
                wrong = list(right)
                wrong[number] = self.value()
                yield msgpack.packb([code, *wrong])
            scrambled = bytearray(whole)
            for _ in range(3):
                scrambled[self._random.randrange(1, len(scrambled))] ^= 1 << self._random.randrange(8)
            yield bytes(scrambled)
        yield b""
        yield msgpack.packb([1 << 62])
        yield msgpack.packb([255, "unknown"])
        yield b"\xdd\xff\xff\xff\xff"  # an array that says it has four thousand million items
        yield b"\x91" * 100_000  # nested beyond any stack

    def _right(self, name: str, hint: Any) -> Any:
        if name == "cluster_id":
            return self._cluster_id
        values = {int: 1, str: "x", bool: True, bytes: b"x", list[Any]: [self.value() for _ in range(3)]}
        return values.get(hint, {} if hint == dict[str, Any] else None)


def hello_of_a_node(cluster: RealCluster, node: LocalNode) -> PeerHello:
    """Return the first message that a node of this cluster would send, with a nonce of our own."""
    status = cluster.status() or {}
    row = next(row for row in status["nodes"] if row["name"] == node.name)
    packed = [row[key] for key in ("id", "name", "address", "peer_address", "http_address", "labels")]
    seeds = sorted(each.peer_address for each in cluster.nodes)
    return PeerHello(list(PROTOCOL_VERSIONS), status["cluster_id"], packed, bytes(16), seeds, 3, 3, None, 0)


def throw_at_clients_address(node: LocalNode, garbage: Garbage) -> None:
    """Throw malformed messages with and without a handshake before."""
    with RawClient(node.address) as strange, RawClient(node.address) as known:
        for header in garbage.headers(CLIENT_CODEC):
            strange.send_frames(header)
            known.hello()
            known.send_frames(header, *[garbage.noise() for _ in range(len(header) % 3)])
        for _ in range(100):
            known.hello()
            known.send_frames(*[garbage.noise() for _ in range(3)])


def throw_at_peers_address(node: LocalNode, hello: PeerHello, garbage: Garbage) -> None:
    """Throw malformed messages as a stranger and under another node's name."""
    with RawPeer(node.peer_address) as strange, RawPeer(node.peer_address) as known:
        for header in garbage.headers(PEER_CODEC):
            strange.send_frames(header)
            known.send(hello)
            known.receive(PeerWelcome)
            known.send_frames(header, *[garbage.noise() for _ in range(len(header) % 3)])


def throw_bytes(port: int, garbage: Garbage) -> None:
    """Throw bytes at a port that are not even ZeroMQ's, or only at first."""
    for start in [b"", b"GET / HTTP/1.1\r\n\r\n", ZMTP_GREETING, ZMTP_GREETING + b"\x04\x29\x05READY"] * 5:
        with socket.create_connection((HOST, port)) as connection:
            connection.settimeout(5)
            try:
                connection.sendall(start + garbage.noise(100_000))
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the node has hung up already


@pytest.mark.asyncio
@pytest.mark.parametrize("target", ["clients", "peers"])
async def test_garbage_harms_neither_the_node_nor_its_clients(cluster: RealCluster, target: str) -> None:
    node, other = cluster.nodes[:2]
    pids = [each.pid for each in cluster.nodes]
    garbage = Garbage(str((cluster.status() or {})["cluster_id"]))
    hello = hello_of_a_node(cluster, other)
    record = Record()

    async with append_load(cluster.url, record, workers=4) as load:
        await load.go_on(100)
        before = anonymous_bytes(node.pid)
        if target == "clients":
            await asyncio.to_thread(throw_bytes, node.port, garbage)
            await asyncio.to_thread(throw_at_clients_address, node, garbage)
        else:
            await asyncio.to_thread(throw_bytes, node.port + 1, garbage)
            await asyncio.to_thread(throw_at_peers_address, node, hello, garbage)
        await load.go_on(100)
        grown = anonymous_bytes(node.pid) - before
    await asyncio.to_thread(cluster.wait_synced)
    codes = [each.exit_code() for each in cluster.nodes]
    cluster.stop()

    assert codes == [None] * len(pids)
    assert grown < GROWTH_BYTES_MAX
    assert record.failures == []
    assert record.unknown == 0
    assert cluster.check(record) == []


def test_a_message_over_the_limit_costs_its_sender_the_connection_and_nobody_else(cluster: RealCluster) -> None:
    node = cluster.nodes[0]
    with RawClient(node.address) as good:
        good.hello()
        before = anonymous_bytes(node.pid)

        for dealer in (RawClient(node.address), RawPeer(node.peer_address)):
            with dealer:
                for _ in range(3):
                    dealer.send_frames(bytes(MESSAGE_BYTES_MAX + (1 << 20)))
                    dealer.wait_dropped()
        good.send(Ping(0))
        good.receive(Pong)

    assert node.exit_code() is None
    assert anonymous_bytes(node.pid) - before < GROWTH_BYTES_MAX


def test_a_client_that_asks_and_never_reads_does_not_fill_the_node_s_memory(cluster: RealCluster) -> None:
    with rewind.connect(cluster.url) as store:
        stream = next(f"s-{number}" for number in range(100) if store.partition_of(f"s-{number}") == 1)
        store.append(stream, NewEvent("Happened", bytes(1 << 20)))
        node = cluster.leader(1)
        before = anonymous_bytes(node.pid)

        with RawClient(node.address) as greedy:
            deadline_us = greedy.hello().time_us + 60_000_000
            greedy.send(FindContext(1, "default", deadline_us))
            context = greedy.receive(ContextIs)[0].number
            for request in range(2, 302):
                greedy.send(ReadStream(request, 1, context, stream, 0, 1, 1 << 20, False, True, 0, deadline_us))
            # Each answer to another client is a turn of the node's loop, in which it takes up to 256 requests.
            grown = []
            for _ in range(200):
                assert store.version(stream) == 1
                grown.append(anonymous_bytes(node.pid) - before)

    assert max(grown) < GROWTH_BYTES_MAX
