"""Prove that the simulator can fail: plant one bug at a time and see on which seed it is found.

    python tests/plant.py                                        all of them
    python tests/plant.py --only "vote not persisted"            one, or several
    python tests/plant.py --list                                 what there is

Each bug is hunted in a process of its own. Exits with 1 if one was not found, or a seed fails without any.
"""

import json
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click
from planted.catalogue import PLANTS
from planted.hunt import Catch, hunt, hunt_on

SEEDS_MAX = 300


@click.command(help=__doc__)
@click.option("--only", "names", multiple=True, metavar="NAME", help="Hunt this one; may be given again.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes to hunt on.")
@click.option("--seeds-max", type=click.IntRange(min=1), default=SEEDS_MAX, show_default=True, help="Seeds for each.")
@click.option("--seed", type=int, metavar="N", help="Try this seed only.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Results, a line for each bug.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.option("--list", "listing", is_flag=True, help="Tell what there is, and hunt nothing.")
def main(
    names: tuple[str, ...],
    jobs: int,
    seeds_max: int,
    seed: int | None,
    json_file: Path | None,
    markdown: bool,
    listing: bool,
) -> None:
    """Hunt what the options ask for."""
    for name in names:
        if name not in PLANTS:
            raise click.UsageError(f"there is no {name!r}; --list tells what there is")
    chosen = names or tuple(PLANTS)
    if listing:
        for name in chosen:
            plant = PLANTS[name]
            click.echo(f"{name}: {plant.what}; {plant.why} (promise {plant.promise})")
        return
    catches = []
    for catch in _hunted(chosen, jobs, partial(_hunt, seeds_max=seeds_max, seed=seed)):
        catches.append(catch)
        click.echo(_told(catch), err=markdown)
        if json_file is not None:
            json_file.write_text("".join(json.dumps(asdict(each)) + "\n" for each in catches), encoding="utf-8")
    if markdown:
        for line in _table(catches):
            click.echo(line)
    missed = [catch.plant for catch in catches if not catch.good]
    click.echo(f"{len(catches) - len(missed)} of {len(catches)} planted bugs were found", err=markdown)
    sys.exit(1 if missed else 0)


def _hunt(name: str, *, seeds_max: int, seed: int | None) -> Catch:
    return hunt(PLANTS[name], seeds_max) if seed is None else hunt_on(PLANTS[name], [seed])


def _hunted(names: Sequence[str], jobs: int, hunt_one: partial[Catch]) -> Iterator[Catch]:
    # A process for each, spawned: no bug is left behind where the next one is hunted.
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
        yield from pool.imap(hunt_one, names)


def _told(catch: Catch) -> str:
    crashed = f", the code broke down on {catch.crashes} before" if catch.crashes else ""
    if catch.seed is None:
        last = f": {catch.text.rstrip().splitlines()[-1]}" if catch.text else ""
        return f"{catch.plant}: NOT FOUND on {catch.seeds} seeds{crashed}, {catch.seconds:.0f} s{last}"
    dirty = "" if catch.clean else "; THE SEED FAILS WITHOUT IT"
    found = f"found on seed {catch.seed} ({catch.flavour}), the {_ordinal(catch.seeds)}{crashed}"
    return f"{catch.plant}: {found}: {', '.join(catch.kinds)}; {catch.seconds:.0f} s{dirty}"


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")


def _table(catches: Sequence[Catch]) -> Iterator[str]:
    yield "| planted | promise | seeds it took | seed | found as | s |"
    yield "|---|---|---|---|---|---|"
    for catch in catches:
        seed = "none" if catch.seed is None else f"{catch.seed} ({catch.flavour})"
        kinds = ", ".join(catch.kinds) or "not found"
        promise = PLANTS[catch.plant].promise
        yield f"| {catch.plant} | {promise} | {catch.seeds} | {seed} | {kinds} | {catch.seconds:.0f} |"


if __name__ == "__main__":
    main()
