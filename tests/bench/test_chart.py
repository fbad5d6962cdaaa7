"""Charts of what was found."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from rewind.bench import chart
from rewind.bench.figures import Findings, spreads_of, totals
from rewind.bench.latencies import Histogram, Latencies


def findings(per_run: list[dict[str, Histogram]], runs: list[Mapping[str, float]]) -> Findings:
    return Findings("append", {}, "quiet", [], runs, spreads_of(runs), totals(per_run), per_run, {})


def histogram(*milliseconds: float) -> Histogram:
    latencies = Latencies()
    for each in milliseconds:
        latencies.add(each / 1000)
    return latencies.histogram()


@pytest.mark.parametrize(
    "found",
    [
        findings([{"append": histogram(1, 2, 3)}, {"append": histogram(1, 9)}], [{"appends a second": 5.0}] * 2),
        findings([{"write gap": histogram(90)}], [{"write gap, longest, ms": 90.0}]),
        findings([{}, {}], [{"read events a second": 5.0}] * 2),
        findings([{"append": histogram()}], [{"seconds": 1.0}]),  # nothing was acknowledged
    ],
)
def test_whatever_was_found_can_be_drawn(found: Findings, tmp_path: Path) -> None:
    chart.draw(found, tmp_path / "chart.png")
    chart.draw(found, tmp_path / "chart.svg")

    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "chart.svg").read_text()


def test_a_curve_ends_with_the_longest() -> None:
    nines, latencies_ms = chart._curve(histogram(*range(1, 101)))

    assert latencies_ms[0] == pytest.approx(1, rel=0.01)
    assert latencies_ms[-1] == pytest.approx(100, rel=0.01)
    assert nines[-1] == pytest.approx(2)
