"""Latencies: counted as they come, kept as HDR histograms, merged over processes and runs.

Quantiles are never averaged: histograms are added up, and quantiles read from the sum. A histogram keeps three figures
of each value (Gil Tene's HdrHistogram), from a microsecond to ten minutes.
"""

from collections.abc import Iterable
from typing import Any

from hdrh.histogram import HdrHistogram

HIGHEST_US = 600_000_000  # ten minutes: far beyond any timeout that somebody waits for
FIGURES = 3
COARSE_FROM_US = 1 << 16  # from here on microseconds are rounded to 64, so that what counts them stays small:
COARSE_US = 1 << 6  # a tenth of a percent, which is what a histogram keeps
QUANTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


class Histogram:
    """How often which latency was seen."""

    def __init__(self) -> None:
        self._histogram: Any = HdrHistogram(1, HIGHEST_US, FIGURES)

    @property
    def count(self) -> int:
        """How many latencies it holds."""
        return int(self._histogram.get_total_count())

    def record(self, us: int, count: int) -> None:
        """Count a latency so many times; what is beyond its range counts as the range's end."""
        self._histogram.record_value(min(max(us, 1), HIGHEST_US), count)

    def quantile_ms(self, percent: float) -> float:
        """Return the latency that so many in a hundred do not exceed."""
        return float(self._histogram.get_value_at_percentile(percent)) / 1000

    def quantiles_ms(self) -> dict[str, float]:
        """Return the usual quantiles, none where nothing was counted."""
        return {name: self.quantile_ms(percent) for name, percent in QUANTILES.items()} if self.count else {}

    def encoded(self) -> str:
        """Return it as text, in HdrHistogram's own format."""
        text: bytes = self._histogram.encode()
        return text.decode("ascii")

    def add_encoded(self, text: str) -> None:
        """Add one that came as text."""
        self._histogram.decode_and_add(text.encode("ascii"))

    def add(self, other: "Histogram") -> None:
        """Add another one."""
        self._histogram.add(other._histogram)  # noqa: SLF001 - of the same class


class Latencies:
    """Counts latencies while a load runs. A histogram's own recording would cost the load several times as much."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Count one."""
        us = int(seconds * 1e6)
        if us >= COARSE_FROM_US:
            us -= us % COARSE_US
        self._counts[us] = self._counts.get(us, 0) + 1

    def histogram(self) -> Histogram:
        """Return what was counted."""
        histogram = Histogram()
        for us, count in self._counts.items():
            histogram.record(us, count)
        return histogram


def merged(encoded: Iterable[str]) -> Histogram:
    """Return the sum of histograms that came as text."""
    histogram = Histogram()
    for text in encoded:
        histogram.add_encoded(text)
    return histogram


def total(histograms: Iterable[Histogram]) -> Histogram:
    """Return the sum of histograms."""
    histogram = Histogram()
    for each in histograms:
        histogram.add(each)
    return histogram
