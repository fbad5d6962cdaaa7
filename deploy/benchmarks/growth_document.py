"""What was found while a cluster grew, as a document: tables and a chart."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from documents import DPI, OTHER_COLOUR, OUR_COLOUR, THIRD_COLOUR, markdown_table, points, prose, this_machine
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from own_cluster import MEGABYTE, NODES

from rewind.bench.report import shown

INCHES = (12.0, 3.8)
HEAD = (
    "events held",
    "events a second",
    "nodes, µs an event",
    "clients, µs an event",
    "one at a time, median ms",
    "p99 ms",
    "a node's memory, MB",
    "its store, GB",
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what was held after it, what it took, and what one append took at its end.

    `nodes_us`, `clients_us`: processor time of all of them for each event. Memory (without mapped files) and disk are
    those of the node that uses most.
    """

    held: int
    events_a_second: float
    nodes_us: float
    clients_us: float
    one_p50_ms: float
    one_p99_ms: float
    memory_bytes: int
    disk_bytes: int


@dataclass(slots=True)
class Found:
    """Everything: steps with a new stream for each event, then steps of larger appends."""

    event_bytes: int
    seconds: float
    streams: list[Step] = field(default_factory=list)
    sizes: list[Step] = field(default_factory=list)
    read_a_second: float = 0.0
    restart_s: float = 0.0
    minutes: float = 0.0  # of all steps together
    elections: int = 0  # in that time
    machine: str = ""


def write(found: Found, path: Path) -> None:
    """Write the document, and the chart beside it."""
    chart = path.with_suffix(".svg")
    _draw(found.streams, chart)
    path.write_text("\n".join(_lines(found, chart.name)) + "\n", encoding="utf-8")


def _lines(found: Found, chart: str) -> list[str]:
    first, last = found.streams[0], found.streams[-1]
    dearer, longer = last.nodes_us / first.nodes_us, last.one_p50_ms / first.one_p50_ms
    elections = "No partition" if not found.elections else f"{found.elections:,} times a partition"
    return [
        "# While a cluster grows",
        "",
        *prose(
            f"Measured on {datetime.now(UTC):%Y-%m-%d} by `growth.py`, see [README.md](README.md): one run of {NODES} "
            f"nodes with default options that held nothing at first; events of {found.event_bytes} bytes. Each line is "
            "all that came since the line before, appended by two clients as fast as it was taken, with what nodes do "
            f"behind it; at its end one client appended one after the other for {found.seconds:g} s."
        ),
        "",
        *points(this_machine(), f"before: {found.machine}"),
        "",
        f"![Throughput, processor time and latency over streams]({chart})",
        "",
        "## New streams of one event",
        "",
        *markdown_table(HEAD, [_row(step) for step in found.streams]),
        "",
        *prose(
            f"With {last.held:,} streams an event costs the nodes {dearer:.2f} times what it does with {first.held:,}, "
            f"and one append by itself takes {longer:.2f} times as long. To know that a stream is new, its name is "
            "looked for in the filters of all segments, of which there are more the more streams there are; and for "
            "each power of eight that they grow by each row is merged once more (`node/README.md`)."
        ),
        "",
        *_of_sizes(found),
        "## Elections, a read, and a restart",
        "",
        *prose(
            f"{elections} elected a leader anew in these {found.minutes:.0f} minutes of load, in which no node failed."
        ),
        "",
        *prose(
            f"At the end one client read the oldest events at {found.read_a_second:,.0f} a second. All nodes were "
            f"stopped and started; {found.restart_s:.1f} s after that an append was acknowledged."
        ),
    ]


def _of_sizes(found: Found) -> list[str]:
    if not found.sizes:
        return []
    return [
        "## Appends of a hundred events, until the stores were as large as asked",
        "",
        *markdown_table(HEAD, [_row(step) for step in found.sizes]),
        "",
    ]


def _row(step: Step) -> list[str]:
    return [
        f"{step.held:,}",
        f"{step.events_a_second:,.0f}",
        shown(step.nodes_us),
        shown(step.clients_us),
        shown(step.one_p50_ms),
        shown(step.one_p99_ms),
        shown(step.memory_bytes / MEGABYTE),
        shown(step.disk_bytes / (1000 * MEGABYTE)),
    ]


def _draw(steps: Sequence[Step], path: Path) -> None:
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    rate, cost, latency = figure.subplots(1, 3)
    held = [step.held / MEGABYTE for step in steps]
    _draw_lines(rate, "appends a second", held, {"": ([step.events_a_second for step in steps], OUR_COLOUR)})
    _draw_lines(
        cost,
        "processor time, µs an event",
        held,
        {
            "three nodes": ([step.nodes_us for step in steps], OUR_COLOUR),
            "clients": ([step.clients_us for step in steps], OTHER_COLOUR),
        },
    )
    _draw_lines(
        latency,
        "one append after the other, ms",
        held,
        {
            "median": ([step.one_p50_ms for step in steps], OUR_COLOUR),
            "p99": ([step.one_p99_ms for step in steps], THIRD_COLOUR),
        },
    )
    figure.savefig(path)


def _draw_lines(axes: Axes, title: str, held: Sequence[float], lines: dict[str, tuple[Sequence[float], str]]) -> None:
    for label, (values, colour) in lines.items():
        axes.plot(held, values, marker="o", color=colour, label=label)
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("streams held, millions")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend(fontsize="small")
