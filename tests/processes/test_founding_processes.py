"""Founding and joining with real processes: one cluster, whatever starts when, ends in between or comes late."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from real_cluster import RealCluster, eventually
from real_program import RealProgram, flags_of

import rewind
from rewind import NewEvent
from rewind_node.local_cluster import complaint_of

pytestmark = pytest.mark.processes


def cluster_ids(cluster: RealCluster) -> set[str | None]:
    return {(cluster.status_of(node) or {}).get("cluster_id") for node in cluster.nodes}


def wait_waiting(cluster: RealCluster, number: int) -> None:
    """Wait until a node says that it waits for the others: it is up and has founded nothing."""
    node = cluster.nodes[number]
    eventually(
        lambda: "waiting to found or join" in (complaint_of(node) or ""), f"{node.name} waits for the other seeds"
    )


@pytest.mark.parametrize("order", [(2, 1, 0), (0, 2, 1)])
def test_seeds_found_one_cluster_though_each_is_killed_and_restarted_on_the_way(
    make_cluster: Callable[..., RealCluster], order: Sequence[int]
) -> None:
    cluster = make_cluster()
    for number in order[:2]:
        cluster.start_node(cluster.nodes[number])
        wait_waiting(cluster, number)
        cluster.kill(cluster.nodes[number])
        cluster.start_node(cluster.nodes[number])

    # The last one makes it complete; the founder dies as soon as anybody has heard of a cluster.
    cluster.start_node(cluster.nodes[order[2]])
    eventually(lambda: cluster_ids(cluster) - {None} != set(), "a cluster is founded")
    cluster.kill(cluster.nodes[0])
    cluster.start_node(cluster.nodes[0])
    cluster.wait_serving()

    eventually(lambda: None not in cluster_ids(cluster), "every node knows its cluster")
    assert len(cluster_ids(cluster)) == 1
    with rewind.connect(cluster.url) as store:
        assert store.append("order-1", NewEvent("OrderPlaced", b"")).version == 1


def test_a_wiped_seed_founds_nothing_and_gets_no_vote_while_the_others_serve(cluster: RealCluster) -> None:
    before = cluster_ids(cluster)
    wiped = cluster.nodes[0]  # the first seed: the one that founded
    with rewind.connect(cluster.url) as store:
        store.append("order-1", NewEvent("OrderPlaced", b""))
        cluster.terminate(wiped)
        shutil.rmtree(wiped.directory)

        cluster.start_node(wiped)
        eventually(lambda: "votes for nothing" in (complaint_of(wiped) or ""), "the wiped node knows that it is one")
        result = store.append("order-1", NewEvent("OrderPaid", b""))

    assert result.version == 2
    assert cluster_ids(cluster) == before
    with rewind.connect(f"rewind://{wiped.address}/default") as store:
        assert [event.type for event in store.read("order-1")] == ["OrderPlaced", "OrderPaid"]


def test_a_late_fourth_node_joins_and_leads_clients_to_the_others(
    cluster: RealCluster, start_program: Callable[..., RealProgram], tmp_path: Path
) -> None:
    base = cluster.nodes[-1].port + 10
    seeds = ",".join(node.peer_address for node in cluster.nodes)

    late = start_program(*flags_of(base, tmp_path / "n4", name="n4", seeds=seeds))
    eventually(
        lambda: (
            {"n4": "up"}.items()
            <= {row["name"]: row["state"] for row in (cluster.status() or {"nodes": []})["nodes"]}.items()
        ),
        "the cluster lists n4 as up",
    )
    with rewind.connect(cluster.url) as store:
        store.create_context("late", ordered=True)
    with rewind.connect(f"rewind://127.0.0.1:{base}/late") as store:
        result = store.append("order-1", NewEvent("OrderPlaced", b""))

    assert result.version == 1
    eventually(
        lambda: any(
            (row["node"], row["role"]) == ("n4", "learner")
            for row in (cluster.status() or {"partitions": [{"replicas": []}]})["partitions"][0]["replicas"]
        ),
        "n4 learns partition 0",
    )
    assert late.terminate() == 0
