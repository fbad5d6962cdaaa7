"""Where a consumer of ranges stands: the events of the range it is in, and what its checkpoint says.

A checkpoint includes the event that was handed out last. Once that is the last of its range, the whole range counts as
seen, with all that a filter took out of it.
"""

from collections.abc import Iterator
from itertools import islice

from rewind.events import Event
from rewind.rows import Rows
from rewind.tokens import Origin, make_token


class Cursor:
    """The place of one consumer. `positions`: up to where it has seen each partition, to begin with."""

    def __init__(self, origin: Origin, positions: dict[int, int]) -> None:
        self._positions = dict(positions)
        self._origin = origin
        self._events: Iterator[Event] = iter(())
        self._left = 0
        self._through: int | None = None  # where the range ends, or None where checkpoints do not move
        self._is_cut = False  # not all of the range's events are handed out
        self._newest: Event | None = None  # handed out, and not in `_positions`

    @property
    def positions(self) -> dict[int, int]:
        """Up to where each partition was seen."""
        self._settle()
        return self._positions

    def _settle(self) -> None:
        # Only when somebody asks: most events are followed by another before that.
        event, self._newest = self._newest, None
        if event is not None and self._through is not None:
            self._positions[event.partition] = event.position if self._left or self._is_cut else self._through

    @property
    def checkpoint(self) -> str:
        """What was seen, as text."""
        return make_token(self._origin, self.positions)

    @property
    def at_end(self) -> bool:
        """Whether all events of the range that are wanted were handed out."""
        return self._left == 0

    @property
    def at_last(self) -> bool:
        """Whether all events of the range but one were handed out."""
        return self._left == 1

    def enter(self, rows: Rows, through: int | None, count_max: int | None = None) -> None:
        """Go on with a range's events, the first `count_max`. With `through` None the checkpoint stays where it is."""
        assert self.at_end
        self._settle()
        self._left = rows.count if count_max is None else min(rows.count, count_max)
        self._is_cut = self._left < rows.count
        self._events = islice(rows.events(), self._left) if self._is_cut else rows.events()
        self._through = through
        if through is not None and not rows.count:
            self._positions[rows.partition] = through

    def extend(self, through: int) -> None:
        """Let the range that is being handed out reach further, without events."""
        self._settle()
        self._through = through

    def pop(self) -> Event:
        """Return the range's next event; there must be one."""
        event = self._newest = next(self._events)
        self._left -= 1
        return event

    def rest(self) -> Iterator[Event]:
        """Yield the events that `pop` would return."""
        while self._left:  # another may have entered the next range since this one was asked last
            for event in self._events:
                self._newest = event
                self._left -= 1
                yield event
