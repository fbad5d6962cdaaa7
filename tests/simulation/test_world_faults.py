"""Faults: that each does what its name says, that what must not be lost is not taken, and that all of them end."""

import random
from typing import Any

import pytest
from simulator.faults import FAULT_KINDS, apply, draw_faults, heal_all
from simulator.plan import Fault
from simulator.promises import is_lost, is_missing, may_lose, may_miss

from rewind.errors import RewindError
from rewind_cluster.client_messages import Failed, ReadStream, StreamIs
from rewind_cluster.entry import Entry
from rewind_cluster.errors import DamagedError
from rewind_cluster.membership import Membership
from rewind_node.store_layout import STREAMS, log_table

LONG_US = 5_000_000


def strike(world: Any, kind: str, *nodes: int, for_us: int = LONG_US, choice: int = 1) -> None:
    """Let a fault happen now."""
    apply(world, Fault(world.now_us, kind, nodes, for_us, choice))


def others(world: Any, host: Any) -> list[Any]:
    """Return all hosts but one."""
    return [other for other in world.hosts if other is not host]


def caught_up(world: Any) -> bool:
    """Return whether all members that are left are in service and have applied what their leaders have."""
    for partition in range(world.shape.partitions + 1):
        leader = world.leader(partition)
        if leader is None:
            return False
        raft = world.replica(leader, partition).raft
        nodes = {member.node for member in raft.membership.members.values()}
        members = [host for host in world.hosts if host.node_id in nodes and not is_lost(host, partition)]
        replicas = [world.replica(host, partition) for host in members]
        if any(replica is None or replica.applied < raft.commit for replica in replicas):
            return False
    return True


# All of them.


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_cluster_serves_again_after_any_fault_has_ended(make_world: Any, kind: str) -> None:
    for choice in (1, 2, 3):
        world = make_world(choice, memberships=True, keep_story=False).found()
        for number in range(10):
            world.begin(str(number))
        world.wait(200_000)

        strike(world, kind, 0, 1, 2, choice=choice)
        for number in range(20):
            world.at(world.now_us + number * 50_000, world.begin, str(number))
        world.wait(2_000_000)
        heal_all(world)
        world.until(lambda world=world: caught_up(world))

        assert world.append("after").result is not None


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_fault_ends_by_itself(make_world: Any, kind: str) -> None:
    world = make_world(keep_story=False).found()

    strike(world, kind, 0, 1, 2, for_us=1_000_000)
    world.wait(3_000_000)
    world.until(lambda: all(host.up and not host.paused for host in world.hosts))
    world.until(lambda: world.clients[0].calls is not None and caught_up(world))

    assert world.network.profile is world.shape.network
    assert world.network.slowness == 1
    assert not any(world.network.is_cut(one, other) for one in range(4) for other in range(4))
    assert [(host.engine.slowness, host.engine.failing) for host in world.hosts] == [(1, False)] * 3


def test_what_a_fault_has_planned_is_off_once_all_are_healed(founded: Any) -> None:
    one, other, _ = founded.hosts
    strike(founded, "cut-one-way", 0, 1, for_us=1_000_000)
    heal_all(founded)

    founded.network.cut(one, other)
    founded.wait(2_000_000)

    assert founded.network.is_cut(one.number, other.number)


def test_healing_starts_what_is_down_and_late_and_ends_what_lasts(make_world: Any) -> None:
    world = make_world(late_nodes=1)
    world.start()
    world.wait(1_000_000)
    strike(world, "crash", 0)
    strike(world, "pause", 1)
    strike(world, "slow-disk", 2)
    strike(world, "full-disk", 2)
    strike(world, "clock-jump", 2, choice=2)
    world.clients[0].pause(LONG_US)

    heal_all(world)

    assert all(host.up and not host.paused for host in (*world.hosts, *world.clients))
    assert world.hosts[2].engine.slowness == 1
    assert not world.hosts[2].reserve.is_breached()
    assert {machine.clock.jump_us for machine in (*world.hosts, *world.clients)} == {0}


# Drawing.


def test_faults_are_drawn_in_order_within_the_run_and_for_hosts_that_there_are(make_world: Any) -> None:
    world = make_world(nodes=5, late_nodes=1, memberships=True)
    faults = [fault for seed in range(200) for fault in draw_faults(random.Random(seed), world.shape)]

    assert {fault.kind for fault in faults} == set(FAULT_KINDS)
    assert all(0 <= fault.at_us < world.shape.duration_us for fault in faults)
    assert {number for fault in faults for number in fault.nodes} == set(range(6))
    for seed in range(20):
        drawn = draw_faults(random.Random(seed), world.shape)
        assert len(drawn) >= 5
        assert [fault.at_us for fault in drawn] == sorted(fault.at_us for fault in drawn)


def test_memberships_are_changed_only_in_runs_that_are_about_that(make_world: Any) -> None:
    shape = make_world().shape

    faults = [
        fault for seed in range(50) for fault in draw_faults(random.Random(seed), shape, {"membership": 1, "cut": 1})
    ]

    assert {fault.kind for fault in faults} == {"cut"}


# Crashes.


def test_a_crashed_host_is_down_for_its_time(founded: Any) -> None:
    strike(founded, "crash", 1, for_us=2_000_000)

    founded.wait(1_990_000)
    assert not founded.hosts[1].up
    founded.wait(20_000)

    assert founded.hosts[1].up


def test_nothing_is_served_while_a_majority_is_down(founded: Any) -> None:
    strike(founded, "crash-majority", 0, 1)
    founded.wait(100_000)
    assert [host.up for host in founded.hosts] == [False, False, True]

    call = founded.begin("a", timeout=2.0)
    founded.finish(call)

    assert isinstance(call.error, RewindError)


def test_all_may_crash_and_what_was_acknowledged_is_there(founded: Any) -> None:
    founded.append("a")

    strike(founded, "crash-all", 0, 1, 2)
    founded.wait(100_000)
    assert not any(host.up for host in founded.hosts)
    founded.until(founded.serves)

    assert founded.append("a").result.version == 2


@pytest.mark.parametrize("times_us", [(3_000_000, 1_000_000), (1_500_000, 2_500_000)])
def test_a_host_that_is_down_twice_over_stays_down_for_the_longer_time(founded: Any, times_us: tuple[int, int]) -> None:
    strike(founded, "crash", 0, for_us=times_us[0])
    founded.wait(500_000)
    founded.hosts[0].stay_down(times_us[1])

    founded.wait(2_450_000)
    assert not founded.hosts[0].up
    founded.wait(100_000)

    assert founded.hosts[0].up


# Wiping.


def test_of_three_hosts_only_one_may_be_wiped(founded: Any) -> None:
    strike(founded, "wipe", 0, for_us=100_000)
    founded.wait(1_000_000)
    strike(founded, "wipe", 1, for_us=100_000)
    founded.wait(3_000_000)

    assert [host.lost for host in founded.hosts] == [True, False, False]
    assert not may_lose(founded, founded.hosts[1])
    assert founded.told("left-out", "wipe")
    founded.until(founded.serves)


def test_a_seed_that_is_wiped_before_the_founding_is_founded_on_as_it_is(world: Any) -> None:
    world.hosts[0].start()
    world.wait(200_000)
    strike(world, "wipe", 0, for_us=0)
    strike(world, "wipe", 1, for_us=0)
    assert world.told("left-out", "wipe")

    world.hosts[1].start()
    world.hosts[2].start()
    world.until(lambda: all(world.leader(partition) for partition in range(3)))

    assert not world.hosts[0].lost
    assert all(len(host.node.replicas) == 3 for host in world.hosts)


# Cuts.


def test_a_leader_that_is_cut_off_is_replaced(founded: Any) -> None:
    leader = founded.leads(1)

    for choice in range(20):
        strike(founded, "cut-off", leader.number, for_us=4_000_000, choice=choice)
    founded.wait(3_900_000)

    assert founded.leads(1) is not leader
    founded.until(lambda: caught_up(founded))


def test_reaching_is_not_transitive_in_a_ring(make_world: Any) -> None:
    world = make_world(nodes=5).found()
    strike(world, "cut-ring", 0, 1, 2, 3, 4)

    reached = {
        one: {other for other in range(5) if other != one and not world.network.is_cut(one, other)} for one in range(5)
    }

    assert reached == {0: {1, 4}, 1: {0, 2}, 2: {1, 3}, 3: {2, 4}, 4: {3, 0}}


def test_a_cut_in_two_separates_every_host_of_one_half_from_every_one_of_the_other(make_world: Any) -> None:
    world = make_world(nodes=5).found()
    strike(world, "cut-in-two", 0, 1, 2, 3, 4)

    halves = {frozenset(other for other in range(5) if not world.network.is_cut(one, other)) for one in range(5)}

    assert len(halves) == 2
    assert sorted(number for half in halves for number in half) == [0, 1, 2, 3, 4]


def test_a_client_is_cut_off_in_either_direction_or_both(founded: Any) -> None:
    client, host = founded.clients[0].number, founded.hosts[1].number
    seen = set()
    for choice in range(20):
        strike(founded, "cut-client", 1, choice=choice)
        seen.add((founded.network.is_cut(client, host), founded.network.is_cut(host, client)))
        founded.network.mend_all()

    assert seen == {(True, False), (False, True), (True, True)}


def test_connections_drop_with_and_without_notice_to_either_end(make_world: Any) -> None:
    seen = set()
    for choice in range(40):
        world = make_world().found()
        one, other = world.hosts[:2]
        before = [each for each in world.network.between(one, other) if each.port == "peer"]
        strike(world, "drop-connections", 0, 1, choice=choice)
        seen |= {(*each.is_open, each.black_hole) for each in before}

    assert seen >= {(False, False, False), (False, True, False), (True, False, False), (True, True, True)}


# Disks.


def test_a_leader_whose_disk_is_stuck_is_replaced(founded: Any) -> None:
    leader = founded.leads(1)
    strike(founded, "stuck-disk", leader.number, for_us=4_000_000)

    call = founded.begin(founded.stream_in(1))
    founded.wait(3_900_000)
    assert founded.leads(1) is not leader
    founded.finish(call)

    assert call.error is None
    founded.until(lambda: caught_up(founded))


def test_a_full_disk_is_noticed_and_space_is_given_back(founded: Any) -> None:
    for host in founded.hosts[:2]:
        strike(founded, "full-disk", host.number, for_us=2_000_000, choice=7)
    founded.wait(500_000)
    assert [host.node.storage_full for host in founded.hosts] == [True, True, False]
    refused = founded.begin("a", timeout=0.5)
    founded.finish(refused)
    assert refused.error is not None

    founded.wait(2_000_000)

    assert founded.append("a").result.version == 1


def test_a_failing_disk_ends_the_node_again_and_again(founded: Any) -> None:
    strike(founded, "failing-disk", 0, for_us=6_000_000)
    for number in range(60):
        founded.at(founded.now_us + number * 100_000, founded.begin, str(number))
    founded.wait(6_000_000)

    assert len(founded.told("exit", "n1", "StorageFailedError")) > 1
    founded.until(lambda: caught_up(founded))


@pytest.mark.parametrize("kind", ["flip-record", "flip-header"])
def test_a_damaged_entry_is_noticed_when_it_is_read_and_repaired(founded: Any, kind: str) -> None:
    follower = others(founded, founded.leads(1))[0]
    for number in range(6):
        founded.append(str(number))
    strike(founded, kind, follower.number, choice=3)
    (flip,) = follower.engine.damaged_rows()
    partition = int(flip.table.removeprefix("log:"))
    with pytest.raises(DamagedError):
        Entry.decode(flip.value)
    assert is_missing(follower, partition)
    assert not may_miss(founded, others(founded, follower)[0], partition)

    follower.node.infirmary._scrub_us = 0
    founded.until(lambda: founded.told("damaged", follower.name))
    founded.until(lambda: founded.told("has been repaired", follower.name))

    assert follower.engine.damaged_rows() == []
    assert not is_missing(follower, partition)
    sound = others(founded, follower)[0].engine.get(log_table(partition), flip.key)
    assert follower.engine.get(log_table(partition), flip.key) == sound


def test_a_damaged_row_of_an_index_is_made_again_from_the_log(founded: Any) -> None:
    for number in range(8):
        founded.append(str(number))
    founded.wait(12_000_000)
    host = founded.hosts[0]
    assert any(_flips_streams(founded, host, choice) for choice in range(100))
    (flip,) = host.engine.damaged_rows()
    replica = founded.replica(host, int.from_bytes(flip.key[:2]))
    client = founded.clients[0]
    streams = map(str, range(8))
    stream = next(name for name in streams if client.calls.partition_of(name) == replica.partition)

    answers: list[Any] = []

    def ask() -> None:
        deadline_us = host.monotonic_us + 2_000_000
        read = ReadStream(1, replica.partition, 1, stream, 0, 10, 1_000_000, False, False, 0, deadline_us)
        client.ask_node(host, read, lambda answer, _: answers.append(answer))

    ask()
    founded.until(lambda: founded.told("has been repaired", host.name))
    founded.wait(12_000_000)
    ask()
    founded.until(lambda: len(answers) > 1)

    assert isinstance(answers[0], Failed)
    assert isinstance(answers[1], StreamIs)
    assert answers[1].version == 1
    assert host.engine.damaged_rows() == []


def _flips_streams(world: Any, host: Any, choice: int) -> bool:
    """Flip a bit of an index row, and take it back unless the row is of a stream."""
    strike(world, "flip-row", host.number, choice=choice)
    (flip,) = host.engine.damaged_rows()
    if flip.table == STREAMS:
        return True
    bit = next(each for each in world.story[::-1] if " flip " in each).rpartition("bit=")[2]
    host.engine.flip(flip.table, flip.key, int(bit))
    host.engine.flips.clear()
    return False


def test_a_damaged_vote_takes_its_replica_out_of_service_for_good(founded: Any) -> None:
    host = founded.hosts[0]
    strike(founded, "flip-state", 0)
    (flip,) = host.engine.damaged_rows()
    partition = int.from_bytes(flip.key)

    host.crash()
    host.start()
    founded.wait(3_000_000)

    assert is_lost(host, partition)
    assert founded.replica(host, partition) is None
    founded.until(lambda: founded.leader(partition))


def test_at_most_a_minority_of_a_partitions_replicas_is_damaged_at_a_time(founded: Any) -> None:
    for number in range(10):
        founded.append(str(number))

    for choice in range(60):
        strike(founded, ("flip-record", "flip-header", "flip-row")[choice % 3], choice % 3, choice=choice)

    for partition in range(3):
        assert sum(is_missing(host, partition) for host in founded.hosts) <= 1
    assert sum(len(host.engine.damaged_rows()) for host in founded.hosts) >= 3


# Clocks.


def test_a_fast_clock_makes_a_host_see_three_times_as_much_time(make_world: Any) -> None:
    passed = []
    for choice in range(6):
        world = make_world().found()
        host = world.hosts[0]
        strike(world, "clock-fast", 0, choice=choice)
        before_us = host.monotonic_us
        world.wait(1_000_000)
        passed.append(host.monotonic_us - before_us)

    assert any(2_700_000 <= us <= 3_300_000 for us in passed)
    assert all(900_000 <= us <= 3_300_000 for us in passed)


def test_a_wall_clock_jumps_by_a_day_either_way(founded: Any) -> None:
    clocks = [machine.clock for machine in (*founded.hosts, *founded.clients)]
    seen = set()
    for choice in range(30):
        strike(founded, "clock-jump", 0, choice=choice)
        seen |= {clock.jump_us for clock in clocks}
        for clock in clocks:
            clock.jump_us = 0

    assert seen == {0, 86_400_000_000, -86_400_000_000}


# What a controller does.


def test_a_transfer_moves_a_leadership(founded: Any) -> None:
    before = [founded.leads(partition) for partition in (1, 2)]

    strike(founded, "transfer", 0, 1, 2)
    founded.wait(1_000_000)
    founded.until(founded.serves)

    assert [founded.leads(partition) for partition in (1, 2)] != before


def test_memberships_change_by_every_kind_of_step(make_world: Any) -> None:
    world = make_world(nodes=5, memberships=True, partitions=2).found()
    for choice in range(80):
        strike(world, "membership", 0, choice=choice)
        world.wait(400_000)
    world.until(lambda: all(world.leader(partition) for partition in range(3)))

    for step in ("add", "promote", "demote", "remove"):
        assert world.told("membership", f"step={step} ", "outcome=proposed"), step
    assert world.append("a").result is not None
    founding = [world.founding.placement(partition) for partition in (1, 2)]
    assert [_membership(world, partition) for partition in (1, 2)] != founding


def test_a_replica_that_was_added_gets_the_whole_log_and_votes(make_world: Any) -> None:
    world = make_world(nodes=5, memberships=True, partitions=2).found()
    for number in range(10):
        world.append(str(number))

    for choice in range(200):
        strike(world, "membership", 0, choice=choice)
        world.wait(300_000)
        found = [
            (host, partition)
            for host in world.hosts
            for partition in (1, 2)
            if (replica := world.replica(host, partition)) is not None
            and replica.raft.replica > 10_000
            and replica.raft.replica in _membership(world, partition).voters
        ]
        if found:
            break

    host, partition = found[0]
    leader = world.replica(world.leads(partition), partition)
    world.until(lambda: world.replica(host, partition).applied >= leader.applied)
    assert host.engine.rows(log_table(partition)) == world.leads(partition).engine.rows(log_table(partition))


def _membership(world: Any, partition: int) -> Membership:
    return world.replica(world.leads(partition), partition).raft.membership  # type: ignore[no-any-return]
