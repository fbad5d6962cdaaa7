"""What the documents of this folder have in common: prose, tables, figures with their spread, and the machine."""

import platform
import textwrap
from collections.abc import Sequence

import psutil

from rewind.bench.figures import Spread
from rewind.bench.report import shown

DPI = 110
OUR_COLOUR, OTHER_COLOUR, THIRD_COLOUR = "#c8553d", "#9aa5b1", "#1f6f8b"


WIDTH = 120


def prose(text: str) -> list[str]:
    """Return the lines of a paragraph."""
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def points(*texts: str) -> list[str]:
    """Return the lines of a list."""
    return [line for text in texts for line in textwrap.wrap(f"- {text}", WIDTH, subsequent_indent="  ")]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def cell(spread: Spread) -> str:
    """Return a figure for a table: its median, lowest and highest in brackets."""
    return f"**{shown(spread.median)}** ({shown(spread.lowest)} to {shown(spread.highest)})"


def reach(spreads: Sequence[Spread]) -> list[list[float]]:
    """Return how far down and up figures reach from their medians, as charts take it."""
    return [
        [spread.median - spread.lowest for spread in spreads],
        [spread.highest - spread.median for spread in spreads],
    ]


def this_machine() -> str:
    """Return what it was measured on."""
    memory_gib = round(psutil.virtual_memory().total / (1 << 30))
    return f"{psutil.cpu_count()} cores, {memory_gib} GiB, {platform.platform()}, Python {platform.python_version()}"
