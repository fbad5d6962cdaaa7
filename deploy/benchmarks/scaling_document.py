"""What was found over numbers of partitions, as a document: table, chart, and a model of a larger cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
from cluster_model import US, Bound, Cost, Costs, Shape, bound
from documents import (
    DPI,
    OTHER_COLOUR,
    OUR_COLOUR,
    THIRD_COLOUR,
    cell,
    markdown_table,
    points,
    prose,
    reach,
    this_machine,
)
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from own_cluster import NODES

from rewind.bench.figures import Spread, spreads_of
from rewind.bench.report import shown

INCHES = (12.0, 4.2)
IDLE = "idle, % of a core"
LATE = "not begun in time"
COLUMNS = {
    "appends a second": "appends a second",
    "nodes, µs/event": "nodes, µs an event",
    "loops, µs/event": "their loops, µs an event",
    "clients, µs/event": "clients, µs an event",
    "commit, ms": "commit, ms",
}
LATENCIES = {
    "one at a time, p50, ms": "one at a time, median ms",
    "at a rate, p50, ms": "at {rate:,.0f} a second, median ms",
    "at a rate, p99, ms": "at {rate:,.0f} a second, p99 ms",
}
# The larger cluster.
MODEL_NODES = 12
MODEL_CORES = 4
ROUND_TRIP_MS = 0.2  # within a data centre, through two network cards and a switch


@dataclass(frozen=True, slots=True)
class Found:
    """Everything. `rounds`: figures of each round, by number of partitions. `machine`: how busy it was before each."""

    seconds: float
    rate: float
    event_bytes: int
    rounds: Mapping[int, list[Mapping[str, float]]]
    machine: list[str] = field(default_factory=list)

    def spreads(self, partitions: int) -> dict[str, Spread]:
        """Return median, lowest and highest of each figure."""
        return spreads_of(self.rounds[partitions])

    def medians(self, partitions: int) -> dict[str, float]:
        """Return the median of each figure."""
        return {name: spread.median for name, spread in self.spreads(partitions).items()}


def write(found: Found, path: Path) -> None:
    """Write the document, and the chart beside it."""
    chart = path.with_suffix(".svg")
    _draw(found, chart)
    path.write_text("\n".join(_lines(found, chart.name)) + "\n", encoding="utf-8")


def _lines(found: Found, chart: str) -> list[str]:
    return [
        "# Over numbers of partitions",
        "",
        *prose(
            f"Measured on {datetime.now(UTC):%Y-%m-%d} by `scaling.py`, see [README.md](README.md): medians of "
            f"{len(found.rounds[1])} rounds, lowest and highest in brackets. {NODES} nodes with default options and a "
            f"fresh cluster for each line; single events of {found.event_bytes} bytes to new streams, for "
            f"{found.seconds:g} s each: by 2 clients with 256 under way each, by the same at a steady rate, and by 1 "
            "client one after the other."
        ),
        "",
        *points(this_machine(), *found.machine),
        "",
        f"![Throughput, processor time and latency over numbers of partitions]({chart})",
        "",
        *_table(found, COLUMNS),
        "",
        *_table(found, {name: title.format(rate=found.rate) for name, title in LATENCIES.items()}),
        "",
        *_late(found),
        *_idle(found),
        "",
        "## What that says about machines with more cores",
        "",
        *_more_cores(found),
        "",
        f"## A model of {MODEL_NODES} nodes",
        "",
        *_model(found),
    ]


def _table(found: Found, columns: Mapping[str, str]) -> list[str]:
    rows = [
        [str(partitions), *(cell(found.spreads(partitions)[name]) for name in columns)] for partitions in found.rounds
    ]
    return markdown_table(["partitions", *columns.values()], rows)


def _late(found: Found) -> list[str]:
    late = {number: sum(each[LATE] for each in rounds) for number, rounds in found.rounds.items()}
    said = [f"{count:,.0f} with {number} partitions" for number, count in late.items() if count]
    if not said:
        return []
    return [*prose(f"Appends that the steady rate asked for and that were not begun in time: {', '.join(said)}."), ""]


def _idle(found: Found) -> list[str]:
    most = max(found.rounds)
    idle = found.spreads(most)[IDLE]
    return prose(
        f"While nobody asks anything of a cluster of {most} partitions, its busiest node uses {cell(idle)} % of a core."
    )


def _more_cores(found: Found) -> list[str]:
    most, told = max(found.rounds), costs_of(found)
    one, many = (_everything(found.medians(number)) for number in (1, most))
    return prose(
        f"Here {NODES} nodes and 2 clients share {psutil.cpu_count()} cores. What bounds the rate is the processor "
        f"time that all of them need for an event: {one:.0f} µs with one partition, {many:.0f} µs with {most}. So more "
        "partitions only cost here: each turn of a loop makes an entry for each partition instead of a larger one for "
        "one. What they buy needs more cores: a partition's leader is one loop in one thread, which spends "
        f"{told.leader.loop_us:.1f} µs on an event (a follower's {told.follower.loop_us:.1f} µs), so one partition "
        f"never takes more than {US / told.leader.loop_us:,.0f} a second, however many cores there are. Partitions "
        "that are led by several nodes have several loops."
    )


def _everything(figures: Mapping[str, float]) -> float:
    return figures["nodes, µs/event"] + figures["clients, µs/event"]


def costs_of(found: Found) -> Costs:
    """Return what an event costs a leader, a follower and a client, where they can be told apart."""
    one = found.medians(1)
    return Costs(
        Cost(one["leader's loop, µs/event"], one["leader, µs/event"]),
        Cost(one["follower's loop, µs/event"], one["follower, µs/event"]),
        one["clients, µs/event"],
    )


def bound_of(found: Found, partitions: int) -> tuple[Shape, Bound]:
    """Return the larger cluster whose nodes have as many replicas as ours have with so many partitions."""
    here = found.medians(partitions)
    shape = Shape(MODEL_NODES, MODEL_CORES, partitions * MODEL_NODES // NODES)
    costs = costs_of(found).fitted(NODES, Cost(here["loops, µs/event"], here["nodes, µs/event"]))
    costs = Costs(costs.leader, costs.follower, here["clients, µs/event"])
    share = here["commit, share of time"]
    return shape, bound(costs, shape, commit_ms=here["commit, ms"], commit_share=share, round_trip_ms=ROUND_TRIP_MS)


def _model(found: Found) -> list[str]:
    rows = []
    for partitions in found.rounds:
        shape, bounds = bound_of(found, partitions)
        rows.append(
            [
                str(shape.partitions),
                f"{shape.leads} and {shape.follows}",
                shown(bounds.events),
                shown(bounds.ceiling),
                "its loop" if bounds.is_loop else f"its {shape.cores} cores",
                f"{bounds.client_cores:.0f}",
                f"{bounds.append_ms:.1f}",
            ]
        )
    head = ["partitions", "led and followed by a node", "events a second", "without waiting for disks"]
    head += ["bound by a node's", "cores for clients", "an append takes, ms"]
    return [
        *prose(
            f"Not measured, but computed from the figures above by `cluster_model.py`: {MODEL_NODES} machines of "
            f"{MODEL_CORES} cores with a node each, {NODES} replicas of each partition, and so many partitions that a "
            "node holds as many replicas as it does here."
        ),
        "",
        *markdown_table(head, rows),
        "",
        "It assumes that",
        "",
        *points(
            "events are spread evenly over partitions, and partitions and their leaders over nodes. A load on few "
            "partitions is bound by their leaders: see above for what one takes;",
            "leader and follower differ as they do with one partition, where they are on different nodes, and together "
            "cost what they do with so many replicas on a node;",
            "each node has a disk of its own that commits as fast as the one that all nodes share here, and its loop "
            "waits for it for the same share of its time. A slower disk makes turns longer and appends slower, and "
            "fuller turns cheaper an event;",
            "clients are on machines of their own, as many as it takes, and their sessions are few beside the events;",
            "no more appends are under way for each replica than here. With more, a turn gathers more for each "
            "partition, and an event costs less, down to what it costs with one partition: lines with many are "
            "low;",
            f"a round trip between machines takes {ROUND_TRIP_MS:g} ms, and the network carries what is sent: each "
            "event leaves its leader twice;",
            f"processors are like this one, and nothing but a node runs on them. Here {NODES} nodes and the clients "
            "push each other off cores and out of caches, which makes an event dearer than it would be there.",
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Line:
    figure: str
    label: str
    colour: str


def _draw(found: Found, path: Path) -> None:
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    rate, cost, latency = figure.subplots(1, 3)
    _draw_lines(rate, found, "appends a second", [_Line("appends a second", "", OUR_COLOUR)])
    _draw_lines(
        cost,
        found,
        "processor time, µs an event",
        [
            _Line("nodes, µs/event", "three nodes", OUR_COLOUR),
            _Line("loops, µs/event", "of it their loops", THIRD_COLOUR),
            _Line("clients, µs/event", "clients", OTHER_COLOUR),
        ],
    )
    _draw_lines(
        latency,
        found,
        "time until an acknowledgement, ms",
        [
            _Line("one at a time, p50, ms", "one at a time, median", OUR_COLOUR),
            _Line("at a rate, p50, ms", f"at {found.rate:,.0f} a second, median", THIRD_COLOUR),
            _Line("at a rate, p99, ms", f"at {found.rate:,.0f} a second, p99", OTHER_COLOUR),
        ],
    )
    figure.savefig(path)


def _draw_lines(axes: Axes, found: Found, title: str, lines: Sequence[_Line]) -> None:
    partitions = list(found.rounds)
    for line in lines:
        spreads = [found.spreads(number)[line.figure] for number in partitions]
        medians = [spread.median for spread in spreads]
        axes.errorbar(
            partitions, medians, yerr=reach(spreads), marker="o", capsize=2, color=line.colour, label=line.label
        )
    axes.set_title(title, fontsize="medium")
    axes.set_xscale("log", base=2)
    axes.set_xticks(partitions, [str(number) for number in partitions])
    axes.set_xlabel("partitions")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if any(line.label for line in lines):
        axes.legend(fontsize="small")
