"""Who of a group should have what: the coordinator's advice, and the arithmetic behind it."""

import random

import pytest
from groups_by_hand import CONTEXT, GROUP, Member, Operator

from rewind_cluster.client_messages import Code, CreateContext
from rewind_cluster.groups import (
    COORDINATED_MAX,
    COORDINATOR_PATIENCE_US,
    MEMBER_EXPIRY_US,
    MEMBERS_MAX,
    AssignmentIs,
    AttendGroup,
    ListGroups,
    MemberRow,
    unpack_rows_of,
)
from rewind_cluster.names import slot
from rewind_node.assigning import assign
from rewind_node.coordinator import Coordinator

PATIENCE_TURNS = COORDINATOR_PATIENCE_US // 1000
EXPIRY_TURNS = MEMBER_EXPIRY_US // 1000
PARTITIONS = 5


@pytest.fixture
def cluster(make_cluster):
    cluster = make_cluster(3, partitions=PARTITIONS).start()
    cluster.turns(PATIENCE_TURNS)
    return cluster


@pytest.fixture
def coordinator(cluster):
    return cluster.partition_of(GROUP)


@pytest.fixture
def members(cluster, coordinator):
    return [Member(cluster.client(f"m{number}"), coordinator, number) for number in (1, 2, 3)]


def attend_all(members, coordinator, rounds=2):
    """Let members attend in turn, holding at once what they are told to have; return what each has."""
    for _ in range(rounds):
        for member in members:
            member.holds = member.attend(coordinator, getattr(member, "holds", ()))
    return [member.holds for member in members]


def test_the_first_member_has_all_and_later_ones_their_share(members, coordinator):
    alone = members[0].attend(coordinator)

    shared = attend_all(members, coordinator)

    assert alone == [1, 2, 3, 4, 5]
    assert sorted(partition for each in shared for partition in each) == [1, 2, 3, 4, 5]
    assert sorted(map(len, shared)) == [1, 2, 2]


def test_who_leaves_or_falls_silent_is_replaced_and_nobody_else_moves(cluster, members, coordinator):
    before = attend_all(members, coordinator)
    members[2].attend(coordinator, leaving=True)
    left = attend_all(members[:2], coordinator)
    cluster.turns(EXPIRY_TURNS)

    alone = attend_all(members[1:2], coordinator)

    assert all(set(old) <= set(new) for old, new in zip(before, left, strict=False))
    assert sorted(map(len, left)) == [2, 3]
    assert alone == [[1, 2, 3, 4, 5]]


def test_a_new_coordinator_moves_nothing_until_all_had_time_to_attend(cluster, members, coordinator):
    before = attend_all(members, coordinator)
    cluster.await_leader(coordinator).crash()
    cluster.await_leader(coordinator)

    first = attend_all(members[:1], coordinator, 1)
    joining = Member(cluster.client("m4"), coordinator, 4).attend(coordinator)
    cluster.turns(1000)
    again = attend_all(members, coordinator, 1)
    cluster.turns(PATIENCE_TURNS - 1000)
    later = attend_all(members, coordinator)

    assert (first, joining, again) == (before[:1], [], before)
    assert all(set(now) <= set(was) for now, was in zip(later, before, strict=True))
    assert sorted(map(len, later)) == [1, 1, 2]  # one went to who joined


def test_members_and_what_they_have_can_be_seen(cluster, members, coordinator):
    attend_all(members[:1], coordinator)
    operator = Operator(cluster.client("operator"), coordinator)

    answer = operator.ask(ListGroups, GROUP)

    everything = list(range(1, PARTITIONS + 1))
    assert unpack_rows_of(MemberRow, answer.members) == [(members[0].id, "member 1", everything, everything)]
    assert operator.ask(ListGroups, None).members == []


def test_only_the_partition_of_the_groups_slot_coordinates_it(members, coordinator):
    elsewhere = coordinator % PARTITIONS + 1
    fields = (GROUP, members[0].id, "m", [], False)

    assert members[0].ask(AttendGroup, *fields, partition=elsewhere) is Code.WRONG_PARTITION


def test_an_ordered_context_has_one_partition_to_share(cluster, members):
    leader = cluster.await_leader(0)
    client = members[0].client
    client.hello(leader)
    context, _ = client.ask(leader, CreateContext, "ordered", True, client.deadline_us)
    host = cluster.await_leader(context.partition)
    client.hello(host)
    cluster.until(lambda: context.number in host.core.map.contexts)

    def attend(partition):
        fields = (partition, context.number, GROUP, members[0].id, "m", [], False, client.deadline_us)
        return client.ask(cluster.await_leader(partition), AttendGroup, *fields)[0]

    assert attend(context.partition).partitions == [context.partition]
    other = context.partition % PARTITIONS + 1
    client.hello(cluster.await_leader(other))
    assert attend(other).code == Code.WRONG_PARTITION


@pytest.mark.parametrize("seed", range(30))
def test_shares_are_whole_balanced_and_stay_where_they_are(seed):
    chance = random.Random(seed)
    partitions = list(range(1, chance.randint(1, 20) + 1))
    has = {}
    for _ in range(20):
        if has and chance.random() < 0.4:
            del has[chance.choice(list(has))]
        else:
            has[chance.randbytes(16)] = []
        before = {member: list(share) for member, share in has.items()}
        has = assign(partitions, has)
        if not has:
            continue

        assert sorted(partition for share in has.values() for partition in share) == partitions
        assert max(map(len, has.values())) - min(map(len, has.values())) <= 1
        assert assign(partitions, has) == has
        # Nobody gives more away than balance asks for: who gave something has no more than the least share but one.
        for member, share in before.items():
            given = set(share) - set(has[member])
            assert not given or len(has[member]) in (len(partitions) // len(has), -(-len(partitions) // len(has)))
            assert not given or not set(has[member]) - set(share), "it gave some and got others"


def test_two_members_that_say_they_hold_the_same_partition_do_not_both_get_it():
    shares = assign([1, 2], {b"a": [1, 2], b"b": [1, 2]})

    assert sorted(map(tuple, shares.values())) == [(1,), (2,)]


def ask(number, group=GROUP, holds=()):
    member = number.to_bytes(16)
    return AttendGroup(number, 1, CONTEXT, group, member, "m", list(holds), False, 0)


def test_members_and_groups_beyond_the_limits_are_refused_until_others_are_gone():
    coordinator = Coordinator(0)
    for number in range(MEMBERS_MAX):
        assert isinstance(coordinator.attend(ask(number), (1, 2), 10), AssignmentIs)
    for number in range(COORDINATED_MAX - 1):
        assert isinstance(coordinator.attend(ask(1, f"g{number}"), (1, 2), 10), AssignmentIs)

    told = [coordinator.attend(ask(MEMBERS_MAX), (1, 2), 20), coordinator.attend(ask(1, "more"), (1, 2), 20)]
    known = coordinator.attend(ask(7), (1, 2), 20)
    later = 20 + MEMBER_EXPIRY_US

    assert [each.code for each in told] == [Code.OVERLOADED, Code.OVERLOADED]
    assert isinstance(known, AssignmentIs)
    assert isinstance(coordinator.attend(ask(MEMBERS_MAX), (1, 2), later), AssignmentIs)
    assert isinstance(coordinator.attend(ask(1, "more"), (1, 2), later), AssignmentIs)


def test_what_a_member_says_it_holds_is_believed_of_its_contexts_partitions_only():
    answer = Coordinator(0).attend(ask(1, holds=[2, 3, 9, 70_000]), (1, 2, 3), 10)

    assert answer.partitions == [2, 3]


def test_a_groups_coordinator_is_the_partition_of_its_names_slot(cluster, coordinator):
    assert cluster.await_leader(1).core.map.partition_of_slot(slot(GROUP)) == coordinator
