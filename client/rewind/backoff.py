"""How long to wait before trying again: longer each time, and at random, so that clients do not come back together."""

from collections.abc import Callable

BACKOFF_FIRST_US = 5_000  # an election takes a tenth of a second: a few tries, none of them late by much
BACKOFF_MAX_US = 250_000


class Backoff:
    """Delays that double from 5 ms to 250 ms, each drawn between half and all of it. `random`: 0 up to 1."""

    __slots__ = ("_delay_us", "_random")

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._delay_us = BACKOFF_FIRST_US

    def next_us(self) -> int:
        """Return how long to wait now."""
        delay_us = int(self._delay_us * (1 + self._random()) / 2)
        self._delay_us = min(self._delay_us * 2, BACKOFF_MAX_US)
        return delay_us

    def reset(self) -> None:
        """Begin anew: something worked."""
        self._delay_us = BACKOFF_FIRST_US
