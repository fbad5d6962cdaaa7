"""One member under one claim: what it was handed out, held against what the claim began with and what it settled."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from histories.group_history import ACK, NACK, PARK, GroupSaid, Handed, MemberDone
from histories.group_model import Reign
from histories.history import ScannedEvent
from histories.violations import Kind
from rewind_cluster.group_records import Settle

Problem = tuple[Kind, str]
EVER_US = 1 << 62


@dataclass(slots=True)
class Life:
    """A member under a claim. `befores`: of each event that it wants, the position of its stream's one before, or 0."""

    done: MemberDone
    reign: Reign
    befores: Mapping[int, int]
    handed: list[Handed] = field(default_factory=list)

    # What the application said.

    def count(self, position: int, *verdicts: str, by_us: int = EVER_US, replayed: bool = False) -> int:
        """Return how often the application had said so of a position, by a time, and was told that it counts."""
        return sum(
            each.counts and each.verdict in verdicts and each.told_us <= by_us
            for each in self.handed
            if each.position == position and each.replayed is replayed
        )

    def failures(self, position: int, by_us: int = EVER_US) -> int:
        """Return how often a position had failed by a time, as far as the member knows."""
        return self.reign.failed.get(position, 0) + self.count(position, NACK, PARK, by_us=by_us)

    # Deliveries.

    def hand(self, handed: Handed, event: ScannedEvent) -> Problem | None:
        """Take in the next delivery, of an event as the log has it, and return what is wrong with it."""
        problem = self._delivery_problem(handed, event)
        self.handed.append(handed)
        return problem

    def _delivery_problem(self, handed: Handed, event: ScannedEvent) -> Problem | None:
        position, reign = handed.position, self.reign
        what = f"position {position} was handed out under epoch {reign.epoch}"
        if event.id != handed.id or (event.digest and event.digest != handed.digest):
            return Kind.PHANTOM, f"{what} as event {handed.id}; the log has {event.id}, or other contents"
        if position not in self.befores:
            return Kind.WRONG_RANGE, f"{what}, and does not match the filter"
        if handed.replayed:
            return None  # outside of all order; that it was asked for is for the log to say
        if reign.had_settled(position) or self.count(position, ACK, PARK, by_us=handed.at_us):
            return Kind.DUPLICATE, f"{what}, and was settled"
        attempt = 1 + self.failures(position, handed.at_us)
        if handed.attempt != attempt or attempt > self.done.max_attempts:
            return (
                Kind.ATTEMPTS,
                f"{what} as attempt {handed.attempt} of {self.done.max_attempts}; it is attempt {attempt}",
            )
        return self._order_problem(handed, self.befores[position], what)

    def _order_problem(self, handed: Handed, before: int, what: str) -> Problem | None:
        """See whether the stream's event before is settled, so by induction are all before that."""
        if not before or self.reign.had_settled(before) or before in self.reign.parks:
            return None
        if self.count(before, ACK, by_us=handed.at_us):
            return None
        return Kind.EVENT_ORDER, f"{what} before position {before} of the same stream was settled"

    # Settlements.

    def settlement_problems(self, sent: Mapping[str, GroupSaid]) -> Iterator[Problem]:
        """Yield what was settled without a reason. `sent`: by content, when each settlement was first sent."""
        earned = set(self.reign.settled)
        for index, settle in self.reign.settles:
            said = sent.get(repr(settle))
            if said is None and any(settle[3:]):  # a leader that does not know the claim yet logs signs of life, too
                yield Kind.PHANTOM, f"entry {index} holds a settlement that nobody has sent"
            elif said is not None:
                yield from self._unearned(settle, said.begun_us, earned)

    def _unearned(self, settle: Settle, by_us: int, earned: set[int]) -> Iterator[Problem]:
        under = f"under epoch {self.reign.epoch}"
        for position in (each for first, last in settle.settled for each in range(first, last + 1)):
            is_due = position in self.befores and position > self.reign.checkpoint and position not in earned
            if is_due and not self.count(position, ACK, by_us=by_us):
                yield Kind.UNEARNED, f"position {position} was settled {under}, and had not been acknowledged"
            earned.add(position)
        for park in settle.parks:
            replayed = self.count(park.position, PARK, NACK, by_us=by_us, replayed=True) > 0
            given_up = self.count(park.position, PARK, by_us=by_us) or replayed
            if not given_up and self.failures(park.position, by_us) < self.done.max_attempts:
                yield Kind.UNEARNED, f"position {park.position} was parked {under}, and had not failed so often"
            elif not replayed and park.attempts != self.failures(park.position, by_us):
                failures = self.failures(park.position, by_us)
                yield (
                    Kind.ATTEMPTS,
                    f"position {park.position} was parked {under} after {park.attempts}, not {failures}",
                )
            earned.add(park.position)
        for position in settle.replayed:
            if not self.count(position, ACK, by_us=by_us, replayed=True):
                yield Kind.UNEARNED, f"the replay of position {position} ended {under}, and had not been acknowledged"

    def release_problem(self) -> Problem | None:
        """Return what the application was told to count and the claim was released without."""
        reign = self.reign
        told = {(each.position, each.attempts) for _, settle in reign.settles for each in settle.attempts}
        # A replay that was parked again may have been discarded before it was told: then it is parked no more.
        parked_again = {park.position for _, settle in reign.settles for park in settle.parks}
        for each in self.handed:
            if not each.counts:
                continue
            known = reign.replayed | parked_again if each.replayed else reign.acked | reign.parks
            is_lost = each.verdict in (ACK, PARK) and each.position not in known
            if each.verdict == NACK and not each.replayed and each.position not in known:
                is_lost = (each.position, each.attempt) not in told
            if is_lost:
                text = f"{each.verdict} of position {each.position} counted under epoch {reign.epoch}"
                return Kind.LOST_SETTLEMENT, f"{text}, and the claim was released without it"
        return None


def befores(events: Sequence[ScannedEvent]) -> dict[int, int]:
    """Return of each event the position of its stream's one before, 0 for none."""
    last: dict[str, int] = {}
    found: dict[int, int] = {}
    for event in events:
        found[event.position] = last.get(event.stream, 0)
        last[event.stream] = event.position
    return found
