"""Break real nodes on purpose, by seeds, and print what came of it.

    tox -e chaos -- --seconds 600 --seed 1 --report chaos.json      runs of five minutes each, seed after seed
    tox -e chaos -- --each                                          one short run with every kind of fault
    tox -e chaos -- --seed 7 --runs 1 --kind "power cut of all"     faults of one kind, or several

Needs root, for namespaces and mounts; without them it breaks what it can and says what it cannot. Exits with 1 if
anything was found. What nodes and clients of a failed run have said is left in a directory, which is named.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from chaos import report
from chaos.faults import Means
from chaos.machines import NotServingError, Scratch, Shape, missing_means
from chaos.plan import KINDS, available, draw, draw_each, scripted
from chaos.plants import PLANTS
from chaos.run import play
from chaos.verdict import Verdict

from rewind_node.local_cluster import ended_like_by_ctrl_c

RUN_S = 300.0  # of faults: some sixty, and a hundred thousand calls; the verdict takes another minute
LARGER_EVERY = 5
HUGE = (".img", ".mdb", ".clock", ".so")


@click.command(help=__doc__)
@click.option("--seconds", type=float, default=RUN_S, show_default=True, help="Begin runs for so long.")
@click.option("--seed", type=int, default=1, show_default=True, help="The first run's; the next has the next.")
@click.option("--runs", type=click.IntRange(min=1), help="So many at most.")
@click.option("--run-seconds", type=float, default=RUN_S, show_default=True, help="How long faults go on in a run.")
@click.option("--each", is_flag=True, help="One run with one short fault of each kind.")
@click.option("--kind", "wanted", multiple=True, metavar="KIND", help="Faults of this kind only; may be given again.")
@click.option("--nodes", type=click.Choice(["3", "5"]), help="Nodes of a cluster. [default: 3; 5 at each fifth seed]")
@click.option("--plant", type=click.Choice(list(PLANTS)), help="Have this bug, and the run that should find it.")
@click.option("--course-of", type=click.Choice(list(PLANTS)), help="Play that run without the bug.")
@click.option("--report", "report_file", type=click.Path(path_type=Path), help="Where the figures go, as JSON.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep what nodes and clients of all runs have said.")
@click.option("--list", "listing", is_flag=True, help="Tell which faults and which bugs there are, and do nothing.")
def main(
    seconds: float,
    seed: int,
    runs: int | None,
    run_seconds: float,
    each: bool,
    wanted: tuple[str, ...],
    nodes: str | None,
    plant: str | None,
    course_of: str | None,
    report_file: Path | None,
    keep: Path | None,
    listing: bool,
) -> None:
    """Do what the options ask for."""
    if listing:
        _list()
        return
    unknown = set(wanted) - {kind.name for kind in KINDS}
    if unknown:
        raise click.UsageError(f"there is no fault {min(unknown)!r}; --list tells what there is")
    with ended_like_by_ctrl_c(), Scratch(Path(tempfile.gettempdir())) as scratch:
        missing = missing_means(scratch)
        for means, why in missing.items():
            click.echo(f"not available here: {means}: {why}", err=True)
        kinds = [kind for kind in available(KINDS, missing) if not wanted or kind.name in wanted]
        done: list[dict[str, Any]] = []
        until_s = time.monotonic() + seconds
        bug = PLANTS.get(plant or course_of or "")
        if bug is not None:
            seed = bug.seed
        while not done or (not (each or bug) and time.monotonic() < until_s and len(done) != runs):
            if bug is not None:
                faults = scripted(seed, bug.course)
            else:
                faults = draw_each(seed, kinds) if each else draw(seed, run_seconds, kinds)
            place = scratch / f"seed-{seed}"
            shape = Shape(nodes=int(nodes or (5 if seed % LARGER_EVERY == 0 else 3)))
            done.append(_run(seed, faults, shape, place, missing, plant or "", keep))
            if report_file is not None:
                report.write(report_file, done, missing)
            seed += 1
        told = report.summary(done, missing)
        for line in report.table(told):
            click.echo(line)
    sys.exit(1 if told["findings"] else 0)


def _list() -> None:
    for kind in KINDS:
        click.echo(f"{kind.name} ({kind.area}{f', needs {kind.needs}' if kind.needs else ''})")
    for bug in PLANTS.values():
        plant = bug.plant
        click.echo(f"bug: {plant.name}: {plant.what}; {plant.why} (promise {plant.promise})")


def _run(
    seed: int,
    faults: list[Any],
    shape: Shape,
    directory: Path,
    missing: dict[Means, str],
    bug: str,
    keep: Path | None,
) -> dict[str, Any]:
    """Play one plan, tell its story, and return its part of the report."""
    begun_s = time.monotonic()
    click.echo(f"seed {seed}: {len(faults)} faults", err=True)
    verdict = Verdict()
    try:
        verdict, _ = play(seed, faults, shape, directory, missing, lambda text: click.echo(text, err=True), bug)
    except NotServingError as error:
        verdict.found("cluster does not come up", str(error))
    took_s = time.monotonic() - begun_s
    for finding in verdict.findings:
        click.echo(f"FOUND {finding.kind}: {finding.text}", err=True)
    if verdict.findings or keep is not None:
        kept = Path(tempfile.mkdtemp(prefix=f"chaos-seed-{seed}-")) if keep is None else keep / f"seed-{seed}"
        shutil.copytree(directory, kept, ignore=_huge, dirs_exist_ok=True)
        click.echo(f"what nodes and clients have said: {kept}", err=True)
    shutil.rmtree(directory, ignore_errors=True)
    rows = report.rows_of(faults, verdict.told, verdict.findings, shape.partitions)
    return report.run_as_json(seed, faults, verdict, rows, took_s)


def _huge(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name.endswith(HUGE)]


if __name__ == "__main__":
    main()
