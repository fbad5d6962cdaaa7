"""Run the deterministic simulator: a campaign of seeds, one seed, or a stored plan.

    python tests/simulate.py --seeds 1-1000 --jobs 2 --json seeds.jsonl     a line per seed; resumes where it stopped
    python tests/simulate.py --seed 17                                      one seed exactly, told as a story
    python tests/simulate.py --plan seed-17.json                            a plan that was shrunk

Exits with 1 if anything was found.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from simulator.campaign import SeedResult, Totals, finished, resumed, run_seed, run_seeds
from simulator.coverage import CoreCoverage, report
from simulator.flavours import draw_plan
from simulator.plan import Plan, from_json
from simulator.run import Outcome, run
from simulator.shrink import shrink
from simulator.story import counted, story

SHRUNK_MAX = 5  # failing seeds that one campaign shrinks: the first few tell most
STDOUT = Path("-")

console = Console(stderr=True, highlight=False)


@click.command(help=__doc__)
@click.option("--seeds", "span", metavar="A-B", help="Run the seeds from A to B.")
@click.option("--seed", type=int, metavar="N", help="Run one seed and tell its story.")
@click.option("--plan", "plan_file", type=click.Path(path_type=Path, exists=True), help="Run a stored plan.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes to run seeds on.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Results, a line per seed; - for stdout.")
@click.option("--plans", "folder", type=click.Path(path_type=Path), default=Path(), help="Where shrunk plans go.")
@click.option("--shrink-seconds", type=int, default=120, show_default=True, help="Time for each; 0 to leave it out.")
@click.option("--coverage", "measure", is_flag=True, help="Measure the branches of the consensus core. Slow.")
@click.option("--trace", is_flag=True, help="With --seed or --plan: print every line of the trace.")
def main(
    span: str | None,
    seed: int | None,
    plan_file: Path | None,
    jobs: int,
    json_file: Path | None,
    folder: Path,
    shrink_seconds: int,
    measure: bool,
    trace: bool,
) -> None:
    """Run what the options ask for."""
    if sum(option is not None for option in (span, seed, plan_file)) != 1:
        raise click.UsageError("give one of --seeds, --seed and --plan")
    if span is not None:
        sys.exit(_campaign(_seeds(span), jobs, json_file, folder, shrink_seconds, measure=measure))
    plan = from_json(plan_file.read_text(encoding="utf-8")) if plan_file is not None else draw_plan(seed or 0)
    replay = f"python tests/simulate.py --seed {seed}" if plan_file is None else _replay(plan_file)
    outcome = run(plan, keep_story=True)
    _print(outcome.story if trace else story(outcome, replay))
    if outcome.findings and plan_file is None and shrink_seconds:
        _shrink(plan, outcome, folder, shrink_seconds)
    sys.exit(1 if outcome.findings else 0)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _replay(plan_file: Path) -> str:
    return f"python tests/simulate.py --plan {plan_file}"


def _seeds(span: str) -> range:
    first, _, last = span.partition("-")
    if not (first.isdigit() and last.isdigit()) or int(last) < int(first):
        raise click.UsageError(f"--seeds {span}: give the first and the last, like 1-1000")
    return range(int(first), int(last) + 1)


# ── campaigns ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _campaign(
    seeds: range, jobs: int, json_file: Path | None, folder: Path, shrink_seconds: int, *, measure: bool
) -> int:
    """Run seeds, tell what they came to, and shrink those that failed; return the exit code."""
    totals = Totals()
    done: set[int] = set()
    if json_file is not None and json_file != STDOUT:
        for result in finished(json_file):
            if result.seed in seeds and result.seed not in done:
                totals.add(result)
                done.add(result.seed)
    left = [seed for seed in seeds if seed not in done]
    earlier = len(totals.failing)
    started = time.monotonic()
    with ExitStack() as stack:
        data_file = Path(stack.enter_context(TemporaryDirectory())) / "coverage" if measure else None
        write = stack.enter_context(_results(json_file))
        advance = stack.enter_context(_progress(len(seeds), len(done)))
        for result in run_seeds(left, jobs, partial(run_seed, data_file=data_file)):
            totals.add(result)
            write(result)
            advance(len(totals.failing))
        minutes = (time.monotonic() - started) / 60
        covered = report(data_file) if data_file is not None and left else None
    _tell(totals, len(left) / minutes if left else 0.0, covered, to_stderr=json_file == STDOUT)
    if shrink_seconds:
        for result in totals.failing[earlier : earlier + SHRUNK_MAX]:
            plan = draw_plan(result.seed)
            _shrink(plan, run(plan), folder, shrink_seconds)
    return 1 if totals.failing else 0


@contextmanager
def _results(json_file: Path | None) -> Iterator[Callable[[SeedResult], None]]:
    if json_file is None:
        yield lambda _: None
    elif json_file == STDOUT:
        yield lambda result: click.echo(result.to_json())
    else:
        with resumed(json_file) as file:

            def write(result: SeedResult) -> None:
                file.write(result.to_json() + "\n")
                file.flush()

            yield write


@contextmanager
def _progress(total: int, done: int) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("seeds"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failing]} failing"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("seeds", total=total, completed=done, failing=0)
        yield lambda failing: progress.update(task, advance=1, failing=failing)


def _tell(totals: Totals, seeds_per_minute: float, covered: CoreCoverage | None, *, to_stderr: bool) -> None:
    click.echo(
        f"{totals.seeds} seeds, {len(totals.failing)} of them failing; {seeds_per_minute:.0f} a minute", err=to_stderr
    )
    for group, counts in totals.counts.items():
        listed = ", ".join(f"{name} {number:,}" for name, number in sorted(counts.items()))
        click.echo(f"{group}: {listed}", err=to_stderr)
    click.echo("flavours: " + ", ".join(f"{name} {number}" for name, number in totals.flavours.items()), err=to_stderr)
    for result in totals.failing:
        kinds = ", ".join(sorted({kind for kind, _ in result.violations}))
        click.echo(f"seed {result.seed} ({result.flavour}): {kinds}", err=to_stderr)
    if covered is not None:
        text = f"{covered.taken} of {covered.branches} branches of the consensus core were taken; never:"
        click.echo(text, err=to_stderr)
        for branch in covered.missing:
            click.echo(f"  {branch}", err=to_stderr)


# ── shrinking ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _shrink(plan: Plan, outcome: Outcome, folder: Path, seconds: int) -> None:
    """Shrink a failing plan, store what is left, and tell its story."""
    kinds = {finding.kind for finding in outcome.findings}
    end = time.monotonic() + seconds

    def fails(smaller: Plan) -> bool:
        return any(finding.kind in kinds for finding in run(smaller).findings)

    console.print(f"shrinking seed {plan.seed} ({counted(plan)}) for at most {seconds} s", style="dim")
    smallest = shrink(plan, fails, lambda: time.monotonic() < end)
    folder.mkdir(parents=True, exist_ok=True)
    plan_file = folder / f"seed-{plan.seed}.json"
    plan_file.write_text(smallest.to_json() + "\n", encoding="utf-8")
    click.echo(f"\nSeed {plan.seed}, shrunk to {counted(smallest)}:\n")
    _print(story(run(smallest, keep_story=True), _replay(plan_file)))


if __name__ == "__main__":
    main()
