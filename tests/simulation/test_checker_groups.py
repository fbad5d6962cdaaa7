"""The checker on consumer groups: each broken promise by its kind, and its model of a group against the shipped one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest
from histories.group_history import ACK, NACK, PARK, GroupSaid, Handed, MemberDone
from histories.group_model import GroupModel
from histories.grouping import Groups
from histories.history import History
from histories.logs import StoredAppend, StoredEntry, StoredLog, views_of
from histories.stored import Stored
from histories.violations import Kind

from rewind_cluster.group_records import Claim, Delete, Operation, Replay, Reset, Settle, pack_operation
from rewind_cluster.groups import Attempt, Park
from rewind_cluster.records import iterate_body
from rewind_node.groups import GroupTable

CONTEXT, PARTITION, GROUP = 1, 1, "mailer"
FIRST, SECOND = b"1" * 16, b"2" * 16  # members
STREAMS = ("a", "a", "a", "b")  # of positions 1 to 4
CLAIMED, USURPED = 5, 7  # the two epochs
MAX_ATTEMPTS = 3


def claim(member: bytes, from_epoch: int = 0) -> Claim:
    return Claim(CONTEXT, GROUP, member, 0, MAX_ATTEMPTS, from_epoch)


def settle(epoch: int, *settled: tuple[int, int], **told: Any) -> Settle:
    fields = {"attempts": [], "parks": [], "replayed": [], "release": False} | told
    return Settle(CONTEXT, GROUP, epoch, list(settled), **fields)


def handed(epoch: int, position: int, attempt: int, at_us: int, verdict: str = "", *, replayed: bool = False) -> Handed:
    """Return a delivery; the verdict comes 10 us later."""
    told_us = at_us + 10 if verdict else 0
    return Handed(epoch, position, f"{position:032}", "d", attempt, replayed, at_us, verdict, told_us, bool(verdict))


@dataclass
class Case:
    """What two members did with four events: the second took over from the first, which had not released."""

    log: list[Operation]
    first: MemberDone
    second: MemberDone
    said: list[GroupSaid]
    spoil_state: bool = False

    def check(self, *, steady: bool = True) -> set[Kind]:
        """Return what the checker finds."""
        entries = [
            StoredEntry(index, 1, str(index), CONTEXT, (_append(index, stream),))
            for index, stream in enumerate(STREAMS, 1)
        ]
        for operation in self.log:
            entries.append(StoredEntry(len(entries) + 1, 1, "", CONTEXT, (), (operation,)))
        replica = StoredLog("n1", PARTITION, len(entries), entries)
        replica.groups = GroupModel(entries, [len(entries)]).views[len(entries)]
        if self.spoil_state:
            key = (CONTEXT, GROUP)
            replica.groups = {key: replica.groups[key]._replace(checkpoint=3)}
        stored = Stored(PARTITION, entries, lambda *_: 1)
        groups = Groups(entries, [replica], stored, [self.first, self.second], self.said, steady=steady)
        return {violation.kind for violation in groups.violations}

    def hand(self, member: str, place: int, **fields: Any) -> None:
        """Let one of a member's deliveries be another."""
        done: MemberDone = getattr(self, member)
        changed = list(done.handed)
        changed[place] = changed[place]._replace(**fields)
        setattr(self, member, replace(done, handed=tuple(changed)))

    def say(self, begun_us: int, said: Any, **fields: Any) -> None:
        """Let a message be overheard."""
        self.said.append(_said(begun_us, said, **fields))


def _append(position: int, stream: str) -> StoredAppend:
    version = STREAMS[:position].count(stream)
    return StoredAppend(stream, version, position, position * 10, (f"{position:032}",), ("d",), 1, position, ("T",))


def _said(begun_us: int, said: Any, **fields: Any) -> GroupSaid:
    told = {"taken": True} | fields
    return GroupSaid(1, begun_us, CONTEXT, PARTITION, begun_us, begun_us + 5, said, **told)


def _member(number: int, member: bytes, deliveries: Sequence[Handed]) -> MemberDone:
    who = number, 1, CONTEXT, PARTITION, 0, 1_000
    return MemberDone(*who, GROUP, member.hex(), 0, MAX_ATTEMPTS, tuple(deliveries))


def sound() -> Case:
    one = settle(CLAIMED, (1, 1), attempts=[Attempt(4, 1, True)])
    two = settle(USURPED, (2, 3), parks=[Park(4, 2, "it is bad")])
    three = settle(USURPED, replayed=[4], release=True)
    everything = Replay(CONTEXT, GROUP, None, False)
    taken = handed(CLAIMED, 1, 1, 110, ACK), handed(CLAIMED, 4, 1, 120, NACK), handed(CLAIMED, 2, 1, 130)
    taken_over = (
        handed(USURPED, 2, 2, 310, ACK),
        handed(USURPED, 3, 1, 330, ACK),
        handed(USURPED, 4, 2, 335, PARK),
        handed(USURPED, 4, 1, 420, ACK, replayed=True),
    )
    return Case(
        [claim(FIRST), one, claim(SECOND, CLAIMED), two, everything, three],
        _member(1, FIRST, taken),
        _member(2, SECOND, taken_over),
        [
            _said(100, claim(FIRST), epoch=CLAIMED),
            _said(200, one),
            _said(300, claim(SECOND), epoch=USURPED, attempts=((2, 1), (4, 1))),
            _said(350, two),
            _said(400, everything),
            _said(440, three),
        ],
    )


Spoil = Callable[[Case], None]
SPOILS: list[Any] = []


def breaks(kind: Kind) -> Callable[[Spoil], Spoil]:
    """Take in a function that breaks a promise."""

    def register(spoil: Spoil) -> Spoil:
        SPOILS.append(pytest.param(kind, spoil, id=spoil.__name__))
        return spoil

    return register


@breaks(Kind.GROUP_STATE)
def a_replica_whose_checkpoint_is_not_what_its_log_says(case: Case) -> None:
    case.spoil_state = True


@breaks(Kind.FENCING)
def a_settlement_that_is_said_to_be_taken_after_its_claim_was_over(case: Case) -> None:
    late = settle(CLAIMED, (2, 2))
    case.log.insert(4, late)
    case.say(360, late)


@breaks(Kind.FENCING)
def a_claim_that_is_granted_with_anothers_epoch(case: Case) -> None:
    case.say(310, claim(FIRST), epoch=USURPED)


@breaks(Kind.FENCING)
def a_claim_that_is_said_to_be_over_before_anybody_has_claimed(case: Case) -> None:
    case.say(150, settle(CLAIMED, (1, 1)), taken=False)


@breaks(Kind.FENCING)
def a_delivery_under_anothers_claim(case: Case) -> None:
    case.hand("first", 2, epoch=USURPED)


@breaks(Kind.FENCING)
def an_owner_that_goes_on_after_its_successor_has_begun(case: Case) -> None:
    case.hand("first", 2, at_us=320)


@breaks(Kind.UNEARNED)
def an_event_that_is_settled_and_was_not_acknowledged(case: Case) -> None:
    case.hand("second", 1, verdict="", counts=False)


@breaks(Kind.UNEARNED)
def an_event_that_is_acknowledged_only_after_it_was_settled(case: Case) -> None:
    case.hand("first", 0, told_us=201)


@breaks(Kind.UNEARNED)
def an_event_that_is_parked_and_had_not_failed_so_often(case: Case) -> None:
    case.hand("second", 2, verdict="", counts=False)


@breaks(Kind.UNEARNED)
def a_replay_that_ends_without_an_acknowledgement(case: Case) -> None:
    case.hand("second", 3, verdict="", counts=False)


@breaks(Kind.LOST_SETTLEMENT)
def an_acknowledgement_that_a_release_leaves_out(case: Case) -> None:
    case.log[3] = settle(USURPED, (2, 2), parks=[Park(4, 2, "it is bad")])
    case.said[3] = _said(350, case.log[3])


@breaks(Kind.LOST_SETTLEMENT)
def a_failure_that_a_release_leaves_out(case: Case) -> None:
    case.hand("second", 1, verdict=NACK)
    case.log[3] = settle(USURPED, (2, 2), parks=[Park(4, 2, "it is bad")])
    case.said[3] = _said(350, case.log[3])


@breaks(Kind.ATTEMPTS)
def a_delivery_that_does_not_count_the_failure_before_the_takeover(case: Case) -> None:
    case.hand("second", 2, attempt=1)


@breaks(Kind.ATTEMPTS)
def a_claim_that_is_granted_without_the_failures(case: Case) -> None:
    case.said[2] = replace(case.said[2], attempts=())


@breaks(Kind.DUPLICATE)
def an_event_that_was_settled_under_an_earlier_claim(case: Case) -> None:
    case.hand("second", 0, position=1, id=f"{1:032}", attempt=1)


@breaks(Kind.DUPLICATE)
def a_replay_that_nobody_has_asked_for(case: Case) -> None:
    case.log[4] = Replay(CONTEXT, GROUP, [3], False)
    case.said[4] = _said(400, case.log[4])


@breaks(Kind.EVENT_ORDER)
def the_next_of_a_stream_before_the_one_before_is_acknowledged(case: Case) -> None:
    case.hand("second", 1, at_us=315)


@breaks(Kind.LOST_ACKNOWLEDGEMENT)
def a_settlement_that_was_said_to_be_taken_and_is_lost(case: Case) -> None:
    case.say(345, settle(USURPED, (2, 2)))


@breaks(Kind.LOST_ACKNOWLEDGEMENT)
def a_reset_that_was_said_to_be_done_and_is_lost(case: Case) -> None:
    case.say(345, Reset(CONTEXT, GROUP, 0))


@breaks(Kind.REFUSED_THEN_APPLIED)
def a_reset_that_was_refused_and_stands_in_the_log(case: Case) -> None:
    case.log.append(Reset(CONTEXT, GROUP, 3))
    case.say(445, case.log[-1], taken=False, refused=True)


@breaks(Kind.REFUSED_THEN_APPLIED)
def a_claim_of_which_each_copy_was_refused_and_one_was_granted(case: Case) -> None:
    case.said[2] = replace(case.said[2], taken=False, refused=True)
    case.say(305, claim(SECOND), taken=False, refused=True)


@breaks(Kind.PHANTOM)
def an_event_that_is_not_in_the_log(case: Case) -> None:
    case.hand("first", 0, id="f" * 32)


@breaks(Kind.PHANTOM)
def a_settlement_that_nobody_has_sent(case: Case) -> None:
    del case.said[1]


@breaks(Kind.WRONG_RANGE)
def an_event_that_the_filter_takes_out(case: Case) -> None:
    case.first = replace(case.first, prefix="a")


@breaks(Kind.GAP)
def a_new_group_that_begins_elsewhere_than_its_member_was_told(case: Case) -> None:
    case.first = replace(case.first, start=2)


def test_a_sound_history_of_a_group_has_no_violation() -> None:
    assert not sound().check()


@pytest.mark.parametrize(("kind", "spoil"), SPOILS)
def test_each_broken_promise_is_found(kind: Kind, spoil: Spoil) -> None:
    case = sound()

    spoil(case)

    assert kind in case.check()


def test_an_owner_that_was_given_up_wrongly_may_go_on_for_a_while_where_clocks_run_fast() -> None:
    case = sound()
    case.hand("first", 2, at_us=320)

    found = case.check(steady=False)

    assert not found


def test_what_was_refused_may_stand_in_the_log_if_another_copy_got_no_answer() -> None:
    case = sound()
    case.log.append(Reset(CONTEXT, GROUP, 3))
    case.say(445, case.log[-1], taken=False, refused=True)
    case.said.append(replace(case.said[-1], begun_us=444, ended_us=None, refused=False))

    assert not case.check()


def parked_again(release: Settle) -> Case:
    """Return a case whose event is parked, replayed to another owner, fails, and is discarded before that is told."""
    case = sound()
    parked, two = settle(CLAIMED, (1, 1), parks=[Park(4, 1, "it is bad")]), settle(USURPED, (2, 3))
    everything, discard = Replay(CONTEXT, GROUP, None, False), Replay(CONTEXT, GROUP, None, True)
    case.log = [claim(FIRST), parked, claim(SECOND, CLAIMED), two, everything, discard, release]
    case.hand("first", 1, verdict=PARK)
    case.second = replace(
        case.second, handed=(*case.second.handed[:2], handed(USURPED, 4, 1, 420, PARK, replayed=True))
    )
    case.said[1:] = [
        _said(200, parked),
        _said(300, claim(SECOND), epoch=USURPED, attempts=((2, 1),)),
        _said(350, two),
        _said(400, everything),
        _said(435, discard),
        _said(440, release),
    ]
    return case


def test_a_replay_may_be_parked_again_after_its_event_was_discarded() -> None:
    case = parked_again(settle(USURPED, parks=[Park(4, 3, "it is still bad")], release=True))

    assert not case.check()


def test_a_replay_that_was_parked_again_must_be_told_whatever_was_discarded() -> None:
    case = parked_again(settle(USURPED, release=True))

    assert Kind.LOST_SETTLEMENT in case.check()


def test_a_history_of_groups_can_be_written_and_read() -> None:
    case = sound()
    history = History(members=[case.first, case.second], said=case.said)

    read = History.of_lines(history.lines())

    assert read == history


def draw_operation(random: Random, index: int) -> Operation:
    """Return what might stand in a log, with epochs and positions that are often right."""
    epoch = random.randint(max(0, index - 6), index)
    positions = sorted(random.sample(range(1, 30), 4))
    spans = [(positions[0], positions[1])] * random.randint(0, 1) + [(positions[2], positions[3])] * random.randint(
        0, 1
    )
    if spans[1:] and positions[1] + 1 >= positions[2]:
        spans = spans[:1]
    draws: list[Callable[[], Operation]] = [
        lambda: Claim(
            CONTEXT, GROUP, random.choice((FIRST, SECOND)), random.randint(0, 3), random.randint(1, 3), epoch
        ),
        lambda: settle(
            epoch,
            *spans,
            attempts=[Attempt(random.randint(1, 30), random.randint(1, 3), random.random() < 0.5)],
            parks=[Park(random.randint(1, 30), 1, "")] * random.randint(0, 1),
            replayed=[random.randint(1, 30)] * random.randint(0, 1),
            release=random.random() < 0.2,
        ),
        lambda: Reset(CONTEXT, GROUP, random.randint(0, 12)),
        lambda: Delete(CONTEXT, GROUP, epoch),
        lambda: Replay(CONTEXT, GROUP, random.choice((None, [random.randint(1, 30)])), random.random() < 0.3),
    ]
    return random.choices(draws, (4, 12, 1, 0.5, 1))[0]()


@pytest.mark.parametrize("seed", range(30))
def test_the_model_of_a_group_makes_of_any_log_what_the_shipped_state_makes_of_it(seed: int) -> None:
    random = Random(seed)
    table = GroupTable()
    entries = [StoredEntry(1, 1, "", CONTEXT, tuple(_append(position, "a") for position in range(1, 21)))]

    views = []
    for index in range(2, 150):
        operation = draw_operation(random, index)
        record = next(iterate_body(pack_operation(operation)))
        table.apply(index, record.payload, lambda _: 20)
        entries.append(StoredEntry(index, 1, "", CONTEXT, (), (operation,)))
        views.append(views_of(table))

    model = GroupModel(entries, range(2, 150))
    for index, view in enumerate(views, 2):
        assert model.views[index] == view, entries[index - 1].groups
