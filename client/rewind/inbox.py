"""What lies before the consumer of a subscription: ranges that arrived, in order, and how far it has got.

The session puts ranges in, on its thread; the consumer pops events, on its own; the shell sees to it that they do not
meet. Ranges without events are not kept but extend the one before, so that what is kept is bounded by the windows of
the subscription however slow the consumer is.
"""

from collections import deque
from collections.abc import Callable, Mapping

from rewind.cursor import Cursor
from rewind.errors import RewindError
from rewind.events import Event
from rewind.feed import Batch
from rewind.tokens import Origin


class Inbox:
    """The consumer's side of a subscription. `spent` is called with each batch whose last event was popped."""

    def __init__(self, origin: Origin, positions: Mapping[int, int], spent: Callable[[Batch], None]) -> None:
        self.ended = False
        self.error: RewindError | None = None
        self._cursor = Cursor(origin, dict(positions))
        self._spent = spent
        self._heads: dict[int, int | None] = dict.fromkeys(positions)
        self._queue: deque[Batch] = deque()
        self._current: Batch | None = None
        self._newest: dict[int, Batch] = {}  # by partition, of those that are not spent

    @property
    def checkpoint(self) -> str:
        """What was popped so far, and what was filtered out around it."""
        return self._cursor.checkpoint

    @property
    def caught_up(self) -> bool:
        """Whether every partition was seen up to where it stood when its events were (last) asked for."""
        positions = self._cursor.positions
        return all(head is not None and positions[partition] >= head for partition, head in self._heads.items())

    def put(self, batch: Batch) -> None:
        """Take in a range; it joins the partition's one before."""
        partition = batch.feed.partition
        if self.ended:
            return
        if batch.head is not None:
            self._heads[partition] = batch.head
        newest = self._newest.get(partition)
        if batch.rows.count:
            self._queue.append(batch)
            self._newest[partition] = batch
        elif newest is None:
            self._cursor.positions[partition] = batch.through
        else:
            newest.through = batch.through
            if newest is self._current:
                self._cursor.extend(batch.through)

    def pop(self) -> Event | None:
        """Return the next event, or None if there is none (yet)."""
        if self._current is None:
            if not self._queue:
                return None
            self._current = self._queue.popleft()
            self._cursor.enter(self._current.rows, self._current.through)
        event = self._cursor.pop()
        if self._cursor.at_end:
            self._finish(self._current)
        return event

    def _finish(self, batch: Batch) -> None:
        self._current = None
        if self._newest[batch.feed.partition] is batch:
            del self._newest[batch.feed.partition]
        self._spent(batch)

    def end(self, error: RewindError | None) -> None:
        """Take in that nothing comes any more: for the reason given, or because the consumer wants no more."""
        if not self.ended:
            self.ended = True
            self.error = error
            self._queue.clear()
            self._newest.clear()
