"""What `catch_up.py` does to a cluster: a node is stopped, misses data, comes back under load, and is watched.

The rule: a node has caught up once each of its replicas has applied what had been committed when it was started again.
Nodes tell that of themselves twice a second, so times are true to half a second.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from own_cluster import cpu_s_of
from programs import say
from steady_load import SteadyLoad, figures_between

from rewind.bench.fleet import BenchError, Fleet, soon
from rewind.bench.plan import LoadPlan, Where, new_tag
from rewind.bench.tasks import AppendTask
from rewind.bench.workloads import count_events
from rewind.blocking import Store
from rewind.urls import parse_target
from rewind_node.local_cluster import LocalCluster, LocalNode

CONTEXT = "default"
CLIENTS = 2
IN_FLIGHT = 16
BATCH = 100  # events in each append of the data that is missed
BYTES_ON_DISK = 2.0  # for each byte of events on each node: IDs, types, indexes and what LMDB leaves free
POLL_S = 0.05
ANSWER_PATIENCE_S = 60.0  # for a node that runs to tell of itself
STALL_S = 120.0  # without any progress: then it will not catch up
EVER_S = float("inf")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is missed, how many appends a second go on, and how long they are watched before and after."""

    missed_bytes: int
    event_bytes: int
    rate: float
    around_s: float

    @property
    def disk_bytes(self) -> float:
        """What they take of each node's disk, about."""
        return self.missed_bytes * BYTES_ON_DISK

    @property
    def events(self) -> int:
        """How many events are missed."""
        return max(1, self.missed_bytes // self.event_bytes)


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """How it went. `phases`: what the steady appends felt before, meanwhile and after; `cores`: how many were in use.

    `answered_s` and `caught_up_s` count from the node's start.
    """

    missed_events: int
    loading_s: float
    answered_s: float
    caught_up_s: float
    cores: Mapping[str, float]
    phases: Mapping[str, Mapping[str, float]]


def miss_and_catch_up(cluster: LocalCluster, sizes: Sizes) -> CaughtUp:
    """Do it with the last node of a cluster that holds nothing yet, and return how it went."""
    away, where = cluster.nodes[-1], Where(cluster.servers, CONTEXT, None)
    say(f"stopping {away.name}")
    cluster.stop_node(away)
    say(f"appending {sizes.events:,} events that it misses")
    loading_s = _append_missed(where, sizes)
    say(f"that took {loading_s:.1f} s; from here on {sizes.rate:,.0f} appends a second")
    client = where.client()
    with (
        Store(parse_target(client.servers, client.context, client.timeout_s)) as store,
        SteadyLoad(where, sizes.rate, sizes.event_bytes) as load,
    ):
        store.open_context()
        _watch(load, sizes.around_s)
        goal, missed_events = _committed(cluster, away), count_events(store)
        cpu_s = {node.name: cpu_s_of(node) for node in cluster.nodes if node is not away}
        say(f"starting {away.name} again, {missed_events:,} events behind")
        started_s = time.monotonic()
        cluster.start_node(away)
        answered_s, caught_up_s = _follow(cluster, away, goal, load)
        took_s = caught_up_s - started_s
        cores = {node.name: (cpu_s_of(node) - cpu_s.get(node.name, 0.0)) / took_s for node in cluster.nodes}
        say(f"it has caught up after {took_s:.1f} s")
        _watch(load, sizes.around_s)
        slices = load.end()
    spans = {"before": (0.0, started_s), "meanwhile": (started_s, caught_up_s), "after": (caught_up_s, EVER_S)}
    return CaughtUp(
        missed_events=missed_events,
        loading_s=loading_s,
        answered_s=answered_s - started_s,
        caught_up_s=took_s,
        cores=cores,
        phases={name: figures_between(slices, *span) for name, span in spans.items()},
    )


def _append_missed(where: Where, sizes: Sizes) -> float:
    """Append what is to be missed as fast as it is taken; return how long that took."""
    plan = LoadPlan(CLIENTS, IN_FLIGHT, 0.0, sizes.events, None, sizes.event_bytes, BATCH, "none", 1)
    tag = new_tag("missed")
    with Fleet(where.client().line(), CLIENTS) as fleet:
        begin_s = soon()
        outcomes = fleet.do(
            [AppendTask(plan.pace(number, begin_s), plan.events_of(f"{tag}-{number}")) for number in range(CLIENTS)]
        )
    if failures := sum((Counter(each.failures) for each in outcomes), Counter[str]()):
        told = ", ".join(f"{count:,} times {name}" for name, count in failures.items())
        raise BenchError(f"not all that is to be missed could be appended ({told}); is the disk full, or too slow?")
    return max(each.ended_s for each in outcomes) - begin_s


def _watch(load: SteadyLoad, seconds: float) -> None:
    """Let the steady load go on for a while."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        load.check()
        time.sleep(POLL_S)


def _committed(cluster: LocalCluster, away: LocalNode) -> dict[int, int]:
    """Return what has been committed by now in each partition, by the word of the nodes that run."""
    goal: Counter[int] = Counter()
    for node in cluster.nodes:
        if node is not away:
            goal |= _commits_told_by(cluster, node)
    return dict(goal)


def _commits_told_by(cluster: LocalCluster, node: LocalNode) -> Counter[int]:
    """Return the commits that a node tells of, once what it tells is no older than the question."""
    asked_s = time.monotonic()
    while time.monotonic() < asked_s + ANSWER_PATIENCE_S:
        looked_s, status = time.monotonic(), cluster.status_of(node)
        if status is not None and looked_s - status["age_ms"] / 1000 > asked_s:
            return Counter({row["partition"]: row["commit"] or 0 for row in status["partitions"]})
        time.sleep(POLL_S)
    raise BenchError(f"node {node.name} does not tell of itself any more: {node.last_words()}")


def _follow(cluster: LocalCluster, node: LocalNode, goal: Mapping[int, int], load: SteadyLoad) -> tuple[float, float]:
    """Wait until a node has applied the goal; return when it first told of itself, and when it had applied that."""
    answered_s, furthest, furthest_s = None, 0, time.monotonic()
    while True:
        load.check()
        if (code := node.exit_code()) is not None:
            raise BenchError(f"node {node.name} ended with exit code {code}: {node.last_words()}")
        applied, now_s = _applied(cluster, node), time.monotonic()
        if applied:
            answered_s = answered_s or now_s
            if all(applied.get(partition, 0) >= index for partition, index in goal.items()):
                return answered_s, now_s
        if (reached := sum(applied.values())) > furthest:
            furthest, furthest_s = reached, now_s
        elif now_s > furthest_s + STALL_S:
            raise BenchError(
                f"node {node.name} has applied {furthest:,} of {sum(goal.values()):,} entries, and no more for "
                f"{STALL_S:.0f} s: {node.last_words()}"
            )
        time.sleep(POLL_S)


def _applied(cluster: LocalCluster, node: LocalNode) -> dict[int, int]:
    """Return what the replicas of a node have applied, nothing while it does not tell."""
    status = cluster.status_of(node) or {"partitions": []}
    return {
        row["partition"]: replica["applied"] or 0
        for row in status["partitions"]
        for replica in row["replicas"]
        if replica["node"] == node.name
    }
