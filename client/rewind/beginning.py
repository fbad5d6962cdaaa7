"""Where a subscription begins: at the start, at a checkpoint, or now.

Now is when the partitions' leaders were asked, which is before `subscribe` returns: whatever is appended after that is
seen. A checkpoint is held against the leaders' positions, for one that is beyond them is a mistake that would otherwise
look like a context in which nothing happens.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from rewind.errors import InvalidArgument
from rewind.feed import Tail
from rewind.inquiries import View, get_position
from rewind.requests import Request
from rewind.rows import Filter
from rewind.tokens import Origin


class Now(Enum):
    """The type of `NOW`."""

    NOW = "now"


NOW: Final = Now.NOW
"""`after` of a subscription that takes only what is appended from now on."""


class Beginning:
    """The beginning of a subscription: answer what `wanted` returns through `take`, then use `tail`.

    `positions`: after which to begin in each partition, None for now.
    """

    def __init__(self, origin: Origin, positions: Mapping[int, int | None], filtered: Filter, timeout_us: int) -> None:
        self._origin = origin
        self._positions = dict(positions)
        self._filter = filtered
        self._timeout_us = timeout_us

    def wanted(self) -> list[tuple[int, Request]]:
        """Return the requests that must be answered before it is known where to begin, by partition."""
        return [
            (partition, get_position(self._origin, partition, View(fresh=True, at_least=0), self._timeout_us))
            for partition, position in self._positions.items()
            if position != 0
        ]

    def take(self, partition: int, newest: int) -> None:
        """Take in a partition's newest position. Raises `InvalidArgument` if the checkpoint is beyond it."""
        position = self._positions[partition]
        if position is None:
            self._positions[partition] = newest
        elif position > newest:
            raise InvalidArgument(
                f"the checkpoint says position {position} of partition {partition}, and its newest event is at "
                f"{newest}; give one that this cluster returned"
            )

    def tail(self) -> Tail:
        """Return the subscription."""
        return Tail(self._origin, self.positions(), self._filter)

    def positions(self) -> dict[int, int]:
        """Return after which position to begin, by partition."""
        return {partition: position or 0 for partition, position in self._positions.items()}
