"""A member of a consumer group as the session sees it: which partitions it should have, has, and is giving up.

It attends at the group's coordinator each second and does as it is told: it claims what it should have, at the leader
of each partition, until whoever has it gives it up or is given up; and what it should no longer have it stops handing
out, waits a little for what is in the application's hands, tells how that ended, and releases.

It never ends by itself but for an answer that no other node would change, and what does not work for long it complains
of in the log.
"""

import logging
from collections.abc import Callable
from functools import partial

from rewind import group_inquiries
from rewind.errors import RewindError
from rewind.feed import Batch, Tail
from rewind.feeds import Feeds
from rewind.group_claim import Claim, Granted
from rewind.group_desk import Desk
from rewind.group_inquiries import Membership, Settled
from rewind.patience import Patience
from rewind.requests import FINAL_ERRORS, Request
from rewind_cluster.client_messages import Code
from rewind_cluster.groups import GROUP_HEARTBEAT_US
from rewind_cluster.ranges import AllIs

STOP_PATIENCE_US = 5_000_000  # for what is in the application's hands when a partition goes to another member
AGAIN_US = 200_000  # what failed is asked for again after so long; a claim that another holds, after up to twice that
FULL_US = 30_000_000  # a full window in which nothing is settled for so long is worth a warning
REPLAYS_MAX = 16  # parked events that are read or in hand at once, of one partition
REPLAY_TIMEOUT_US = 5_000_000
PASSING_CODES = frozenset({Code.FENCED, Code.HELD})  # they end a request, and not the member

logger = logging.getLogger("rewind.client")


class Member:
    """One member. `ask` begins a request. Everything here runs on the session's thread."""

    def __init__(
        self,
        who: Membership,
        desk: Desk,
        feeds: Feeds,
        random: Callable[[], float],
        ask: Callable[[Request, int], None],
    ) -> None:
        self.due_us = 0
        self.gone = False  # it has left, or was told that it cannot go on
        self.group = who.group
        self.desk = desk
        self._who = who
        self._feeds = feeds
        self._random = random
        self._ask = ask
        self._what = f"group {who.group!r}"
        self._assigned: frozenset[int] = frozenset()
        self._claiming: dict[int, int] = {}  # partitions that are asked for; since when
        self._claim_after_us: dict[int, int] = {}
        self._tails: dict[Claim, Tail] = {}
        self._asked: dict[Request, Callable[[Request], None]] = {}
        self._attending = False
        self._attend_us = 0
        self._leaving = False
        self._patience = Patience(self._what)
        desk.touched = self._touch

    def _touch(self, _: int) -> None:
        self.due_us = 0

    @property
    def is_forgotten(self) -> bool:
        """Whether nothing will be heard of it any more."""
        return self.gone and not self._asked

    def look(self, now_us: int) -> None:
        """Do what is due."""
        with self.desk.lock:
            for held in list(self.desk.claims.values()):
                self._tend(held, now_us)
            self._claim_assigned(now_us)
            self._attend(now_us)
            self._patience.complain(now_us)
            due = [held.looked_for_us for held in self.desk.claims.values()]
            due += [due_us for due_us in self._claim_after_us.values() if due_us > now_us]
            if self._may_attend:
                due.append(self._attend_us)
            self.due_us = min(due, default=now_us + GROUP_HEARTBEAT_US)

    def leave(self, now_us: int) -> None:
        """Give up all claims, without waiting for what is in hand, and then the membership."""
        self._leaving = True
        self._assigned = frozenset()
        self._attend_us = now_us
        self.due_us = 0

    def end(self, error: RewindError | None) -> None:
        """End at once, with whatever was not told."""
        with self.desk.lock:
            self.gone = True
            for held in list(self.desk.claims.values()):
                self._drop(held)
            self.desk.left = True
        self.desk.end(error)

    def answered(self, request: Request) -> bool:
        """Take in the end of a request, and return whether it was one of this member's."""
        take = self._asked.pop(request, None)
        if take is None or self.gone:
            return take is not None
        final = None if request.error is None or request.last_refusal is None else request.last_refusal.code
        is_ours = request.answer is not AllIs  # a parked event that cannot be read ends nothing
        if is_ours and final in FINAL_ERRORS and final not in PASSING_CODES:
            self.end(request.error)
        else:
            with self.desk.lock:
                take(request)
        self.due_us = 0
        return True

    def _begin(self, request: Request, take: Callable[[Request], None], now_us: int) -> None:
        self._asked[request] = take
        self._ask(request, now_us)

    def _failed(self, what: str, partition: int, request: Request) -> None:
        self._patience.fails(what, partition, str(request.error), request.sent_us or request.deadline_us)

    # ── attending ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _may_attend(self) -> bool:
        return not self._attending and not (self._leaving and (self.desk.claims or self._claiming))

    def _attend(self, now_us: int) -> None:
        if not self._may_attend or now_us < self._attend_us:
            return
        self._attending = True
        holds = sorted({*self.desk.claims, *self._claiming})
        self._attend_us = now_us + GROUP_HEARTBEAT_US
        request = group_inquiries.attend(self._who, holds, leaving=self._leaving)
        self._begin(request, partial(self._attended, self._leaving), now_us)

    def _attended(self, leaving: bool, request: Request) -> None:
        self._attending = False
        if request.error is not None:
            self._failed("attending at", self._who.coordinator, request)
            self._attend_us = request.sent_us + AGAIN_US
        else:
            self._patience.works("attending at", self._who.coordinator, request.sent_us)
        if leaving:
            self.gone = True
            self.desk.left = True
            self.desk.changed()
        elif request.error is None and not self._leaving:
            assigned = frozenset(request.result) & self._who.starts.keys()
            for number in self._assigned - assigned:
                self._patience.forget(number)
            self._assigned = assigned

    # ── claiming ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _claim_assigned(self, now_us: int) -> None:
        for number in self._assigned - self.desk.claims.keys() - self._claiming.keys():
            if now_us >= self._claim_after_us.get(number, 0):
                self._claiming[number] = now_us
                self._begin(group_inquiries.claim(self._who, number), partial(self._claimed, number), now_us)

    def _claimed(self, number: int, request: Request) -> None:
        asked_us = self._claiming.pop(number)
        if request.error is None:
            self._patience.works("claiming", number, request.sent_us)
            self._claim_after_us.pop(number, None)
            self._granted(number, request.result, asked_us)
            return
        self._claim_after_us[number] = request.sent_us + int(AGAIN_US * (1 + self._random()))
        if number in self._assigned:
            self._patience.fails("claiming", number, str(request.error), asked_us)

    def _granted(self, number: int, granted: Granted, asked_us: int) -> None:
        logger.info("%s: has partition %d from position %d on", self._what, number, granted.checkpoint)
        claim = Claim(number, granted, self._who.max_attempts, self._spent, asked_us)
        self.desk.claims[number] = claim

    def _spent(self, batch: Batch) -> None:
        self.desk.tell(partial(self._feeds.consumed, batch))

    # ── tending to claims ───────────────────────────────────────────────────────────────────────────────────────────

    def _tend(self, held: Claim, now_us: int) -> None:
        if held.stop_by_us is None and held.partition not in self._assigned:
            held.stop(now_us if self._leaving else now_us + STOP_PATIENCE_US)
        if held.stop_by_us is not None:
            self._unfollow(held)
        else:
            self._follow(held, now_us)
            self._replay(held, now_us)
            self._look_whether_full(held, now_us)
        if held.tick(now_us):
            self.desk.mark(held)
        if held.reporting.under_way is None and held.due_us() <= now_us:
            self._settle(held, now_us)
        held.looked_for_us = held.due_us()

    def _follow(self, held: Claim, now_us: int) -> None:
        if held not in self._tails:
            tail = Tail(self._who.origin, {held.partition: held.checkpoint}, self._who.wanted, len(self._who.starts))
            tail.consumer = _Taker(self, held)
            self._tails[held] = tail
            self._feeds.add(tail, now_us)

    def _unfollow(self, held: Claim) -> None:
        tail = self._tails.pop(held, None)
        if tail is not None:
            self._feeds.remove(tail, 0)

    def _drop(self, held: Claim) -> None:
        self._unfollow(held)
        self.desk.drop(held)
        self._patience.forget(held.partition)

    def _look_whether_full(self, held: Claim, now_us: int) -> None:
        what = "handing out events of"
        if held.full_since_us and now_us - held.full_since_us >= FULL_US:
            why = "as many as there may be are neither acknowledged, given back nor parked"
            self._patience.fails(what, held.partition, why, held.full_since_us)
        else:
            self._patience.works(what, held.partition, now_us)

    def _settle(self, held: Claim, now_us: int) -> None:
        report = held.reporting.begin(now_us)
        if held.release_due_us <= now_us and not held.reporting.has_news:
            held.releasing = held.lost = True
        request = group_inquiries.settle(self._who, held, report, release=held.releasing)
        self._begin(request, partial(self._settled, held), now_us)

    def _settled(self, held: Claim, request: Request) -> None:
        if self.desk.claims.get(held.partition) is not held:
            return
        if request.error is None:
            self._patience.works("settling", held.partition, request.sent_us)
            self._confirmed(held, request.result, request.sent_us)
        elif request.last_refusal is not None and request.last_refusal.code == Code.FENCED:
            logger.info("%s: lost partition %d: %s", self._what, held.partition, request.last_refusal.text)
            self._drop(held)
        else:
            held.reporting.put_back(request.sent_us + AGAIN_US)
            self._failed("settling", held.partition, request)

    def _confirmed(self, held: Claim, settled: Settled, asked_us: int) -> None:
        if held.releasing:
            logger.info("%s: released partition %d", self._what, held.partition)
            self._drop(held)
            return
        for refused in held.confirmed(settled.unparked, settled.replays, asked_us):
            logger.warning(
                "%s: no room to park position %d of partition %d (%s), so its stream waits; replay or discard some",
                self._what, refused.position, held.partition, refused.reason,
            )  # fmt: skip
        self.desk.mark(held)

    # ── replays ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _replay(self, held: Claim, now_us: int) -> None:
        for position in sorted(held.replays)[: REPLAYS_MAX - len(held.replaying)]:
            held.replays.discard(position)
            held.replaying.add(position)
            request = group_inquiries.read_event(self._who.origin, held.partition, position, REPLAY_TIMEOUT_US)
            self._begin(request, partial(self._read_replay, held, position), now_us)

    def _read_replay(self, held: Claim, position: int, request: Request) -> None:
        if held.lost:
            return
        if request.error is not None:
            self._failed("reading parked events of", held.partition, request)
            held.replaying.discard(position)  # the next answer to a report asks for it again
        else:
            self._patience.works("reading parked events of", held.partition, request.sent_us)
            held.put_replay(request.result, request.sent_us)
            self.desk.mark(held)


class _Taker:
    """Takes what the feed of a claim brings."""

    def __init__(self, member: Member, claim: Claim) -> None:
        self._member = member
        self._claim = claim

    def put(self, batch: Batch) -> None:
        """Take in a range."""
        self._member.desk.put(self._claim, batch)

    def end(self, error: RewindError | None) -> None:
        """Take in that no node will serve this partition: nor will any serve the others."""
        if error is not None:
            self._member.end(error)
