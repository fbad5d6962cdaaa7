"""Consumer groups at the cores of whole clusters: claims, fencing, settling, and what survives."""

import pytest
from groups_by_hand import CONTEXT, GROUP, Member, Operator
from ranges_by_hand import append_parts

from rewind_cluster.client_messages import Code
from rewind_cluster.group_records import Claim, pack_operation
from rewind_cluster.groups import GROUP_LEASE_US, ClaimGroup, ClaimIs, DeleteGroup, ResetGroup, SettledIs, SettleGroup
from rewind_cluster.records import iterate_body, unpack_record
from rewind_node.applying import EventIndex
from rewind_node.connections import Client, Outbox
from rewind_node.group_desk import GroupDesk
from rewind_node.group_report import measure_groups
from rewind_node.memory_engine import MemoryEngine
from rewind_node.store import Store
from rewind_node.store_layout import SPACE, group_key, pack_group

STREAM = "{all}a"
LEASE_TURNS = GROUP_LEASE_US // 1000
EVENTS = 30
GAUGES = ("group_lag_events", "group_parked_events", "group_partitions_idle")


@pytest.fixture
def partition(cluster):
    return cluster.partition_of(STREAM)


@pytest.fixture
def client(cluster, partition):
    client = cluster.client()
    append_parts(client, partition, [(STREAM, [("Happened", f"event {number}") for number in range(EVENTS)])])
    return client


@pytest.fixture
def member(client, partition):
    return Member(client, partition, 1)


@pytest.fixture
def other(cluster, partition):
    return Member(cluster.client("other"), partition, 2)


@pytest.fixture
def operator(cluster, partition):
    return Operator(cluster.client("operator"), partition)


def test_the_first_claim_of_a_new_group_begins_where_it_asks(member, operator):
    claim = member.claim(start=7)

    assert isinstance(claim, ClaimIs)
    assert (claim.checkpoint, claim.settled, claim.attempts, claim.replays) == (7, [], [], [])
    assert operator.row() == ("mailer", member.id, claim.epoch, 7, EVENTS, 0, 0, 0, 0)


def test_settled_ranges_join_the_checkpoint_when_what_is_between_is_settled(member):
    member.claim()

    answers = [member.settle((3, 4)), member.settle((6, 9)), member.settle((1, 2)), member.settle((5, 5))]

    assert [answer.checkpoint for answer in answers] == [0, 0, 4, 9]


def test_a_partition_is_with_one_member_at_a_time(member, other):
    member.claim()

    assert other.claim() is Code.HELD
    assert member.id.hex() in other.refusal.text


def test_a_released_claim_is_granted_at_once_with_what_was_settled(member, other):
    first = member.claim()
    member.settle((1, 3), (6, 6), attempts=[[4, 2, True]], release=True)

    second = other.claim()

    assert (second.checkpoint, second.settled, second.attempts) == (3, [[6, 6]], [[4, 2]])
    assert second.epoch > first.epoch


def test_what_a_fenced_member_says_changes_nothing(member, other, operator):
    member.claim()
    member.settle(release=True)
    other.claim()

    told = member.settle((1, 20), parks=[[21, 1, "late"]])

    assert told is Code.FENCED
    assert (operator.row().checkpoint, operator.parked()) == (0, [])
    assert isinstance(other.settle((1, 2)), SettledIs)


def test_a_silent_member_is_replaced_after_its_lease_and_fenced(cluster, member, other):
    member.claim()
    member.keep_alive(2 * LEASE_TURNS)

    refused = other.claim()
    cluster.turns(LEASE_TURNS)
    granted = other.claim()

    assert refused is Code.HELD
    assert isinstance(granted, ClaimIs)
    assert member.settle((1, 1)) is Code.FENCED


def test_a_made_up_epoch_keeps_no_claim_alive(cluster, member, other):
    member.claim()

    told = []
    for _ in range(12):
        cluster.turns(LEASE_TURNS // 10)
        told.append(other.settle((1, 1), epoch=member.epoch + 1000))

    assert set(told) == {Code.FENCED}
    assert other.claim().checkpoint == 0


def test_of_two_members_that_claim_at_once_one_is_granted_it(cluster, partition, member, other):
    leader = cluster.await_leader(partition)
    for each in (member, other):
        each.client.hello(leader)
        deadline_us = each.client.deadline_us
        each.client.send(leader, ClaimGroup(99, partition, CONTEXT, GROUP, each.id, 0, 5, deadline_us))

    answers = [each.client.await_message(lambda message: message.request == 99)[0] for each in (member, other)]

    assert sorted(type(answer).__name__ for answer in answers) == ["ClaimIs", "Failed"]
    assert Code.HELD in [getattr(answer, "code", None) for answer in answers]


def test_one_entry_never_grants_two_claims_of_a_group(cluster, partition, member, other):
    leader = cluster.await_leader(partition)
    member.client.hello(leader)
    deadline_us = member.client.deadline_us
    messages = [
        ClaimGroup(101, partition, CONTEXT, GROUP, member.id, 0, 5, deadline_us),
        ResetGroup(102, partition, CONTEXT, GROUP, 0, deadline_us),
        ClaimGroup(103, partition, CONTEXT, GROUP, other.id, 0, 5, deadline_us),
        DeleteGroup(104, partition, CONTEXT, GROUP, deadline_us),
    ]
    for message in messages:
        member.client.send(leader, message)

    answers = {}
    for number in range(101, 105):
        wanted = lambda message, number=number: getattr(message, "request", 0) == number  # noqa: E731 - short as it is
        answers[number] = member.client.await_message(wanted)[0]

    assert isinstance(answers.pop(101), ClaimIs)
    assert {answer.code for answer in answers.values()} == {Code.HELD}


def test_a_claim_and_what_was_settled_outlive_their_leader(cluster, partition, member, other):
    member.claim()
    member.settle((1, 4), (7, 8), attempts=[[5, 1, True]])
    cluster.await_leader(partition).crash()

    told = member.settle((5, 5))
    refused = other.claim()
    member.settle(release=True)
    claim = other.claim()

    assert (told.checkpoint, refused) == (5, Code.HELD)
    assert (claim.checkpoint, claim.settled, claim.attempts) == (5, [[7, 8]], [])


def test_a_settlement_whose_answer_was_lost_can_be_said_again_to_the_next_leader(cluster, partition, member, operator):
    member.claim()
    leader = cluster.await_leader(partition)
    fields = (GROUP, member.epoch, [[1, 3]], [], [[4, 5, "no"]], [], False)
    member.client.send(leader, SettleGroup(99, partition, CONTEXT, *fields, member.client.deadline_us))
    cluster.until(lambda: leader.core.replicas[partition].index.groups.find(CONTEXT, GROUP).checkpoint == 4)
    leader.crash()

    told = member.settle((1, 3), parks=[[4, 5, "no"]])

    assert told.checkpoint == 4
    assert operator.parked() == [(4, 5, "no", False)]


def test_a_leader_that_is_cut_off_answers_who_waits_and_settles_nothing(cluster, partition, member, operator):
    member.claim()
    leader = cluster.await_leader(partition)
    for host in cluster.hosts:
        if host is not leader:
            cluster.cut(leader, host)
    fields = (GROUP, member.epoch, [[1, 3]], [], [], [], False)
    member.client.send(leader, SettleGroup(99, partition, CONTEXT, *fields, member.client.deadline_us))

    told, _ = member.client.await_message(lambda message: getattr(message, "request", 0) == 99)
    cluster.until(lambda: cluster.leader(partition) not in (None, leader))

    assert told.code == Code.OPEN
    assert operator.row().checkpoint == 0


def test_a_lease_counts_from_when_the_leader_began_to_lead(cluster, partition, member, other):
    member.claim()
    cluster.turns(LEASE_TURNS - 500)
    cluster.await_leader(partition).crash()
    cluster.await_leader(partition)
    cluster.turns(1000)

    early = other.claim()
    cluster.turns(LEASE_TURNS)

    assert early is Code.HELD
    assert isinstance(other.claim(), ClaimIs)


def states(cluster, partition):
    """Return the group's state at each replica, packed."""
    found = [host.core.replicas[partition].index.groups.find(CONTEXT, GROUP) for host in cluster.hosts]
    return {state.pack() for state in found if state is not None}


@pytest.mark.parametrize("checkpointed", [False, True])
def test_groups_are_as_they_were_after_a_restart_of_every_node(cluster, partition, member, operator, *, checkpointed):
    member.claim()
    member.settle((1, 2), (9, 9), attempts=[[3, 2, False]], parks=[[5, 1, "why"]])
    if checkpointed:
        cluster.turns(11_000)
        member.await_claim()
    before = operator.row()
    cluster.until(lambda: len(states(cluster, partition)) == 1)
    for host in cluster.hosts:
        host.crash()
    for host in cluster.hosts:
        host.start()

    after = operator.row()

    assert after == before
    assert operator.parked() == [(5, 1, "why", False)]
    cluster.until(lambda: len(states(cluster, partition)) == 1)


def test_a_deleted_group_stays_deleted_after_a_restart(cluster, partition, member, operator):
    member.claim()
    cluster.turns(11_000)  # its row is stored
    member.settle(release=True)
    cluster.turns(LEASE_TURNS)
    assert operator.delete() == 1
    cluster.turns(11_000)  # and deleted
    for host in cluster.hosts:
        host.crash()
    for host in cluster.hosts:
        host.start()

    assert operator.row() is None
    assert all(not list(host.core.store.groups(partition)) for host in cluster.hosts)


def test_a_replica_under_repair_derives_its_groups_anew(cluster, partition, member):
    member.claim()
    member.settle((1, 2), parks=[[5, 1, "why"]])
    cluster.until(lambda: len(states(cluster, partition)) == 1)
    victim = next(host for host in cluster.hosts if host is not cluster.await_leader(partition))
    cluster.turns(11_000)
    row = next(iter(victim.core.store.groups(partition)))
    key = group_key(partition, CONTEXT, GROUP)
    victim.engine.put("groups", [(key, b"x" + pack_group(partition, row)[1][1:])])
    victim.engine.commit()
    victim.crash()

    victim.start()
    under_repair = partition in victim.core.infirmary.repairs
    cluster.until(lambda: partition in victim.core.replicas)
    cluster.until(lambda: victim.core.replicas[partition].applied > 0)

    assert under_repair
    cluster.until(lambda: len(states(cluster, partition)) == 1)
    assert states(cluster, partition) != set()


def test_operators_see_park_replay_and_discard(member, operator):
    member.claim()
    member.settle((1, 2), parks=[[3, 5, "first"], [6, 2, "second"], [9, 1, "third"]])

    marked = operator.replay([6])
    shown = operator.parked(count_max=2)
    told = member.settle((4, 4))
    dropped = operator.replay([9], discard=True)
    member.settle(replayed=[6])

    assert (marked, dropped) == (1, 1)
    assert shown == [(3, 5, "first", False), (6, 2, "second", True)]
    assert (told.replays, told.checkpoint) == ([6], 4)
    assert operator.parked() == [(3, 5, "first", False)]
    assert operator.row()[3:] == (4, EVENTS, 2, 0, 1, 0)


def test_a_reset_ends_the_claim_and_a_member_that_claims_anew_begins_there(member, operator):
    member.claim()
    member.settle((1, 20))

    operator.reset(3)

    assert member.settle((21, 22)) is Code.FENCED
    assert member.claim().checkpoint == 3


def test_a_group_is_deleted_when_its_members_are_gone_and_not_before(cluster, member, operator):
    member.claim()

    alive = operator.delete()
    cluster.turns(LEASE_TURNS)
    gone = operator.delete()

    assert (alive, gone, operator.delete()) == (Code.HELD, 1, 0)
    assert operator.names() == []
    assert operator.parked() is Code.GROUP_NOT_FOUND
    assert operator.replay() is Code.GROUP_NOT_FOUND


def test_a_sign_of_life_costs_no_entry(cluster, partition, member):
    member.claim()
    log = cluster.await_leader(partition).core.replicas[partition].raft.log
    before = log.last_index

    member.keep_alive(3000)

    assert log.last_index == before


def test_appends_and_groups_share_a_log_across_a_change_of_leaders(cluster, partition, client, member):
    member.claim()
    for number in range(5):
        append_parts(client, partition, [(STREAM, [("Happened", f"more {number}")])])
        assert member.settle((number + 1, number + 1)).checkpoint == number + 1
    cluster.await_leader(partition).crash()

    assert client.version(STREAM) == EVENTS + 5
    assert member.settle((6, EVENTS + 5)).checkpoint == EVENTS + 5


def test_a_full_disk_refuses_what_must_be_logged_and_hears_signs_of_life(cluster, member):
    member.claim()
    for host in cluster.hosts:
        host.full = True
    cluster.turns(100)

    told = [member.settle((1, 1)), member.settle()]
    for host in cluster.hosts:
        host.full = False
    cluster.turns(2000)  # until each node has heard of it from the others

    assert told[0] is Code.STORAGE_FULL
    assert isinstance(told[1], SettledIs)
    assert member.settle((1, 1)).checkpoint == 1


def test_leaders_measure_what_groups_lag_and_have_parked(cluster, partition, member):
    member.claim()
    member.settle((1, 2), (9, 9), parks=[[5, 1, "why"]])
    leader = cluster.await_leader(partition)

    for host in cluster.hosts:
        measure_groups(host.core)
    held = {name: dict(getattr(leader.core.metrics, name)) for name in GAUGES}
    cluster.turns(LEASE_TURNS)
    measure_groups(leader.core)

    assert held == dict(
        zip(GAUGES, [{"default/mailer": EVENTS - 4}, {"default/mailer": 1}, {"default/mailer": 0}], strict=True)
    )
    assert leader.core.metrics.group_partitions_idle == {"default/mailer": 1}
    followers = [host.core.metrics for host in cluster.hosts if host is not leader]
    assert all(not metrics.group_lag_events for metrics in followers)


def test_what_meets_a_leader_that_hands_over_is_refused_or_taken_and_never_lost_in_silence(cluster, partition, member):
    member.claim()
    leader = cluster.await_leader(partition)
    replica = leader.core.replicas[partition]
    follower = next(host for host in cluster.hosts if host is not leader)
    member.client.hello(follower)
    heir = follower.core.replicas[partition].raft.replica
    fields = (GROUP, member.epoch, [[1, 3]], [], [], [], False, member.client.deadline_us)
    member.client.send(leader, SettleGroup(98, partition, CONTEXT, *fields))
    leader.inbox.append(lambda _: replica.raft.transfer(heir, cluster.now_us))
    member.client.send(leader, SettleGroup(99, partition, CONTEXT, *fields))

    answers = [
        member.client.await_message(lambda message, number=number: getattr(message, "request", 0) == number)[0]
        for number in (98, 99)
    ]

    assert {answer.code for answer in answers} == {Code.NOT_LEADER}
    assert cluster.await_leader(partition) is follower
    assert member.settle((1, 3)).checkpoint == 3


def test_damage_that_measuring_meets_quarantines_the_replica_and_not_the_node(cluster, partition, member):
    member.claim()
    cluster.turns(11_000)
    for host in cluster.hosts:
        host.crash()
        space = SPACE.pack(partition, CONTEXT)
        for key, value in list(host.engine.scan("positions", space, space + b"\xff" * 9)):
            host.engine.put("positions", [(key, value[:-1] + bytes([value[-1] ^ 1]))])
        host.engine.commit()
        host.start()
    leader = cluster.await_leader(partition)

    measure_groups(leader.core)
    cluster.turns(1)

    assert partition in leader.core.infirmary.repairs
    cluster.await_leader(partition)


def settlement(epoch, *settled):
    return SettleGroup(1, 1, CONTEXT, GROUP, epoch, list(settled), [], [], [], False, 1_000_000)


@pytest.mark.parametrize("applied", [0, 5])
def test_a_claim_that_is_not_applied_yet_after_an_election_is_not_taken_for_over(applied):
    index, outbox, client = EventIndex(1, Store(MemoryEngine()), 0), Outbox(), Client(b"route", "test", 0)
    if applied:
        record = pack_operation(Claim(CONTEXT, GROUP, b"m" * 16, 0, 5, 0))
        index.groups.apply(applied, unpack_record(record).payload, lambda _: EVENTS)
    desk = GroupDesk(index, outbox, lambda: None, lambda: 0)

    for message in (settlement(7), settlement(7, [1, 2])):
        desk.settle(client, message)
    refused = outbox.take(0)
    bodies = []
    desk.close_turn(lambda body: bodies.append(body) or 8)

    assert refused == []
    assert len(list(iterate_body(bodies[0]))) == 2
