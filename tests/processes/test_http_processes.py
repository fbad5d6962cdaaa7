"""HTTP on a real node: health, metrics and status tell the truth, and a flood of requests stops no append."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from itertools import pairwise

import pytest
from append_load import append_load
from real_cluster import RealCluster, eventually
from recorded import Record

import rewind
from rewind import NewEvent
from rewind_node.local_cluster import HOST, LocalNode

pytestmark = pytest.mark.processes

FLOODERS = 8
PAUSE_MAX_S = 1.5  # of appends under a flood that takes all the processor time it can get on one or two cores


def get(node: LocalNode, path: str) -> tuple[int, str]:
    with closing(HTTPConnection(HOST, node.port + 2, timeout=5)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def nodes_by(node: LocalNode) -> list[tuple[str, int | None, str]]:
    """Return names, process IDs and states of all nodes by the word of one."""
    status = json.loads(get(node, "/api/status")[1])
    return [(row["name"], row["pid"], row["state"]) for row in status["nodes"]]


def test_health_metrics_and_status_answer_on_every_node(cluster: RealCluster) -> None:
    with rewind.connect(cluster.url) as store:
        for number in range(20):
            store.append(f"order-{number}", NewEvent("OrderPlaced", b""))
    cluster.wait_synced()

    for node in cluster.nodes:
        assert get(node, "/livez") == (200, "ok\n")
        assert get(node, "/readyz") == (200, "ok\n")
        assert get(node, "/")[0] == 200
        assert get(node, "/nothing")[0] == 404
        code, metrics = get(node, "/metrics")
        assert code == 200
        assert "rewind_" in metrics
    up = [(node.name, node.pid, "up") for node in cluster.nodes]
    for node in cluster.nodes:
        eventually(lambda node=node: nodes_by(node) == up, "each node has heard of the others")
    status = json.loads(get(cluster.nodes[0], "/api/status")[1])
    assert [row["partition"] for row in status["partitions"]] == [0, 1, 2, 3]
    for row in status["partitions"]:
        assert sorted(replica["role"] for replica in row["replicas"]) == ["follower", "follower", "leader"]
        assert {replica["match"] for replica in row["replicas"]} == {row["commit"]}


def test_a_node_without_a_majority_is_alive_and_not_ready_and_says_who_is_down(cluster: RealCluster) -> None:
    left, *others = cluster.nodes
    for node in others:
        cluster.kill(node)

    eventually(lambda: set(cluster.leaders().values()) == {None}, "the node that is left leads nothing any more")
    eventually(lambda: get(left, "/readyz")[0] == 503, "the node that is left is not ready")

    assert get(left, "/livez") == (200, "ok\n")
    assert "has no leader" in get(left, "/readyz")[1]
    assert nodes_by(left) == [("n1", left.pid, "up"), ("n2", None, "down"), ("n3", None, "down")]


@contextmanager
def flood(node: LocalNode) -> Iterator[list[int]]:
    """Ask as fast as a node answers, over many connections, while the context lasts; yield the codes that came."""
    codes: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with (
                suppress(OSError, HTTPException),
                closing(HTTPConnection(HOST, node.port + 2, timeout=5)) as connection,
            ):
                for path in ("/api/status", "/metrics", "/livez") * 10:
                    connection.request("GET", path)
                    response = connection.getresponse()
                    response.read()
                    codes.append(response.status)

    threads = [threading.Thread(target=ask) for _ in range(FLOODERS)]
    for thread in threads:
        thread.start()
    try:
        yield codes
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.asyncio
async def test_a_flood_of_requests_does_not_stop_appends(cluster: RealCluster) -> None:
    record = Record()

    async with append_load(cluster.url, record) as load:
        await load.go_on(200)
        with flood(cluster.leader(1)) as codes:
            await load.until(lambda: len(codes) > 100, "the flood is on")
            since = time.monotonic()
            await load.until(lambda: time.monotonic() > since + 3, "three seconds have passed")
            until = time.monotonic()

    assert len(codes) > 200
    times = [since, *(moment for moment in record.acknowledged_at if since < moment < until), until]
    assert len(times) > 300
    assert max(later - earlier for earlier, later in pairwise(times)) < PAUSE_MAX_S
    assert record.failures == []
