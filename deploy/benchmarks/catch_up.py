"""Measures how fast a node that was away catches up beside a steady load, on this machine, with one command.

    python deploy/benchmarks/catch_up.py [--bytes 1000000000] [--rate 10000] [--seconds 60]

Of three nodes one is killed; then so many bytes of events are appended as it shall miss, and the steady load runs for
a while beside two nodes. While it goes on the node is started again, and watched until its replicas have applied what
was committed when it was started.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import click
from documents import this_machine
from own_cluster import running, status_of
from programs import ended_in_one_line, say
from rich.console import Console
from rich.table import Table
from workloads import FILLING, Workload, clients_of, tasks_of

from rewind.bench.figures import Run, figures_of
from rewind.bench.fleet import BenchError, Fleet
from rewind.bench.machine import look_at_machine
from rewind.bench.nodes import Usage
from rewind.bench.plan import ENDLESS_S
from rewind.bench.report import shown
from rewind_node.local_cluster import LocalCluster, LocalNode

MB = 1_000_000
PARTITIONS = 4
DISK_FACTOR = 8  # of the events' bytes: three nodes, each with entries, indexes and pages given back
LOOK_S = 0.1
PATIENCE_S = 300.0  # beyond the load: then it does not catch up
STEADY = Workload("steady", "single events at a steady rate", 2, 256, 1)


@dataclass(frozen=True, slots=True)
class Figures:
    """What came out. Rates of the load are appends a second, times of appends milliseconds."""

    missed_events: int
    missed_mb: float
    seconds: float  # from its start until it had caught up
    mb_a_second: float
    rate_before: float
    p50_before_ms: float
    p99_before_ms: float
    rate_meanwhile: float
    p50_meanwhile_ms: float
    p99_meanwhile_ms: float
    not_begun_in_time: int


@click.command()
@click.option(
    "--bytes", "size", type=click.IntRange(100_000), default=1000 * MB, show_default=True, help="Of events it misses."
)
@click.option("--event-bytes", type=click.IntRange(1, 1 << 20), default=256, show_default=True, help="Of each event.")
@click.option("--rate", type=click.FloatRange(1), default=10_000.0, show_default=True, help="Appends a second.")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=60.0,
    show_default=True,
    help="How long the load goes on after the node's start. A sixth of it runs before, for comparison.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(size: int, event_bytes: int, rate: float, seconds: float, as_json: bool) -> None:
    """Measure how fast a node that was away catches up beside a steady load."""
    with ended_in_one_line("catch_up"):
        _check_space(size)
        say(str(look_at_machine([])))
        with running("catch-up", PARTITIONS) as cluster:
            figures = measure(cluster, size, event_bytes, rate, seconds)
    if as_json:
        click.echo(json.dumps(asdict(figures) | {"machine": this_machine()}))
    else:
        Console(highlight=False).print(_table(figures, rate))


def _check_space(size: int) -> None:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < size * DISK_FACTOR:
        raise BenchError(
            f"{tempfile.gettempdir()} has {free // MB:,} MB free and {size * DISK_FACTOR // MB:,} MB may be needed; "
            "lower --bytes, or set TMPDIR to a folder with more space"
        )


def measure(cluster: LocalCluster, size: int, event_bytes: int, rate: float, seconds: float) -> Figures:
    """Let a node miss events, and watch it catch up."""
    away = cluster.nodes[-1]
    cluster.kill(away)
    appends = -(-size // (event_bytes * FILLING.batch))
    say(f"{away.name} is killed; it misses {appends * FILLING.batch:,} events of {event_bytes} bytes")
    with clients_of("rewind", {"servers": cluster.servers}, FILLING.in_flight, FILLING.clients) as fleet:
        fleet.do(tasks_of(FILLING, ENDLESS_S, event_bytes, appends=appends))
    with clients_of("rewind", {"servers": cluster.servers}, STEADY.in_flight, STEADY.clients) as fleet:
        before = _figures(_begin(fleet, seconds / 6, event_bytes, rate)())
        say(f"{shown(before['appends a second'])} appends a second beside two nodes")
        meanwhile = _begin(fleet, seconds, event_bytes, rate)
        taken_s = _catch_up(cluster, away, seconds)
        say(f"{away.name} has caught up after {taken_s:.1f} s")
        run = meanwhile()
    after = _figures(run)
    missed = appends * FILLING.batch
    return Figures(
        missed_events=missed,
        missed_mb=missed * event_bytes / MB,
        seconds=taken_s,
        mb_a_second=missed * event_bytes / MB / taken_s,
        rate_before=before["appends a second"],
        p50_before_ms=before["append p50, ms"],
        p99_before_ms=before["append p99, ms"],
        rate_meanwhile=after["appends a second"],
        p50_meanwhile_ms=after["append p50, ms"],
        p99_meanwhile_ms=after["append p99, ms"],
        not_begun_in_time=run.failures.get("not begun in time", 0),
    )


def _begin(fleet: Fleet, seconds: float, event_bytes: int, rate: float) -> Callable[[], Run]:
    """Begin the steady load, and return what waits for its end."""
    for process, task in zip(fleet.processes, tasks_of(STEADY, seconds, event_bytes, rate=rate), strict=True):
        process.give(task)
    return lambda: Run([process.outcome() for process in fleet.processes], Usage(), Usage())


def _figures(run: Run) -> dict[str, float]:
    if not run.done["append"]:
        raise BenchError("no append of the steady load was acknowledged; lower --rate")
    return figures_of(run)


def _catch_up(cluster: LocalCluster, away: LocalNode, seconds: float) -> float:
    """Start a node and return how long it took to apply what was committed then."""
    wanted = {row["partition"]: row["commit"] for row in status_of(cluster, but=away)["partitions"]}
    started_s = time.monotonic()
    cluster.start_node(away)
    while any(_applied(cluster, away).get(partition, 0) < commit for partition, commit in wanted.items()):
        if (code := away.exit_code()) is not None:
            raise BenchError(f"node {away.name} ended with exit code {code}: {away.last_words()}")
        if time.monotonic() > started_s + seconds + PATIENCE_S:
            raise BenchError(f"node {away.name} has not caught up; its log: {away.last_words()}")
        time.sleep(LOOK_S)
    return time.monotonic() - started_s


def _applied(cluster: LocalCluster, node: LocalNode) -> dict[int, int]:
    status = cluster.status_of(node) or {"partitions": []}
    return {
        row["partition"]: replica["applied"] or 0
        for row in status["partitions"]
        for replica in row["replicas"]
        if replica["node"] == node.name
    }


def _table(figures: Figures, rate: float) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for what, told in {
        "missed": f"{figures.missed_events:,} events, {figures.missed_mb:,.0f} MB",
        "caught up after": f"{figures.seconds:.1f} s: {figures.mb_a_second:.1f} MB a second",
        f"{rate:,.0f} appends a second before": (
            f"{shown(figures.rate_before)} came, median {figures.p50_before_ms:.1f} ms, "
            f"p99 {figures.p99_before_ms:.1f} ms"
        ),
        "meanwhile and after": (
            f"{shown(figures.rate_meanwhile)} came, median {figures.p50_meanwhile_ms:.1f} ms, "
            f"p99 {figures.p99_meanwhile_ms:.1f} ms, {figures.not_begun_in_time:,} not begun in time"
        ),
    }.items():
        table.add_row(what, told)
    return table


if __name__ == "__main__":
    main()
