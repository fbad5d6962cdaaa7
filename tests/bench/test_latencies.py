"""Histograms: what goes in comes out, through text and sums."""

import pytest

from rewind.bench.latencies import HIGHEST_US, Latencies, merged, total


def counted(*seconds: float) -> Latencies:
    latencies = Latencies()
    for each in seconds:
        latencies.add(each)
    return latencies


def test_quantiles_are_those_of_what_was_counted() -> None:
    latencies = counted(*(number / 1000 for number in range(1, 1001)))

    quantiles = latencies.histogram().quantiles_ms()

    assert quantiles["p50"] == pytest.approx(500, rel=0.002)
    assert quantiles["p99"] == pytest.approx(990, rel=0.002)
    assert quantiles["max"] == pytest.approx(1000, rel=0.002)


def test_merged_histograms_have_the_quantiles_of_all_and_not_their_average() -> None:
    fast = counted(*[0.001] * 990)
    slow = counted(*[1.0] * 10)

    together = merged([fast.histogram().encoded(), slow.histogram().encoded()])

    assert together.count == 1000
    assert together.quantile_ms(50) == pytest.approx(1, rel=0.002)
    assert together.quantile_ms(98) == pytest.approx(1, rel=0.002)
    assert together.quantile_ms(99.5) == pytest.approx(1000, rel=0.002)


def test_a_sum_leaves_its_parts_as_they_were() -> None:
    one, other = counted(0.002).histogram(), counted(0.004).histogram()

    both = total([one, other])

    assert (one.count, other.count, both.count) == (1, 1, 2)


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 0.000_001, 0.0005, 0.065_5, 0.065_6, 1.0, 59.9])
def test_a_latency_is_kept_within_a_tenth_of_a_percent_or_a_microsecond(seconds: float) -> None:
    kept = counted(seconds).histogram().quantile_ms(100) / 1000

    assert kept == pytest.approx(seconds, rel=0.0011, abs=1.1e-6)


def test_what_is_beyond_the_range_counts_as_its_end() -> None:
    assert counted(10_000.0).histogram().quantile_ms(100) == pytest.approx(HIGHEST_US / 1000, rel=0.002)


def test_nothing_has_no_quantiles() -> None:
    assert counted().histogram().quantiles_ms() == {}
