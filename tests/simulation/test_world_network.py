"""The simulated network: what arrives, in which order, and who is told when a connection goes."""

import random
from typing import Any

import pytest
from simulator.connection import DIALLER, LISTENER
from simulator.network import CALM, Network, NetworkProfile

from rewind_cluster.peer_messages import PEER_CODEC, PeerHelloRequired, RaftBatch

ADVERSE = NetworkProfile((100, 5000), loss=0.2, duplication=0.2, reordering=0.3)
HEARTBEATS_US = 2_100_000


def batch(number: int) -> bytes:
    """Return a batch of Raft messages, each different."""
    return PEER_CODEC.encode(RaftBatch("cluster", number, False, []))


def greeting(number: int) -> bytes:
    """Return another message between nodes, each different."""
    return PEER_CODEC.encode(PeerHelloRequired(bytes((number,))))


def joined(world: Any, one: Any, other: Any, port: str = "peer") -> Any:
    """Return a connection that one host has dialled to another."""
    dial = world.network.dial(one, other.peer_address if port == "peer" else other.address)
    world.wait(20_000)
    assert dial.connection is not None
    assert dial.events == [True]
    dial.events.clear()
    return dial.connection


def send(world: Any, connection: Any, *messages: bytes, end: int = DIALLER) -> None:
    """Send messages from an end, all at once."""
    for message in messages:
        world.network.send(connection, end, [message], world.now_us)


# Messages.


def test_messages_arrive_in_order_at_both_ends(bystanders: Any, world: Any) -> None:
    connection = joined(world, *bystanders[:2])

    send(world, connection, *(b"%d" % number for number in range(50)))
    send(world, connection, *(b"%d" % number for number in range(50)), end=LISTENER)
    world.wait(100_000)

    expected = [b"%d" % number for number in range(50)]
    assert bystanders[1].received == expected
    assert [frames[0] for frames in connection.dial.messages] == expected
    assert bystanders[1].turns > 0
    assert bystanders[0].turns > 0


@pytest.mark.parametrize("port", ["peer", "client"])
def test_an_adverse_network_delays_what_is_no_batch_and_keeps_its_order(bystanders: Any, world: Any, port: str) -> None:
    connection = joined(world, *bystanders[:2], port)
    world.network.profile = ADVERSE

    send(world, connection, *map(greeting, range(100)))
    world.wait(60_000_000)

    assert bystanders[1].received == list(map(greeting, range(100)))


def test_an_adverse_network_loses_doubles_and_reorders_batches(bystanders: Any, world: Any) -> None:
    connection = joined(world, *bystanders[:2])
    world.network.profile = ADVERSE

    sent = list(map(batch, range(300)))
    send(world, connection, *sent)
    world.wait(10_000_000)

    received = bystanders[1].received
    assert 0 < len(set(sent) - set(received)) < 150
    assert len(received) > len(set(received))
    firsts = [sent.index(message) for message in dict.fromkeys(received)]
    assert firsts != sorted(firsts)


def test_batches_to_a_client_port_or_as_answers_are_treated_as_all_else(bystanders: Any, world: Any) -> None:
    connection = joined(world, *bystanders[:2])
    world.network.profile = ADVERSE

    send(world, connection, *map(batch, range(50)), end=LISTENER)
    world.wait(60_000_000)

    assert [frames[0] for frames in connection.dial.messages] == list(map(batch, range(50)))


def test_a_slow_network_takes_longer(bystanders: Any, world: Any) -> None:
    connection = joined(world, *bystanders[:2])
    world.network.slowness = 100

    send(world, connection, b"message")
    world.wait(9_000)
    assert bystanders[1].received == []
    world.wait(200_000)

    assert bystanders[1].received == [b"message"]


def test_the_network_is_as_usual_again_after_a_disturbance(world: Any) -> None:
    network = Network(world, ADVERSE, random.Random(1))
    network.disturb(loss=1.0)
    network.slowness = 9
    assert (network.profile.loss, network.profile.reordering) == (1.0, ADVERSE.reordering)

    network.restore()
    assert (network.profile, network.slowness) == (ADVERSE, 1)
    network.calm()

    assert network.profile is CALM


# Cuts.


def test_a_one_way_cut_is_one_way(bystanders: Any, world: Any) -> None:
    one, other, _ = bystanders
    connection = joined(world, one, other)
    world.network.cut(one, other)

    send(world, connection, b"there")
    send(world, connection, b"back", end=LISTENER)
    world.wait(1_000_000)

    assert other.received == []
    assert [frames[0] for frames in connection.dial.messages] == [b"back"]


def test_cuts_concern_nobody_else_and_add_up(bystanders: Any, world: Any) -> None:
    one, other, third = bystanders
    network = world.network
    network.cut(one, other)
    network.cut(one, other)
    assert network.is_cut(one.number, other.number)
    assert not network.is_cut(other.number, one.number)
    assert not network.is_cut(one.number, third.number)

    network.mend(one, other)
    assert network.is_cut(one.number, other.number)
    network.mend(one, other)
    network.mend(one, other)

    assert not network.is_cut(one.number, other.number)


def test_what_a_cut_has_withheld_arrives_in_order_when_it_heals(bystanders: Any, world: Any) -> None:
    one, other, _ = bystanders
    connection = joined(world, one, other)
    world.network.cut(one, other)
    send(world, connection, b"1", b"2")
    world.wait(500_000)
    assert other.received == []

    world.network.mend(one, other)
    send(world, connection, b"3")
    world.wait(1_000_000)

    assert other.received == [b"1", b"2", b"3"]
    assert connection.is_open == [True, True]


def test_a_cut_is_noticed_by_heartbeats_and_then_dialled_again(bystanders: Any, world: Any) -> None:
    one, other, _ = bystanders
    connection = joined(world, one, other)
    dial = connection.dial
    world.network.cut(other, one)
    world.wait(1_400_000)
    assert dial.events == []

    world.wait(HEARTBEATS_US - 1_400_000)
    assert dial.events == [False]
    world.wait(5_000_000)
    assert dial.connection is None
    world.network.mend(other, one)
    world.wait(2_000_000)

    assert dial.events == [False, True]
    assert dial.connection is not connection


def test_old_messages_may_arrive_when_a_cut_heals_although_their_end_has_given_up(make_world: Any) -> None:
    outcomes = set()
    for seed in range(12):
        world = make_world(seed)
        world.start()
        one, other = world.hosts[:2]
        world.until(lambda one=one: one.up and one.node.peers.is_up(other.node_id))  # noqa: B023 - called within
        connection = next(
            each for each in world.network.between(one, other) if each.dial.machine is one and each.port == "peer"
        )
        world.network.cut(one, other)
        send(world, connection, b"old")
        world.wait(HEARTBEATS_US)
        assert connection.is_open == [False, True]
        arrived: list[Any] = []
        other.wake = lambda arrived=arrived, other=other: arrived.extend(
            frames for _, frames in other.inboxes["peer"] if frames == [b"old"]
        )
        world.network.mend(one, other)
        world.wait(400_000)
        outcomes.add(bool(arrived))
        assert not connection.is_open[LISTENER]

    assert outcomes == {True, False}


def test_a_connection_through_a_cut_is_refused_and_made_afterwards(bystanders: Any, world: Any) -> None:
    one, other, _ = bystanders
    world.network.cut(other, one)

    dial = world.network.dial(one, other.peer_address)
    world.wait(3_000_000)
    assert dial.connection is None
    world.network.mend_all()
    world.wait(1_500_000)

    assert dial.connection is not None


# Ends.


def test_the_other_end_is_told_after_all_that_was_sent_before(bystanders: Any, world: Any) -> None:
    connection = joined(world, *bystanders[:2])
    dial = connection.dial

    send(world, connection, b"last", end=LISTENER)
    world.network.close(connection, LISTENER)
    assert dial.events == []
    world.wait(10_000)

    assert [frames[0] for frames in dial.messages] == [b"last"]
    assert dial.events == [False]


def test_a_machine_that_dies_without_notice_is_missed_by_heartbeats_only(bystanders: Any, world: Any) -> None:
    one, other, _ = bystanders
    connection = joined(world, one, other)
    other.crash(notice=False)

    world.wait(1_400_000)
    assert connection.dial.events == []
    world.wait(HEARTBEATS_US - 1_400_000)

    assert connection.dial.events == [False]


def test_a_dead_dialler_leaves_a_route_that_swallows_what_is_sent(bystanders: Any, world: Any) -> None:
    one, other, _ = bystanders
    connection = joined(world, one, other)
    one.crash(notice=False)
    world.wait(10_000_000)
    assert connection.route in other.routes

    one.up = True
    send(world, connection, b"message", end=LISTENER)
    world.wait(10_000)

    assert connection.route not in other.routes


def test_a_black_hole_tells_neither_end(bystanders: Any, world: Any) -> None:
    one, other, _ = bystanders
    connection = joined(world, one, other)
    world.network.swallow(connection)

    send(world, connection, b"there")
    send(world, connection, b"back", end=LISTENER)
    world.wait(1_400_000)
    assert other.received == []
    assert (list(connection.dial.messages), connection.dial.events) == ([], [])
    world.wait(HEARTBEATS_US - 1_400_000)

    assert connection.dial.events[0] is False
    assert connection.is_open == [False, True]


def test_an_answer_from_a_dead_end_closes_the_other(bystanders: Any, world: Any) -> None:
    connection = joined(world, *bystanders[:2])
    world.network.close(connection, LISTENER, tell=False)
    world.wait(500_000)
    assert connection.is_open[DIALLER]

    send(world, connection, b"message")
    world.wait(10_000)

    assert not connection.is_open[DIALLER]
    assert bystanders[1].received == []


def test_a_paused_host_is_given_up_by_those_who_dialled_it(bystanders: Any, world: Any) -> None:
    one, other, _ = bystanders
    connection = joined(world, one, other)
    other.pause(4_000_000)

    world.wait(HEARTBEATS_US)
    assert connection.dial.events == [False]
    world.wait(4_000_000)

    assert connection.dial.connection is not None


def test_traffic_keeps_a_connection_alive_through_a_one_way_cut(bystanders: Any, world: Any) -> None:
    one, other, _ = bystanders
    connection = joined(world, one, other)
    world.network.cut(one, other)

    for _ in range(10):
        send(world, connection, b"news", end=LISTENER)
        world.wait(500_000)
    assert connection.is_open[DIALLER]
    world.wait(HEARTBEATS_US)

    assert not connection.is_open[DIALLER]


def test_an_address_where_nobody_listens_is_dialled_until_somebody_does(bystanders: Any, world: Any) -> None:
    one, other, _ = bystanders
    other.up = False
    dial = world.network.dial(one, other.peer_address)
    world.wait(2_000_000)
    assert dial.connection is None

    other.up = True
    world.wait(700_000)

    assert dial.connection is not None


def test_a_socket_that_was_hung_up_dials_no_more(bystanders: Any, world: Any) -> None:
    one, other, _ = bystanders
    connection = joined(world, one, other)

    world.network.hang_up(connection.dial)
    world.wait(2_000_000)

    assert connection.is_open == [False, False]
    assert connection.dial.connection is None
    assert world.network.connections == {}
