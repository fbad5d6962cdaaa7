"""The chart of findings: latencies by quantile, run by run and all together, and the runs' rates."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rewind.bench.figures import RATE, Findings
from rewind.bench.fleet import BenchError
from rewind.bench.latencies import Histogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")
INCHES = (11.0, 4.5)
DPI = 120
NINES_MAX = 5.0  # 99.999 %
POINTS = 200
NAMED_MAX = 20  # runs that have room for their number below their bar
TICKS = {0.0: "0 %", 1.0: "90 %", 2.0: "99 %", 3.0: "99.9 %", 4.0: "99.99 %", 5.0: "99.999 %"}
RUNS_AND_SHARES = {"failover": ("round", "write gaps")}  # what a workload calls its runs, and what it times
COLOURS = ("#1f6f8b", "#c8553d", "#588157", "#7b5ea7", "#b08900")


def check_path(path: Path) -> None:
    """Raise `BenchError` if no chart can be written there, before anything is measured for it."""
    if path.suffix.lower() not in SUFFIXES:
        raise BenchError(f"the chart {path} is neither a .png nor an .svg; give it one of these endings")
    if not path.absolute().parent.is_dir():
        raise BenchError(f"the chart {path} has no directory to be written to; create {path.absolute().parent}")


def draw(found: Findings, path: Path) -> None:
    """Write the chart."""
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    timed = {kind: histogram for kind, histogram in found.latencies.items() if histogram.count}
    run, timed_things = RUNS_AND_SHARES.get(found.workload, ("run", "operations"))
    left, right = figure.subplots(1, 2) if timed else (None, figure.subplots())
    if left is not None:
        _draw_latencies(left, timed, found.per_run)
        left.set_xlabel(f"share of {timed_things}")
    _draw_bars(right, _bars(found), run)
    figure.suptitle(f"rewind bench {found.workload}")
    settings = ", ".join(f"{name} {value}" for name, value in found.settings.items() if value is not None)
    figure.supxlabel(settings, fontsize="small", color="#666666")
    figure.savefig(path)


def _bars(found: Findings) -> dict[str, list[float]]:
    """Return what is worth a bar for each run: rates; where there is none, what is told first."""
    names = [name for name in found.spreads if name.endswith(RATE)] or list(found.spreads)[:1]
    return {name: [run[name] for run in found.runs] for name in names}


def _draw_latencies(axes: "Axes", timed: Mapping[str, Histogram], per_run: Sequence[Mapping[str, Histogram]]) -> None:
    for (kind, histogram), colour in zip(timed.items(), _colours(len(timed)), strict=True):
        for run in per_run:
            if kind in run and run[kind].count:
                axes.plot(*_curve(run[kind]), color=colour, alpha=0.3, linewidth=1)
        axes.plot(*_curve(histogram), color=colour, linewidth=2, label=f"{kind} (thin: single runs)")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(list(TICKS), list(TICKS.values()))
    axes.set_xlim(0.0, min(NINES_MAX, math.log10(10 * max(2, *(each.count for each in timed.values())))))
    axes.set_ylabel("ms")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()


def _curve(histogram: Histogram) -> tuple[list[float], list[float]]:
    """Return the latencies by how many nines their share has, as far as they tell; the last is the longest."""
    furthest = min(NINES_MAX, math.log10(max(histogram.count, 1)))
    nines = [furthest * point / POINTS for point in range(POINTS + 1)]
    return nines, [histogram.quantile_ms(100 * (1 - 10**-each)) for each in nines[:-1]] + [histogram.quantile_ms(100)]


def _draw_bars(axes: "Axes", bars: dict[str, list[float]], run: str) -> None:
    width = 0.8 / len(bars)
    for place, ((name, values), colour) in enumerate(zip(bars.items(), _colours(len(bars)), strict=True)):
        at = [number + place * width for number in range(len(values))]
        drawn = axes.bar(at, values, width * 0.95, color=colour, label=name)
        axes.bar_label(drawn, [f"{value:,.0f}" for value in values], padding=2, fontsize="small")
    runs = len(next(iter(bars.values())))
    named = range(0, runs, -(-runs // NAMED_MAX))
    axes.set_xticks([number + 0.4 - width / 2 for number in named], [f"{number + 1}" for number in named])
    axes.set_xlabel(run)
    axes.margins(y=0.15)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(bars), frameon=False)


def _colours(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]
