"""Who waits for a session, written down apart from it: whatever breaks inside, each of them is told an end.

A call stands here from when the session is given it until its future was told, a consumer for as long as anybody holds
it. A session that has broken is asked nothing more: what it was given and may have sent has an unknown outcome.
"""

import logging
from typing import Protocol
from weakref import WeakSet

from rewind.append import Append
from rewind.errors import Closed, OutcomeUnknown, RewindError
from rewind.requests import Call, Kind, Request

logger = logging.getLogger("rewind.client")


class Consumer(Protocol):
    """Who waits for events or deliveries."""

    def end(self, error: RewindError | None) -> None:
        """Take in that nothing comes any more. More than once does no harm: the first counts."""


class Callers:
    """The calls and consumers of one session. The shell changes them where it runs the session, or under its lock."""

    def __init__(self) -> None:
        self._calls: set[Call] = set()
        self._consumers: WeakSet[Consumer] = WeakSet()

    def add(self, call: Call) -> None:
        """Take in a call that the session is given next."""
        self._calls.add(call)

    def attend(self, consumer: Consumer) -> None:
        """Take in a consumer."""
        self._consumers.add(consumer)

    def tell(self, call: Call) -> None:
        """Tell a call's future how it ended."""
        self._calls.discard(call)
        try:
            if call.trace is not None:
                call.end_trace(call.error)
        finally:
            future = call.future
            if future.done():
                pass  # its task was cancelled; what it began goes on
            elif call.error is None:
                future.set_result(call.result)
            else:
                future.set_exception(call.error)

    def end_all(self, why: str) -> None:
        """Tell everybody who is left that the store has ended."""
        for call in list(self._calls):
            call.error = _unanswered(call, why)
            try:
                self.tell(call)
            except Exception:
                logger.exception("%s: could not be told its end in good order", call.what())
        for consumer in list(self._consumers):
            try:
                consumer.end(Closed(why))
            except Exception:
                logger.exception("a consumer could not be told its end")


def _unanswered(call: Call, why: str) -> RewindError:
    if isinstance(call, Append) or (isinstance(call, Request) and call.kind is Kind.WRITE):
        return OutcomeUnknown(f"{call.what()}: {why}; it may have taken effect: look, then try again")
    return Closed(f"{call.what()}: {why}")
