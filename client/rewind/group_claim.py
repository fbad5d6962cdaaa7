"""One partition in a member's hands: which of its events may be handed out now, and what became of those that were.

Events of one stream are handed out one after the other, each when the one before is settled; the streams do not wait
for each other. An event that was given back waits, and only its stream waits with it. After `max_attempts` it is parked
and its stream goes on.

An event may kill its consumer. The cluster counts that against the lowest position that is neither settled nor waiting,
so that must be the guilty one: before an event is handed out again the cluster is told so and has confirmed it; and
nothing else is handed out between the end of such an event and the confirmation of that end. For a moment after a
claim with attempts, all events are treated so, one by one: any of them may be the one that killed the last owner.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush

from rewind.events import Event
from rewind.feed import Batch
from rewind.group_report import NEVER_US, Reporting
from rewind.intervals import Intervals
from rewind_cluster.groups import GROUP_LEASE_US, GROUP_WINDOW, REASON_CHARACTERS_MAX, Attempt, Park

OPEN_BYTES_MAX = 4 * 1024 * 1024  # of events that were begun and are not settled; as much again is on its way
LEASE_TRUST_US = GROUP_LEASE_US * 4 // 5  # an owner that heard nothing for longer may have been replaced
CAREFUL_US = 1_000_000  # some hundred events one by one: more than an owner settles between two reports
UNPARKED_RETRY_US = 30_000_000  # an event that finds no room among the parked is parked again so much later


class State(Enum):
    """Where an event stands that was begun and is not settled."""

    QUEUED = "behind another event of its stream"
    READY = "may be handed out"
    IN_HAND = "with the application"
    WAITING = "until its delay is over"
    RETURNING = "the cluster is told that it will be handed out again"
    PARKING = "the cluster is told that it is given up"
    SETTLED = "dealt with"


@dataclass(slots=True, eq=False)
class Held:
    """An event that was begun and is not settled. `attempts`: how often it has failed."""

    claim: "Claim"
    event: Event
    attempts: int
    replayed: bool
    state: State = State.QUEUED
    due_us: int = 0
    reason: str = ""

    @property
    def position(self) -> int:
        """The event's position."""
        return self.event.position


@dataclass(frozen=True, slots=True)
class Granted:
    """What a member is told when its claim is granted."""

    epoch: int
    checkpoint: int
    settled: Sequence[tuple[int, int]]
    attempts: Sequence[tuple[int, int]]
    replays: Sequence[int]


class Claim:
    """A partition that a member holds. `spent` is called with each range whose last event was begun.

    `now_us`: when the claim was asked for, which is when its lease began at the earliest.
    """

    def __init__(
        self, partition: int, granted: Granted, max_attempts: int, spent: Callable[[Batch], None], now_us: int
    ) -> None:
        self.partition = partition
        self.epoch = granted.epoch
        self.checkpoint = granted.checkpoint
        self.confirmed_us = now_us
        self.reporting = Reporting(now_us)
        self.replays = set(granted.replays)  # asked for, and not begun
        self.replaying: set[int] = set()  # begun, and not confirmed to be settled
        self.stop_by_us: int | None = None  # nothing is handed out any more; it is given up then at the latest
        self.releasing = False
        self.lost = False
        self.in_hand = 0
        self.looked_for_us = 0  # when the session will look at it
        self.full_since_us = 0  # since when nothing was settled while more could have been begun
        self._max_attempts = max_attempts
        self._spent = spent
        self._settled = Intervals([*([(1, granted.checkpoint)] if granted.checkpoint else []), *granted.settled])
        self._attempts = dict(granted.attempts)
        self._careful_until_us = NEVER_US if granted.attempts else 0  # it ends some time after the first event
        self._returning = 0  # how many events the cluster is being told of that will be handed out again
        self._suspects: set[int] = set()  # not in hand any more; until that is confirmed nothing is handed out
        self._batches: deque[Batch] = deque()
        self._current: Batch | None = None  # of which some events were begun
        self._left = 0  # events of it that were not
        self._events: Iterator[Event] = iter(())
        self._scanned = granted.checkpoint  # up to here events were begun, or found settled
        self._lanes: dict[str, deque[Held]] = {}  # by stream; the first of each is the one that the others wait for
        self._ready: deque[Held] = deque()
        self._delayed: list[tuple[int, int, Held]] = []  # a heap
        self._open: dict[int, Held] = {}
        self._open_bytes = 0

    # ── what comes ──────────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, batch: Batch) -> None:
        """Take in the next range."""
        if batch.rows.count:
            self._batches.append(batch)
        elif self._batches:
            self._batches[-1].through = batch.through
        elif self._current is not None:
            self._current.through = batch.through
        else:
            self._pass_over(batch.through)

    def put_replay(self, event: Event, now_us: int) -> None:
        """Take in a parked event that is to be delivered once more."""
        self._enter(Held(self, event, 0, replayed=True), now_us)

    # ── handing out ─────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, now_us: int) -> Held | None:
        """Return the next event to hand out, or None while there is none."""
        while not self._is_held_back(now_us):
            if self._ready:
                held = self._ready.popleft()
                held.state = State.IN_HAND
                self.in_hand += 1
                if self._careful_until_us == NEVER_US:
                    self._careful_until_us = now_us + CAREFUL_US
                return held
            if not self._begin_next(now_us):
                break
        return None

    def _is_held_back(self, now_us: int) -> bool:
        if self.stop_by_us is not None or self.lost or now_us - self.confirmed_us >= LEASE_TRUST_US:
            return True
        if now_us < self._careful_until_us and (self.in_hand or self._returning):
            return True
        return bool(self._suspects)

    def _begin_next(self, now_us: int) -> bool:
        """Begin with the next event that came, and return whether there was one."""
        if self._current is None:
            if not self._batches:
                return False
            self._current = self._batches.popleft()
            self._events = iter(self._current.rows.events())
            self._left = self._current.rows.count
        if not self.has_room:
            self.full_since_us = self.full_since_us or now_us
            return False
        event = next(self._events)
        self._left -= 1
        self._pass_over(event.position - 1)
        self._scanned = event.position
        if event.position not in self._settled:
            self._enter(Held(self, event, self._attempts.pop(event.position, 0), replayed=False), now_us)
        if not self._left:
            batch, self._current = self._current, None
            self._pass_over(batch.through)
            self._spent(batch)
        return True

    def _pass_over(self, through: int) -> None:
        """Settle what a filter took out."""
        if through > self._scanned:
            self._settled.add(self._scanned + 1, through)
            self.reporting.filtered(self._scanned + 1, through)
            self._scanned = through

    def _enter(self, held: Held, now_us: int) -> None:
        self._open[held.position] = held
        self._open_bytes += len(held.event.data)
        lane = self._lanes.setdefault(held.event.stream, deque())
        lane.append(held)
        if len(lane) == 1:
            self._begin(held, now_us)

    def _begin(self, held: Held, now_us: int) -> None:
        """Let an event be handed out for which nothing is to be waited for but the cluster."""
        if held.attempts >= self._max_attempts:
            self._give_up(held, f"failed {held.attempts} times", now_us)
        elif held.attempts and not held.replayed:
            held.state = State.RETURNING
            self._returning += 1
            self.reporting.attempted(Attempt(held.position, held.attempts, waiting=False), now_us, urgent=True)
        else:
            held.state = State.READY
            self._ready.append(held)

    # ── what the application says ───────────────────────────────────────────────────────────────────────────────────

    def ack(self, held: Held, now_us: int) -> None:
        """Take in that an event was dealt with."""
        suspect = self._take_back(held, now_us)
        if held.replayed:
            self.reporting.replayed(held.position, now_us)
        else:
            self._settled.add(held.position, held.position)
            self.reporting.settled(held.position, now_us, urgent=suspect)
        self._close(held, now_us)

    def nack(self, held: Held, retry_after_us: int, now_us: int) -> None:
        """Take in that an event is to be handed out again after a while; if it has failed too often, it is parked."""
        suspect = self._take_back(held, now_us)
        held.attempts += 1
        if held.attempts >= self._max_attempts:
            self._give_up(held, f"given back {held.attempts} times", now_us)
            return
        self._delay(held, now_us + retry_after_us)
        if not held.replayed:
            attempt = Attempt(held.position, held.attempts, waiting=True)
            self.reporting.attempted(attempt, now_us, urgent=suspect)

    def park(self, held: Held, reason: str, now_us: int) -> None:
        """Take in that an event is given up."""
        self._take_back(held, now_us)
        held.attempts += 1
        self._give_up(held, reason, now_us)

    def _take_back(self, held: Held, now_us: int) -> bool:
        """Note that an event is not in hand any more; returns whether the cluster believes that it is."""
        self.in_hand -= 1
        suspect = not held.replayed and (held.attempts > 0 or now_us < self._careful_until_us)
        if suspect:
            self._suspects.add(held.position)
        return suspect

    def _give_up(self, held: Held, reason: str, now_us: int) -> None:
        held.state = State.PARKING
        held.reason = reason[:REASON_CHARACTERS_MAX]
        self.reporting.parked(Park(held.position, held.attempts, held.reason), now_us)

    def _delay(self, held: Held, due_us: int) -> None:
        held.state = State.WAITING
        held.due_us = due_us
        heappush(self._delayed, (due_us, held.position, held))

    def _close(self, held: Held, now_us: int) -> None:
        """Let go of an event that is settled; the next of its stream may be handed out."""
        held.state = State.SETTLED
        del self._open[held.position]
        self._open_bytes -= len(held.event.data)
        self.full_since_us = 0
        lane = self._lanes[held.event.stream]
        first = lane.popleft()
        assert first is held
        if lane:
            self._begin(lane[0], now_us)
        else:
            del self._lanes[held.event.stream]

    # ── what the cluster says ───────────────────────────────────────────────────────────────────────────────────────

    def confirmed(self, unparked: Sequence[int], replays: Sequence[int], asked_us: int) -> list[Held]:
        """Take in that a report was taken, but for what is `unparked`; returns the events for which there is no room.

        `replays`: the parked positions whose replay is wanted and not acknowledged. `asked_us`: when it was sent.
        """
        report = self.reporting.confirmed()
        self.confirmed_us = max(self.confirmed_us, asked_us)
        self._suspects = {each for each in self._suspects if not self.reporting.is_told(each)}
        self.replaying.difference_update(report.replayed)
        for attempt in report.attempts:
            self._returned(attempt)
        refused = [self._parked(park, park.position in unparked, asked_us) for park in report.parks]
        self.replays = set(replays) - self.replaying
        return [held for held in refused if held is not None]

    def _returned(self, attempt: Attempt) -> None:
        held = self._open.get(attempt.position)
        if held is not None and not attempt.waiting and held.state is State.RETURNING:
            self._returning -= 1
            held.state = State.READY
            self._ready.append(held)

    def _parked(self, park: Park, unparked: bool, now_us: int) -> Held | None:
        held = self._open[park.position]
        assert held.state is State.PARKING
        if unparked:
            self._delay(held, now_us + UNPARKED_RETRY_US)
            return held
        self.replaying.discard(held.position)
        self._settled.add(held.position, held.position)
        self._close(held, now_us)
        return None

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self, now_us: int) -> bool:
        """Let the events go on whose delay is over. Returns whether there may be something to hand out."""
        due = self._next_tick_us() <= now_us
        if now_us >= self._careful_until_us:
            self._careful_until_us = 0
        while self._delayed and self._delayed[0][0] <= now_us:
            _, _, held = heappop(self._delayed)
            if held.reason:
                self._give_up(held, held.reason, now_us)
            else:
                self._begin(held, now_us)
        return due

    def _next_tick_us(self) -> int:
        return min(self._delayed[0][0] if self._delayed else NEVER_US, self._careful_until_us or NEVER_US)

    def due_us(self) -> int:
        """Return when the session must look at it."""
        if self.reporting.under_way is not None:
            return self._next_tick_us()
        report_due_us = min(self.reporting.due_us, self.release_due_us)
        return min(self._next_tick_us(), max(report_due_us, self.reporting.not_before_us))

    @property
    def release_due_us(self) -> int:
        """When it is to be given up, if nobody wants it any more."""
        if self.stop_by_us is None:
            return NEVER_US
        return self.stop_by_us if self.in_hand and not self.releasing else 0

    def stop(self, stop_by_us: int) -> None:
        """Hand out nothing any more. The claim is given up once nothing is in hand, or at `stop_by_us`."""
        self.stop_by_us = stop_by_us

    @property
    def has_room(self) -> bool:
        """Whether one more event may be begun."""
        return len(self._open) < GROUP_WINDOW and self._open_bytes < OPEN_BYTES_MAX
