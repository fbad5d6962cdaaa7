"""The subcommands of `rewind bench`: options into plans, findings to where they are wanted.

What is asked for is checked before anything runs. Progress goes to standard error, results to standard output.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import click

from rewind.bench import chart, report, workloads
from rewind.bench.failover import SIGNALS, FailoverPlan
from rewind.bench.failover import failover as lose_leaders
from rewind.bench.figures import Findings, Run, findings_of
from rewind.bench.machine import look_at_machine
from rewind.bench.plan import CLIENTS_MAX, IN_FLIGHT_MAX, LoadPlan, MixedPlan, ReadPlan, Runs, SubscribePlan, Where
from rewind.bench.tasks import Shell
from rewind.bench.workloads import Bench
from rewind.cli_options import Options, pass_options, print_json
from rewind.cli_shown import result_console
from rewind_cluster.names import APPEND_EVENTS_MAX, DATA_BYTES_MAX

EXIT_LOSS = 1
RUNS_MAX = 1000
SECONDS_MAX = 86_400.0
STREAMS_MAX = 10_000_000
Decorator = Callable[[Any], Any]


def _all(*decorators: Decorator) -> Decorator:
    """Return one decorator that applies several, the first one outermost."""
    return lambda command: reduce(lambda made, decorator: decorator(made), reversed(decorators), command)


def _option(name: str, kind: Any, default: Any, text: str, **more: Any) -> Decorator:
    return click.option(name, type=kind, default=default, show_default=default is not None, help=text, **more)


RUNS = _option("--runs", click.IntRange(1, RUNS_MAX), 3, "How often.")


def _warm_up(text: str) -> Decorator:
    return _option("--warm-up", click.FloatRange(0, SECONDS_MAX), 2.0, text, metavar="S")


CHART = _option("--chart", click.Path(dir_okay=False, path_type=Path), None, "Draw a chart: FILE.png or FILE.svg.")
CLIENTS = _option("--clients", click.IntRange(1, CLIENTS_MAX), 2, "Client processes.")
EVENT_BYTES = _option("--event-bytes", click.IntRange(0, DATA_BYTES_MAX), 256, "Bytes of data in each event.")
BATCH = _option("--batch", click.IntRange(1, APPEND_EVENTS_MAX), 1, "Events in each append.")
STREAMS = _option("--streams", click.IntRange(1, STREAMS_MAX), 10_000, "Streams in all, where they are used in turn.")


def _in_flight(default: int) -> Decorator:
    text = "Operations under way in each client at most; 1: one after the other."
    return _option("--in-flight", click.IntRange(1, IN_FLIGHT_MAX), default, text)


def _rate(default: float | None) -> Decorator:
    text = "N operations a second in all, each timed from when it was meant to begin, however slow the answers."
    return _option("--rate", click.FloatRange(0, min_open=True), default, text, metavar="N")


def _expected(default: str) -> Decorator:
    text = "none: every append begins a stream; any, exact: to --streams in turn."
    return _option("--expected", click.Choice(["none", "any", "exact"]), default, text)


def _client(does: str) -> Decorator:
    return _option("--client", click.Choice(["asyncio", "blocking"]), "asyncio", f"Which of the two clients {does}.")


SECONDS = _option("--seconds", click.FloatRange(0, SECONDS_MAX, min_open=True), 10.0, "How long each run is.")
EVENTS = _option("--events", click.IntRange(1), None, "How many events each run appends, instead of --seconds.")
SHAPE = _all(CLIENTS, SECONDS, EVENTS, EVENT_BYTES, BATCH, STREAMS)
MEASURED = _all(RUNS, _warm_up("Seconds of the same load before anything counts."), CHART)


@click.command()
@SHAPE
@_in_flight(256)
@_rate(None)
@_expected("none")
@_client("appends")
@MEASURED
@pass_options
def append(options: Options, /, **given: Any) -> int:
    """Append, as fast as the cluster answers or at a steady rate."""
    plan = _load(given, shell=given["client"])
    return _measure(options, "append", given, lambda bench: workloads.append(bench, plan))


@click.command()
@_option("--events", click.IntRange(1), 1_000_000, "How many events; those that are missing are appended first.")
@_option("--clients", click.IntRange(1, CLIENTS_MAX), 1, "Client processes, each of which reads all of them.")
@click.option("--decode", is_flag=True, help="Use IDs, metadata and times too, which are decoded when they are used.")
@EVENT_BYTES
@BATCH
@_option("--streams", click.IntRange(1, STREAMS_MAX), 50_000, "Streams that missing events are appended to, in turn.")
@RUNS
@_warm_up("Read everything once before anything counts; 0: do not.")
@CHART
@pass_options
def read(options: Options, /, **given: Any) -> int:
    """Catch up: read a context from its start into Python objects."""
    fill = _load(given | {"in_flight": 1, "seconds": 1.0, "rate": None, "expected": "any"})
    plan = ReadPlan(given["clients"], given["events"], given["decode"], fill)
    return _measure(options, "read", given, lambda bench: workloads.read(bench, plan))


@click.command()
@_rate(1000.0)
@_in_flight(1024)
@_client("subscribes")
@_expected("any")
@SHAPE
@MEASURED
@pass_options
def subscribe(options: Options, /, **given: Any) -> int:
    """Time live delivery.

    From an append's acknowledgement until a subscriber in another process has its event.
    """
    plan = SubscribePlan(_load(given), given["client"])
    return _measure(options, "subscribe", given, lambda bench: workloads.subscribe(bench, plan))


@click.command()
@_option(
    "--reads", click.FloatRange(0, 100), 50.0, "How many operations in a hundred read a stream.", metavar="PERCENT"
)
@SHAPE
@_in_flight(64)
@_rate(None)
@_expected("any")
@MEASURED
@pass_options
def mixed(options: Options, /, **given: Any) -> int:
    """Append, and read back streams that were appended to."""
    plan = MixedPlan(_load(given), given["reads"])
    return _measure(options, "mixed", given, lambda bench: workloads.mixed(bench, plan))


@click.command()
@_option("--rounds", click.IntRange(1, RUNS_MAX), 10, "How often a leader is lost.")
@_option("--signal", click.Choice(list(SIGNALS)), "kill9", "How: killed, stopped for a while, or asked to end.")
@_option("--rate", click.FloatRange(1, 5000), 200.0, "Appends a second meanwhile, to all partitions.", metavar="N")
@EVENT_BYTES
@CHART
@pass_options
def failover(options: Options, /, **given: Any) -> int:
    """Lose leaders again and again.

    Tells how long nobody could write, and what was lost. Leaders must run on this machine, and nodes be started again
    by what runs them, as `rewind-node dev` does after a kill.
    """
    plan = FailoverPlan(given["rounds"], given["signal"], given["rate"], given["event_bytes"])
    settings = _settings(given)

    def work(bench: Bench, machine: str, warnings: Sequence[str]) -> Findings:
        return lose_leaders(bench, plan, settings, machine, warnings)

    return _carry_out(options, Runs(plan.rounds, 0.0), given["chart"], work)


COMMANDS = {command.name or "": command for command in (append, read, subscribe, mixed, failover)}


def _load(given: Mapping[str, Any], shell: Shell = "asyncio") -> LoadPlan:
    fields = ("clients", "in_flight", "seconds", "events", "rate", "event_bytes", "expected", "streams")
    return LoadPlan(events_per_append=given["batch"], shell=shell, **{name: given[name] for name in fields})


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "-"): value for name, value in given.items() if name != "chart"}


def _measure(options: Options, workload: str, given: Mapping[str, Any], runs: Callable[[Bench], list[Run]]) -> int:
    settings = _settings(given)

    def work(bench: Bench, machine: str, warnings: Sequence[str]) -> Findings:
        return findings_of(workload, settings, machine, warnings, runs(bench))

    return _carry_out(options, Runs(given["runs"], given["warm_up"]), given["chart"], work)


def _carry_out(
    options: Options, runs: Runs, drawn: Path | None, work: Callable[[Bench, str, Sequence[str]], Findings]
) -> int:
    """Look at the machine, do the work, and print what was found."""
    if drawn is not None:
        chart.check_path(drawn)
    with workloads.opened(Where(options.servers, options.context, options.timeout_s), runs, _say) as bench:
        load = look_at_machine({node.process for node in bench.nodes})
        _say(f"machine: {load.summary}")
        for other in load.busiest:
            _say(f"  {other}")
        warnings = (
            ["the machine was busy with other things: take no figure for the cluster's"] if load.is_trouble else []
        )
        found = work(bench, str(load), warnings)
    if options.as_json:
        print_json(report.as_json(found))
    else:
        report.show(found, result_console())
    if drawn is not None:
        chart.draw(found, drawn)
        _say(f"the chart is in {drawn}")
    return 0 if found.is_clean else EXIT_LOSS


def _say(text: str) -> None:
    click.echo(text, err=True)
