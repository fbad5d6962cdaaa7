"""A group's state by itself: what is settled, charged, parked and replayed, and what limits say."""

import random

import pytest

from rewind_cluster.client_messages import Code
from rewind_cluster.group_records import Claim, Delete, Operation, Replay, Reset, Settle, pack_operation
from rewind_cluster.groups import ATTEMPTS_MAX, GROUP_WINDOW, GROUPS_MAX, PARKED_MAX, Attempt, Park
from rewind_cluster.records import unpack_record
from rewind_node.group_state import Failures, GroupState
from rewind_node.groups import GroupTable, Outcome

ONE, OTHER = b"1" * 16, b"2" * 16
HEAD = 10_000


class Log:
    """Operations applied one after the other, each an entry of its own, as a replica does."""

    def __init__(self, head: int = HEAD) -> None:
        self.head = head
        self.index = 0
        self.table = GroupTable()

    def apply(self, operation: Operation) -> Outcome:
        """Apply an operation as it comes out of a log."""
        self.index += 1
        return self.table.apply(self.index, unpack_record(pack_operation(operation)).payload, lambda _: self.head)

    @property
    def state(self) -> GroupState:
        """The group's state."""
        state = self.table.find(1, "g")
        assert state is not None
        return state

    def claim(self, member: bytes = ONE, *, start: int = 0, max_attempts: int = 3) -> Outcome:
        """Claim, replacing whoever holds the partition."""
        known = self.table.find(1, "g")
        return self.apply(Claim(1, "g", member, start, max_attempts, known.epoch if known else 0))

    def settle(self, *settled, attempts=(), parks=(), replayed=(), release=False) -> Outcome:
        """Settle under the newest epoch."""
        attempts, parks = [Attempt(*each) for each in attempts], [Park(*each) for each in parks]
        return self.apply(Settle(1, "g", self.state.epoch, settled, attempts, parks, replayed, release))


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def claimed(log):
    log.claim()
    return log


@pytest.mark.parametrize("seed", range(20))
def test_settled_positions_are_those_that_were_told_in_whatever_order(seed):
    log = Log(head=60)
    log.claim()
    chance = random.Random(seed)
    told = set()
    for _ in range(25):
        starts = sorted(chance.sample(range(1, 60), 2 * chance.randint(1, 3)))
        ranges = [(first, last - 1) for first, last in zip(starts[::2], starts[1::2], strict=True)]
        log.settle(*ranges)
        told |= {position for first, last in ranges for position in range(first, last + 1)}

        state = log.state
        unsettled = [position for position in range(1, 61) if position not in told]
        assert [position for position in range(1, 61) if not state.is_settled(position)] == unsettled
        assert state.checkpoint == min(unsettled) - 1
        assert all(first > state.checkpoint + 1 for first, _ in state.settled)
        assert all(one[1] + 1 < two[0] for one, two in zip(state.settled, state.settled[1:], strict=False))


def test_the_owner_that_vanishes_is_charged_to_the_lowest_position_it_may_have_died_of(claimed):
    claimed.settle((1, 2), (4, 4), attempts=[(3, 1, True)])

    claimed.claim(OTHER)

    assert claimed.state.failed == {3: Failures(1, True), 5: Failures(1, True)}


def test_an_event_that_ends_every_consumer_is_parked_in_the_end_and_holds_nothing_up(claimed):
    claimed.settle((1, 6))
    for number, member in enumerate((OTHER, ONE, OTHER)):
        if number:
            claimed.settle(attempts=[(7, number, False)])  # it is about to be delivered again
        claimed.claim(member)

    state = claimed.state
    assert state.checkpoint == 7
    assert state.failed == {}
    assert (state.parked[7].attempts, state.replays) == (3, [])
    assert "vanished" in state.parked[7].reason


def test_consumers_that_die_before_they_deliver_anything_have_nothing_parked(claimed):
    for number in range(GROUP_WINDOW + 5):
        claimed.claim((OTHER, ONE)[number % 2])

    state = claimed.state
    assert (state.checkpoint, state.parked) == (0, {})
    assert state.failed == dict.fromkeys(range(1, GROUP_WINDOW + 1), Failures(1, True))


def test_owners_that_release_or_claim_again_are_charged_to_nobody(claimed):
    claimed.claim(ONE)
    claimed.settle(release=True)
    claimed.claim(OTHER)

    assert claimed.state.failed == {}


def test_an_owner_that_vanishes_with_nothing_in_hand_is_charged_to_nobody():
    log = Log(head=5)
    log.claim()
    log.settle((1, 3), (5, 5), attempts=[(4, 2, True)])

    log.claim(OTHER)

    assert log.state.failed == {4: Failures(2, True)}


def test_a_replay_that_ends_every_consumer_is_withdrawn_in_the_end(claimed):
    claimed.settle((1, HEAD - 1), parks=[(HEAD, 2, "no")])
    claimed.apply(Replay(1, "g", None, False))
    asked = []
    for member in (OTHER, ONE, OTHER):
        claimed.claim(member)
        asked.append(claimed.state.replays)

    assert asked == [[HEAD], [HEAD], []]
    assert "replay" in claimed.state.parked[HEAD].reason


def test_what_is_settled_has_no_failures_and_no_late_ones(claimed):
    claimed.settle(attempts=[(1, 1, True), (2, 1, True)])
    claimed.settle((1, 1))
    claimed.settle(attempts=[(1, 2, True)])

    assert claimed.state.failed == {2: Failures(1, True)}


def test_an_old_count_of_failures_does_not_replace_a_newer_one(claimed):
    claimed.settle(attempts=[(1, 2, False)])
    claimed.settle(attempts=[(1, 1, True)])
    claimed.settle(attempts=[(2, ATTEMPTS_MAX + 7, True)])

    assert claimed.state.failed == {1: Failures(2, False), 2: Failures(ATTEMPTS_MAX, True)}


def test_a_parked_position_is_settled_and_parked_anew_when_its_replay_fails(claimed):
    claimed.settle((2, 2), parks=[(1, 3, "first")])
    claimed.apply(Replay(1, "g", [1], False))
    replays = claimed.state.replays
    claimed.settle(parks=[(1, 2, "second")])

    assert claimed.state.checkpoint == 2
    assert replays == [1]
    assert claimed.state.replays == []
    assert claimed.state.parked == {1: (2, "second", 0)}


def test_an_acknowledged_replay_is_parked_no_more_and_an_acknowledged_event_is_never_parked(claimed):
    claimed.settle((2, 2), parks=[(1, 3, "no")])
    claimed.settle(replayed=[1])
    claimed.settle(parks=[(1, 3, "late copy"), (2, 3, "late copy")])

    assert claimed.state.parked == {}


def test_where_there_is_no_room_among_the_parked_the_position_stays_unsettled(claimed):
    for first in range(1, PARKED_MAX, 20):
        claimed.settle(parks=[(position, 1, "no") for position in range(first, first + 20)])

    told = claimed.settle(parks=[(PARKED_MAX, 4, "anew"), (PARKED_MAX + 1, 1, "no")])

    assert told.code is Code.OK
    assert told.unparked == [PARKED_MAX + 1]
    assert claimed.state.checkpoint == PARKED_MAX
    assert claimed.state.parked[PARKED_MAX].reason == "anew"


def test_where_there_is_no_room_among_the_parked_an_event_that_ends_consumers_goes_on_being_delivered(claimed):
    for first in range(1, PARKED_MAX, 20):
        claimed.settle(parks=[(position, 1, "no") for position in range(first, first + 20)])
    for number, member in enumerate((OTHER, ONE, OTHER, ONE)):
        claimed.settle(attempts=[(PARKED_MAX + 1, number, False)])
        claimed.claim(member)

    assert claimed.state.failed == {PARKED_MAX + 1: Failures(4, True)}


def test_more_holes_than_a_window_are_refused_as_a_whole(claimed):
    claimed.settle(*((2 * number, 2 * number) for number in range(1, GROUP_WINDOW + 1)))
    before = claimed.state.pack()

    refused = claimed.settle((HEAD, HEAD), parks=[(HEAD - 2, 1, "no")], replayed=[1], release=True)
    after = claimed.state.pack()
    taken = claimed.settle((1, 1), (HEAD, HEAD))

    assert refused.code is Code.TOO_LARGE
    assert after == before
    assert taken.code is Code.OK


def test_a_window_that_a_parked_event_has_overfilled_is_worked_off(log):
    log.claim(max_attempts=1)
    log.settle(*((4 * number, 4 * number) for number in range(1, GROUP_WINDOW + 1)), attempts=[(1, 1, True)])
    log.claim(OTHER, max_attempts=1)  # parks 2, alone between two that are not settled

    more, same, less = log.settle((HEAD, HEAD)), log.settle((5, 5)), log.settle((3, 3))

    assert list(log.state.parked) == [2]
    assert [each.code for each in (more, same, less)] == [Code.TOO_LARGE, Code.OK, Code.OK]
    assert len(log.state.settled) == GROUP_WINDOW


def test_more_failures_than_a_window_are_refused(claimed):
    for first in range(1, GROUP_WINDOW, 256):
        claimed.settle(attempts=[(position, 1, True) for position in range(first, first + 256)])

    assert claimed.settle(attempts=[(HEAD, 1, True)]).code is Code.TOO_LARGE
    claimed.claim(OTHER)
    assert claimed.state.failed.keys() == set(range(1, GROUP_WINDOW + 1))


def test_positions_that_do_not_exist_yet_are_refused(claimed):
    before = claimed.state.pack()
    beyond = HEAD + 1

    told = [
        claimed.settle((1, beyond)),
        claimed.settle(attempts=[(beyond, 1, True)]),
        claimed.settle(parks=[(beyond, 1, "no")]),
        claimed.apply(Reset(1, "g", beyond)),
        claimed.apply(Claim(1, "new", ONE, beyond, 5, 0)),
    ]

    assert {each.code for each in told} == {Code.BEYOND_HEAD}
    assert claimed.state.pack() == before
    assert claimed.table.names(1) == ["g"]


def test_a_claim_replaces_only_the_claim_it_was_meant_for(claimed):
    meant = claimed.state.epoch
    assert claimed.apply(Claim(1, "g", OTHER, 0, 3, meant)).code is Code.OK

    assert claimed.apply(Claim(1, "g", b"3" * 16, 0, 3, meant)).code is Code.HELD
    assert claimed.apply(Delete(1, "g", meant)).code is Code.HELD
    assert claimed.state.owner == OTHER


def test_a_released_claim_settles_no_more_but_may_be_released_again(claimed):
    claimed.settle((1, 2), release=True)

    assert claimed.settle((1, 3)).code is Code.FENCED
    assert claimed.settle((1, 2), release=True).code is Code.OK
    assert claimed.state.checkpoint == 2


def test_a_reset_fences_and_forgets_what_will_be_delivered_anew(claimed):
    epoch = claimed.state.epoch
    claimed.settle((1, 5), (8, 9), attempts=[(7, 1, True)], parks=[(3, 1, "early"), (9, 1, "late")])

    claimed.apply(Reset(1, "g", 4))

    state = claimed.state
    assert (state.checkpoint, state.settled, state.failed, state.owner) == (4, [], {}, b"")
    assert list(state.parked) == [3]
    assert claimed.apply(Settle(1, "g", epoch, [(5, 6)], [], [], [], True)).code is Code.FENCED


def test_a_reset_makes_a_group_that_begins_there(log):
    log.apply(Reset(1, "g", 77))
    log.claim(start=5)

    assert log.state.checkpoint == 77


def test_a_deleted_group_is_fenced_and_begins_anew(claimed):
    epoch = claimed.state.epoch
    deleted = claimed.apply(Delete(1, "g", epoch))

    again = claimed.apply(Delete(1, "g", epoch))
    late = claimed.apply(Settle(1, "g", epoch, [(1, 6)], [], [], [], False))
    claimed.claim(start=3)

    assert (deleted.concerned, again.concerned, late.code) == (1, 0, Code.FENCED)
    assert claimed.state.checkpoint == 3


def test_replays_and_discards_are_of_parked_events_only(claimed):
    claimed.settle(parks=[(position, 1, "no") for position in (1, 2, 3)])

    marked = claimed.apply(Replay(1, "g", [2, 9], False))
    replays = claimed.state.replays
    dropped = claimed.apply(Replay(1, "g", [1, 2], True))
    every = claimed.apply(Replay(1, "g", None, False))
    replays += claimed.state.replays
    dropped_all = claimed.apply(Replay(1, "g", None, True))

    assert (marked.concerned, dropped.concerned, every.concerned, dropped_all.concerned) == (1, 2, 1, 1)
    assert (replays, claimed.state.parked) == ([2, 3], {})
    assert claimed.apply(Replay(1, "none", None, False)).code is Code.GROUP_NOT_FOUND


def test_groups_beyond_the_limit_are_refused_and_a_deleted_one_makes_room(log):
    for number in range(GROUPS_MAX):
        assert log.apply(Claim(1 + number % 2, f"g{number}", ONE, 0, 3, 0)).code is Code.OK

    refused = [log.apply(Claim(1, "more", ONE, 0, 3, 0)), log.apply(Reset(1, "more", 0))]
    log.apply(Delete(1, "g0", 0 if log.table.find(1, "g0") is None else log.table.find(1, "g0").epoch))

    assert {each.code for each in refused} == {Code.TOO_LARGE}
    assert log.apply(Claim(1, "more", ONE, 0, 3, 0)).code is Code.OK


def test_a_stored_state_comes_back_as_it_was(claimed):
    claimed.settle((1, 2), (5, 9), attempts=[(3, 2, True)], parks=[(12, 1, "why: ü")])
    claimed.apply(Replay(1, "g", None, False))

    assert GroupState.unpack(claimed.state.pack()) == claimed.state
