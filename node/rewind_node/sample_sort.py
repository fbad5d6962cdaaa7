"""Sorting what is large a slice at a time: a sample says where to cut, names are dealt into buckets, each is sorted.

A checkpoint sorts up to a quarter of a million names, which at once would stall a turn for a tenth of a second.
Theory: Frazer and McKellar, "Samplesort: A Sampling Approach to Minimal Storage Tree Sorting", 1970.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator
from itertools import islice

BUCKET_NAMES = 2048  # on average; sorting as many takes less than a millisecond
SAMPLES_A_BUCKET = 8  # so that few buckets are much larger than the average, whatever the names


class SampleSort:
    """Different names on their way into order. Those given must not change until all of them are taken."""

    def __init__(self, names: Collection[str]) -> None:
        self._rest = iter(names)
        step = max(1, BUCKET_NAMES // SAMPLES_A_BUCKET)
        self._bounds = sorted(islice(names, 0, None, step))[SAMPLES_A_BUCKET::SAMPLES_A_BUCKET]
        self._buckets: list[list[str]] = [[] for _ in range(len(self._bounds) + 1)]
        self.dealt = False

    def deal(self, count_max: int) -> int:
        """Deal up to so many names and return how many it were; fewer were the last, and `dealt` says so."""
        bounds, buckets = self._bounds, self._buckets
        count = 0
        for name in islice(self._rest, count_max):
            buckets[bisect_right(bounds, name)].append(name)
            count += 1
        self.dealt = count < count_max
        return count

    def in_order(self) -> Iterator[str]:
        """Yield the names in order, when all are dealt. Each bucket is sorted when its turn comes."""
        assert self.dealt
        for bucket in self._buckets:
            bucket.sort()
            yield from bucket
