"""Appends: numbered, pipelined, and repeated until their fate is known.

A writer feeds one partition. It numbers appends under a logged session and sends them in bursts: within a burst, an
epoch, numbers go out in order to one leader. A refusal for routing or load, a lost connection or a new leader ends
the burst; everything unsettled then goes out again, in order, in the next epoch.

The rule it keeps: a definite failure is told only when every copy of an append is known to have been refused. `open`
holds the epochs of the copies that may have been taken. An answer for good is true whatever its epoch; a refusal
settles its own copy and no other.

Theory: Ongaro, "Consensus: Bridging Theory and Practice", 6.3 (implementing linearizable semantics).
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from rewind.append import Append, runs_of
from rewind.backoff import Backoff
from rewind.connection import Connection
from rewind.errors import (
    AccessDenied,
    ContextNotFound,
    CrossPartition,
    InvalidArgument,
    OutcomeUnknown,
    Overloaded,
    RewindError,
    StorageFull,
    TooLarge,
    Unavailable,
    WrongExpectedVersion,
)
from rewind.events import AppendResult
from rewind.requests import Call, Request
from rewind.tokens import Origin
from rewind_cluster.batches import BATCH_APPENDS_MAX, AppendRun
from rewind_cluster.client_messages import SESSION_WINDOW, Code
from rewind_cluster.columns import starts
from rewind_cluster.errors import ProtocolError
from rewind_cluster.wire import UINT_MAX

BATCHES_IN_FLIGHT_MAX = 2  # the node works on one while the other waits; what comes meanwhile makes the next one larger
GATHER_US = 2000  # about as long as a node's turn takes under load
BEHIND_US = 10_000  # longer than a batch takes within a rack; over longer ways two are to be under way
BATCH_BYTES_TARGET = 1024 * 1024  # a batch past this is closed: a node works on one while the next is on its way

_FINAL: dict[int, type[RewindError]] = {
    Code.INVALID: InvalidArgument,
    Code.TOO_LARGE: TooLarge,
    Code.WRONG_PARTITION: CrossPartition,
    Code.ACCESS_DENIED: AccessDenied,
    Code.CONTEXT_NOT_FOUND: ContextNotFound,
}
_LEADER_REFUSES = frozenset(
    (Code.EPOCH, Code.OVERLOADED, Code.STORAGE_FULL, Code.SESSION_UNKNOWN, Code.SETTLED, Code.CONTEXT_LAGGING)
)
_SESSION_LOST = (Code.SESSION_UNKNOWN, Code.SETTLED)


@dataclass(frozen=True, slots=True)
class Rejection:
    """The current burst was refused. `leader` and `term`: what the node knows of a better one, "" and 0 for nothing."""

    code: int
    leader: str = ""
    term: int = 0

    @property
    def leads(self) -> bool:
        """Whether the node that refused may still be the right one to ask."""
        return self.code in _LEADER_REFUSES


class Writer:
    """The appends of one context to one partition."""

    def __init__(self, partition: int, origin: Origin, epochs: Iterator[int], random: Callable[[], float]) -> None:
        self.partition = partition
        self.session: int | None = None
        self.opening: Request | None = None  # asks for a session
        self.epoch = 0
        self.low = 1
        self.waiting: deque[Append] = deque()  # not numbered yet
        self.unsettled: dict[int, Append] = {}  # numbered, in order
        self.target: Connection | None = None  # where the current burst goes
        self.target_term = 0  # of the leader that the newest burst went to
        self.resume_us = 0
        self.backoff = Backoff(random)
        self.origin = origin
        self._epochs = epochs
        self._next_sequence = 1
        self._unsent: deque[Append] = deque()  # numbered and not sent in this epoch
        self._last_count = 1  # of the newest batch's appends
        self._gathered_us = 0  # when what waits has gathered for long enough; 0 while nothing is held back
        self._behind_us = 0  # the same, behind a batch that is under way
        self._in_flight: deque[int] = deque()  # the last number of each batch of this epoch that may be unanswered
        self.refusal: tuple[int, str] | None = None  # code and text of the last one, until an append is taken again
        self.session_lost = False  # the node has forgotten it; its last answers are awaited
        self._orphans: list[Append] = []  # refused by a lost session, in order

    @property
    def busy(self) -> bool:
        """Whether an append waits here for anything."""
        return bool(self.waiting or self.unsettled or self._orphans)

    @property
    def has_work(self) -> bool:
        """Whether something could be sent if there were a leader."""
        return bool(self._unsent or self.waiting or (self.unsettled and self.target is None) or self._orphans)

    def session_opened(self, completed: list[Call]) -> None:
        """Take in how the request for a session ended."""
        assert self.opening is not None
        request, self.opening = self.opening, None
        if request.error is None:
            self.session = request.result
        elif isinstance(request.error, AccessDenied):
            for append in self.waiting:
                append.error = AccessDenied(f"{append.what()}: {request.error}")
            completed.extend(self.waiting)
            self.waiting.clear()

    # ── sending ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def aim(self, target: Connection, term: int) -> None:
        """Begin a new burst at `target`, unless the current one goes there already."""
        if target is self.target or self.session_lost:
            return
        self.target = target
        self.target_term = term
        self.epoch = next(self._epochs)
        self._unsent = deque(self.unsettled.values())
        self._in_flight.clear()

    def end_burst(self) -> None:
        """End the burst: what has no answer by now is sent again in the next."""
        self._unsent.clear()
        if not self.session_lost:
            self.target = None

    def lose_target(self) -> None:
        """End the burst because its connection broke: the answers still owed there will never come."""
        self._unsent.clear()
        self.target = None
        if self.session_lost:
            for append in self.unsettled.values():
                append.error = self._unknown(append, "the connection broke after the session was lost")

    def due_us(self, now_us: int) -> int:
        """Return when what waits is to be sent: now, or later, so that more of it goes together.

        A batch costs a commit on every replica, whatever its size. So the next waits until it is as large as the last
        one, but not for longer than `GATHER_US` when there is none under way, and `BEHIND_US` when there is.
        """
        in_flight, unsettled = self._in_flight, self.unsettled
        while in_flight and in_flight[0] not in unsettled:
            in_flight.popleft()
        if self._unsent or not self.waiting or len(self.waiting) >= self._last_count:
            return now_us
        if in_flight:
            self._gathered_us = 0
            self._behind_us = self._behind_us or now_us + BEHIND_US
            return self._behind_us
        self._behind_us = 0
        self._gathered_us = self._gathered_us or now_us + GATHER_US
        return self._gathered_us

    def batches(self) -> Iterator[tuple[list[AppendRun], int]]:
        """Yield the runs of each batch that is due, and its deadline in our time.

        That is the earliest of its appends': a copy that arrives after its append was given up must not be taken, late
        and out of order. The others of such a batch are refused with it and sent again.
        """
        fresh = (self.epoch,)
        in_flight = self._in_flight
        while len(in_flight) < BATCHES_IN_FLIGHT_MAX:
            taken: list[Append] = []
            opens = bytearray()
            size = 0
            deadline_us = UINT_MAX
            while size < BATCH_BYTES_TARGET and len(taken) < BATCH_APPENDS_MAX:
                append = self._next()
                if append is None:
                    break
                taken.append(append)
                opens.append(bool(append.open))
                append.open = (*append.open, self.epoch) if append.open else fresh
                size += append.size
                deadline_us = min(deadline_us, append.deadline_us)
            if not taken:
                return
            in_flight.append(taken[-1].sequence)
            self._last_count = len(taken)
            self._gathered_us = self._behind_us = 0
            yield list(runs_of(taken, bytes(opens))), deadline_us

    def _next(self) -> Append | None:
        while self._unsent:
            append = self._unsent.popleft()
            if append.sequence in self.unsettled:
                return append
        if not self.waiting or self._next_sequence >= self.low + SESSION_WINDOW:
            return None
        append = self.waiting.popleft()
        append.sequence = self._next_sequence
        self._next_sequence += 1
        self.unsettled[append.sequence] = append
        return append

    # ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def answered(self, epoch: int, answers: list[Any], completed: list[Call]) -> Rejection | None:
        """Take in how appends ended. Returns a rejection if the current burst is over. Raises `ProtocolError`."""
        unsettled = self.unsettled
        rejection = None
        try:
            for answer in answers:
                sequence, code = answer[0], answer[1]
                if code == Code.OK:
                    self._done(answer, completed)
                    continue
                append = unsettled.get(sequence)
                if append is None:
                    continue
                refused = self._refused(append, epoch, code, answer)
                if append.error is not None:
                    unsettled.pop(sequence, None)
                    completed.append(append)
                if refused is not None and epoch == self.epoch and self.target is not None:
                    rejection = refused if rejection is None or refused.leader else rejection
        except (TypeError, ValueError, LookupError, OverflowError, RecursionError) as error:
            raise ProtocolError(f"an append's answer cannot be read: {error}") from error
        finally:
            self._raise_low()
        return rejection

    def _done(self, answer: list[Any], completed: list[Call]) -> None:
        """Take in that a run of appends has taken effect."""
        sequence, _, versions, position, timestamp, counts, parts = answer[:7]
        self.backoff.reset()
        self.refusal = None
        unsettled = self.unsettled
        if type(position) is list:  # of events that stood there already, in any places
            places = list(zip(versions, position, timestamp, strict=True))
        else:
            ahead = range(len(versions)) if counts is None else [last - 1 for last in accumulate(counts)]
            places = [(version, position + k, timestamp + k) for version, k in zip(versions, ahead, strict=True)]
        partition, origin = self.partition, self.origin
        results = [AppendResult(version, at, partition, stamp, origin) for version, at, stamp in places]
        for number, (start, stop) in enumerate(starts(parts, len(results) if parts is None else len(parts)), sequence):
            append = unsettled.get(number)
            if append is None:
                continue
            if stop - start != len(append.parts):
                raise ValueError(f"an append of {len(append.parts)} parts was answered with {stop - start}")
            append.result = results[start:stop] if append.many else results[start]
            del unsettled[number]
            completed.append(append)

    def _refused(self, append: Append, epoch: int, code: int, answer: list[Any]) -> Rejection | None:
        """Settle one refused copy; return a rejection where the append is to be sent again."""
        if code == Code.WRONG_VERSION:
            _, _, stream, expected, actual, logged = answer[:6]
            self._close_copy(append, epoch)
            # Refused under its number, no other copy can be taken. Else that is known only of this one.
            if logged or not append.open:
                append.error = WrongExpectedVersion(stream, expected, actual)
            return None
        if code in _FINAL:
            self._close_copy(append, epoch)
            if append.open:
                append.error = self._unknown(append, f"a copy was refused: {answer[2]}")
            else:
                append.error = _FINAL[code](f"{append.what()}: {answer[2]}; nothing was written")
            return None
        if code == Code.NOT_LEADER:
            self._close_copy(append, epoch)
            append.refusal = (code, "the node asked does not lead the partition")
            return Rejection(code, str(answer[2]), int(answer[3]))
        if code != Code.EPOCH:  # which only says that another append was refused
            self.refusal = append.refusal = (code, str(answer[2]) if len(answer) > 2 else "")  # noqa: PLR2004 - the text
        if code == Code.OPEN or code not in _KNOWN_CODES:
            return Rejection(code)  # the copy stays open: it may have been taken
        self._close_copy(append, epoch)
        if code in _SESSION_LOST and epoch == self.epoch:
            self._orphan(append)
        return Rejection(code)

    @staticmethod
    def _close_copy(append: Append, epoch: int) -> None:
        append.open = tuple(sent for sent in append.open if sent != epoch)

    def _raise_low(self) -> None:
        low = self.low
        while low < self._next_sequence and low not in self.unsettled:
            low += 1
        self.low = low

    # ── a lost session ──────────────────────────────────────────────────────────────────────────────────────────────

    def _orphan(self, append: Append) -> None:
        """Take an append out of a session that the node does not know: what it remembered of copies is gone with it."""
        self.session_lost = True
        if append.open:
            append.error = self._unknown(append, "the node has forgotten the session that numbered it")
        else:
            del self.unsettled[append.sequence]
            self._orphans.append(append)

    def settle_lost_session(self, completed: list[Call]) -> bool:
        """Return False while a lost session still has answers to come; else make ready for a new one.

        Waiting keeps the order: none of its appends may be overtaken by one under a new number.
        """
        for append in [append for append in self.unsettled.values() if append.error is not None or not append.open]:
            del self.unsettled[append.sequence]
            (self._orphans if append.error is None else completed).append(append)
        if self.unsettled:
            return False
        self.waiting.extendleft(sorted(self._orphans, key=lambda append: append.sequence, reverse=True))
        self._orphans.clear()
        self.session_lost = False
        self.session = self.target = None
        self._next_sequence = self.low = 1
        self._unsent.clear()
        return True

    # ── the end of time ─────────────────────────────────────────────────────────────────────────────────────────────

    def expire(self, now_us: int, completed: list[Call], why: str) -> int | None:
        """End the appends whose deadline has passed and return the earliest deadline left."""
        earliest = None
        past = []
        for append in (*self.unsettled.values(), *self.waiting, *self._orphans):
            if append.deadline_us <= now_us:
                append.error = self.failure(append, why)
                past.append(append)
            elif earliest is None or append.deadline_us < earliest:
                earliest = append.deadline_us
        if past:
            self._forget(past)
            completed.extend(past)
        return earliest

    def abandon(self, completed: list[Call], why: str) -> None:
        """End all appends now, telling what is known of them."""
        for append in (*self.unsettled.values(), *self.waiting, *self._orphans):
            append.error = self.failure(append, why)
            completed.append(append)
        self.unsettled.clear()
        self.waiting.clear()
        self._orphans.clear()

    def _forget(self, past: list[Append]) -> None:
        gone = set(map(id, past))
        self.waiting = deque(append for append in self.waiting if id(append) not in gone)
        self._orphans = [append for append in self._orphans if id(append) not in gone]
        for append in past:
            if self.unsettled.get(append.sequence) is append:
                del self.unsettled[append.sequence]
        self._raise_low()

    def failure(self, append: Append, why: str) -> RewindError:
        """Return how an append fails whose time is up."""
        if append.open:
            return self._unknown(append, why)
        code, text = append.refusal or self.refusal or self._session_refusal()
        tried = f"{append.what()} (partition {self.partition}): not taken within {append.timeout_us / 1e6:g} s ({why})"
        if code == Code.STORAGE_FULL:
            return StorageFull(
                f"{tried}: {text or 'storage is full'}; nothing was written: free disk space on the nodes"
            )
        if code == Code.OVERLOADED:
            return Overloaded(f"{tried}: {text or 'overloaded'}; nothing was written: try again, more slowly")
        last = f"; last refusal: {text}" if text else ""
        return Unavailable(f"{tried}{last}; nothing was written: try again")

    def _session_refusal(self) -> tuple[int | None, str]:
        failed = self.opening.last_refusal if self.opening is not None else None
        return (failed.code, failed.text) if failed is not None else (None, "")

    def _unknown(self, append: Append, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{append.what()} (partition {self.partition}): sent, and no answer within {append.timeout_us / 1e6:g} s "
            f"({why}); it may have been written: read the stream, or append the same IDs again with the same "
            "expected version"
        )


_KNOWN_CODES = frozenset(map(int, Code))
