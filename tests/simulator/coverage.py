"""Which branches of the consensus core the simulated runs have taken, and which never.

Measured by coverage.py, branch by branch, in each process that runs seeds; slow, so it is an option. A branch is a pair
of lines: where the decision stands, and where it went on.
"""

import json
import linecache
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from coverage import Coverage

import rewind_cluster

CORE_MODULES = (
    "raft",
    "elections",
    "leadership",
    "progress",
    "quorum",
    "membership",
    "raft_log",
    "read_rounds",
    "acceptance",
    "election_timer",
    "outbox",
)
CORE_FOLDER = Path(rewind_cluster.__file__).parent
CORE_FILES = tuple(str(CORE_FOLDER / f"{module}.py") for module in CORE_MODULES)


class Branch(NamedTuple):
    """A branch that was never taken: from which line of a file, to which; 0 for out of the function."""

    file: str
    line: int
    to_line: int

    def __str__(self) -> str:
        source = linecache.getline(str(CORE_FOLDER / self.file), self.line).strip()
        if self.to_line > 0:
            went = f"{self.to_line}: {linecache.getline(str(CORE_FOLDER / self.file), self.to_line).strip()}"
        else:
            went = "the end of the function"
        return f"{self.file}:{self.line}: {source}  never went on at {went}"


@dataclass(frozen=True, slots=True)
class CoreCoverage:
    """How many branches the core has, how many were taken, and the others."""

    branches: int
    taken: int
    missing: tuple[Branch, ...]


@contextmanager
def measured(data_file: Path) -> Iterator[None]:
    """Measure what runs within, and write it to `data_file` with a suffix of its own."""
    coverage = _coverage(data_file)
    coverage.start()
    try:
        yield
    finally:
        coverage.stop()
        coverage.save()


def report(data_file: Path) -> CoreCoverage:
    """Put together what all processes have written beside `data_file`."""
    coverage = _coverage(data_file)
    coverage.combine([str(data_file.parent)], keep=True)
    written = data_file.parent / "coverage.json"
    coverage.json_report(outfile=str(written))
    found = json.loads(written.read_text(encoding="utf-8"))
    totals = found["totals"]
    missing = [
        Branch(Path(file).name, line, max(to_line, 0))
        for file, one in sorted(found["files"].items())
        for line, to_line in one["missing_branches"]
    ]
    return CoreCoverage(totals["num_branches"], totals["covered_branches"], tuple(missing))


def _coverage(data_file: Path) -> Coverage:
    return Coverage(data_file=str(data_file), data_suffix=True, branch=True, include=CORE_FILES, config_file=False)
