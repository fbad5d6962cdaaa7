"""A campaign: many seeds on several processes, a line of JSON for each that is finished, so that it can be resumed.

A line holds the seed, its violations, its trace's hash and its counts. Lines of an earlier version of the program count
as well: to begin a campaign anew, give another file.
"""

import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from simulator.coverage import measured
from simulator.flavours import draw_plan
from simulator.run import Outcome, run

COUNTS = ("operations", "faults", "cluster")
SEEDS_PER_PROCESS_MAX = 500  # whatever runs may leave in memory does not add up over thousands


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What one seed came to. `violations`: kind and text of each. `counts`: by group and name."""

    seed: int
    flavour: str
    violations: list[list[str]]
    trace_hash: str
    counts: dict[str, dict[str, int]]
    seconds: float

    def to_json(self) -> str:
        """Return the result as one line."""
        return json.dumps(asdict(self), separators=(",", ":"))


@dataclass(slots=True)
class Totals:
    """What all seeds came to, together."""

    seeds: int = 0
    seconds: float = 0.0  # of one core
    flavours: Counter[str] = field(default_factory=Counter)
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {group: Counter() for group in COUNTS})
    failing: list[SeedResult] = field(default_factory=list)

    def add(self, result: SeedResult) -> None:
        """Take in one seed's result."""
        self.seeds += 1
        self.seconds += result.seconds
        self.flavours[result.flavour] += 1
        for group, counts in result.counts.items():
            self.counts[group].update(counts)
        if result.violations:
            self.failing.append(result)


def result_of(outcome: Outcome, seconds: float) -> SeedResult:
    """Return the line that a run of a seed's own plan comes to."""
    violations = [[finding.kind, finding.text] for finding in outcome.findings]
    plan = outcome.plan
    return SeedResult(plan.seed, plan.shape.flavour, violations, outcome.trace_hash, outcome.counts, round(seconds, 3))


def run_seed(seed: int, data_file: Path | None = None) -> SeedResult:
    """Run one seed; with `data_file` measure which branches of the consensus core it takes."""
    started = time.monotonic()
    with measured(data_file) if data_file is not None else nullcontext():
        outcome = run(draw_plan(seed))
    return result_of(outcome, time.monotonic() - started)


def finished(path: Path) -> list[SeedResult]:
    """Return the results in a file. Its last line may have been cut off by whatever ended the campaign."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = text.splitlines(keepends=True)
    return [SeedResult(**json.loads(line)) for line in lines if line.endswith("\n")]


@contextmanager
def resumed(path: Path) -> Iterator[TextIO]:
    """Open a file of results to add to it, without a line that was cut off."""
    whole = "".join(result.to_json() + "\n" for result in finished(path))
    path.write_text(whole, encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        yield file


def run_seeds(seeds: Iterable[int], jobs: int, run_seed: Callable[[int], SeedResult]) -> Iterator[SeedResult]:
    """Run seeds on `jobs` processes and yield each result as it comes."""
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    # Spawned, not forked: a worker shares nothing with this process, so that a seed takes the same course anywhere.
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, maxtasksperchild=SEEDS_PER_PROCESS_MAX) as pool:
        yield from pool.imap_unordered(run_seed, seeds)
