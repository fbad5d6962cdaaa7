"""What lies before the consumer of a subscription: ranges that arrived, in order, and how far it has got.

The session puts ranges in, on its thread; the consumer pops events, on its own; the shell sees to it that they do not
meet. Ranges without events are not kept but extend the one before, so that what is kept is bounded by the windows of
the subscription however slow the consumer is.

Whoever stops at the first event that finds `caught_up` true must not wait for an event that may never come. So while
the past is still arriving, the only event that is left is held back: it may be the last of the past, and whether it is
shows once another comes behind it, or all of the past has arrived, though a filter may have taken out the rest of it.
Its range counts as spent meanwhile, for what tells may need the room. Once nothing of the past that is missing has
moved on for a while, nobody waits for it: one partition in trouble does not hold up the others.
"""

from collections import deque
from collections.abc import Callable, Mapping

from rewind.cursor import Cursor
from rewind.errors import RewindError
from rewind.events import Event
from rewind.feed import Batch
from rewind.tokens import Origin

HOLD_US = 1_000_000  # ten times as long as a busy node keeps to itself how far a filter has seen


class Inbox:
    """The consumer's side of a subscription. `spent` is called with each batch whose last event is popped or held."""

    def __init__(self, origin: Origin, positions: Mapping[int, int], spent: Callable[[Batch], None]) -> None:
        self.ended = False
        self.error: RewindError | None = None
        self._cursor = Cursor(origin, dict(positions))
        self._spent = spent
        self._heads: dict[int, int | None] = dict.fromkeys(positions)
        self._queue: deque[Batch] = deque()
        self._current: Batch | None = None
        self._newest: dict[int, Batch] = {}  # by partition, of those that were not popped to their ends
        self._catching_up = True  # until `caught_up` is true for the first time; after that nothing is held
        self._missing = set(positions)  # partitions of which not all of the past has arrived, while catching up
        self._held: Batch | None = None  # the current one, if its last event was held: it is spent already
        self._held_until_us: int | None = None  # None if that is not known yet
        self._patient = True  # something that is missing has moved on lately, as far as is known

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
        if self._catching_up:
            self._catch_up(batch)
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

    def _catch_up(self, batch: Batch) -> None:
        if self.caught_up:  # which nothing but a range can change, so no such moment is overlooked
            self._catching_up = False
            self._missing.clear()
            return
        partition = batch.feed.partition
        if partition in self._missing:
            self._patient, self._held_until_us = True, None
        head = self._heads[partition] if batch.head is None else batch.head
        if head is not None and batch.through >= head:
            self._missing.discard(partition)
        else:
            self._missing.add(partition)

    def pop(self) -> Event | None:
        """Return the next event, or None if there is none (yet), or it is held back: see `wait_us`."""
        if self._current is None:
            if not self._queue:
                return None
            self._current = self._queue.popleft()
            self._cursor.enter(self._current.rows, self._current.through)
        if self._missing and self._patient and not self._queue and self._cursor.at_last:
            self._hold(self._current)
            return None
        event = self._cursor.pop()
        if self._cursor.at_end:
            self._finish(self._current)
        return event

    def wait_us(self, now_us: int) -> int | None:
        """Return after what time to `pop` again, if it has just returned None and nothing comes; None for never."""
        if self._held is None:
            return None
        if self._held_until_us is None:
            self._held_until_us = now_us + HOLD_US
        self._patient = now_us < self._held_until_us
        return max(0, self._held_until_us - now_us)

    def _hold(self, batch: Batch) -> None:
        if self._held is None:
            self._held = batch
            self._spent(batch)

    def _finish(self, batch: Batch) -> None:
        self._current = None
        if self._newest[batch.feed.partition] is batch:
            del self._newest[batch.feed.partition]
        if self._held is None:
            self._spent(batch)
        self._held = None

    def end(self, error: RewindError | None) -> None:
        """Take in that nothing comes any more: for the reason given, or because the consumer wants no more."""
        if not self.ended:
            self.ended = True
            self.error = error
            self._queue.clear()
            self._newest.clear()
