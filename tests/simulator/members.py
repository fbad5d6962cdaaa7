"""Members of consumer groups as an application runs them: they take what is handed out and say how it went.

They go through the shipped session as the stores do: `Calls.group`, the groups of the session, `Desk`.
"""

from collections import deque
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from histories.group_history import ACK, NACK, Handed, MemberDone
from histories.history import ScanDone
from histories.recording import seen_event

from rewind.beginning import NOW
from rewind.group_claim import Held
from rewind.group_desk import Desk
from rewind.group_inquiries import Membership
from rewind.joining import Joining
from rewind.requests import Call
from rewind_cluster.groups import MEMBER_BYTES
from simulator.fates import DEADLY, Fate, fate_of
from simulator.plan import Operation
from simulator.recording import Tag

if TYPE_CHECKING:
    from simulator.applications import Application

AGAIN_US = 200_000  # a member that could not join tries again
PAUSED_US = 50_000  # how often the threads of a paused machine look whether it goes on
HURRIED_RETRY_US = 50_000
TAKING_US = 20  # from the arrival of an event to its being taken


class Worker:
    """One member through all its lives."""

    def __init__(self, application: "Application", operation: Operation) -> None:
        self.life: Life | None = None
        self.leaving: list[Life] = []
        self._application = application
        self._operation = operation
        self._lives: deque[Any] = deque(operation.arguments["lives"])
        self._joining = False
        self._hurried = False

    @property
    def wanted(self) -> bool:
        """Whether it is a member, or will be again."""
        return bool(self._lives)

    @property
    def group(self) -> tuple[str, str]:
        """The names of the context and of the group."""
        return self._operation.arguments["context"], self._operation.arguments["group"]

    @property
    def what(self) -> str:
        """What it is, for people."""
        return f"operation {self._operation.number} on {self._application.machine.name}"

    def begin(self) -> None:
        """Join, for the next life."""
        application, arguments = self._application, self._operation.arguments
        if not self.wanted or self._joining or self.life is not None or not application.ready:
            return
        calls = application.calls[arguments["context"]]
        joining = calls.group(
            arguments["group"],
            arguments["max_attempts"],
            NOW if arguments["after"] == "now" else None,
            arguments["types"],
            arguments["prefix"],
            arguments["timeout_ms"] / 1000,
        )
        tag, begun_us = application.recorder.begin_scan(self._operation), application.world.now_us
        asked = joining.beginning.wanted()
        self._joining = True
        left = {partition for partition, _ in asked}

        def answered(partition: int, call: Call) -> None:
            if tag not in application.recorder.open:
                return  # it has failed already
            if call.error is not None:
                self._joining = False
                application.recorder.fail_scan(tag, call.error)
                application.later(AGAIN_US, self.begin)
                return
            who = *tag, calls.origin.context, partition, begun_us, application.world.now_us
            application.recorder.scanned(ScanDone(*who, call.result, newest=call.result))
            joining.beginning.take(partition, call.result)
            left.remove(partition)
            if not left:
                self._join(joining, tag, begun_us)

        for partition, request in asked:
            application.start(request, partial(answered, partition))
        if not asked:
            self._join(joining, tag, begun_us)

    def _join(self, joining: Joining, tag: Tag, begun_us: int) -> None:
        application = self._application
        self._joining = False
        application.recorder.end_scan(tag)
        name = f"{application.seed}/{self._operation.number}/{tag}"
        member = blake2b(name.encode(), digest_size=MEMBER_BYTES).digest()
        who = replace(joining.membership(), member=member, label=application.machine.name)
        self.life = Life(self, application, self._operation, who, tag, begun_us)
        self.life.hurried = self._hurried
        if not self._hurried and self._lives[0] is not None:
            for_ms, how = self._lives[0]
            application.later(for_ms * 1000, partial(self._end, self.life, how))

    def _end(self, life: "Life", how: str) -> None:
        if self.life is not life or self._hurried:
            return
        self._lives.popleft()
        if how == "kill":
            life.die()
        else:
            self._leave(life)
        self._rest()

    def _leave(self, life: "Life") -> None:
        self.life = None
        self.leaving.append(life)
        life.leave()

    def _rest(self) -> None:
        self.life = None
        self._application.later(self._operation.arguments["rest_ms"] * 1000, self.begin)

    def died(self, life: "Life") -> None:
        """Take in that an event has killed the member: a supervisor starts it again."""
        if self.life is life:
            self._rest()
        elif life in self.leaving:
            self.leaving.remove(life)

    def killed(self) -> None:
        """Take in that the machine goes down."""
        self._joining = False
        for life in (self.life, *self.leaving):
            if life is not None:
                life.record()
        self.life = None
        self.leaving = []

    # The end of the run.

    def hurry(self) -> None:
        """Be a member from now on, and survive everything."""
        self._hurried = True
        if self.life is not None:
            self.life.hurried = True
        self.begin()

    def finish(self) -> None:
        """Leave for good."""
        self._lives.clear()
        if self.life is not None:
            self._leave(self.life)


class Life:
    """One membership from its beginning to its end, and the application's threads."""

    def __init__(
        self,
        worker: Worker,
        application: "Application",
        operation: Operation,
        who: Membership,
        tag: Tag,
        begun_us: int,
    ) -> None:
        self.hurried = False
        self._worker = worker
        self._application = application
        self._arguments = operation.arguments
        self._who = who
        self._tag = tag
        self._begun_us = begun_us
        self._over = False
        self._dead = False
        self._visiting = False
        self._in_hand = 0
        self._handed: dict[int, list[Handed]] = {partition: [] for partition in who.starts}
        machine = application.machine
        self._groups = machine.session.groups
        self.desk = Desk(nullcontext(), lambda: machine.monotonic_us, self._changed, machine.tell, lambda: None)
        machine.tell(partial(self._groups.join, who, self.desk))

    def _changed(self) -> None:
        if self.desk.left:
            self._left()
        elif not self._visiting and not self._over:
            self._visiting = True
            self._application.later(TAKING_US, self._visit)

    def _left(self) -> None:
        if self._over:
            return
        if self.desk.error is not None:
            self._application.recorder.surprise(self._tag, self.desk.error)
        self.record()
        if self in self._worker.leaving:
            self._worker.leaving.remove(self)

    # Its threads.

    def _visit(self) -> None:
        if self._application.machine.paused:
            self._application.later(PAUSED_US, self._visit)
            return
        self._visiting = False
        while self._in_hand < self._arguments["hands"] and not self._over and (held := self.desk.take()) is not None:
            self._work_on(held)

    def _work_on(self, held: Held) -> None:
        application, partition = self._application, held.claim.partition
        seen, now_us = seen_event(held.event), application.world.now_us
        attempt = held.attempts + 1
        place = len(self._handed[partition])
        self._handed[partition].append(
            Handed(held.claim.epoch, held.position, seen.id, seen.digest, attempt, held.replayed, now_us)
        )
        application.saw(self._who.origin.context, partition, held.position)
        self._in_hand += 1
        fate = self._fate(held, attempt)
        work_us = 0 if self.hurried else self._arguments["work_ms"] * 1000
        application.later(work_us + fate.more_us, partial(self._done, held, place, fate))

    def _fate(self, held: Held, attempt: int) -> Fate:
        """Return what comes of a delivery. At the end of a run nobody dies, and what fails is soon tried again."""
        name = f"{self._application.seed}/{self._who.group}/{held.event.id.hex}"
        fate = fate_of(name, self._arguments["fates"], attempt, replayed=held.replayed)
        if not self.hurried:
            return fate
        return Fate(ACK if fate.verdict == DEADLY else fate.verdict, retry_after_us=HURRIED_RETRY_US)

    def _done(self, held: Held, place: int, fate: Fate) -> None:
        if self._dead:
            return
        if self._application.machine.paused:
            self._application.later(PAUSED_US, partial(self._done, held, place, fate))
            return
        if fate.verdict == DEADLY:
            self.die()
            self._worker.died(self)
            return
        attempt = held.attempts + 1
        if fate.verdict == ACK:
            counts = self.desk.ack(held, attempt)
        elif fate.verdict == NACK:
            counts = self.desk.nack(held, attempt, fate.retry_after_us)
        else:
            counts = self.desk.park(held, attempt, "it is bad")
        if self._over:
            assert not counts, "a member that has left still settles"
            return
        handed = self._handed[held.claim.partition]
        now_us = self._application.world.now_us
        handed[place] = handed[place]._replace(verdict=fate.verdict, told_us=now_us, counts=counts)
        self._in_hand -= 1
        self._changed()

    # Its end.

    def leave(self) -> None:
        """Leave in good order, as `close` does."""
        self.desk.end(None)
        self._application.machine.tell(partial(self._groups.leave, self.desk))

    def die(self) -> None:
        """End as a process that was killed: the cluster is told nothing."""
        self._dead = True
        if not self._over:
            self.record()
            self._application.machine.tell(partial(self._groups.forget, self.desk))

    def record(self) -> None:
        """Tell the history what came."""
        self._over = True
        who = self._who
        for partition, start in who.starts.items():
            self._application.recorder.was_member(
                MemberDone(
                    *self._tag,
                    who.origin.context,
                    partition,
                    self._begun_us,
                    self._application.world.now_us,
                    who.group,
                    who.member.hex(),
                    start,
                    who.max_attempts,
                    tuple(self._handed[partition]),
                    who.wanted.types,
                    who.wanted.prefix,
                )
            )
