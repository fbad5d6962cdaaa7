"""The node's metrics in Prometheus's form, from the last snapshot that the admin process was given."""

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from rewind_node.metrics import DEFINITIONS, PREFIX, Definition


class SnapshotCollector(Collector):
    """Yields what `read()` returns: the last snapshot, None before the first, and its age in seconds."""

    def __init__(self, read: Callable[[], tuple[dict[str, Any] | None, float]]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        """Name nothing in advance, so that registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the snapshot, and how fresh it is."""
        snapshot, age_s = self._read()
        age = "Seconds since the node's loop reported; a loop that turns stays below two."
        yield GaugeMetricFamily(PREFIX + "snapshot_age_seconds", age, age_s)
        if snapshot is None:
            return
        ready = "1 while the node serves, as /readyz says."
        yield GaugeMetricFamily(PREFIX + "ready", ready, float(bool(snapshot["ready"])))
        metrics = snapshot["metrics"]
        for name, value in metrics["counters"].items():
            yield _numbers(CounterMetricFamily, _definition("counter", name), value)
        for name, value in metrics["gauges"].items():
            yield _numbers(GaugeMetricFamily, _definition("gauge", name), value)
        for name, value in metrics["histograms"].items():
            yield _histogram(_definition("histogram", name), value)


def _definition(kind: str, name: str) -> Definition:
    # While a node is upgraded in place, the process that serves it may know fewer metrics than the loop.
    return DEFINITIONS.get(name, Definition(kind, name, ""))


def _numbers(
    family: type[CounterMetricFamily | GaugeMetricFamily], definition: Definition, value: float | list[Any]
) -> Metric:
    if not isinstance(value, list):
        return family(definition.name, definition.help, value)
    label_names = sorted({key for labels, _ in value for key in labels} or {definition.label})
    metric = family(definition.name, definition.help, labels=label_names)
    for labels, number in value:
        metric.add_metric([str(labels.get(key, "")) for key in label_names], number)
    return metric


def _histogram(definition: Definition, value: dict[str, Any]) -> Metric:
    bounds = [*map(str, value["buckets"]), "+Inf"]
    buckets = list(zip(bounds, accumulate(value["counts"]), strict=True))
    return HistogramMetricFamily(definition.name, definition.help, buckets, value["sum"])
