"""What runs have shown, in figures: faults against promises, operations, the longest time without a write.

The write gap of a fault is the longest time in which one partition acknowledged nothing to anyone, of those that began
while it lasted or within a second after. Faults that overlap share their gaps, and what was found in them.
"""

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from histories.history import Outcome

from chaos.faults import Fault, Means
from chaos.journal import Told
from chaos.verdict import Finding, Verdict

AFTER_US = 5_000_000  # the bound within which the cluster must serve again: until then a fault is to blame
HEALING_US = 1_000_000  # what begins later has another reason
PROMISES = {
    "1 durable": ("lost acknowledgement", "missing copy"),
    "2 linearizable": (
        *("version hole", "position hole", "timestamp order", "false refusal", "wrong place"),
        *("future read", "pipelined order", "log order"),
    ),
    "3 once": ("duplicate",),
    "4 told": ("refused then applied", "call never ends"),
    "5 whole": ("torn batch",),
    "6 fresh": ("stale read", "wrong range"),
    "7 no gap": (
        *("gap", "event order", "wrong checkpoint", "consumer stays behind", "group stays behind"),
        *("group state", "fencing", "unearned settlement", "lost settlement", "attempts"),
    ),
    "8 sound": ("phantom", "damaged replica"),
    "9 one log": ("diverged replica",),
    "10 bounded": ("grows without bound",),
    "serves": ("partition does not serve", "replica does not catch up", "cluster does not come up"),
    "stands": ("broke down", "surprise"),
}
OF_KIND = {kind: promise for promise, kinds in PROMISES.items() for kind in kinds}


@dataclass(slots=True)
class Row:
    """What is known of one kind of fault."""

    count: int = 0
    seconds: float = 0.0
    operations: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    gap_s: float = 0.0
    found: Counter[str] = field(default_factory=Counter)  # by promise

    def add(self, other: "Row") -> None:
        """Take in what another run says of the same kind."""
        self.count += other.count
        self.seconds += other.seconds
        self.operations += other.operations
        self.outcomes.update(other.outcomes)
        self.gap_s = max(self.gap_s, other.gap_s)
        self.found.update(other.found)

    def as_json(self) -> dict[str, Any]:
        """Return it for a report."""
        return {
            "count": self.count,
            "seconds": round(self.seconds, 1),
            "operations": self.operations,
            "outcomes": dict(sorted(self.outcomes.items())),
            "worst_write_gap_s": round(self.gap_s, 2),
            "found": dict(sorted(self.found.items())),
        }

    @classmethod
    def of_json(cls, told: dict[str, Any]) -> "Row":
        """Return the row that `as_json` told."""
        counted = told["count"], told["seconds"], told["operations"]
        return cls(*counted, Counter(told["outcomes"]), told["worst_write_gap_s"], Counter(told["found"]))


def rows_of(faults: Iterable[Fault], told: Told, findings: Sequence[Finding], partitions: int) -> dict[str, Row]:
    """Return the rows of one run, by the kind of fault."""
    acknowledged: dict[int, list[int]] = {partition: [] for partition in range(1, partitions + 1)}
    for append in told.history.appends:
        if append.outcome is Outcome.OK and append.ended_us is not None and append.partition in acknowledged:
            acknowledged[append.partition].append(append.ended_us)
    for times in acknowledged.values():
        times.sort()
    begun = sorted(
        [(append.begun_us, f"append {append.outcome}") for append in told.history.appends]
        + [(read.begun_us, "read") for read in told.history.reads]
    )
    rows: dict[str, Row] = {}
    for fault in faults:
        if fault.healed_us:
            row = rows.setdefault(fault.kind.name, Row())
            row.add(_row(fault, begun, acknowledged, findings))
    return rows


def _row(
    fault: Fault, begun: list[tuple[int, str]], acknowledged: dict[int, list[int]], findings: Sequence[Finding]
) -> Row:
    until_us = fault.healed_us + AFTER_US
    first, last = bisect_left(begun, (fault.begun_us, "")), bisect_right(begun, (fault.healed_us, "~"))
    outcomes = Counter(what for _, what in begun[first:last])
    found = Counter(
        OF_KIND[finding.kind]
        for finding in findings
        if finding.from_us <= until_us and finding.until_us >= fault.begun_us
    )
    gaps_us = [_gap_us(times, fault.begun_us, fault.healed_us + HEALING_US) for times in acknowledged.values()]
    took_s = (fault.healed_us - fault.begun_us) / 1e6
    return Row(1, took_s, last - first, outcomes, max(gaps_us, default=0) / 1e6, found)


def _gap_us(times: list[int], from_us: int, until_us: int) -> int:
    """Return the longest time from `from_us` on without an acknowledgement that begins by `until_us`."""
    inside = [from_us, *times[bisect_left(times, from_us) : bisect_right(times, until_us) + 1]]
    if inside[-1] < until_us:  # nothing came after
        inside.append(until_us)
    return max(after - before for before, after in pairwise(inside))


def run_as_json(
    seed: int, faults: Sequence[Fault], verdict: Verdict, rows: dict[str, Row], took_s: float
) -> dict[str, Any]:
    """Return one run for a report."""
    return {
        "seed": seed,
        "seconds": round(took_s, 1),
        "operations": verdict.told.operations,
        "events_pushed": verdict.told.counts["event of a subscription"],
        "counts": dict(sorted(verdict.told.counts.items())),
        "served_after_s": _rounded(verdict.serves_s),
        "caught_up_after_s": _rounded(verdict.caught_up_s),
        "checked_in_s": round(verdict.check_s, 1),
        "file_and_log_bytes": verdict.sizes,
        "memory_bytes": verdict.memory,
        "latent_damage": verdict.latent,
        "lost_nodes": verdict.lost,
        "ends": verdict.ends,
        "findings": [{"kind": finding.kind, "text": finding.text} for finding in verdict.findings],
        "faults": [fault.as_json() for fault in faults],
        "rows": {kind: row.as_json() for kind, row in sorted(rows.items())},
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def summary(runs: Sequence[dict[str, Any]], missing: dict[Means, str]) -> dict[str, Any]:
    """Return what all runs have shown together."""
    rows: dict[str, Row] = {}
    for run in runs:
        for kind, told in run["rows"].items():
            rows.setdefault(kind, Row()).add(Row.of_json(told))
    return {
        "runs": len(runs),
        "seeds": [run["seed"] for run in runs],
        "seconds": round(sum(run["seconds"] for run in runs), 1),
        "operations": sum(run["operations"] for run in runs),
        "events_pushed": sum(run["events_pushed"] for run in runs),
        "faults": sum(row.count for row in rows.values()),
        "findings": sum(len(run["findings"]) for run in runs),
        "served_after_s_max": max((run["served_after_s"] or 0 for run in runs), default=None),
        "caught_up_after_s_max": max((run["caught_up_after_s"] or 0 for run in runs), default=None),
        "not_available": {str(means): why for means, why in missing.items()},
        "rows": {kind: row.as_json() for kind, row in sorted(rows.items())},
    }


def write(path: Path, runs: Sequence[dict[str, Any]], missing: dict[Means, str]) -> None:
    """Write a report as a whole: whoever reads meanwhile has the one before."""
    beside = path.with_suffix(".new")
    document = {"summary": summary(runs, missing), "runs": list(runs)}
    beside.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(path)


def table(told: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a table of faults and promises, in Markdown."""
    yield (
        f"{told['runs']} runs, {told['seconds'] / 60:.0f} minutes, {told['operations']:,} operations, "
        f"{told['events_pushed']:,} events pushed, {told['faults']} faults, {told['findings']} findings"
    )
    yield ""
    yield "| fault | times | s | calls | ok | refused | failed | unknown | worst write gap | broken promises |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|"
    for kind, told_row in told["rows"].items():
        row = Row.of_json(told_row)
        appends = [row.outcomes[f"append {outcome}"] for outcome in Outcome]
        found = ", ".join(f"{promise}: {count}" for promise, count in sorted(row.found.items())) or "none"
        cells = [kind, row.count, f"{row.seconds:.0f}", row.operations, *appends, f"{row.gap_s:.1f} s", found]
        yield f"| {' | '.join(map(str, cells))} |"
    for means, why in told["not_available"].items():
        yield f"not available here, and with it the faults that need it: {means}: {why}"
