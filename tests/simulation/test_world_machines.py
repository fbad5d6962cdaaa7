"""Hosts and client machines: their clocks, and when their programs run, stop and end."""

import random
from typing import Any

import pytest
from simulator.clocks import EPOCH_US, MachineClock
from simulator.connection import DIALLER

from rewind_cluster.client_messages import Code, Failed, GetVersion, VersionIs

DAY_US = 86_400 * 1_000_000


# Clocks.


def test_a_clock_drifts_by_a_tenth_at_most() -> None:
    for seed in range(50):
        clock = MachineClock(random.Random(seed))
        passed_us = clock.monotonic_us(10_000_000) - clock.monotonic_us(0)

        assert 9_000_000 <= passed_us <= 11_000_000
        assert abs(clock.wall_us(0) - EPOCH_US) <= 2_000_000


@pytest.mark.parametrize("seed", range(20))
def test_the_true_time_of_a_deadline_is_the_first_at_which_the_clock_shows_it(seed: int) -> None:
    clock = MachineClock(random.Random(seed))
    clock.set_speed(3, 1_000_000)

    for deadline_us in range(clock.monotonic_us(1_000_000), clock.monotonic_us(1_000_000) + 100):
        true_us = clock.true_us(deadline_us)

        assert clock.monotonic_us(true_us) >= deadline_us
        assert clock.monotonic_us(true_us - 2) < deadline_us


def test_a_change_of_speed_makes_no_jump() -> None:
    clock = MachineClock(random.Random(1))
    before_us = clock.monotonic_us(5_000_000)

    clock.set_speed(3, 5_000_000)

    assert clock.monotonic_us(5_000_000) == before_us
    assert 2_700_000 <= clock.monotonic_us(6_000_000) - before_us <= 3_300_000


def test_the_wall_clock_jumps_and_the_monotonic_one_does_not() -> None:
    clock = MachineClock(random.Random(1))
    wall_us, monotonic_us = clock.wall_us(1000), clock.monotonic_us(1000)

    clock.jump_us = -DAY_US

    assert clock.wall_us(1000) == wall_us - DAY_US
    assert clock.monotonic_us(1000) == monotonic_us


# Crashes and pauses.


def test_a_crash_loses_the_core_and_keeps_what_was_acknowledged(founded: Any) -> None:
    founded.append("a")
    for host in founded.hosts:
        host.crash()
    assert all(host.node is None for host in founded.hosts)

    for host in founded.hosts:
        host.start()

    assert founded.append("a").result.version == 2


def test_a_machine_that_crashed_without_notice_has_another_uptime(founded: Any) -> None:
    process, machine = founded.hosts[:2]
    before_us = process.monotonic_us, machine.monotonic_us

    process.crash(notice=True)
    machine.crash(notice=False)

    assert process.monotonic_us == before_us[0]
    assert abs(machine.monotonic_us - before_us[1]) > 1_000_000


def test_a_paused_host_takes_no_turn_until_it_is_resumed(founded: Any) -> None:
    host = founded.hosts[0]
    host.pause(3_000_000)
    founded.wait(10_000)
    paused_us = host.node.now_us

    founded.wait(2_900_000)
    assert host.node.now_us == paused_us
    founded.wait(200_000)

    assert host.node.now_us - paused_us > 2_500_000


def test_what_would_leave_a_host_after_it_was_paused_leaves_when_it_goes_on(bystanders: Any, world: Any) -> None:
    sender, receiver, _ = bystanders
    dial = world.network.dial(sender, receiver.peer_address)
    world.wait(20_000)
    left_us = world.now_us + 2_000

    world.network.send(dial.connection, DIALLER, [b"before"], world.now_us)
    world.network.send(dial.connection, DIALLER, [b"after"], left_us)
    world.wait(1)
    sender.pause(500_000)

    world.wait(490_000)
    assert receiver.received == [b"before"]
    world.wait(20_000)
    assert receiver.received == [b"before", b"after"]


def test_what_would_leave_a_host_after_it_has_crashed_never_leaves(bystanders: Any, world: Any) -> None:
    sender, receiver, _ = bystanders
    dial = world.network.dial(sender, receiver.peer_address)
    world.wait(20_000)
    connection = dial.connection

    world.network.send(connection, DIALLER, [b"before"], world.now_us)
    world.network.send(connection, DIALLER, [b"after"], world.now_us + 10)
    sender.crash()
    world.wait(1_000_000)

    assert receiver.received == [b"before"]


def test_a_crash_may_come_between_any_two_steps_of_a_turn(make_world: Any) -> None:
    """The leader's entry may have gone to no follower, to one, or to both, and its own may be durable or not."""
    seen = set()
    for step in range(3):
        for torn in (False, True):
            world = make_world().found()
            leader = world.leads(1)
            world.wait(1_000_000)
            before = world.replica(leader, 1).raft.log.last_index
            leader.crash_at_step(step, 60_000_000, committing=True, notice=False, torn=torn)
            world.begin(world.stream_in(1))
            world.until(lambda leader=leader: not leader.up)
            world.wait(5_000)
            others = [host for host in world.hosts if host is not leader]
            reached = sum(world.replica(host, 1).raft.log.last_index > before for host in others)
            seen.add((reached, int.from_bytes(leader.engine.last("log:1")[0]) > before))

    assert seen == {(0, False), (1, False), (2, False), (2, True)}


def test_a_node_that_is_stopped_hands_over_first_and_is_started_again(founded: Any) -> None:
    leader = founded.leads(1)
    term = founded.replica(leader, 1).raft.term

    leader.stop(2_000_000)
    founded.until(lambda: not leader.up)

    heir = founded.leads(1)
    assert heir is not leader
    assert founded.replica(heir, 1).raft.term == term + 1
    founded.until(lambda: leader.up)


def test_a_node_that_ends_by_itself_is_started_again(founded: Any) -> None:
    host = founded.hosts[0]
    host.engine.failing = True
    founded.begin("a")

    founded.until(lambda: not host.up)
    host.engine.failing = False
    founded.until(lambda: host.up)

    assert founded.told("exit", host.name, "StorageFailedError")
    assert host.starts == 2


def test_a_wiped_node_under_its_old_name_waits(founded: Any) -> None:
    host = founded.hosts[2]
    host.wipe()
    host.start()
    founded.until(lambda: host.node is not None and host.node.founding is not None)
    founded.wait(3_000_000)

    assert host.lost
    assert host.node.replicas == {}


def test_a_wiped_node_under_a_new_name_joins(founded: Any) -> None:
    host = founded.hosts[2]
    host.wipe(rename=True)
    host.start()
    founded.until(lambda: host.node is not None and host.node.control is not None)

    assert host.lost
    assert list(host.node.replicas) == [0]


# Clients.


def test_a_client_that_is_restarted_abandons_its_calls(founded: Any) -> None:
    client = founded.clients[0]
    ended: list[object] = []
    for host in founded.hosts:
        host.crash()
    call = founded.begin("a")
    client.on_done(call, ended.append)
    founded.wait(100_000)

    abandoned = client.restart()
    for host in founded.hosts:
        host.start()
    founded.wait(15_000_000)

    assert abandoned == [call]
    assert ended == []
    assert client.restart() == []


def test_a_client_that_is_paused_neither_sends_nor_hears(founded: Any) -> None:
    client = founded.clients[0]
    client.pause(2_000_000)

    call = founded.begin("a")
    founded.wait(1_900_000)
    assert call.result is None
    founded.finish(call)

    assert call.error is None


def test_one_node_can_be_asked_by_hand(founded: Any) -> None:
    leader = founded.leads(1)
    stream = founded.stream_in(1)
    founded.append(stream)
    answers: dict[str, Any] = {}

    for host in founded.hosts:
        message = GetVersion(1, 1, 1, stream, True, 0, host.monotonic_us + 2_000_000)
        founded.clients[0].ask_node(host, message, lambda answer, _, host=host: answers.update({host.name: answer}))
    founded.until(lambda: len(answers) == 3)

    assert isinstance(answers[leader.name], VersionIs)
    others = [answer for name, answer in answers.items() if name != leader.name]
    assert all(isinstance(answer, Failed) and answer.code == Code.NOT_LEADER for answer in others)


def test_a_node_that_is_down_gives_no_answer_by_hand(founded: Any) -> None:
    host = founded.hosts[0]
    host.crash()
    answers: list[object] = []

    message = GetVersion(1, 1, 1, "a", True, 0, host.monotonic_us + 2_000_000)
    founded.clients[0].ask_node(host, message, lambda answer, _: answers.append(answer))
    founded.until(lambda: answers)

    assert answers == [None]
