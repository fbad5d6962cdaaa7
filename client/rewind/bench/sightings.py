"""When which position was acknowledged or delivered: noted by two processes, joined by a third.

The processes share one monotonic clock, so what is seen in one may be held against what is seen in another.
"""

import time
from array import array
from base64 import b64decode, b64encode
from collections import defaultdict
from collections.abc import Mapping

from rewind.bench.latencies import Latencies

SIGHTINGS_MAX = 20_000_000  # 16 bytes each: more is a mistake in a measurement of latency


class Sightings:
    """Positions and when each was seen, by partition."""

    def __init__(self) -> None:
        self._positions: dict[int, array[int]] = defaultdict(lambda: array("Q"))
        self._times_s: dict[int, array[float]] = defaultdict(lambda: array("d"))
        self.count = 0

    def add(self, partition: int, position: int) -> None:
        """Note that a position is seen now."""
        self.count += 1
        if self.count <= SIGHTINGS_MAX:
            self._positions[partition].append(position)
            self._times_s[partition].append(time.monotonic())

    def encoded(self) -> dict[str, list[str]]:
        """Return them for a line of JSON."""
        return {
            str(partition): [_text(positions), _text(self._times_s[partition])]
            for partition, positions in self._positions.items()
        }


def _text(values: "array[int] | array[float]") -> str:
    return b64encode(values.tobytes()).decode("ascii")


def decoded(sightings: Mapping[str, list[str]]) -> dict[tuple[int, int], float]:
    """Return when each partition and position was seen."""
    found: dict[tuple[int, int], float] = {}
    for partition, (positions_text, times_text) in sightings.items():
        positions, times_s = array("Q", b64decode(positions_text)), array("d", b64decode(times_text))
        found.update(((int(partition), position), at_s) for position, at_s in zip(positions, times_s, strict=True))
    return found


def delays(
    acknowledged: Mapping[tuple[int, int], float], delivered: Mapping[tuple[int, int], float]
) -> tuple[Latencies, int, int]:
    """Return how long after its acknowledgement each event was delivered, how many came first, how many never.

    An event that was delivered before its append was acknowledged, to another process, counts as at once.
    """
    latencies = Latencies()
    early = missing = 0
    for place, acknowledged_s in acknowledged.items():
        delivered_s = delivered.get(place)
        if delivered_s is None:
            missing += 1
            continue
        early += delivered_s < acknowledged_s
        latencies.add(max(0.0, delivered_s - acknowledged_s))
    return latencies, early, missing
