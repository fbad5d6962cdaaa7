"""Measures Rewind with more and more partitions, on this machine, with one command.

    python deploy/benchmarks/scaling.py [--rounds 3] [--seconds 5] [--partitions 1,2,4,8,16,64]

Each number of partitions has a fresh cluster of three nodes in each round, in another order each time. What it comes to
is written down with a chart, and with a model of a larger cluster that is computed from it.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from cluster_model import Cost
from own_cluster import NODES, NodeUse, led_by, running, uses_of
from programs import ended_in_one_line, rotated, say
from scaling_document import Found, write
from workloads import ONE, SINGLES, Workload, clients_of, tasks_of

from rewind.bench.figures import Run, figures_of
from rewind.bench.machine import look_at_machine
from rewind.bench.nodes import Usage
from rewind_node.local_cluster import LocalCluster

EVENT_BYTES = 256
PARTITIONS_MAX = 256
WARM_UP_S = 1.0
SETTLE_S = 0.7  # then nodes have told of all their commits, and do no more for what they have acknowledged


def _partitions(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:  # noqa: ARG001 - click's
    words = [word.strip() for word in value.split(",") if word.strip()]
    if not words or not all(word.isdigit() and 1 <= int(word) <= PARTITIONS_MAX for word in words):
        raise click.BadParameter(f"{value!r}: give numbers from 1 to {PARTITIONS_MAX}, with commas between them")
    numbers = sorted({int(word) for word in words})
    if numbers[0] != 1:
        raise click.BadParameter("1 must be among them: there a leader's cost can be told from a follower's")
    return numbers


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="How often each number.")
@click.option(
    "--seconds", type=click.FloatRange(0.1, 3600), default=5.0, show_default=True, help="How long each load is."
)
@click.option(
    "--idle-seconds",
    type=click.FloatRange(0.1, 3600),
    default=20.0,
    show_default=True,
    help="How long the cluster with the most partitions is watched while nobody asks anything of it.",
)
@click.option(
    "--rate", type=click.FloatRange(1), default=5000.0, show_default=True, help="Appends a second, for latencies."
)
@click.option(
    "--partitions",
    callback=_partitions,
    default="1,2,4,8,16,64",
    show_default=True,
    metavar="N,…",
    help="How many, one after the other.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=Path(__file__).with_name("SCALING.md"),
    help="Where the results go; the chart and all figures as JSON go beside it.  [default: SCALING.md here]",
)
def main(rounds: int, seconds: float, idle_seconds: float, rate: float, partitions: list[int], output: Path) -> None:
    """Measure Rewind over numbers of partitions, and write down what came out."""
    with ended_in_one_line("scaling"):
        found = measure(partitions, rounds, seconds, idle_seconds, rate)
        write(found, output)
        output.with_suffix(".json").write_text(json.dumps(found.rounds, indent=1) + "\n", encoding="utf-8")
    click.echo(f"the results are in {output}")


def measure(partitions: Sequence[int], rounds: int, seconds: float, idle_s: float, rate: float) -> Found:
    """Measure every number of partitions, round by round."""
    found = Found(seconds, rate, EVENT_BYTES, {number: [] for number in partitions}, [])
    for number in range(rounds):
        load = look_at_machine([])
        found.machine.append(f"before round {number + 1}: {load.summary}")
        say(f"before round {number + 1}: {load}")
        for count in rotated(partitions, number):
            say(f"round {number + 1} of {rounds}: {count} partitions")
            with running("scaling", count) as cluster:
                figures = _idle(cluster, idle_s) if count == max(partitions) else {}
                figures |= _flat_out(cluster, seconds)
                figures |= _in_steps(cluster, seconds, rate)
            found.rounds[count].append(figures)
            say(f"  {figures['appends a second']:,.0f} appends a second")
    return found


def _idle(cluster: LocalCluster, seconds: float) -> dict[str, float]:
    """Return how much of a core the busiest node uses while nothing is asked of it."""
    time.sleep(SETTLE_S)
    before = uses_of(cluster)
    time.sleep(seconds)
    after = uses_of(cluster)
    return {"idle, % of a core": max(100 * (after[name].cpu_s - before[name].cpu_s) / seconds for name in before)}


def _flat_out(cluster: LocalCluster, seconds: float) -> dict[str, float]:
    """Return what two clients get through, and what that costs whom."""
    run, used = _run(cluster, SINGLES, seconds)
    events = sum(run.events.values())
    nodes = [each.per_event(events) for each in used.values()]
    figures = {
        "appends a second": events / run.seconds,
        "nodes, µs/event": sum(each.all_us for each in nodes),
        "loops, µs/event": sum(each.loop_us for each in nodes),
        "clients, µs/event": sum(each.cpu_s for each in run.outcomes) * 1e6 / events,
        "commit, ms": 1000 * sum(each.commit_s for each in used.values()) / sum(each.commits for each in used.values()),
        "commit, share of time": sum(each.commit_s for each in used.values()) / run.seconds / NODES,
    }
    leaders = set(led_by(cluster).values())
    if len(leaders) == 1:
        (leader,) = leaders
        figures |= _told_apart({name: each.per_event(events) for name, each in used.items()}, leader)
    return figures


def _told_apart(costs: Mapping[str, Cost], leader: str) -> dict[str, float]:
    followers = [cost for name, cost in costs.items() if name != leader]
    return {
        "leader, µs/event": costs[leader].all_us,
        "leader's loop, µs/event": costs[leader].loop_us,
        "follower, µs/event": sum(each.all_us for each in followers) / len(followers),
        "follower's loop, µs/event": sum(each.loop_us for each in followers) / len(followers),
    }


def _in_steps(cluster: LocalCluster, seconds: float, rate: float) -> dict[str, float]:
    """Return how long an append takes at a steady rate, and by itself."""
    paced, _ = _run(cluster, SINGLES, seconds, rate)
    one, _ = _run(cluster, ONE, seconds)
    at_rate, alone = figures_of(paced), figures_of(one)
    return {
        "at a rate, p50, ms": at_rate["append p50, ms"],
        "at a rate, p99, ms": at_rate["append p99, ms"],
        "one at a time, p50, ms": alone["append p50, ms"],
        "not begun in time": float(paced.failures.get("not begun in time", 0)),
    }


def _run(
    cluster: LocalCluster, workload: Workload, seconds: float, rate: float | None = None
) -> tuple[Run, dict[str, NodeUse]]:
    """Return a run of a load, and what each node used for it."""
    address = {"servers": cluster.servers}
    with clients_of("rewind", address, workload.in_flight, workload.clients, paced=rate is not None) as fleet:
        fleet.do(tasks_of(workload, min(WARM_UP_S, seconds), EVENT_BYTES, rate=rate))
        time.sleep(SETTLE_S)
        before = uses_of(cluster)
        outcomes = fleet.do(tasks_of(workload, seconds, EVENT_BYTES, rate=rate))
        time.sleep(SETTLE_S)
        after = uses_of(cluster)
    return Run(outcomes, Usage(), Usage()), {name: after[name].less(before[name]) for name in before}


if __name__ == "__main__":
    main()
