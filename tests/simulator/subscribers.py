"""Subscriptions as an application uses them: begun, consumed at its own pace, closed, and begun again.

The checkpoint is the application's. It keeps one now and then, so what it is given after that it forgets when it ends
or its machine goes down, and is given again in its next life. Each life of a subscription is recorded by itself.

It goes through the shipped session as the stores do: `Calls.subscribe`, the feeds of the session, `Inbox`.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from histories.history import Mark, ScanDone, ScannedEvent
from histories.recording import scanned_event

from rewind.beginning import NOW, Beginning, Now
from rewind.errors import RewindError
from rewind.feed import Batch, Feed, Tail
from rewind.inbox import Inbox
from rewind.requests import Call
from rewind.tokens import read_checkpoint
from simulator.plan import Operation
from simulator.recording import Tag

if TYPE_CHECKING:
    from simulator.applications import Application

AGAIN_US = 200_000  # a subscription that could not begin is tried again
PAUSED_US = 10_000  # how often a consumer whose machine is paused looks whether it goes on
CONSUMING_US = 20  # from the arrival of a range to the consumer's look at it, at least


class Subscriber:
    """One subscription through all its lives. `kept`: after what the next one begins."""

    def __init__(self, application: "Application", operation: Operation) -> None:
        self.life: Life | None = None
        self._application = application
        self._operation = operation
        self._lives: deque[int | None] = deque(operation.arguments["lives"])
        self._beginning = False
        self._hurried = False
        context = application.calls[operation.arguments["context"]].origin.context
        first = {"start": None, "now": NOW, "kept": application.everybody.kept(context, operation.arguments["choice"])}
        self.kept: str | Now | None = first[operation.arguments["after"]]

    @property
    def wanted(self) -> bool:
        """Whether it is open, or will be again."""
        return bool(self._lives)

    def begin(self) -> None:
        """Find out where the next life begins, and begin it."""
        application, arguments = self._application, self._operation.arguments
        if not self.wanted or self._beginning or self.life is not None or not application.ready:
            return
        calls = application.calls[arguments["context"]]
        prefix, types = arguments["prefix"], arguments["types"]
        beginning = calls.subscribe(self.kept, types, prefix, arguments["timeout_ms"] / 1000)
        tag, begun_us = application.recorder.begin_scan(self._operation), application.world.now_us
        asked = beginning.wanted()
        self._beginning = True
        left = {partition for partition, _ in asked}

        def answered(partition: int, call: Call) -> None:
            if tag not in application.recorder.open:
                return  # it has failed already
            try:
                if call.error is not None:
                    raise call.error
                self._was_told(tag, begun_us, partition, call.result)
                beginning.take(partition, call.result)
            except RewindError as error:
                self._beginning = False
                application.recorder.fail_scan(tag, error)
                application.later(AGAIN_US, self.begin)
                return
            left.remove(partition)
            if not left:
                self._open(beginning, tag, begun_us)

        for partition, request in asked:
            application.start(request, partial(answered, partition))
        if not asked:
            self._open(beginning, tag, begun_us)

    def _was_told(self, tag: Tag, begun_us: int, partition: int, newest: int) -> None:
        """Tell the history which position was said to be the newest: whoever begins anywhere but at the start asks."""
        context = self._application.calls[self._operation.arguments["context"]].origin.context
        who = *tag, context, partition, begun_us, self._application.world.now_us
        self._application.recorder.scanned(ScanDone(*who, newest, newest=newest))

    def _open(self, beginning: Beginning, tag: Tag, begun_us: int) -> None:
        application, arguments = self._application, self._operation.arguments
        self._beginning = False
        application.recorder.end_scan(tag)
        tail = beginning.tail()
        if arguments["window_bytes"]:
            tail = NarrowTail(tail, arguments["window_bytes"])
        self.life = Life(application, self._operation, tail, tag, begun_us, self.kept, self._keep)
        if self.kept is NOW:
            self._keep(self.life.checkpoint)
        open_ms = self._lives[0]
        if self._hurried:
            self.life.hurry()
        elif open_ms is not None:
            application.later(open_ms * 1000, partial(self._close, self.life))

    def _keep(self, checkpoint: str) -> None:
        application = self._application
        self.kept = checkpoint
        application.everybody.keep(application.calls[self._operation.arguments["context"]].origin.context, checkpoint)

    def _close(self, life: "Life") -> None:
        if self.life is not life or self._hurried:
            return
        life.close()
        self.life = None
        self._lives.popleft()
        self._application.later(self._operation.arguments["rest_ms"] * 1000, self.begin)

    def killed(self) -> None:
        """Forget what was not kept: the machine goes down."""
        self._beginning = False
        if self.life is not None:
            self.life.record()
            self.life = None

    # The end of the run.

    def hurry(self) -> None:
        """Stay open from now on, and consume what comes at once."""
        self._hurried = True
        if self.life is not None:
            self.life.hurry()
        self.begin()

    def finish(self) -> None:
        """Close for good."""
        self._lives.clear()
        if self.life is not None:
            self.life.close()
            self.life = None


class Life:
    """One subscription from its beginning to its end, with its consumer."""

    def __init__(
        self,
        application: "Application",
        operation: Operation,
        tail: Tail,
        tag: Tag,
        begun_us: int,
        after: str | Now | None,
        keep: Callable[[str], None],
    ) -> None:
        self._application = application
        self._operation = operation
        self._tag = tag
        self._begun_us = begun_us
        self._keep = keep
        self._feeds = application.machine.session.feeds
        self._tail = tail
        self._inbox = Inbox(tail.origin, tail.positions, self._spent)
        begun = dict.fromkeys(tail.positions, 0)
        # Where it begins is what the application says, which need not be what the client library makes of it.
        self._after = read_checkpoint(after, tail.origin, begun) if isinstance(after, str) else begun
        self._is_now = after is NOW
        if self._is_now:
            self._after = self.positions
        self._events: dict[int, list[ScannedEvent]] = {partition: [] for partition in begun}
        self._marks: dict[int, list[Mark]] = {partition: [] for partition in begun}
        self._visits = 0
        self._visit_us: int | None = None  # when the next one is due
        self._visit_ms: int = operation.arguments["visit_ms"]
        self._gulp: int = operation.arguments["gulp"]
        self._ended = False
        tail.consumer = self
        application.machine.tell(partial(self._feeds.add, tail))

    @property
    def checkpoint(self) -> str:
        """What was consumed."""
        return self._inbox.checkpoint

    @property
    def positions(self) -> dict[int, int]:
        """What the checkpoint says, by partition."""
        return read_checkpoint(self.checkpoint, self._tail.origin, self._tail.positions)

    @property
    def caught_up(self) -> bool:
        """Whether it says so."""
        return self._inbox.caught_up

    @property
    def context(self) -> int:
        """The number of its context."""
        return self._tail.origin.context

    @property
    def what(self) -> str:
        """What it is, for people."""
        return f"operation {self._operation.number} on {self._application.machine.name}"

    def _spent(self, batch: Batch) -> None:
        self._application.machine.tell(partial(self._feeds.consumed, batch))

    # What the session brings.

    def put(self, batch: Batch) -> None:
        """Take in a range."""
        self._inbox.put(batch)
        self._visit_soon()

    def end(self, error: RewindError | None) -> None:
        """Take in that the subscription has ended, for which nothing here gives reason."""
        assert error is not None
        self._application.recorder.surprise(self._tag, error)

    # The consumer.

    def hurry(self) -> None:
        """Consume at once from now on."""
        self._visit_ms, self._gulp, self._visit_us = 0, 1_000, None
        self._visit_soon()

    def _visit_soon(self, least_us: int = CONSUMING_US) -> None:
        world = self._application.world
        if self._visit_us is None and not self._ended:
            self._visit_us = world.now_us + max(self._visit_ms * 1000, least_us)
            world.at(self._visit_us, self._visit, self._visit_us)

    def _visit(self, at_us: int) -> None:
        if self._ended or self._visit_us != at_us:
            return
        self._visit_us = None
        if self._application.machine.paused:
            self._visit_soon(PAUSED_US)
            return
        for _ in range(self._gulp):
            event = self._inbox.pop()
            if event is None:
                self._wait()
                break
            self._events[event.partition].append(scanned_event(event))
        else:
            self._visit_soon()  # there may be more
        self._visits += 1
        self._mark()
        if self._visits % self._operation.arguments["keep_every"] == 0:
            self._keep(self.checkpoint)

    def _wait(self) -> None:
        """Look again when there may be something though nothing comes."""
        world = self._application.world
        wait_us = self._inbox.wait_us(world.now_us)
        if wait_us is not None:
            world.at(world.now_us + wait_us, self._visit_soon)

    def _mark(self) -> None:
        now_us = self._application.world.now_us
        for partition, position in self.positions.items():
            marks = self._marks[partition]
            if position != (marks[-1].through if marks else self._after[partition]):
                marks.append(Mark(now_us, len(self._events[partition]), position))
                self._application.saw(self.context, partition, position)

    # The end.

    def close(self) -> None:
        """End the subscription, as its consumer may at any time."""
        self.record()
        self._inbox.end(None)
        self._application.machine.tell(partial(self._feeds.remove, self._tail))

    def record(self) -> None:
        """Tell the history what came."""
        self._ended = True
        self._mark()
        wanted = self._tail.wanted
        for partition, after in self._after.items():
            self._application.recorder.scanned(
                ScanDone(
                    *self._tag,
                    self.context,
                    partition,
                    self._begun_us,
                    self._application.world.now_us,
                    after,
                    tuple(self._events[partition]),
                    tuple(self._marks[partition]),
                    after if self._is_now else None,
                    wanted.types,
                    wanted.prefix,
                )
            )


class NarrowTail(Tail):
    """A subscription with narrow windows, which a run's few events fill."""

    def __init__(self, tail: Tail, window_bytes: int) -> None:
        super().__init__(tail.origin, tail.positions, tail.wanted)
        self._window_bytes = window_bytes

    def feeds(self, random: Callable[[], float]) -> list[Feed]:
        """Return a feed for each partition."""
        return [Feed(self, partition, after, self._window_bytes, random) for partition, after in self.positions.items()]
