"""What a node counts and measures, each with its name, unit and help text, in one place.

The loop counts with plain attributes, without locks: `metrics.events_appended += 3`. Once a second or so it hands a
`snapshot()` to the admin process, which serves it to Prometheus. Names are Prometheus's: prefix, unit last, `_total`
for counters. Reasons are words of our own code, never text that came over the wire, so their number is bounded; groups
are named `context/group`, and their number has a limit.
"""

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field, fields
from typing import Any

PREFIX = "rewind_"

# From a turn that found nothing to do up to a disk that hangs; doubling, so that 17 buckets span five decades.
SECONDS_BOUNDS = tuple(0.0001 * 2**power for power in range(17))


class Histogram:
    """How often a duration fell into each bucket. `bounds` are upper ones, in seconds; one more bucket has no bound."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = SECONDS_BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one duration, in seconds."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(frozen=True, slots=True)
class Definition:
    """What Prometheus is told of a metric. `label` names the key of a metric that is counted per key."""

    kind: str  # "counter", "gauge" or "histogram"
    name: str
    help: str
    label: str = ""


def _counter(name: str, text: str, label: str = "") -> dict[str, Definition]:
    return {"definition": Definition("counter", PREFIX + name, text, label)}


def _gauge(name: str, text: str, label: str = "") -> dict[str, Definition]:
    return {"definition": Definition("gauge", PREFIX + name, text, label)}


def _histogram(name: str, text: str) -> dict[str, Definition]:
    return {"definition": Definition("histogram", PREFIX + name, text)}


def _zeros() -> dict[str, int]:
    return defaultdict(int)


@dataclass(slots=True)
class Metrics:
    """One node's numbers since it started."""

    events_appended: int = field(
        default=0, metadata=_counter("events_appended_total", "Events acknowledged to clients by this node.")
    )
    append_requests: int = field(
        default=0, metadata=_counter("append_requests_total", "Appends received from clients, retries included.")
    )
    refusals: dict[str, int] = field(
        default_factory=_zeros, metadata=_counter("refusals_total", "Requests of clients that were refused.", "reason")
    )
    handshakes_refused: dict[str, int] = field(
        default_factory=_zeros,
        metadata=_counter("handshakes_refused_total", "Clients and peers refused at the door.", "reason"),
    )
    commits: int = field(default=0, metadata=_counter("store_commits_total", "Store transactions, each with an fsync."))
    commit_seconds: Histogram = field(
        default_factory=Histogram,
        metadata=_histogram("store_commit_seconds", "Time of a store transaction's commit, fsync included."),
    )
    turn_seconds: Histogram = field(
        default_factory=Histogram,
        metadata=_histogram("turn_seconds", "Time of one turn of the loop, without the wait for messages."),
    )
    leader_changes: int = field(
        default=0, metadata=_counter("leader_changes_total", "Times that this node saw a partition get another leader.")
    )
    elections_started: int = field(
        default=0, metadata=_counter("elections_started_total", "Times that this node campaigned for a partition.")
    )
    peer_disconnects: int = field(
        default=0, metadata=_counter("peer_disconnects_total", "Connections to other nodes that dropped.")
    )
    events_pushed: int = field(
        default=0, metadata=_counter("events_pushed_total", "Events sent to subscriptions by this node.")
    )
    subscriptions: int = field(default=0, metadata=_gauge("subscriptions", "Subscriptions served by this node."))
    group_lag_events: dict[str, int] = field(
        default_factory=_zeros,
        metadata=_gauge(
            "group_lag_events", "Events that a consumer group has not settled, in partitions led here.", "group"
        ),
    )
    group_parked_events: dict[str, int] = field(
        default_factory=_zeros,
        metadata=_gauge(
            "group_parked_events", "Events that a consumer group has parked, in partitions led here.", "group"
        ),
    )
    group_partitions_idle: dict[str, int] = field(
        default_factory=_zeros,
        metadata=_gauge(
            "group_partitions_idle",
            "Partitions led here of which no member of the group that lives has a claim.",
            "group",
        ),
    )
    clients_connected: int = field(default=0, metadata=_gauge("clients_connected", "Clients that are connected."))
    partitions_led: int = field(
        default=0, metadata=_gauge("partitions_led", "Partitions led by this node, partition 0 included.")
    )
    storage_free_bytes: int = field(
        default=0, metadata=_gauge("storage_free_bytes", "Free space on the file system that holds the data.")
    )
    store_bytes: int = field(default=0, metadata=_gauge("store_bytes", "Size of the store on disk."))
    uncommitted_tail_bytes: int = field(
        default=0, metadata=_gauge("uncommitted_tail_bytes", "Entries in logs led here that await a majority.")
    )

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return all numbers in the form the admin process takes: counters, gauges and histograms by name."""
        snapshot: dict[str, dict[str, Any]] = {"counters": {}, "gauges": {}, "histograms": {}}
        for attribute, definition in _ATTRIBUTES:
            value = getattr(self, attribute)
            if isinstance(value, Histogram):
                value = {"buckets": list(value.bounds), "counts": list(value.counts), "sum": value.sum}
            elif definition.label:
                value = [[{definition.label: key}, count] for key, count in value.items()]
            snapshot[definition.kind + "s"][definition.name] = value
        return snapshot


_ATTRIBUTES: tuple[tuple[str, Definition], ...] = tuple(
    (row.name, row.metadata["definition"]) for row in fields(Metrics)
)
DEFINITIONS = {definition.name: definition for _, definition in _ATTRIBUTES}
