"""One worker of a client process: it appends and reads, one call after the other, and writes down how each ended.

What it believes of a stream's version comes from answers alone, its own and those of the other workers of its process.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from histories.history import Mark, Outcome, ReadDone, ScanDone, ScannedEvent
from histories.recording import append_done, part_of, scanned_event, seen_event

from chaos.journal import Journal, fields_of
from chaos.shells import Shell, origin_of, partitions_of
from chaos.wishes import CONTEXTS, FILTERS, HOT, ORDERED_CONTEXT, PADDINGS, hot_stream, new_event, together
from rewind import (
    ANY,
    AppendResult,
    DeadlineExceeded,
    Event,
    NewEvent,
    OutcomeUnknown,
    Overloaded,
    RewindError,
    StorageFull,
    Unavailable,
    WrongExpectedVersion,
)
from rewind.tokens import read_checkpoint, read_token

DUE = (DeadlineExceeded, OutcomeUnknown, Overloaded, StorageFull, Unavailable, WrongExpectedVersion)
TIMEOUTS_S = (0.5, 1.0, 3.0, 8.0)
AGAIN_MAX = 2  # how often an append whose outcome is unknown is made again, if the cluster would know it again
BURST = (3, 10)
READ_ALL_EVENTS = 150
READ_BACK = 20  # versions behind the newest that is known

KINDS = {"append": 40, "batch": 8, "many": 9, "burst": 4, "read": 22, "version": 12, "read_all": 2}


def now_us() -> int:
    """Return the time of the one clock that all processes of a run share."""
    return time.monotonic_ns() // 1000


@dataclass(slots=True)
class Beliefs:
    """What the workers of a process know of a context: versions, and a newest token by partition."""

    versions: dict[str, int] = field(default_factory=dict)
    tokens: dict[int, tuple[int, str]] = field(default_factory=dict)
    checkpoint: str | None = None

    def learn(self, stream: str, result: AppendResult) -> None:
        """Take in an acknowledgement."""
        self.versions[stream] = max(result.version, self.versions.get(stream, 0))
        if result.position > self.tokens.get(result.partition, (0, ""))[0]:
            self.tokens[result.partition] = result.position, result.token


class Worker:
    """One client of the history."""

    def __init__(
        self,
        client: int,
        shells: dict[str, Shell],
        beliefs: dict[str, Beliefs],
        journal: Journal,
        random: Random,
        pause_s: float,
        stopping: Callable[[], bool],
    ) -> None:
        self._client = client
        self._number = 0
        self._shells = shells
        self._beliefs = beliefs
        self._journal = journal
        self._random = random
        self._pause_s = pause_s
        self._stopping = stopping

    async def run(self) -> None:
        """Work until told to stop."""
        while not self._stopping():
            context = ORDERED_CONTEXT if self._random.random() < 0.25 else CONTEXTS[0]
            kind = self._random.choices(tuple(KINDS), tuple(KINDS.values()))[0]
            try:
                await _DO[kind](self, context)
            except DUE as error:
                if kind in ("read", "version", "read_all"):
                    self._journal.write("count", f"{kind} {type(error).__name__}")
            except RewindError as error:
                self._journal.write("surprise", f"{kind} in {context}: {type(error).__name__}: {error}")
            await asyncio.sleep(self._random.expovariate(1 / self._pause_s))

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _timeout(self) -> float:
        return self._random.choice(TIMEOUTS_S)

    def _expected(self, context: str, stream: str) -> int:
        known = self._beliefs[context].versions.get(stream, 0)
        return self._random.choices((ANY, known, 0, max(0, known - 1), known + 1), (8, 12, 1, 2, 1))[0]

    def _events(self, count: int) -> list[NewEvent]:
        padding = self._random.choice(PADDINGS)
        return [new_event(self._random.randrange(5), padding, by=self._client) for _ in range(count)]

    def _hot(self, context: str) -> str:
        """Return a stream that all clients append to: each partition is as likely, however many of them it has."""
        shell = self._shells[context]
        partition = self._random.choice(partitions_of(shell))
        streams = [hot_stream(number) for number in range(HOT)]
        return self._random.choice([each for each in streams if shell.store.partition_of(each) == partition] or streams)

    # Appends.

    async def _append(self, context: str) -> None:
        await self._write(context, self._hot(context), self._events(1))

    async def _batch(self, context: str) -> None:
        events = self._events(self._random.randint(2, 6))
        await self._write(context, self._hot(context), events)

    async def _write(self, context: str, stream: str, events: list[NewEvent]) -> None:
        expected, shell = self._expected(context, stream), self._shells[context]

        async def ask() -> list[AppendResult]:
            return [await shell.append(stream, events, expected, self._timeout())]

        await self._try([(stream, events, expected)], context, ask)

    async def _many(self, context: str) -> None:
        streams = together(self._random.randrange(100))
        chosen = self._random.sample(streams, self._random.randint(2, len(streams)))
        parts = [(each, self._events(self._random.randint(1, 3)), self._expected(context, each)) for each in chosen]
        shell = self._shells[context]
        await self._try(parts, context, lambda: shell.append_many(parts, self._timeout()))

    async def _try(self, parts: Sequence[tuple[str, list[NewEvent], int]], context: str, ask: Any) -> None:
        """Append; where the outcome stays unknown, and the cluster would know the same append again, once more."""
        for attempt in range(AGAIN_MAX + 1):
            end = self._begin(context, parts)
            try:
                results = await ask()
            except OutcomeUnknown as error:
                end(error)
                if attempt == AGAIN_MAX or any(expected == ANY for _, _, expected in parts):
                    return
            except RewindError as error:
                end(error)
                raise
            else:
                end(results)
                return

    async def _burst(self, context: str) -> None:
        """Let many appends to one stream be under way at once, each expecting what the one before leaves, or any."""
        stream = self._hot(context)
        first, timeout = self._expected(context, stream), self._timeout()
        futures, ends = [], []
        for place in range(self._random.randint(*BURST)):
            events, expected = self._events(1), first if first == ANY else first + place
            ends.append(self._begin(context, [(stream, events, expected)]))
            futures.append(await self._shells[context].submit(stream, events, expected, timeout))
        for future, end in zip(futures, ends, strict=True):
            try:
                result = await future
            except RewindError as error:
                end(error)
                if not isinstance(error, DUE):
                    raise
            else:
                end([result])

    def _begin(self, context: str, parts: Sequence[tuple[str, list[NewEvent], int]]) -> Callable[[Any], None]:
        """Write down that an append begins; return a function to be called with its results or its error."""
        shell, beliefs = self._shells[context], self._beliefs[context]
        number = self._next_number()
        partition = shell.store.partition_of(parts[0][0])
        listed = tuple(part_of(stream, expected, events) for stream, events, expected in parts)
        begun = self._client, number, origin_of(shell).context, partition, now_us()
        self._journal.write("append", *begun, listed)

        def end(answer: Any) -> None:
            done = append_done(*begun, now_us(), listed, answer)
            self._journal.write(
                "appended", self._client, number, done.ended_us, done.outcome, done.places, done.refusal
            )
            if done.outcome is Outcome.OK:
                for (stream, _, _), result in zip(parts, answer, strict=True):
                    beliefs.learn(stream, result)
            elif done.refusal is not None:
                beliefs.versions[done.refusal.stream] = done.refusal.actual

        return end

    # Reads.

    def _view(self, context: str, partition: int) -> tuple[dict[str, Any], bool, int]:
        """Return how to read, and what the history has to know of it: whether it is fresh, and at least how far."""
        fresh = self._random.random() < 0.6
        options: dict[str, Any] = {"timeout": self._timeout()}
        at_least = 0
        if not fresh:
            options["consistency"] = "any"
        if self._random.random() < 0.5 and partition in self._beliefs[context].tokens:
            at_least, options["at_least"] = self._beliefs[context].tokens[partition]
        return options, fresh, at_least

    def _stream(self) -> str:
        number = self._random.randrange(100)
        return hot_stream(number) if self._random.random() < 0.6 else self._random.choice(together(number))

    async def _read(self, context: str) -> None:
        shell, stream = self._shells[context], self._stream()
        partition = shell.store.partition_of(stream)
        options, fresh, at_least = self._view(context, partition)
        after = max(0, self._beliefs[context].versions.get(stream, 0) - self._random.randrange(READ_BACK))
        limit = self._random.choice((None, None, 1, 5))
        reverse = self._random.random() < 0.25
        number, begun_us = self._next_number(), now_us()
        events, token = await shell.read(stream, after=after, limit=limit, reverse=reverse, **options)
        ended_us = now_us()
        origin = origin_of(shell)
        seen = read_token(token, origin).get(partition, 0)
        asked = stream, after, limit, reverse, fresh, at_least, seen
        who = self._client, number, origin.context, partition, begun_us, ended_us
        self._journal.write("read", *fields_of(ReadDone(*who, *asked, tuple(map(seen_event, events)))))

    async def _version(self, context: str) -> None:
        shell, stream = self._shells[context], self._stream()
        partition = shell.store.partition_of(stream)
        options, fresh, at_least = self._view(context, partition)
        number, begun_us = self._next_number(), now_us()
        version = await shell.version(stream, **options)
        who = self._client, number, origin_of(shell).context, partition, begun_us, now_us()
        done = ReadDone(*who, stream, fresh=fresh, at_least=at_least, version=version)
        self._journal.write("read", *fields_of(done))
        if fresh:
            self._beliefs[context].versions[stream] = version

    async def _read_all(self, context: str) -> None:
        """Read a while through the context, from where a worker of this process has left off."""
        shell, beliefs, wanted = self._shells[context], self._beliefs[context], self._random.choice(FILTERS)
        partitions = partitions_of(shell)
        after = dict.fromkeys(partitions, 0)
        if beliefs.checkpoint is not None:
            after = read_checkpoint(beliefs.checkpoint, origin_of(shell), partitions)
        fresh = self._random.random() < 0.6
        number, begun_us = self._next_number(), now_us()
        reader = shell.store.read_all(
            after=beliefs.checkpoint,
            limit=READ_ALL_EVENTS,
            types=wanted.types,
            prefix=wanted.prefix,
            consistency="linearizable" if fresh else "any",
            timeout=self._timeout(),
        )
        events: list[Event] = []
        while (event := await shell.next_of(reader)) is not None:
            events.append(event)
        beliefs.checkpoint = reader.checkpoint
        through = read_checkpoint(reader.checkpoint, origin_of(shell), partitions)
        whole = len(events) < READ_ALL_EVENTS
        given: defaultdict[int, list[ScannedEvent]] = defaultdict(list)
        for event in events:
            given[event.partition].append(scanned_event(event))
        ended_us = now_us()
        for partition in partitions:
            who = self._client, number, origin_of(shell).context, partition, begun_us, ended_us
            mark = Mark(ended_us, len(given[partition]), through[partition])
            done = ScanDone(
                *(*who, after[partition], tuple(given[partition]), (mark,), through[partition] if whole else None),
                *(wanted.types, wanted.prefix, READ_ALL_EVENTS),
                fresh=fresh,
                whole=whole,
            )
            self._journal.write("scanned", *fields_of(done))
        self._journal.write("count", "read_all ok")


_DO: dict[str, Callable[[Worker, str], Any]] = {
    "append": Worker._append,
    "batch": Worker._batch,
    "many": Worker._many,
    "burst": Worker._burst,
    "read": Worker._read,
    "version": Worker._version,
    "read_all": Worker._read_all,
}
