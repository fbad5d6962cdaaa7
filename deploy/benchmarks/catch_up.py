"""Measures how fast a node catches up with what it missed, beside a steady rate of appends, with one command.

    python deploy/benchmarks/catch_up.py [--bytes 1000000000] [--rate 10000] [--json]

Three nodes are started in a temporary directory (`TMPDIR`). One is stopped, the others are given the data, and the one
is started again while appends go on. What comes out is printed; nothing is left behind.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from catching_up import BATCH, CaughtUp, Sizes, miss_and_catch_up
from documents import this_machine
from own_cluster import MEGABYTE, check_room, running
from programs import ended_in_one_line, say
from rewind_servers import RewindServers
from rich.console import Console
from rich.text import Text

from rewind.bench.machine import MachineLoad, look_at_machine
from rewind.bench.report import shown
from rewind.cli_shown import result_console, result_table
from rewind_cluster.names import APPEND_BYTES_MAX, PARTITIONS_MAX

EVENT_BYTES_MAX = APPEND_BYTES_MAX // (2 * BATCH)  # so that an append of a hundred is far below its limit
RATE_MAX = 100_000
FIGURES = (
    "seconds",
    "appends a second",
    "slowest second",
    "append p50, ms",
    "append p99, ms",
    "append max, ms",
    "failed or not begun in time",
)
KEPT = {True: "yes", False: "no", None: "it was too short to tell"}


@click.command()
@click.option(
    "--bytes",
    "missed_bytes",
    type=click.IntRange(1),
    default=1000 * MEGABYTE,
    show_default=True,
    help="Event data that the node misses.",
)
@click.option(
    "--event-bytes", type=click.IntRange(1, EVENT_BYTES_MAX), default=256, show_default=True, help="Of each event."
)
@click.option(
    "--rate",
    type=click.FloatRange(1, RATE_MAX),
    default=10_000.0,
    show_default=True,
    help="Appends a second, of one event each, that go on.",
)
@click.option(
    "--around",
    type=click.FloatRange(0, 3600),
    default=10.0,
    show_default=True,
    help="Seconds of them before the node comes back, and after it has caught up.",
)
@click.option("--partitions", type=click.IntRange(1, PARTITIONS_MAX), default=4, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
def main(missed_bytes: int, event_bytes: int, rate: float, around: float, partitions: int, as_json: bool) -> None:
    """Stop a node, let it miss data, and measure how it catches up."""
    sizes = Sizes(missed_bytes, event_bytes, rate, around)
    with ended_in_one_line("catch_up"):
        check_room(Path(tempfile.gettempdir()), sizes.disk_bytes, "lower --bytes")
        load = look_at_machine([])
        say(f"machine: {load}")
        with running("catch-up", partitions) as cluster:
            found = miss_and_catch_up(cluster, sizes)
        told = as_object(found, sizes, partitions, load)
    if as_json:
        click.echo(json.dumps(told))
    else:
        show(told, result_console())


def as_object(found: CaughtUp, sizes: Sizes, partitions: int, load: MachineLoad) -> dict[str, Any]:
    """Return all that was found, and on what."""
    missed_mb = found.missed_events * sizes.event_bytes / MEGABYTE
    return {
        "version": RewindServers().versions(),
        "machine": this_machine(),
        "load before": str(load),
        "machine was busy": load.is_trouble,
        "settings": asdict(sizes) | {"partitions": partitions},
        "catching up": {
            "events missed": found.missed_events,
            "event data missed, MB": missed_mb,
            "seconds to append it": found.loading_s,
            "seconds until the node told of itself": found.answered_s,
            "seconds until it had caught up": found.caught_up_s,
            "events a second": found.missed_events / found.caught_up_s,
            "event data a second, MB": missed_mb / found.caught_up_s,
            **{f"cores in use by {name}": cores for name, cores in found.cores.items()},
        },
        "steady appends": {phase: dict(figures) for phase, figures in found.phases.items()},
        "rate kept": is_rate_kept(found.phases["meanwhile"], sizes.rate),
    }


def is_rate_kept(figures: Mapping[str, float], rate: float) -> bool | None:
    """Return whether all appends that the rate asked for were acknowledged; None if that was too short to tell."""
    if not figures:
        return None
    return not figures["failed or not begun in time"] and figures["appends a second"] > rate - 1  # whole appends


def show(told: Mapping[str, Any], console: Console) -> None:
    """Print what was found for people."""
    console.print(Text(f"{told['version']}; {told['machine']}; before: {told['load before']}"))
    console.print(Text(", ".join(f"{name} {value}" for name, value in told["settings"].items())))
    console.print()
    plain = not console.is_terminal
    table = result_table(plain=plain)
    table.add_column("CATCHING UP", overflow="fold")
    table.add_column("", justify="right")
    for name, value in told["catching up"].items():
        table.add_row(name, shown(value))
    console.print(table)
    console.print()
    phases = told["steady appends"]
    table = result_table(plain=plain)
    for column in ("STEADY APPENDS", *map(str.upper, phases)):
        table.add_column(column, justify="right" if table.columns else "left")
    for name in FIGURES:
        table.add_row(name, *(shown(each[name]) if name in each else "-" for each in phases.values()))
    console.print(table)
    console.print()
    console.print(Text(f"rate kept while the node caught up: {KEPT[told['rate kept']]}"))
    if told["machine was busy"]:
        console.print(Text("attention: the machine was busy with other things: take no figure for Rewind's"))


if __name__ == "__main__":
    main()
