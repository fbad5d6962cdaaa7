"""How findings are shown: a table for people, one object for programs."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rewind.bench.figures import Findings, Spread
from rewind.cli_shown import result_table

SMALL = 100  # below it a figure is shown with decimals
TINY = 1


def as_json(found: Findings) -> dict[str, Any]:
    """Return findings as JSON has them; histograms in HdrHistogram's own encoding, to be added to others."""
    return {
        "workload": found.workload,
        "settings": dict(found.settings),
        "machine": found.machine,
        "warnings": list(found.warnings),
        "failures": dict(found.failures),
        "figures": {name: _spread(spread) for name, spread in found.spreads.items()},
        "latency_ms": {kind: histogram.quantiles_ms() for kind, histogram in found.latencies.items()},
        "histograms": {kind: histogram.encoded() for kind, histogram in found.latencies.items()},
        "runs": [dict(run) for run in found.runs],
    }


def _spread(spread: Spread) -> dict[str, float]:
    return {"median": spread.median, "lowest": spread.lowest, "highest": spread.highest}


def show(found: Findings, console: Console) -> None:
    """Print findings for people."""
    plain = not console.is_terminal
    told = ", ".join(f"{name} {value}" for name, value in found.settings.items() if value is not None)
    console.print(Text(f"{found.workload}: {told}"))
    console.print()
    console.print(_table(found.spreads, len(found.runs), plain=plain))
    for kind, histogram in found.latencies.items():
        quantiles = ", ".join(f"{name} {shown(value)}" for name, value in histogram.quantiles_ms().items())
        console.print(Text(f"{kind}, all runs together, ms: {quantiles or 'none'}"))
    for name, count in found.failures.items():
        console.print(Text(f"{name}: {count:,}", style="" if plain else "bold red"))
    for warning in found.warnings:
        console.print(Text(f"attention: {warning}", style="" if plain else "bold yellow"))


def _table(spreads: Mapping[str, Spread], runs: int, *, plain: bool) -> Table:
    table = result_table(plain=plain)
    table.add_column("FIGURE", overflow="fold")
    for column in (f"MEDIAN OF {runs}", "LOWEST", "HIGHEST"):
        table.add_column(column, justify="right")
    for name, spread in spreads.items():
        table.add_row(name, shown(spread.median), shown(spread.lowest), shown(spread.highest))
    return table


def shown(value: float) -> str:
    """Return a figure for people: as many decimals as mean something."""
    if value == int(value) or abs(value) >= SMALL:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= TINY else f"{value:.3f}"
