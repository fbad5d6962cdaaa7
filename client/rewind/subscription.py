"""The blocking subscription: an iterator that waits for events which the engine's thread brings."""

import threading
from collections.abc import Iterator
from functools import partial
from types import TracebackType
from typing import Self

from rewind.engine import Engine, now_us
from rewind.errors import RewindError
from rewind.events import Event
from rewind.feed import Batch, Tail
from rewind.inbox import Inbox


class Subscription(Iterator[Event]):
    """Every event of the context after a checkpoint, from `Store.subscribe`: first the past, then live, without end.

    Use it as a context manager, or `close` it. Events of one partition come in order, those of several as they arrive.
    It goes on through anything but `ContextNotFound`, `InvalidArgument`, `AccessDenied`, and the end of its store
    (`Closed`); what it cannot get for long it complains of in the log.
    """

    def __init__(self, engine: Engine, tail: Tail) -> None:
        self._engine = engine
        self._tail = tail
        feeds = engine.session.feeds
        inbox = Inbox(tail.origin, tail.positions, lambda batch: engine.tell(partial(feeds.consumed, batch)))
        self._waiting = _Waiting(inbox)
        tail.consumer = self._waiting
        engine.attend(self._waiting, partial(feeds.add, tail))

    @property
    def checkpoint(self) -> str:
        """What was seen, the event just yielded included, as plain text: give it to `subscribe` as `after` to go on."""
        self._engine.check_process()
        return self._waiting.checkpoint

    @property
    def caught_up(self) -> bool:
        """Whether all was yielded that was there when a replica of each partition was (last) asked for its events.

        It turns true with the last event of the past, or, if the past has none, while the first is waited for: so a
        loop may stop at an event that finds it true. To know which is the last, that event may be held back until all
        partitions were heard, but no longer than a second after the last news of the past: then it comes unknowing.
        """
        self._engine.check_process()
        return self._waiting.caught_up

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        self._engine.check_process()
        self._engine.check_thread()
        event = self._waiting.take()
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration, in whichever thread it waits. More than once does no harm."""
        if self._engine.is_ours:
            self._waiting.end(None)
            self._engine.tell(partial(self._engine.session.feeds.remove, self._tail))


class _Waiting:
    """An inbox that is filled by one thread and emptied by others, and looked at only while neither is at it."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._changed = threading.Condition()

    @property
    def checkpoint(self) -> str:
        with self._changed:
            return self._inbox.checkpoint

    @property
    def caught_up(self) -> bool:
        with self._changed:
            return self._inbox.caught_up

    def put(self, batch: Batch) -> None:
        with self._changed:
            self._inbox.put(batch)
            self._changed.notify_all()

    def end(self, error: RewindError | None) -> None:
        with self._changed:
            self._inbox.end(error)
            self._changed.notify_all()

    def take(self) -> Event | None:
        """Wait for the next event and return it, or None at the end."""
        with self._changed:
            while not self._inbox.ended:
                event = self._inbox.pop()
                if event is not None:
                    return event
                wait_us = self._inbox.wait_us(now_us())
                self._changed.wait(None if wait_us is None else wait_us / 1e6)
        if self._inbox.error is not None:
            raise self._inbox.error
        return None
