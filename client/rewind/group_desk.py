"""Where a group's member hands out events and takes back what became of them: the side of it that applications see.

Threads of the application and the one that runs the session meet here, under one lock; on an event loop there is none
to take. Claims take turns, so that no partition waits for another.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

from rewind.errors import RewindError
from rewind.feed import Batch
from rewind.group_claim import Claim, Held, State

logger = logging.getLogger("rewind.client")


class Desk:
    """The claims of a member. Whoever reads or changes them holds the `lock`.

    `clock` tells the time. `changed` is called, with the lock held, when consumers should look again. `tell` has the
    session's thread call something with the time. `check` raises where settlements must not come from.
    """

    def __init__(
        self,
        lock: AbstractContextManager[object],
        clock: Callable[[], int],
        changed: Callable[[], None],
        tell: Callable[[Callable[[int], None]], None],
        check: Callable[[], None],
    ) -> None:
        self.lock = lock
        self.claims: dict[int, Claim] = {}  # by partition
        self.ended = False
        self.error: RewindError | None = None
        self.left = False  # everything was told that there was to tell, and the claims were given up, or lost
        self._clock = clock
        self.changed = changed
        self.tell = tell
        self._check = check
        self.touched: Callable[[int], None] = lambda _: None  # what is told where the session should look
        self._turns: dict[Claim, None] = {}  # those that may have something to hand out

    # ── for the application ─────────────────────────────────────────────────────────────────────────────────────────

    def take(self) -> Held | None:
        """Return the next event to hand out, or None while there is none. Call it with the lock held."""
        now_us = self._clock()
        while self._turns and not self.ended:
            claim = next(iter(self._turns))
            del self._turns[claim]
            held = claim.take(now_us)
            self._touch(claim)
            if held is not None:
                self._turns[claim] = None
                return held
        return None

    def ack(self, held: Held, attempt: int) -> bool:
        """Settle an event. Returns False if that has no effect: it was settled, or given back, or is not ours."""
        return self._settle(held, attempt, lambda now_us: held.claim.ack(held, now_us))

    def nack(self, held: Held, attempt: int, retry_after_us: int) -> bool:
        """Give an event back, to be handed out again later. Returns as `ack` does."""
        return self._settle(held, attempt, lambda now_us: held.claim.nack(held, retry_after_us, now_us))

    def park(self, held: Held, attempt: int, reason: str) -> bool:
        """Give an event up. Returns as `ack` does."""
        return self._settle(held, attempt, lambda now_us: held.claim.park(held, reason, now_us))

    def _settle(self, held: Held, attempt: int, verdict: Callable[[int], None]) -> bool:
        self._check()
        claim = held.claim
        with self.lock:
            if claim.lost or held.state is not State.IN_HAND or held.attempts + 1 != attempt:
                logger.debug("partition %d: position %d was settled too late", claim.partition, held.position)
                return False
            verdict(self._clock())
            self.mark(claim)
            self._touch(claim)
            return True

    def _touch(self, claim: Claim) -> None:
        """Wake the session where it has to tell something earlier than it thinks."""
        if claim.due_us() < claim.looked_for_us:
            claim.looked_for_us = claim.due_us()
            self.tell(self.touched)

    # ── for the session ─────────────────────────────────────────────────────────────────────────────────────────────

    def mark(self, claim: Claim) -> None:
        """Let a claim be asked again; consumers are told. Call it with the lock held."""
        self._turns[claim] = None
        self.changed()

    def put(self, claim: Claim, batch: Batch) -> None:
        """Take in a range that came for a claim."""
        with self.lock:
            if not claim.lost and claim.stop_by_us is None:
                claim.put(batch)
                self.mark(claim)

    def drop(self, claim: Claim) -> None:
        """Let go of a claim. What is in hand of it can no more be settled."""
        claim.lost = True
        self._turns.pop(claim, None)
        if self.claims.get(claim.partition) is claim:
            del self.claims[claim.partition]

    def end(self, error: RewindError | None) -> None:
        """Hand out nothing any more, for the reason given, or because the application wants no more."""
        with self.lock:
            if not self.ended:
                self.ended = True
                self.error = error
            self.changed()
