"""A node that ends by itself has broken down, unless what was done to it gives it reason."""

import sys
import time
from pathlib import Path

import pytest

from chaos import nodes
from chaos.nodes import STARTS_IN_VAIN_MAX, ChaosNode, Cluster

PATIENCE_S = 60.0
LOOK_S = 0.01
ABORT = "import os; os.abort()"
CAUGHT = "raise ValueError"


def seen_to_end(directory: Path, monkeypatch: pytest.MonkeyPatch, program: str, *, damaged: bool) -> Cluster:
    """Return a cluster of one node that ends at each start, after so many starts as a damaged one is given."""
    monkeypatch.setattr(nodes, "RESTART_S", 0.0)
    node = ChaosNode("n1", 1, directory / "n1", damaged=damaged)
    cluster = Cluster([node], 1, None, None, program=(sys.executable, "-c", program))
    cluster.start(node)
    give_up = time.monotonic() + PATIENCE_S
    while not node.lost and len(cluster.ends) + len(cluster.breakdowns) <= STARTS_IN_VAIN_MAX:
        assert time.monotonic() < give_up
        cluster.supervise()
        time.sleep(LOOK_S)
    cluster.kill()
    return cluster


def test_a_node_whose_database_ends_it_at_each_start_is_out_for_good_if_it_was_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = seen_to_end(tmp_path, monkeypatch, ABORT, damaged=True)

    assert cluster.alive == []
    assert (len(cluster.ends), cluster.breakdowns) == (STARTS_IN_VAIN_MAX, [])


@pytest.mark.parametrize(("program", "damaged"), [(ABORT, False), (CAUGHT, True)], ids=["undamaged", "other end"])
def test_any_other_end_is_a_breakdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, damaged: bool
) -> None:
    cluster = seen_to_end(tmp_path, monkeypatch, program, damaged=damaged)

    assert len(cluster.alive) == 1
    assert (cluster.ends, len(cluster.breakdowns)) == ([], STARTS_IN_VAIN_MAX + 1)
