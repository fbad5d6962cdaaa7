"""Figures: from what processes told of each run to medians and spread over the runs.

Rates and latencies come from what the clients saw; a rate is over the time from the first client's beginning to the
last one's last answer. Processor time and memory are of the nodes that run on this machine and of the clients; where
no node does, the nodes' figures are left out, never guessed.
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewind.bench.latencies import Histogram, merged, total
from rewind.bench.nodes import Usage
from rewind.bench.tasks import Outcome

MIB = 1 << 20
US = 1_000_000
RATE = "a second"  # how the names of rates end
UNSTABLE = 0.2  # runs that lie further apart than this share of their median are worth a warning


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what the client processes told, and what local nodes had used before and after it.

    `more`: histograms that were made of several processes' tellings, by what they time; `notes`: counts, likewise.
    `event_bytes` is None where nothing was written.
    """

    outcomes: Sequence[Outcome]
    before: Usage
    after: Usage
    event_bytes: int | None = None
    more: Mapping[str, Histogram] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the first client's beginning to the last one's last answer."""
        return max(each.ended_s for each in self.outcomes) - min(each.began_s for each in self.outcomes)

    @property
    def done(self) -> Counter[str]:
        """Acknowledged or answered operations, by kind."""
        return sum((Counter(each.done) for each in self.outcomes), Counter())

    @property
    def events(self) -> Counter[str]:
        """Their events, by kind."""
        return sum((Counter(each.events) for each in self.outcomes), Counter())

    @property
    def failures(self) -> Counter[str]:
        """What went wrong, and how often; operations that a rate asked for and that never began are among it."""
        failures = sum((Counter(each.failures) for each in self.outcomes), Counter())
        failures["not begun in time"] += sum(each.not_begun for each in self.outcomes)
        return +failures

    def latencies(self) -> dict[str, Histogram]:
        """Return a histogram of each kind of operation, of all clients."""
        kinds = sorted({kind for each in self.outcomes for kind in each.latencies})
        return {
            kind: merged(each.latencies[kind] for each in self.outcomes if kind in each.latencies) for kind in kinds
        } | dict(self.more)


def figures_of(run: Run) -> dict[str, float]:
    """Return the figures of one run, by name; what is not known is not in it."""
    figures: dict[str, float] = {"seconds": run.seconds}
    for kind, count in run.done.items():
        figures[f"{kind}s {RATE}"] = count / run.seconds
    for kind, count in run.events.items():
        if count != run.done.get(kind):
            figures[f"{kind} events {RATE}"] = count / run.seconds
    for kind, histogram in run.latencies().items():
        for name, value in histogram.quantiles_ms().items():
            figures[f"{kind} {name}, ms"] = value
    return figures | _costs(run) | _memory(run) | _disk(run) | {name: float(count) for name, count in run.notes.items()}


def _costs(run: Run) -> dict[str, float]:
    events = sum(run.events.values()) or sum(run.done.values())
    if not events:
        return {}
    nodes = {
        name: used_s - run.before.cpu_s[name]
        for name, used_s in run.after.cpu_s.items()
        if name in run.before.cpu_s and used_s >= run.before.cpu_s[name]
    }
    clients_s = sum(each.cpu_s for each in run.outcomes)
    costs = {f"processor time of {name}, µs/event": used_s / events * US for name, used_s in nodes.items()}
    costs["processor time of clients, µs/event"] = clients_s / events * US
    if nodes:
        costs["processor time of all, µs/event"] = (clients_s + sum(nodes.values())) / events * US
    return costs


def _memory(run: Run) -> dict[str, float]:
    memory = {f"RssAnon of {name}, MiB": held / MIB for name, held in run.after.anonymous_bytes.items()}
    early, most = (
        max(held) for held in zip(*((each.early_bytes, each.most_bytes) for each in run.outcomes), strict=True)
    )
    if early != most:
        memory["RssAnon of a client, early, MiB"] = early / MIB
    memory["RssAnon of a client, most, MiB"] = most / MIB
    return memory


def _disk(run: Run) -> dict[str, float]:
    written = run.events.get("append", 0) * (run.event_bytes or 0)
    if not written:
        return {}
    return {
        f"disk of {name}, bytes per byte of events": (held - run.before.disk_bytes[name]) / written
        for name, held in run.after.disk_bytes.items()
        if name in run.before.disk_bytes
    }


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several runs."""

    median: float
    lowest: float
    highest: float

    @property
    def is_wide(self) -> bool:
        """Whether the runs lie far apart."""
        return self.highest - self.lowest > UNSTABLE * abs(self.median)


def spreads_of(figures: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Return the spread of each figure that every run has."""
    names = [name for name in figures[0] if all(name in each for each in figures)]
    return {
        name: Spread(statistics.median(values), min(values), max(values))
        for name in names
        for values in [[each[name] for each in figures]]
    }


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a benchmark found. `settings`: what was asked for; `machine`: how busy it was before."""

    workload: str
    settings: Mapping[str, Any]
    machine: str
    warnings: Sequence[str]
    runs: Sequence[Mapping[str, float]]
    spreads: Mapping[str, Spread]
    latencies: Mapping[str, Histogram]
    per_run: Sequence[Mapping[str, Histogram]]
    failures: Mapping[str, int]

    @property
    def is_clean(self) -> bool:
        """Whether nothing that was acknowledged is missing."""
        return not any(name in self.failures for name in GRAVE)


GRAVE = ("lost", "doubled", "never delivered", "events missing")  # what no run may show, whatever its speed


def findings_of(
    workload: str, settings: Mapping[str, Any], machine: str, warnings: Sequence[str], runs: Sequence[Run]
) -> Findings:
    """Return what runs found."""
    failures = sum((run.failures for run in runs), Counter[str]())
    for run in runs:
        failures.update({name: count for name, count in run.notes.items() if name in GRAVE and count})
    figures = [figures_of(run) for run in runs]
    spreads = spreads_of(figures)
    per_run = [run.latencies() for run in runs]
    return Findings(
        workload=workload,
        settings=settings,
        machine=machine,
        warnings=[*warnings, *_warnings(spreads, failures)],
        runs=figures,
        spreads=spreads,
        latencies=totals(per_run),
        per_run=per_run,
        failures=failures,
    )


def totals(per_run: Sequence[Mapping[str, Histogram]]) -> dict[str, Histogram]:
    """Return the histogram of each kind over all runs."""
    kinds = dict.fromkeys(kind for each in per_run for kind in each)
    return {kind: total(each[kind] for each in per_run if kind in each) for kind in kinds}


def _warnings(spreads: Mapping[str, Spread], failures: Mapping[str, int]) -> list[str]:
    warnings = [
        f"the runs' {name} lie far apart ({spread.lowest:,.0f} to {spread.highest:,.0f}): repeat it on a quiet machine"
        for name, spread in spreads.items()
        if name.endswith(RATE) and spread.is_wide
    ]
    if failures.get("not begun in time"):
        warnings.append("the rate was not reached: what was not begun in time is in no latency; lower --rate")
    return warnings
