import re

from prometheus_client import CollectorRegistry, generate_latest

from rewind_node.metrics import DEFINITIONS, Histogram, Metrics
from rewind_node.prometheus import SnapshotCollector


def exposed(metrics: Metrics | dict[str, object] | None, age_s: float = 0.5) -> list[str]:
    """Return the lines that Prometheus would read, without comments."""
    snapshot = metrics.snapshot() if isinstance(metrics, Metrics) else metrics
    registry = CollectorRegistry()
    registry.register(
        SnapshotCollector(lambda: (None if snapshot is None else {"ready": True, "metrics": snapshot}, age_s))
    )
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_counters_gauges_and_counts_by_reason_are_exposed() -> None:
    metrics = Metrics()
    metrics.events_appended += 3
    metrics.partitions_led = 2
    metrics.refusals["wrong_expected_version"] += 1
    metrics.refusals["overloaded"] += 2

    lines = exposed(metrics)

    assert "rewind_events_appended_total 3.0" in lines
    assert "rewind_partitions_led 2.0" in lines
    assert 'rewind_refusals_total{reason="wrong_expected_version"} 1.0' in lines
    assert 'rewind_refusals_total{reason="overloaded"} 2.0' in lines


def test_a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() -> None:
    histogram = Histogram((0.1, 1.0))

    for seconds in (0.1, 0.2, 5.0):
        histogram.observe(seconds)

    assert histogram.counts == [1, 1, 1]
    assert histogram.sum == 5.3


def test_buckets_are_exposed_as_running_totals() -> None:
    metrics = Metrics()
    metrics.commit_seconds = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.2, 0.3, 5.0):
        metrics.commit_seconds.observe(seconds)

    lines = exposed(metrics)

    assert 'rewind_store_commit_seconds_bucket{le="0.1"} 1.0' in lines
    assert 'rewind_store_commit_seconds_bucket{le="1.0"} 3.0' in lines
    assert 'rewind_store_commit_seconds_bucket{le="+Inf"} 4.0' in lines
    assert "rewind_store_commit_seconds_count 4.0" in lines
    assert "rewind_store_commit_seconds_sum 5.55" in lines


def test_before_the_first_snapshot_only_its_age_is_exposed() -> None:
    assert exposed(None, 2.5) == ["rewind_snapshot_age_seconds 2.5"]


def test_a_metric_of_another_version_is_exposed_without_help() -> None:
    lines = exposed(
        {"counters": {"rewind_new_total": 1}, "gauges": {"rewind_new": [[{"b": 1, "a": 2}, 3]]}, "histograms": {}}
    )

    assert "rewind_new_total 1.0" in lines
    assert 'rewind_new{a="2",b="1"} 3.0' in lines


def test_a_snapshot_is_not_changed_by_what_is_counted_later() -> None:
    metrics = Metrics()
    metrics.refusals["overloaded"] += 1
    snapshot = metrics.snapshot()

    metrics.refusals["overloaded"] += 1
    metrics.turn_seconds.observe(0.1)

    assert snapshot["counters"]["rewind_refusals_total"] == [[{"reason": "overloaded"}, 1]]
    assert sum(snapshot["histograms"]["rewind_turn_seconds"]["counts"]) == 0


def test_two_nodes_do_not_count_together() -> None:
    one, other = Metrics(), Metrics()

    one.refusals["overloaded"] += 1
    one.turn_seconds.observe(0.1)

    assert not other.refusals
    assert sum(other.turn_seconds.counts) == 0


def test_names_follow_the_rules_of_prometheus() -> None:
    for name, definition in DEFINITIONS.items():
        assert re.fullmatch(r"rewind_[a-z_]+", name)
        assert name.endswith("_total") == (definition.kind == "counter")
        assert name.endswith("_seconds") == (definition.kind == "histogram")
        assert definition.help.endswith(".")
