"""Stores that record what is asked of them and what they answer, for `histories.checker`.

Everything that is appended to a cluster whose logs are checked goes through one of these: what stands in a log and was
appended by nobody is a violation.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from histories.history import AppendDone, History, Outcome, ReadDone
from histories.recording import append_done, part_of, seen_event

import rewind
from rewind import ANY, AppendResult, Event, NewEvent, RewindError


def now_us() -> int:
    """Return the time of the one clock that all clients on this machine share."""
    return time.monotonic_ns() // 1000


@dataclass(slots=True)
class Record:
    """What all clients of a test were told."""

    history: History = field(default_factory=History)
    clients: int = 0
    failures: list[RewindError] = field(default_factory=list)  # of appends that were surely not written
    acknowledged: int = 0
    unknown: int = 0

    @property
    def acknowledged_at(self) -> list[float]:
        """The times of all acknowledgements, in seconds of the monotonic clock."""
        ends = [append.ended_us for append in self.history.appends if append.outcome is Outcome.OK]
        return [end / 1e6 for end in sorted(end for end in ends if end is not None)]

    def add(self, append: AppendDone) -> None:
        """Take in how an append ended."""
        self.history.add(append)
        self.acknowledged += append.outcome is Outcome.OK
        self.unknown += append.outcome is Outcome.UNKNOWN


class Recorder:
    """One client. `context` is its context's number."""

    def __init__(self, record: Record, context: int) -> None:
        record.clients += 1
        self.record = record
        self.context = context
        self._client = record.clients
        self._numbers = 0

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def begin(self, partition: int, stream: str, events: Sequence[NewEvent], expected: int) -> Callable[[Any], None]:
        """Begin to record an append; return a function to be called with its result, its error, or None for neither."""
        number, begun_us = self._next_number(), now_us()
        parts = (part_of(stream, expected, events),)

        def end(answer: Any) -> None:
            done = append_done(self._client, number, self.context, partition, begun_us, now_us(), parts, answer)
            self.record.add(done)
            if done.outcome is Outcome.FAILED:
                self.record.failures.append(answer)

        return end

    def read(self, partition: int, stream: str, begun_us: int, **answer: Any) -> None:
        """Record a read, or a question for the version, that has just been answered."""
        number = self._next_number()
        self.record.history.add(
            ReadDone(self._client, number, self.context, partition, begun_us, now_us(), stream, **answer)
        )


def named(events: NewEvent | Sequence[NewEvent]) -> list[NewEvent]:
    """Return events with an ID each."""
    listed = [events] if isinstance(events, NewEvent) else events
    return [event if event.id else replace(event, id=uuid4()) for event in listed]


def _number_of_context(contexts: list[rewind.Context]) -> int:
    return next(context.number for context in contexts if context.name == "default")


class RecordedStore:
    """A blocking store of the default context."""

    def __init__(self, store: rewind.Store, record: Record) -> None:
        self.store = store
        self.recorder = Recorder(record, _number_of_context(store.contexts()))

    def append(
        self,
        stream: str,
        events: NewEvent | Sequence[NewEvent],
        expected: int = ANY,
        timeout: float | None = None,
    ) -> AppendResult:
        """Append, and wait for the end."""
        return self.submit(stream, events, expected, timeout).result()

    def submit(
        self,
        stream: str,
        events: NewEvent | Sequence[NewEvent],
        expected: int = ANY,
        timeout: float | None = None,
    ) -> Future[AppendResult]:
        """Begin an append."""
        listed = named(events)
        end = self.recorder.begin(self.store.partition_of(stream), stream, listed, expected)
        future = self.store.submit(stream, listed, expected, timeout=timeout)
        future.add_done_callback(lambda done: end(done.exception() or done.result()))
        return future

    def read(self, stream: str) -> list[Event]:
        """Return all events of a stream."""
        begun_us = now_us()
        events = list(self.store.read(stream))
        seen = tuple(map(seen_event, events))
        self.recorder.read(self.store.partition_of(stream), stream, begun_us, events=seen)
        return events

    def version(self, stream: str) -> int:
        """Return the version of a stream."""
        begun_us = now_us()
        version = self.store.version(stream)
        self.recorder.read(self.store.partition_of(stream), stream, begun_us, version=version)
        return version


class RecordedAsyncStore:
    """An asyncio store of the default context. `open` makes one."""

    def __init__(self, store: rewind.AsyncStore, recorder: Recorder) -> None:
        self.store = store
        self.recorder = recorder

    @classmethod
    async def open(cls, store: rewind.AsyncStore, record: Record) -> "RecordedAsyncStore":
        """Return a store that records."""
        return cls(store, Recorder(record, _number_of_context(await store.contexts())))

    async def append(
        self, stream: str, event: NewEvent, expected: int = ANY, timeout_s: float | None = None
    ) -> AppendResult:
        """Append one event."""
        listed = named(event)
        end = self.recorder.begin(self.store.partition_of(stream), stream, listed, expected)
        told: Any = None
        try:
            told = await self.store.append(stream, listed, expected, timeout=timeout_s)
        except RewindError as error:
            told = error
            raise
        finally:  # a task that is cancelled is told nothing
            end(told)
        return told  # type: ignore[no-any-return]

    async def read(self, stream: str, after: int = 0, timeout_s: float | None = None) -> list[Event]:
        """Return the events of a stream with versions above `after`."""
        begun_us = now_us()
        events = [event async for event in self.store.read(stream, after=after, timeout=timeout_s)]
        seen = tuple(map(seen_event, events))
        self.recorder.read(self.store.partition_of(stream), stream, begun_us, after=after, events=seen)
        return events
