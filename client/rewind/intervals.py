"""Sets of positions, kept as ranges that neither overlap nor touch."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable


class Intervals:
    """A set of positions. It is as large as it has holes, whatever the positions."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int) -> None:
        """Add the positions from `first` to `last`."""
        assert first <= last
        low = bisect_left(self._lasts, first - 1)  # the first range that reaches as far as this one's beginning
        high = bisect_right(self._firsts, last + 1)  # the first range that begins after this one's end
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def __contains__(self, position: int) -> bool:
        place = bisect_left(self._lasts, position)
        return place < len(self._lasts) and self._firsts[place] <= position

    def __len__(self) -> int:
        """Return how many ranges there are."""
        return len(self._firsts)

    def take(self, count: int) -> list[tuple[int, int]]:
        """Remove the lowest ranges, so many at most, and return them."""
        taken = list(zip(self._firsts[:count], self._lasts[:count], strict=True))
        del self._firsts[:count], self._lasts[:count]
        return taken
