"""`rewind import`: events from JSON lines, each stream in its order, many streams at a time.

Every event is an append of its own, with `expected` and an ID that is always the same. So whatever was lost on the
way may be appended again, in this run or in another, and changes nothing where it is there already.
"""

import asyncio
import os
import stat
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from rewind.aio import AsyncStore
from rewind.errors import DeadlineExceeded, OutcomeUnknown, RewindError, WrongExpectedVersion
from rewind.events import NewEvent
from rewind.lines import Line, parse_line

APPEND_TIMEOUT_S = 60.0  # an election takes a second at the worst; a restart of all nodes some more
GIVE_UP_S = 300.0  # without any acknowledgement: then the cluster is gone and not just slow
EVENTS_UNDER_WAY_MAX = 2048  # read from the file and not acknowledged: enough to keep sixteen partitions busy
BURST_MAX = 64  # events of one stream in one append
BURST_BYTES_TARGET = 1024 * 1024
LINE_BYTES_MAX = 16 * 1024 * 1024  # the largest data, escaped, and the largest metadata fit
READ_BYTES = 256 * 1024
RATE_SLACK_S = 0.005  # behind its rate by less than this, the import does not sleep


class BadLineError(RewindError):
    """A line that is no event. What came before it is finished, what comes after is not looked at."""


@dataclass(slots=True)
class Counts:
    """How far an import has come. `conflicts`: streams that hold other events, with their version."""

    events: int = 0
    appended: int = 0
    already_present: int = 0
    streams: int = 0
    conflicts: list[tuple[str, int]] = field(default_factory=list)
    write_gap_s: float = 0.0


@dataclass(slots=True, eq=False)
class Item:
    """One event on its way."""

    ordinal: int
    event: NewEvent


@dataclass(slots=True, eq=False)
class Lane:
    """One stream. `present`: how many of its events were there before this run, None until that is known."""

    stream: str
    partition: int
    lines: int = 0
    present: int | None = None
    queue: deque[Item] = field(default_factory=deque)
    running: bool = False
    conflict: bool = False


class WriteGap:
    """The longest time between two acknowledgements in one partition while appends were waiting there."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._waiting: dict[int, int] = {}
        self._since_s: dict[int, float] = {}

    def sent(self, partition: int, now_s: float) -> None:
        """Note that an append waits."""
        waiting = self._waiting.get(partition, 0)
        if not waiting:
            self._since_s[partition] = now_s
        self._waiting[partition] = waiting + 1

    def acknowledged(self, partition: int, now_s: float) -> None:
        """Note that one was acknowledged."""
        self._waiting[partition] -= 1
        self.longest_s = max(self.longest_s, now_s - self._since_s[partition])
        self._since_s[partition] = now_s

    def dropped(self, partition: int) -> None:
        """Note that one will never be."""
        self._waiting[partition] -= 1


class Importer:
    """One import into one store. `report` is called with a stream that holds other events."""

    def __init__(self, store: AsyncStore, rate: float | None, report: Callable[[str, int], None]) -> None:
        self.counts = Counts()
        self._store = store
        self._rate = rate
        self._report = report
        self._lanes: dict[str, Lane] = {}
        self._room = asyncio.Semaphore(EVENTS_UNDER_WAY_MAX)
        self._gap = WriteGap()
        self._last_s = time.monotonic()  # of the last acknowledgement

    async def run(self, descriptor: int) -> None:
        """Import all lines of an open file. Raises `BadLineError`, or what ends the import for good."""
        bad: BadLineError | None = None
        try:
            async with asyncio.TaskGroup() as lanes:
                try:
                    await self._read(descriptor, lanes)
                except BadLineError as error:
                    bad = error  # told once what came before is finished
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        if bad is not None:
            raise bad

    async def _read(self, descriptor: int, lanes: asyncio.TaskGroup) -> None:
        began_s, count = time.monotonic(), 0
        number = 0
        async for text in read_lines(descriptor):
            number += 1
            if not text.strip():
                continue
            try:
                line = parse_line(text)
            except RewindError as error:
                raise BadLineError(f"line {number}: {error}") from None
            await self._room.acquire()
            self._queue(line, lanes)
            count += 1
            if self._rate is not None:
                ahead_s = began_s + count / self._rate - time.monotonic()
                if ahead_s > RATE_SLACK_S:
                    await asyncio.sleep(ahead_s)

    def _queue(self, line: Line, lanes: asyncio.TaskGroup) -> None:
        lane = self._lanes.get(line.stream)
        if lane is None:
            lane = self._lanes[line.stream] = Lane(line.stream, self._store.partition_of(line.stream))
            self.counts.streams += 1
        lane.lines += 1
        if lane.conflict:
            self._room.release()
            return
        lane.queue.append(Item(lane.lines, line.event(lane.lines)))
        if not lane.running:
            lane.running = True
            lanes.create_task(self._run_lane(lane))

    # ── one stream ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run_lane(self, lane: Lane) -> None:
        while lane.present is None:
            try:
                lane.present = await self._store.version(lane.stream, timeout=APPEND_TIMEOUT_S)
            except DeadlineExceeded as error:
                self._check_patience(error)
        while lane.queue:
            await self._append(lane, _next_burst(lane))
        lane.running = False

    async def _append(self, lane: Lane, burst: list[Item]) -> None:
        """Append a burst, as often as it takes. One at a time: what follows a refused one must not be written."""
        self._gap.sent(lane.partition, time.monotonic())
        first, last = burst[0].ordinal, burst[-1].ordinal
        while True:
            try:
                await self._store.append(
                    lane.stream, [item.event for item in burst], first - 1, timeout=APPEND_TIMEOUT_S
                )
            except WrongExpectedVersion as error:
                self._gap.dropped(lane.partition)
                if first <= error.actual < last:
                    # Another import of this file is under way: its events end within this burst.
                    lane.present = error.actual
                    lane.queue.extendleft(reversed(burst))
                else:
                    self._conflict(lane, len(burst), error.actual)
                return
            except RewindError as error:
                if not (error.retriable or isinstance(error, OutcomeUnknown)):
                    raise
                self._check_patience(error)
            else:
                self._acknowledge(lane, burst)
                return

    def _acknowledge(self, lane: Lane, burst: list[Item]) -> None:
        self._last_s = time.monotonic()
        self._gap.acknowledged(lane.partition, self._last_s)
        self.counts.write_gap_s = self._gap.longest_s
        self.counts.events += len(burst)
        assert lane.present is not None
        if burst[-1].ordinal <= lane.present:
            self.counts.already_present += len(burst)
        else:
            self.counts.appended += len(burst)
        for _ in burst:
            self._room.release()

    def _conflict(self, lane: Lane, refused: int, version: int) -> None:
        for _ in range(refused + len(lane.queue)):
            self._room.release()
        lane.queue.clear()
        lane.conflict = True
        self.counts.conflicts.append((lane.stream, version))
        self._report(lane.stream, version)

    def _check_patience(self, error: RewindError) -> None:
        if time.monotonic() - self._last_s > GIVE_UP_S:
            raise error


def _next_burst(lane: Lane) -> list[Item]:
    """Take the events of the next append: all of them are in the stream already, or none is."""
    assert lane.present is not None
    burst: list[Item] = []
    size = 0
    while lane.queue and len(burst) < BURST_MAX and size < BURST_BYTES_TARGET:
        item = lane.queue[0]
        if burst and burst[-1].ordinal == lane.present:
            break
        size += len(item.event.data)
        burst.append(lane.queue.popleft())
    return burst


# ── reading lines ───────────────────────────────────────────────────────────────────────────────────────────────────


async def read_lines(descriptor: int) -> AsyncIterator[bytes]:
    """Yield the lines of a file or pipe. A pipe that is slow does not hold up the loop."""
    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    rest = b""
    while True:
        if not is_file:
            await _readable(descriptor)
        chunk = os.read(descriptor, READ_BYTES)
        if not chunk:
            break
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        if len(rest) > LINE_BYTES_MAX:
            raise BadLineError(f"a line is longer than {LINE_BYTES_MAX} bytes")
        for line in lines:
            yield line
    if rest:
        yield rest


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)


def count_lines(descriptor: int) -> int | None:
    """Return how many events a regular file holds, None for a pipe; the file is left where it was."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    start = os.lseek(descriptor, 0, os.SEEK_CUR)
    with os.fdopen(os.dup(descriptor), "rb") as file:
        count = sum(1 for line in file if not line.isspace())
    os.lseek(descriptor, start, os.SEEK_SET)
    return count
