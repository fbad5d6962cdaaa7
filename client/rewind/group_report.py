"""What the cluster must be told of a claim: how deliveries ended, bit by bit, until it is confirmed.

One report is under way at a time. What happens meanwhile waits for the next, so reports arrive in order; one that got
no answer is put back, for to say the same twice is to say it once. A report is soon due, or at once where somebody
waits for it to be confirmed, or with the next sign of life where only a filter took positions out.
"""

from dataclasses import dataclass
from typing import TypeVar

from rewind.intervals import Intervals
from rewind_cluster.groups import (
    GROUP_HEARTBEAT_US,
    SETTLE_ATTEMPTS_MAX,
    SETTLE_PARKS_MAX,
    SETTLE_RANGES_MAX,
    SETTLE_REPLAYS_MAX,
    Attempt,
    Park,
)

SETTLE_DELAY_US = 50_000  # settlements are gathered so long: 20 small entries a second at most, and little comes twice
NEVER_US = 1 << 62

News = TypeVar("News", Attempt, Park)


@dataclass(frozen=True, slots=True)
class Report:
    """One message's worth of news."""

    settled: list[tuple[int, int]]
    attempts: list[Attempt]
    parks: list[Park]
    replayed: list[int]


class Reporting:
    """The news of one claim, and the report that is under way. `due_us`: when the next one should go out."""

    def __init__(self, now_us: int) -> None:
        self.under_way: Report | None = None
        self.not_before_us = 0  # the last one failed, and the next should not go out earlier
        self._settled = Intervals()
        self._attempts: dict[int, Attempt] = {}
        self._parks: dict[int, Park] = {}
        self._replayed: set[int] = set()
        self._heartbeat_us = now_us + GROUP_HEARTBEAT_US
        self._news_due_us = NEVER_US

    @property
    def due_us(self) -> int:
        """When the next report should go out, if none is under way."""
        return min(self._heartbeat_us, self._news_due_us)

    @property
    def has_news(self) -> bool:
        """Whether there is something to be told beyond the report under way."""
        return bool(self._settled or self._attempts or self._parks or self._replayed)

    def is_told(self, position: int) -> bool:
        """Whether all that there is to be told of a position was told."""
        return not (position in self._settled or position in self._attempts or position in self._parks)

    def filtered(self, first: int, last: int) -> None:
        """Note positions that a filter took out."""
        self._settled.add(first, last)

    def settled(self, position: int, now_us: int, *, urgent: bool) -> None:
        """Note that a position was acknowledged. `urgent`: somebody waits until that is confirmed."""
        self._settled.add(position, position)
        self._attempts.pop(position, None)
        self._due_by(now_us if urgent else now_us + SETTLE_DELAY_US)

    def attempted(self, attempt: Attempt, now_us: int, *, urgent: bool) -> None:
        """Note that a position has failed, or that it is about to be handed out again."""
        self._attempts[attempt.position] = attempt
        self._due_by(now_us if urgent else now_us + SETTLE_DELAY_US)

    def parked(self, park: Park, now_us: int) -> None:
        """Note that a position is given up; its stream waits until that is confirmed."""
        self._parks[park.position] = park
        self._attempts.pop(park.position, None)
        self._due_by(now_us)

    def replayed(self, position: int, now_us: int) -> None:
        """Note that the replay of a parked position was acknowledged."""
        self._replayed.add(position)
        self._due_by(now_us + SETTLE_DELAY_US)

    def _due_by(self, due_us: int) -> None:
        self._news_due_us = min(self._news_due_us, due_us)

    # ── one at a time ───────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, now_us: int) -> Report:
        """Return the next report, which is then under way."""
        assert self.under_way is None
        self.under_way = Report(
            self._settled.take(SETTLE_RANGES_MAX),
            _take(self._attempts, SETTLE_ATTEMPTS_MAX),
            _take(self._parks, SETTLE_PARKS_MAX),
            sorted(self._replayed)[:SETTLE_REPLAYS_MAX],
        )
        self._replayed.difference_update(self.under_way.replayed)
        self._heartbeat_us = now_us + GROUP_HEARTBEAT_US
        self._news_due_us = now_us if self.has_news else NEVER_US
        return self.under_way

    def confirmed(self) -> Report:
        """Take in that the report under way was taken, and return it."""
        report, self.under_way = self.under_way, None
        assert report is not None
        return report

    def put_back(self, again_us: int) -> None:
        """Take in that the report under way got no answer: it goes out again, with what has come since."""
        report = self.confirmed()
        for first, last in report.settled:
            self._settled.add(first, last)
        for attempt in report.attempts:  # the cluster passes over those of what was settled since
            self._attempts.setdefault(attempt.position, attempt)
        for park in report.parks:
            self._parks.setdefault(park.position, park)
        self._replayed.update(report.replayed)
        self._news_due_us = self.not_before_us = again_us


def _take(news: dict[int, News], count: int) -> list[News]:
    return [news.pop(position) for position in sorted(news)[:count]]
