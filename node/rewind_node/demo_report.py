"""What the demo prints in the end."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from rewind_node.demo_histories import Comparison, Histories


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a demo went. `summary` is the import's; `killed` is None if the import was over too soon."""

    summary: dict[str, Any]
    killed: str | None
    led: tuple[int, ...]
    expected: Histories
    actual: Histories
    comparison: Comparison


def report(outcome: Outcome, console: Console) -> None:
    """Print the outcome as a table, and its verdict as a sentence."""
    led = f"{outcome.killed} (led {', '.join(map(str, outcome.led))})" if outcome.killed else "none: over too soon"
    gap_ms = outcome.summary.get("write_gap_ms")
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    for label, value in (
        ("events in", f"{outcome.expected.events:,}"),
        ("streams", f"{outcome.expected.streams:,}"),
        ("seconds", f"{outcome.summary.get('seconds', 0.0):.1f}"),
        ("leader killed", led),
        ("write gap", "unknown" if gap_ms is None else f"{gap_ms:,.0f} ms"),
        ("events back", f"{outcome.actual.events:,}"),
        ("lost", _count(outcome.comparison.lost)),
        ("duplicated", _count(outcome.comparison.duplicated)),
        ("streams out of order", _count(outcome.comparison.out_of_order)),
    ):
        table.add_row(label, value)
    console.print()
    console.print(table)
    console.print()
    if outcome.comparison.clean:
        console.print("[bold green]Nothing was lost, and nothing happened twice.[/]")
    else:
        console.print("[bold red]What came back is not what went in.[/]")


def _count(number: int) -> str:
    return "0" if number == 0 else f"[bold red]{number:,}[/]"
