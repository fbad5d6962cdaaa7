"""Real time against the order of the log.

Linearizability of objects whose writes have a known order is the absence of a cycle (Gibbons and Korach, "Testing
Shared Memories", 1997): chain the writes in that order, put each read after the last write it saw and before the first
it missed, and let whatever had ended before another operation began come before it. Here all streams of a partition
share one order, that of its log: events appended to several of them become visible together, which no check of single
streams would see. So a moment is a number of places, and each operation gives two bounds:

* `shows`: when it had ended, so many places at least were filled, for its answer depends on them;
* `most`: when it took effect, so many places at most were filled; for a write that is one less than its own.

A cycle is an operation whose `most` is below what another, which had ended before it began, had shown. One sweep over
the times finds them all: the running maximum of `shows`, by the time of the end.

Two operations within the same microsecond count as concurrent.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from histories.history import Operation


@dataclass(slots=True)
class Bounds:
    """What an operation says about the moment in which it took effect. `why`: where `most` comes from, for people."""

    operation: Operation
    shows: int
    most: int
    why: str = ""


class Timeline:
    """What had been shown when."""

    def __init__(self, bounds: Iterable[Bounds]) -> None:
        self._ends_us: list[int] = []  # when more was shown than ever before,
        self._shown: list[int] = []  # how much,
        self._by: list[Bounds] = []  # and by whom
        ended = [bound for bound in bounds if bound.shows and bound.operation.ended_us is not None]
        for bound in sorted(ended, key=attrgetter("operation.ended_us")):
            if not self._shown or bound.shows > self._shown[-1]:
                assert bound.operation.ended_us is not None
                self._ends_us.append(bound.operation.ended_us)
                self._shown.append(bound.shows)
                self._by.append(bound)

    def shown_before(self, moment_us: int) -> int:
        """Return how many places at least were filled at a moment."""
        number = bisect_left(self._ends_us, moment_us)
        return self._shown[number - 1] if number else 0

    def late(self, bounds: Sequence[Bounds]) -> list[tuple[Bounds, Bounds]]:
        """Return each operation that took effect too early to be true, with the first that had shown more."""
        return [
            (bound, self._by[bisect_right(self._shown, bound.most)])
            for bound in bounds
            if self.shown_before(bound.operation.begun_us) > bound.most
        ]
