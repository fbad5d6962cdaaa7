"""When events were acknowledged in one process and delivered in another."""

import pytest

from rewind.bench.sightings import Sightings, decoded, delays


def test_sightings_survive_the_way_to_another_process() -> None:
    sightings = Sightings()
    sightings.add(1, 7)
    sightings.add(2, 7)
    sightings.add(1, 8)

    seen = decoded(sightings.encoded())

    assert list(seen) == [(1, 7), (1, 8), (2, 7)]
    assert seen[1, 7] <= seen[2, 7] <= seen[1, 8]


def test_delivery_is_timed_from_the_acknowledgement_of_the_same_event() -> None:
    acknowledged = {(1, 1): 10.0, (1, 2): 11.0, (2, 1): 12.0}
    delivered = {(2, 1): 12.5, (1, 2): 10.9, (1, 1): 10.001, (3, 1): 0.0}

    latencies, early, missing = delays(acknowledged, delivered)

    histogram = latencies.histogram()
    assert (histogram.count, early, missing) == (3, 1, 0)
    assert histogram.quantile_ms(100) == pytest.approx(500, rel=0.002)
    assert histogram.quantile_ms(60) == pytest.approx(1, rel=0.002)


def test_what_never_came_is_counted_and_not_timed() -> None:
    latencies, early, missing = delays({(1, 1): 10.0, (1, 2): 10.0}, {(1, 1): 10.1})

    assert (latencies.histogram().count, early, missing) == (1, 0, 1)
