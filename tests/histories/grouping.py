"""Consumer groups against the log: at least once, in order by stream, and nothing counts but what the owner said.

* Every replica's state of a group is what its log leads to (`group_model`).
* What was said to be taken stands in the log; what was said to be over is over; what was refused, each copy of it,
  does not stand there.
* A member delivers under claims that were granted to it, each event as it stands in the log and matches the filter,
  counted by what has failed before; none that was settled, and of a stream the next only when the one before is.
  Events whose replay was asked for stand outside of that order.
* What is settled was acknowledged by the application before that was told, parked by it, or parked for its failures;
  or a filter took it out. So nothing is skipped: all that the checkpoint has passed is one of these.
* Who releases a claim has told all that its application was told to count.
* Where clocks go on at about the same rate, an owner that was given up hands out nothing once its successor does.

A member that dies leaves what it did not tell to its successor, who delivers that again. That is no violation.
"""

from collections.abc import Sequence

from histories.group_history import GroupSaid, Handed, MemberDone
from histories.group_model import GroupModel, Key, Reign
from histories.handing import EVER_US, Life, Problem, befores
from histories.logs import StoredEntry, StoredLog
from histories.scanning import ContextLog
from histories.stored import Stored
from histories.violations import Kind, Violation
from rewind_cluster.group_records import Claim, Delete, Operation, Replay, Settle


class Groups:
    """All that concerns groups in one partition. `violations`: what is wrong.

    `steady`: no clock went much faster than the others. A context whose positions have a hole is left out: the log
    itself has been complained about.
    """

    def __init__(
        self,
        entries: Sequence[StoredEntry],
        replicas: Sequence[StoredLog],
        stored: Stored,
        members: Sequence[MemberDone],
        said: Sequence[GroupSaid],
        *,
        steady: bool,
    ) -> None:
        self.violations: list[Violation] = []
        self._model = GroupModel(entries, [log.committed for log in replicas])
        self._contexts: dict[int, ContextLog] = {}
        self._stored = stored
        self._lives: dict[tuple[Key, int], Life] = {}  # by epoch
        self._said = sorted(said, key=lambda each: each.begun_us)
        self._sent = {repr(each.said): each for each in reversed(self._said) if isinstance(each.said, Settle)}
        self._claims_us = {each.epoch: each.begun_us for each in said}  # when claims were sent, by their epochs
        self._check_replicas(replicas)
        for each in self._said:
            self._check_said(each)
        self._check_refused()
        members = [done for done in members if done.context not in stored.holed]
        for done in members:
            self._check_member(done)
        self._add_idle(members)
        for (key, _), life in self._lives.items():
            self._check_life(key, life, steady=steady)

    def _found(self, problem: Problem | None, *operations: MemberDone | GroupSaid) -> None:
        if problem is not None:
            self.violations.append(Violation(*problem, operations))

    def _check_replicas(self, replicas: Sequence[StoredLog]) -> None:
        for log in replicas:
            due = self._model.views.get(log.committed)
            if log.groups is None or due is None:
                continue
            for key in sorted(log.groups.keys() | due.keys()):
                found, wanted = log.groups.get(key), due.get(key)
                if found != wanted:
                    where = f"partition {log.partition}, node {log.node}, group {key[1]} of context {key[0]}"
                    self._found((Kind.GROUP_STATE, f"{where}: {found}; its log says {wanted}"))

    # What the cluster has answered.

    def _check_said(self, each: GroupSaid) -> None:
        said = each.said
        key = (said.context, said.group)
        if each.ended_us is None or each.refused:
            return
        if isinstance(said, Claim):
            self._found(self._grant_problem(each, key, said), each)
        elif isinstance(said, Settle):
            self._found(self._settle_problem(each, key, said), each)
        elif said not in self._logged(key):
            self._found((Kind.LOST_ACKNOWLEDGEMENT, f"{said} was said to be done, and does not stand in the log"), each)

    def _check_refused(self) -> None:
        copies: dict[str, list[GroupSaid]] = {}
        for each in self._said:
            copies.setdefault(_as_sent(each.said), []).append(each)
        logged = {_as_sent(operation) for each in self._model.operations.values() for operation in each}
        for sent, said in copies.items():
            if sent in logged and all(each.refused for each in said):
                self._found((Kind.REFUSED_THEN_APPLIED, f"{sent} was refused, and stands in the log"), *said)

    def _logged(self, key: Key) -> list[Operation]:
        return self._model.operations.get(key, [])

    def _grant_problem(self, each: GroupSaid, key: Key, claim: Claim) -> Problem | None:
        reign = self._model.reign(key, each.epoch)
        if reign is None or reign.claim.member != claim.member:
            return (
                Kind.FENCING,
                f"a claim was granted with epoch {each.epoch}, which the log gives to nobody, or another",
            )
        if reign.settles and dict(each.attempts) != reign.failed:
            return (
                Kind.ATTEMPTS,
                f"a claim was granted with failures {dict(each.attempts)}; the log says {reign.failed}",
            )
        return None

    def _settle_problem(self, each: GroupSaid, key: Key, settle: Settle) -> Problem | None:
        reign = self._model.reign(key, settle.epoch)
        if each.taken:
            if reign is not None and any(taken == settle for _, taken in reign.settles):
                return None
            if settle in self._logged(key):
                return (
                    Kind.FENCING,
                    f"a settlement under epoch {settle.epoch} was said to be taken; that claim was over",
                )
            return Kind.LOST_ACKNOWLEDGEMENT, "a settlement was said to be taken, and does not stand in the log"
        assert each.ended_us is not None
        if reign is not None and self._over_us(reign) > each.ended_us:
            return Kind.FENCING, f"the claim with epoch {settle.epoch} was said to be over, and nothing had ended it"
        return None

    def _over_us(self, reign: Reign) -> int:
        """Return when that was sent by which a claim has ended, 0 if that is not known."""
        ended_by = reign.ended_by
        if ended_by is None:
            return EVER_US
        if isinstance(ended_by, Claim):
            return self._claims_us.get(reign.end or 0, 0)
        return min((each.begun_us for each in self._said if each.said == ended_by), default=0)

    # What members were handed out.

    def _life(self, key: Key, epoch: int, done: MemberDone) -> Life | None:
        """Return a member under a claim, or None if that was not granted to it."""
        life = self._lives.get((key, epoch))
        reign = self._model.reign(key, epoch)
        if life is None and reign is not None and reign.claim.member.hex() == done.member:
            wanted = self._context(key[0]).wanted(done.types, done.prefix)
            life = self._lives[key, epoch] = Life(done, reign, befores([] if wanted is None else wanted.events))
        return life if life is not None and life.done.member == done.member else None

    def _context(self, context: int) -> ContextLog:
        if context not in self._contexts:
            self._contexts[context] = ContextLog(self._stored, context)
        return self._contexts[context]

    def _check_member(self, done: MemberDone) -> None:
        key = (done.context, done.group)
        problem: Problem | None = None
        for handed in done.handed:
            found = self._take(key, done, handed)
            problem = problem or found
        self._found(problem, done)

    def _take(self, key: Key, done: MemberDone, handed: Handed) -> Problem | None:
        what = f"position {handed.position} was handed out under epoch {handed.epoch}"
        life = self._life(key, handed.epoch, done)
        if life is None:
            return Kind.FENCING, f"{what}, which was not granted to member {done.member}"
        events = self._context(done.context).events
        if not 0 < handed.position <= len(events):
            return Kind.PHANTOM, f"{what}; the log ends at {len(events)}"
        if handed.replayed and not any(_asks_for(each, handed.position) for each in self._logged(key)):
            return Kind.DUPLICATE, f"{what} as a replay that nobody has asked for"
        return life.hand(handed, events[handed.position - 1])

    def _add_idle(self, members: Sequence[MemberDone]) -> None:
        """Take in the claims of members that were handed out nothing under them."""
        by_id = {done.member: done for done in members}
        for key, reigns in self._model.reigns.items():
            for epoch, reign in reigns.items():
                done = by_id.get(reign.claim.member.hex())
                if done is not None:
                    self._life(key, epoch, done)

    # What was settled under a claim.

    def _check_life(self, key: Key, life: Life, *, steady: bool) -> None:
        reign, done = life.reign, life.done
        if reign.claim.start != done.start:
            text = f"a member whose group begins after position {done.start} has claimed from {reign.claim.start} on"
            self._found((Kind.GAP, text), done)
        self._found(next(life.settlement_problems(self._sent), None), done)
        if reign.released:
            self._found(life.release_problem(), done)
        usurped = self._lives.get((key, reign.usurped))
        if steady and usurped is not None and usurped.handed and life.handed:
            last, first = usurped.handed[-1], life.handed[0]
            if last.at_us > first.at_us:
                text = (
                    f"epoch {reign.usurped} handed out position {last.position} after epoch {reign.epoch} had begun to"
                )
                self._found((Kind.FENCING, text), usurped.done, done)


def _as_sent(operation: Operation) -> str:
    """Return an operation without what its leader has added to it, so that those that were sent alike are equal."""
    if isinstance(operation, Claim | Delete):
        operation = operation._replace(from_epoch=0)
    return repr(operation)


def _asks_for(operation: Operation, position: int) -> bool:
    if not isinstance(operation, Replay) or operation.discard:
        return False
    return operation.positions is None or position in operation.positions
