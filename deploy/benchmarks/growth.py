"""Measures whether Rewind stays as fast as it grows, on this machine, with one command.

    python deploy/benchmarks/growth.py [--streams 10000000] [--gigabytes 10]

A fresh cluster of three nodes is given new streams of one event, in steps, then larger appends until each node's store
is as large as asked; at last it is read and started anew. What it comes to is written down with a chart.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import click
from growth_document import Found, Step, write
from own_cluster import MEGABYTE, check_room, running, status_of, uses_of
from programs import ended_in_one_line, say
from workloads import BATCHES, ONE, SINGLES, Workload, clients_of, tasks_of

from rewind import NewEvent, connect
from rewind.bench.figures import Run, figures_of
from rewind.bench.fleet import BenchError, soon
from rewind.bench.machine import look_at_machine
from rewind.bench.nodes import Usage, local_nodes, usage_of
from rewind.bench.plan import ENDLESS_S
from rewind.bench.tasks import ReadTask
from rewind_node.local_cluster import LocalCluster

EVENT_BYTES = 256
SHARES = (0.01, 0.1, 0.2, 0.4, 0.7, 1.0)  # of the streams, after each step
SIZE_STEPS = 4
STREAM_BYTES = 450  # that an event with a stream of its own takes of a node's store, about
GIGABYTE = 1000 * MEGABYTE
SLACK = 1.2  # of the disk, for what LMDB leaves free
READ_EVENTS = 1_000_000
SETTLE_S = 0.7  # then nodes have told of all their commits
READY_PATIENCE_S = 120.0


@click.command()
@click.option("--streams", type=click.IntRange(1000), default=10_000_000, show_default=True, help="Of an event each.")
@click.option(
    "--gigabytes",
    type=click.FloatRange(0, 1000),
    default=10.0,
    show_default=True,
    help="That each node's store is to grow to on disk after that.",
)
@click.option(
    "--seconds", type=click.FloatRange(0.1, 3600), default=3.0, show_default=True, help="Of each look at latency."
)
@click.option("--partitions", type=click.IntRange(1, 256), default=4, show_default=True)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=Path(__file__).with_name("GROWTH.md"),
    help="Where the results go; the chart and all figures as JSON go beside it.  [default: GROWTH.md here]",
)
def main(streams: int, gigabytes: float, seconds: float, partitions: int, output: Path) -> None:
    """Let a cluster grow, and write down what an append costs it meanwhile."""
    with ended_in_one_line("growth"):
        node_bytes = max(streams * STREAM_BYTES, gigabytes * GIGABYTE) * SLACK
        check_room(Path(tempfile.gettempdir()), node_bytes, "lower --streams or --gigabytes")
        load = look_at_machine([])
        say(f"machine: {load}")
        with running("growth", partitions) as cluster:
            found = grow(cluster, streams, gigabytes, seconds)
        found.machine = load.summary
        write(found, output)
        output.with_suffix(".json").write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    click.echo(f"the results are in {output}")


def grow(cluster: LocalCluster, streams: int, gigabytes: float, seconds: float) -> Found:
    """Let a cluster that holds nothing grow, and return what was found on the way."""
    found = Found(EVENT_BYTES, seconds)
    began_s, terms = time.monotonic(), _terms(cluster)
    held = 0
    for share in SHARES:
        events = round(streams * share) - held
        held += events
        found.streams.append(_step(cluster, SINGLES, events, held, seconds))
    for events in sizes_until(gigabytes, lambda: _disk_bytes(cluster)):
        held += events
        found.sizes.append(_step(cluster, BATCHES, events, held, seconds))
    found.minutes, found.elections = (time.monotonic() - began_s) / 60, _terms(cluster) - terms
    found.read_a_second = _read(cluster, min(READ_EVENTS, held))
    found.restart_s = _restart(cluster)
    say(f"read {found.read_a_second:,.0f} events a second; taken again {found.restart_s:.1f} s after a restart of all")
    return found


def sizes_until(gigabytes: float, disk_bytes: Callable[[], int]) -> Iterator[int]:
    """Yield how many events to append in each step until nodes hold so much."""
    start = disk_bytes()
    for number in range(1, SIZE_STEPS + 1):
        goal = start + (gigabytes * GIGABYTE - start) * number / SIZE_STEPS
        missing = goal - disk_bytes()
        if missing > 0:
            yield max(1, round(missing / EVENT_BYTES / 1.15)) // BATCHES.batch * BATCHES.batch + BATCHES.batch


def _step(cluster: LocalCluster, workload: Workload, events: int, held: int, seconds: float) -> Step:
    """Append so many events as fast as they are taken, with all that nodes do behind it, then look at latency."""
    address = {"servers": cluster.servers}
    appends = -(-events // workload.batch // workload.clients)
    with clients_of("rewind", address, workload.in_flight, workload.clients) as fleet:
        before = uses_of(cluster)
        outcomes = fleet.do(tasks_of(workload, ENDLESS_S, EVENT_BYTES, appends=appends))
        time.sleep(SETTLE_S)
        after = uses_of(cluster)
    run = Run(outcomes, Usage(), Usage())
    if run.failures:
        raise BenchError(f"not all events could be appended ({dict(run.failures)}); is the disk full, or too slow?")
    count = sum(run.events.values())
    with clients_of("rewind", address, 1, 1) as fleet:
        alone = figures_of(Run(fleet.do(tasks_of(ONE, seconds, EVENT_BYTES)), Usage(), Usage()))
    used = usage_of(local_nodes(status_of(cluster)))
    step = Step(
        held=held,
        events_a_second=count / run.seconds,
        nodes_us=sum(after[name].less(before[name]).cpu_s for name in before) * 1e6 / count,
        clients_us=sum(each.cpu_s for each in run.outcomes) * 1e6 / count,
        one_p50_ms=alone["append p50, ms"],
        one_p99_ms=alone["append p99, ms"],
        memory_bytes=max(used.anonymous_bytes.values(), default=0),
        disk_bytes=max(used.disk_bytes.values(), default=0),
    )
    say(f"{held:,} events held: {step.events_a_second:,.0f} a second, {step.nodes_us:.1f} µs each at the nodes")
    return step


def _terms(cluster: LocalCluster) -> int:
    """Return the sum of all partitions' terms: each election adds one at least."""
    return sum(row["term"] for row in status_of(cluster)["partitions"])


def _disk_bytes(cluster: LocalCluster) -> int:
    return max(usage_of(local_nodes(status_of(cluster))).disk_bytes.values(), default=0)


def _read(cluster: LocalCluster, events: int) -> float:
    with clients_of("rewind", {"servers": cluster.servers}, 1, 1) as fleet:
        run = Run(fleet.do([ReadTask(soon(), events, decode=False)]), Usage(), Usage())
    return run.events["read"] / run.seconds


def _restart(cluster: LocalCluster) -> float:
    """Stop all nodes and start them; return how long it is from then until an append is acknowledged."""
    cluster.stop()
    started_s = time.monotonic()
    cluster.start()
    with connect(cluster.servers, timeout=READY_PATIENCE_S) as store:
        store.append("growth-restarted", NewEvent("Restarted", b""))
    return time.monotonic() - started_s


if __name__ == "__main__":
    main()
