"""Requests: everything that is asked of a node except appends, what counts as its answer, and what a refusal means.

All of them may be repeated, elsewhere or at the same node, until their deadline. Which `Failed` codes are worth a
repeat is one table here. A refusal speaks of one copy: that a write was refused is said only when every copy was.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from rewind.errors import (
    AccessDenied,
    Closed,
    ContextNotFound,
    DeadlineExceeded,
    InvalidArgument,
    OutcomeUnknown,
    ProtocolError,
    RewindError,
    TooLarge,
    Unavailable,
)
from rewind_cluster.client_messages import Code, Failed
from rewind_cluster.errors import DamagedError
from rewind_cluster.errors import ProtocolError as FrameError
from rewind_cluster.names import CONTROL
from rewind_cluster.wire import Frame

if TYPE_CHECKING:
    from rewind.backoff import Backoff
    from rewind.tracing import Trace

DAMAGED_ATTEMPTS_MAX = 3  # a chunk damaged on the way or on one disk is asked for again, not for ever

FINAL_ERRORS: dict[int, type[RewindError]] = {
    Code.CONTEXT_NOT_FOUND: ContextNotFound,
    Code.INVALID: InvalidArgument,
    Code.CONTEXT_EXISTS: InvalidArgument,
    Code.BEYOND_HEAD: InvalidArgument,
    Code.TOO_LARGE: TooLarge,
    Code.ACCESS_DENIED: AccessDenied,
    Code.WRONG_PARTITION: ProtocolError,
    Code.FENCED: Unavailable,
    Code.HELD: Unavailable,
    Code.GROUP_NOT_FOUND: InvalidArgument,
}


class Place(Enum):
    """Who may answer a request."""

    LEADER = "the partition's leader"
    REPLICA = "any replica of the partition"
    ANYONE = "the partition's leader, or any node while none is known"


class Kind(Enum):
    """What it means that a request got no answer."""

    READ = "nothing was learnt"
    WRITE = "it may have taken effect"
    CONNECT = "there is no cluster to talk to"


class Call:
    """Something asked of the cluster. It ends once, with a `result` or an `error`; `future` is the shell's to tell."""

    __slots__ = ("deadline_us", "error", "future", "result", "timeout_us", "trace")

    def __init__(self, timeout_us: int) -> None:
        self.future: Any = None
        self.result: Any = None
        self.error: RewindError | None = None
        self.timeout_us = timeout_us
        self.deadline_us = 0  # on our monotonic clock, set when the session takes it
        self.trace: Trace | None = None

    def what(self) -> str:
        """Return what was asked for, for people."""
        raise NotImplementedError

    def end_trace(self, error: BaseException | None) -> None:
        """End the call's trace if it has one: its shell knows, and tells next, how the call ended."""
        if self.trace is not None:
            self.trace.end(error)


class Request(Call):
    """One request. `make` builds its message from a number and a deadline in the node's time, `take` reads its answer.

    `answer` is the class of the message that answers it. `patient_with`: codes that are worth a repeat here.
    """

    __slots__ = (
        "_text",
        "answer",
        "avoid",
        "backoff",
        "damaged_attempts",
        "kind",
        "last_refusal",
        "make",
        "not_before_us",
        "partition",
        "patient_with",
        "place",
        "sent_us",
        "take",
        "unanswered",
    )

    def __init__(
        self,
        text: str,
        timeout_us: int,
        make: Callable[[int, int], object],
        answer: type[Any],
        take: Callable[[Any, Sequence[Frame]], Any],
        *,
        place: Place = Place.ANYONE,
        partition: int = CONTROL,
        kind: Kind = Kind.READ,
        patient_with: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__(timeout_us)
        self._text = text
        self.make = make
        self.answer = answer
        self.take = take
        self.place = place
        self.partition = partition
        self.kind = kind
        self.patient_with = patient_with
        self.not_before_us = 0
        self.backoff: Backoff | None = None  # once it was put off
        self.sent_us = 0
        self.avoid = ""  # the node that had it last
        self.unanswered = 0  # copies that may have taken effect
        self.damaged_attempts = 0
        self.last_refusal: Failed | None = None

    def what(self) -> str:
        """Return what was asked for, for people."""
        return self._text

    def sent(self, node_id: str, now_us: int) -> None:
        """Note that a copy has gone to a node."""
        self.avoid = node_id
        self.sent_us = now_us
        self.unanswered += 1

    def answered(self, message: object, frames: Sequence[Frame]) -> bool:
        """Take in an answer and return True if that ends the request, False if it is to be repeated."""
        if not isinstance(message, self.answer):
            self.error = ProtocolError(f"{self._text}: a node answered with {type(message).__name__}")
            return True
        try:
            self.result = self.take(message, frames)
        except DamagedError as error:
            self.damaged_attempts += 1
            if self.damaged_attempts < DAMAGED_ATTEMPTS_MAX:
                return False
            self.error = ProtocolError(
                f"{self._text}: {self.damaged_attempts} answers were damaged, the last: {error}; check the nodes' disks"
            )
        except FrameError as error:
            self.error = ProtocolError(f"{self._text}: {error}")
        return True

    def refused(self, failed: Failed) -> bool:
        """Take in a refusal and return True if that ends the request, False if it is to be repeated."""
        self.last_refusal = failed
        if failed.code != Code.OPEN:
            self.unanswered -= 1
        final = FINAL_ERRORS.get(failed.code)
        if final is None or failed.code in self.patient_with:
            return False
        refusal = f"{self._text}: {failed.text or Code(failed.code).name.lower()}"
        if self.kind is Kind.WRITE and self.unanswered:
            text = f"{refusal}; but an earlier copy got no answer and may have taken effect: look, then try again"
            self.error = OutcomeUnknown(text)
        else:
            self.error = final(refusal)
        return True

    def abandon(self) -> None:
        """End the request: its store closes."""
        if self.kind is Kind.WRITE and self.unanswered:
            self.error = OutcomeUnknown(f"{self._text}: the store was closed meanwhile; it may have taken effect")
        else:
            self.error = Closed(f"{self._text}: the store was closed meanwhile")

    def expire(self, why: str) -> None:
        """End the request: its deadline has passed. `why`: what is known of the nodes."""
        if self.last_refusal is not None:
            why = f"{why}; last refusal: {self.last_refusal.text or self.last_refusal.code}"
        tried = f"{self._text}: no answer within {self.timeout_us / 1e6:g} s ({why})"
        if self.kind is Kind.READ:
            self.error = DeadlineExceeded(f"{tried}; try again, or allow more time")
        elif self.kind is Kind.CONNECT:
            self.error = Unavailable(f"{tried}; check the addresses, and that a majority of the nodes runs")
        elif self.unanswered:
            self.error = OutcomeUnknown(f"{tried}; it may have taken effect: look, then try again")
        else:
            self.error = Unavailable(f"{tried}; nothing was changed: try again")
