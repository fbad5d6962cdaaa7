"""What a comparison found, as a document: tables, ratios, chart, and what each store does not promise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from documents import DPI, OTHER_COLOUR, OUR_COLOUR, cell, markdown_table, reach, this_machine
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from system import Facts
from workloads import BATCHES, ONE, READ, SINGLES, Sizes

from rewind.bench.figures import Spread, spreads_of
from rewind.bench.report import shown

OURS = "rewind"
INCHES = (12.0, 6.0)
LABEL_ROOM = 1.7  # of the longest bar, for the figure behind it


@dataclass(frozen=True, slots=True)
class Measure:
    """One column of the results: a figure of a workload. `more`: more of it is better."""

    title: str
    workload: str
    figure: str
    more: bool


MEASURES = (
    Measure("single events a second", SINGLES.name, "appends a second", more=True),
    Measure("one at a time, median ms", ONE.name, "append p50, ms", more=False),
    Measure("one at a time, p99 ms", ONE.name, "append p99, ms", more=False),
    Measure("events a second in appends of 100", BATCHES.name, "append events a second", more=True),
    Measure("events read a second", READ, "read events a second", more=True),
)
COSTS = (
    Measure("servers, single events", SINGLES.name, "processor time of servers, µs/event", more=False),
    Measure("clients, single events", SINGLES.name, "processor time of clients, µs/event", more=False),
    Measure("servers, appends of 100", BATCHES.name, "processor time of servers, µs/event", more=False),
    Measure("clients, appends of 100", BATCHES.name, "processor time of clients, µs/event", more=False),
)

Rounds = Sequence[Mapping[str, Mapping[str, float]]]  # of one store: figures by workload


@dataclass(frozen=True, slots=True)
class Results:
    """Everything. `left_out`: stores that were not measured, and why. `machine`: how busy it was before each round."""

    sizes: Sizes
    facts: Mapping[str, Facts]
    versions: Mapping[str, str]
    rounds: Mapping[str, Rounds]
    left_out: Mapping[str, str]
    machine: Sequence[str]

    def spread(self, store: str, measure: Measure) -> Spread:
        """Return a figure of a store over all rounds."""
        figures = [each[measure.workload] for each in self.rounds[store]]
        return spreads_of(figures)[measure.figure]


def write(results: Results, path: Path) -> None:
    """Write the document and the chart beside it."""
    chart = path.with_suffix(".svg")
    _draw(results, chart)
    path.write_text("\n".join(_lines(results, chart.name)) + "\n", encoding="utf-8")


def _lines(results: Results, chart: str) -> list[str]:
    return [
        "# Rewind beside other stores",
        "",
        *_circumstances(results),
        "",
        f"![figures of all stores]({chart})",
        "",
        *_table(results, MEASURES),
        "",
        "## Rewind in proportion",
        "",
        "How many times as fast; for latencies, how many times as long.",
        "",
        *_ratios(results),
        "",
        "## Processor time, µs for each event",
        "",
        *_table(results, COSTS),
        "",
        "## What is compared with what",
        "",
        *_comparison(results),
        *_left_out(results),
    ]


def _circumstances(results: Results) -> list[str]:
    sizes, rounds = results.sizes, len(results.rounds[OURS])
    return [
        f"Measured on {datetime.now(UTC):%Y-%m-%d} by `compare.py`, see [README.md](README.md): medians of {rounds}",
        "rounds, lowest and highest in brackets. In each round every store was started, measured and stopped in turn,",
        "its servers and clients alone on the machine.",
        "",
        f"- {this_machine()}",
        f"- {SINGLES.title}; {ONE.title}; {BATCHES.title}; each for {sizes.seconds:g} s after {sizes.warm_up_s:g} s",
        f"- {sizes.events:,} events read by one client; all events have {sizes.event_bytes} bytes",
        *(f"- {said}" for said in results.machine),
    ]


def _table(results: Results, measures: Sequence[Measure]) -> list[str]:
    rows = []
    for store in results.rounds:
        cells = [cell(results.spread(store, measure)) for measure in measures]
        rows.append([results.facts[store].title, *cells])
    return markdown_table(["", *(measure.title for measure in measures)], rows)


def _ratios(results: Results) -> list[str]:
    rows = []
    for store in results.rounds:
        if store != OURS:
            ours_to_theirs = [
                results.spread(OURS, measure).median / results.spread(store, measure).median for measure in MEASURES
            ]
            rows.append([results.facts[store].title, *(f"{ratio:.2f}" for ratio in ours_to_theirs)])
    return (
        markdown_table(["beside", *(measure.title for measure in MEASURES)], rows)
        if rows
        else ["Nothing to compare with."]
    )


def _comparison(results: Results) -> list[str]:
    return markdown_table(
        ["", "version", "how it ran", "acknowledged means", "not promised"],
        [
            [facts.title, results.versions[store], facts.settings, facts.promises, facts.not_promised]
            for store, facts in results.facts.items()
            if store in results.rounds
        ],
    )


def _left_out(results: Results) -> list[str]:
    if not results.left_out:
        return []
    return ["", "Left out:", "", *(f"- {results.facts[store].title}: {why}" for store, why in results.left_out.items())]


def _draw(results: Results, path: Path) -> None:
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    stores = list(results.rounds)
    names = [results.facts[store].title for store in stores]
    for axes, measure in zip(figure.subplots(2, 3).flat, [*MEASURES, None], strict=True):
        if measure is None:
            axes.axis("off")
            continue
        spreads = [results.spread(store, measure) for store in stores]
        medians = [spread.median for spread in spreads]
        colours = [OUR_COLOUR if store == OURS else OTHER_COLOUR for store in stores]
        bars = axes.barh(names, medians, xerr=reach(spreads), color=colours, ecolor="#444444", capsize=2)
        axes.bar_label(bars, [shown(median) for median in medians], padding=6, fontsize="small")
        axes.invert_yaxis()
        axes.set_xlim(right=LABEL_ROOM * max(medians))
        axes.set_xticks([])  # each bar has its figure behind it
        axes.set_title(f"{measure.title}\n({'more' if measure.more else 'less'} is better)", fontsize="medium")
    figure.savefig(path)
