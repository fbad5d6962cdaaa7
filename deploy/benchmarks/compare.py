"""Measures Rewind beside other stores, on this machine, with one command.

    python deploy/benchmarks/compare.py [--rounds 3] [--seconds 5] [--events 100000] [--stores rewind,nats,…]

Stores that are not installed are named and left out. In each round every store is started in a temporary directory,
measured and stopped, in another order each time, so that none has the machine to itself while it is quiet.
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from nats_servers import NatsServers
from postgresql_servers import PostgresqlServers
from programs import ended_in_one_line, rotated, say
from redis_servers import RedisServers
from results import Results, write
from rewind_servers import RewindServers
from system import Servers
from umadb_servers import UmadbServers
from workloads import Sizes, measure

from rewind.bench.machine import look_at_machine
from rewind.errors import RewindError

STORES: dict[str, type[Servers]] = {
    made.name: made for made in (RewindServers, NatsServers, UmadbServers, PostgresqlServers, RedisServers)
}
OURS = RewindServers.name
DIRECTORY_MODE = 0o711  # so that servers which run as somebody else find their own directory below it


def _stores(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:  # noqa: ARG001 - click's
    names = list(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    if unknown := [name for name in names if name not in STORES]:
        raise click.BadParameter(f"{', '.join(unknown)}: there are {', '.join(STORES)}")
    return [OURS, *(name for name in names if name != OURS)]


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="How often each store.")
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3600),
    default=5.0,
    show_default=True,
    help="How long each load of appends is.",
)
@click.option(
    "--warm-up", type=click.FloatRange(0, 600), default=1.0, show_default=True, help="Seconds of it before that."
)
@click.option(
    "--events", type=click.IntRange(1), default=100_000, show_default=True, help="How many events are read back."
)
@click.option(
    "--event-bytes", type=click.IntRange(1, 1 << 20), default=256, show_default=True, help="Bytes of each event."
)
@click.option(
    "--stores", callback=_stores, default=",".join(STORES), show_default=True, metavar="NAME,…", help="Which ones."
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=Path(__file__).with_name("RESULTS.md"),
    help="Where the results go; the chart and all figures as JSON go beside it.  [default: RESULTS.md here]",
)
def main(
    rounds: int, seconds: float, warm_up: float, events: int, event_bytes: int, stores: list[str], output: Path
) -> None:
    """Measure Rewind beside other stores, and write down what came out."""
    sizes = Sizes(seconds, warm_up, events, event_bytes)
    with ended_in_one_line("compare"):
        results = compare(sizes, rounds, stores)
        write(results, output)
        output.with_suffix(".json").write_text(json.dumps(dict(results.rounds), indent=1) + "\n", encoding="utf-8")
    click.echo(f"the results are in {output}")


def compare(sizes: Sizes, rounds: int, stores: Sequence[str]) -> Results:
    """Measure all stores that are there, round by round. One that fails is left out from then on, and said so."""
    left_out = {name: why for name in stores if (why := STORES[name].missing()) is not None}
    left_out = {name: f"not installed; {why}" for name, why in left_out.items()}
    found: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in stores if name not in left_out}
    versions = {name: STORES[name]().versions() for name in found}
    machine = []
    for number in range(rounds):
        load = look_at_machine([])
        machine.append(f"before round {number + 1}: {load.summary}")
        say(f"before round {number + 1}: {load}")
        for name in rotated(list(found), number):
            say(f"round {number + 1} of {rounds}: {STORES[name].facts.title}")
            try:
                found[name].append(measure_once(STORES[name](), sizes))
            except RewindError as error:
                if name == OURS:
                    raise
                left_out[name] = f"failed in round {number + 1}: {error}"
                del found[name]
                say(f"  {left_out[name]}")
    return Results(sizes, {name: STORES[name].facts for name in stores}, versions, found, left_out, machine)


def measure_once(servers: Servers, sizes: Sizes) -> dict[str, dict[str, float]]:
    """Start a store in a directory of its own, measure it, and leave nothing behind."""
    with ExitStack() as stack:
        top = Path(stack.enter_context(TemporaryDirectory(prefix="rewind-compare-", ignore_cleanup_errors=True)))
        top.chmod(DIRECTORY_MODE)
        directory = top / servers.name
        directory.mkdir()
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.callback(servers.stop)
        servers.start(directory)
        return measure(servers, sizes, say)


if __name__ == "__main__":
    main()
