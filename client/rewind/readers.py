"""What reads of the blocking store return: iterators that ask for what comes next while what came is consumed.

An error ends none of them. Whoever asks again gets what comes next, for what failed is then asked for again: a read
that went wrong never seems to have come to its end.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from rewind.engine import Engine
from rewind.events import Event
from rewind.inquiries import Chunk
from rewind.listing import StreamList
from rewind.reading import StreamRead
from rewind.scanning import ContextRead

Answer = Future[Any]


class EventReader(Iterator[Event]):
    """An iterator over events. While one chunk is consumed the next is on its way."""

    def __init__(self, engine: Engine, read: StreamRead) -> None:
        self._engine = engine
        self._read = read
        self._events: deque[Event] = deque()
        self._next: Answer | None = None
        self._ask()

    @property
    def token(self) -> str:
        """A token for `at_least`: a read with it sees all that this one has seen."""
        return self._read.token

    def _ask(self) -> None:
        request = self._read.next_request()
        self._next = None if request is None else self._engine.start(request)

    def __next__(self) -> Event:
        while not self._events:
            if self._next is None:
                self._ask()
            if self._next is None:
                raise StopIteration
            self._events.extend(self._read.take(self._answer(self._next)))
            self._ask()
        return self._events.popleft()

    def _answer(self, future: Answer) -> Chunk:
        try:
            return self._engine.wait(future)  # type: ignore[no-any-return] # a future of anything
        finally:
            if future.done():  # else the wait was interrupted, and the chunk is still on its way
                self._next = None


class ContextReader(Iterator[Event]):
    """An iterator over a context's events. While one chunk is consumed a few more are on their way."""

    def __init__(self, engine: Engine, read: ContextRead) -> None:
        self._engine = engine
        self._read = read
        self._asked: deque[tuple[int, Answer]] = deque()
        self._ask()

    @property
    def checkpoint(self) -> str:
        """What was read so far, the event just yielded included, as plain text; in reverse, the newest there was."""
        return self._read.checkpoint

    def _ask(self) -> None:
        while (wanted := self._read.next_request()) is not None:
            partition, request = wanted
            try:
                self._asked.append((partition, self._engine.start(request)))
            except BaseException:
                self._read.put_back(partition)
                raise

    def __iter__(self) -> Iterator[Event]:  # noqa: PYI034 - a generator, for the speed
        """Return an iterator that goes on where this one is; a loop over it costs less than as many calls of `next`.

        After an error go on with a new loop, or `next`.
        """
        yield from self._read.rest()
        while self._go_on():
            yield from self._read.rest()

    def __next__(self) -> Event:
        while (event := self._read.pop()) is None:
            if not self._go_on():
                raise StopIteration
        return event

    def _go_on(self) -> bool:
        """Take in the next chunk; return False at the end."""
        self._ask()
        if not self._asked or self._read.full:
            return False
        partition, future = self._asked[0]
        try:
            self._read.take(partition, self._engine.wait(future))
        except BaseException:
            if future.done():  # else the wait was interrupted, and the chunk is still on its way
                self._asked.popleft()
                self._read.put_back(partition)
            raise
        self._asked.popleft()
        self._ask()
        return True


class NameReader(Iterator[str]):
    """An iterator over the names of streams."""

    def __init__(self, engine: Engine, listing: StreamList) -> None:
        self._engine = engine
        self._listing = listing
        self._names: deque[str] = deque()

    def __next__(self) -> str:
        while not self._names:
            asked = [(partition, self._engine.start(request)) for partition, request in self._listing.wanted()]
            for partition, future in asked:
                self._listing.take(partition, self._engine.wait(future))
            self._names.extend(self._listing.pop())
            if not self._names and not asked:
                raise StopIteration
        return self._names.popleft()
