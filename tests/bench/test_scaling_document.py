"""The document of figures over numbers of partitions: what was measured stands in it, and what follows from that."""

from pathlib import Path

from scaling_document import Found, bound_of, write

APART = {
    "leader, µs/event": 12.0,
    "leader's loop, µs/event": 10.0,
    "follower, µs/event": 6.0,
    "follower's loop, µs/event": 4.0,
}


def figures(rate: float, cost: float, late: float = 0.0) -> dict[str, float]:
    return {
        "appends a second": rate,
        "nodes, µs/event": cost,
        "loops, µs/event": cost * 0.75,
        "clients, µs/event": 20.0,
        "commit, ms": 0.5,
        "commit, share of time": 0.25,
        "one at a time, p50, ms": 2.0,
        "at a rate, p50, ms": 3.0,
        "at a rate, p99, ms": 7.0,
        "not begun in time": late,
    }


def found(late: float = 0.0) -> Found:
    return Found(
        seconds=5,
        rate=5000,
        event_bytes=256,
        rounds={
            1: [figures(40_000, 24) | APART, figures(44_000, 24) | APART, figures(48_000, 24) | APART],
            3: [figures(30_000, 48, late) | {"idle, % of a core": each} for each in (1.0, 2.0, 2.5)],
        },
    )


def test_each_number_of_partitions_has_its_medians_with_their_spread(tmp_path: Path) -> None:
    write(found(), tmp_path / "SCALING.md")
    text = (tmp_path / "SCALING.md").read_text()

    assert "| 1 | **44,000** (40,000 to 48,000) |" in text
    assert "| 3 | **30,000** (30,000 to 30,000) |" in text
    assert "uses **2** (1 to 2.50) % of a core" in text
    assert "(SCALING.svg)" in text
    assert "<svg" in (tmp_path / "SCALING.svg").read_text()
    assert "not begun in time" not in text
    assert max(len(line) for line in text.splitlines() if not line.startswith(("|", "!"))) <= 120


def test_a_rate_that_was_not_reached_is_told(tmp_path: Path) -> None:
    write(found(late=5), tmp_path / "SCALING.md")

    assert "were not begun in time: 15 with 3 partitions." in (tmp_path / "SCALING.md").read_text()


def test_the_larger_cluster_has_as_many_replicas_on_a_node_as_was_measured_and_costs_as_much() -> None:
    shape, bounds = bound_of(found(), 3)

    assert (shape.nodes, shape.partitions, shape.leads, shape.follows) == (12, 12, 1, 2)
    # Three loops together take 36 µs here, a node of twelve pays for a twelfth of all events as leader and two as
    # follower: a quarter of the cost of nodes that share all events among three of them.
    assert round(bounds.ceiling) == round(1e6 / 36 * 12)
    assert round(bounds.events) == round(1e6 / 36 * 12 * 0.75)
