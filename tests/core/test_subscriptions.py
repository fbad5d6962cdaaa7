"""Subscriptions through a whole cluster of node cores: the past and what comes after it, without a seam."""

import pytest
from appends_by_hand import AppendPart, AppendRequest
from ranges_by_hand import Subscriber

from rewind_cluster.client_messages import Code, GetVersion, HelloRequired, Ping, VersionIs
from rewind_cluster.ranges import SIGN_OF_LIFE_INTERVAL_US, Unsubscribe
from rewind_node.subscriptions import LEADERLESS_MAX_US

STREAM = "order-1"


@pytest.fixture
def partition(cluster):
    return cluster.partition_of(STREAM)


@pytest.fixture
def writer(cluster):
    return cluster.client("writer")


@pytest.fixture
def reader(cluster):
    client = cluster.client("reader")
    for host in cluster.hosts:
        client.hello(host)
    return client


def write(writer, named, names, stream=STREAM, types="Happened"):
    """Append events one by one."""
    partition = writer.cluster.partition_of(stream)
    for name in names:
        leader = writer.cluster.await_leader(partition)
        writer.session(partition)
        writer.hello(leader)
        assert writer.append(stream, named(name, types=types), host=leader)[0] == Code.OK


def names(first, last):
    return [f"e{number}" for number in range(first, last)]


def followers(cluster, partition):
    return [host for host in cluster.hosts if host is not cluster.leader(partition)]


def stay(client, host, turns):
    """Let time pass without being forgotten."""
    for _ in range(turns // 100):
        client.send(host, Ping(0))
        client.cluster.turns(100)


@pytest.mark.parametrize("place", ["leader", "follower"])
def test_the_past_is_followed_by_what_is_appended_without_a_seam(cluster, partition, writer, reader, named, place):
    write(writer, named, names(0, 30))
    leader = cluster.await_leader(partition)
    host = leader if place == "leader" else followers(cluster, partition)[0]
    subscriber = Subscriber(reader).subscribe(host, partition)

    for number in range(30, 60):
        write(writer, named, names(number, number + 1))
        subscriber.take()
    subscriber.follow(60)

    assert subscriber.datas == names(0, 60)
    assert [event.position for event in subscriber.seen] == list(range(1, 61))
    assert subscriber.through == subscriber.position == 60


def test_an_event_is_pushed_in_the_turn_that_applies_it(cluster, partition, writer, reader, named):
    write(writer, named, names(0, 1))
    host = followers(cluster, partition)[0]
    subscriber = Subscriber(reader).subscribe(host, partition)
    subscriber.follow(1)
    cluster.turns(7)  # out of step with the maintenance

    write(writer, named, names(1, 2))
    cluster.until(lambda: host.core.replicas[partition].index.position(1) == 2)

    assert subscriber.take().datas == names(0, 2)


def test_a_subscription_begins_after_the_position_it_names(cluster, partition, writer, reader, named):
    write(writer, named, names(0, 10))
    leader = cluster.await_leader(partition)

    subscriber = Subscriber(reader).subscribe(leader, partition, after=7)
    subscriber.follow(3)

    assert subscriber.datas == names(7, 10)


def test_a_part_of_an_append_is_not_sent_twice(cluster, partition, writer, reader, named):
    leader = cluster.await_leader(partition)
    writer.session(partition)
    writer.append(STREAM, named("a", "b", "c", "d"), host=leader)

    subscriber = Subscriber(reader).subscribe(leader, partition, after=2)
    subscriber.follow(2)

    assert [(event.position, event.version, event.data) for event in subscriber.seen] == [(3, 3, "c"), (4, 4, "d")]


def test_checkpoints_and_restarts_leave_no_seam(cluster, partition, writer, reader, named):
    host = followers(cluster, partition)[0]
    subscriber = Subscriber(reader).subscribe(host, partition)
    write(writer, named, names(0, 20))
    subscriber.follow(20)
    stay(reader, host, 12_000)  # a checkpoint
    write(writer, named, names(20, 40))
    subscriber.follow(40)
    host.crash()
    write(writer, named, names(40, 60))
    host.start()
    cluster.turns(100)
    subscriber.resume(host, partition).follow(60)
    write(writer, named, names(60, 70))
    subscriber.follow(70)

    assert host.core.replicas[partition].checkpointed > 0
    assert subscriber.datas == names(0, 70)


def test_a_subscriber_goes_on_elsewhere_when_its_leader_dies(cluster, partition, writer, reader, named):
    write(writer, named, names(0, 10))
    old = cluster.await_leader(partition)
    subscriber = Subscriber(reader).subscribe(old, partition)
    subscriber.follow(6)
    old.crash()

    new = cluster.await_leader(partition)
    write(writer, named, names(10, 20))
    subscriber.resume(new, partition).follow(20)

    assert subscriber.datas == names(0, 20)


def test_a_subscription_at_a_follower_outlives_a_leader_change(cluster, partition, writer, reader, named):
    write(writer, named, names(0, 10))
    old = cluster.await_leader(partition)
    host = followers(cluster, partition)[0]
    subscriber = Subscriber(reader).subscribe(host, partition)
    subscriber.follow(10)

    old.crash()
    write(writer, named, names(10, 20))
    subscriber.follow(20)

    assert subscriber.ended is None
    assert subscriber.datas == names(0, 20)


def test_nothing_is_pushed_that_a_majority_does_not_have(cluster, partition, writer, reader, named):
    write(writer, named, names(0, 3))
    leader = cluster.await_leader(partition)
    subscriber = Subscriber(reader).subscribe(leader, partition)
    subscriber.follow(3)
    for host in followers(cluster, partition):
        cluster.cut(leader, host)

    writer.session(partition)
    writer.send_append(leader, partition, [AppendRequest(50, False, (AppendPart(STREAM, -1, named("lost")),))])
    stay(reader, leader, 300)

    assert leader.core.replicas[partition].raft.log.last_index > leader.core.replicas[partition].applied
    assert subscriber.take().datas == names(0, 3)


def test_filters_hold_for_the_past_and_for_what_comes(cluster, partition, writer, reader, named):
    leader = cluster.await_leader(partition)
    other = next(f"customer-{n}" for n in range(100) if cluster.partition_of(f"customer-{n}") == partition)
    by_type, by_prefix, both = Subscriber(reader, 1), Subscriber(reader, 2), Subscriber(reader, 3)
    write(writer, named, ["a"], types="X")
    write(writer, named, ["b"], stream=other, types="X")
    write(writer, named, ["c"], types="Y")

    by_type.subscribe(leader, partition, types=["X"])
    by_prefix.subscribe(leader, partition, prefix="order")
    both.subscribe(leader, partition, types=["X", "Z"], prefix="order")
    write(writer, named, ["d"], types="X")
    write(writer, named, ["e"], stream=other, types="Y")
    by_type.follow(3)
    by_prefix.follow(3)
    both.follow(2)

    assert by_type.datas == ["a", "b", "d"]
    assert by_prefix.datas == ["a", "c", "d"]
    assert both.datas == ["a", "d"]


def test_a_filter_that_takes_nothing_still_tells_how_far_it_has_seen(cluster, partition, writer, reader, named):
    leader = cluster.await_leader(partition)
    subscriber = Subscriber(reader).subscribe(leader, partition, types=["nothing"])
    write(writer, named, names(0, 5))

    cluster.turns(200)
    subscriber.take()

    assert subscriber.seen == []
    assert subscriber.through == subscriber.position == 5
    assert len(subscriber.messages) <= 5


def test_a_filter_that_takes_nothing_sends_few_messages_however_much_is_appended(
    cluster, partition, writer, reader, named
):
    leader = cluster.await_leader(partition)
    subscriber = Subscriber(reader).subscribe(leader, partition, types=["nothing"])
    began_us = cluster.now_us
    write(writer, named, names(0, 100))

    subscriber.take()

    assert len(subscriber.messages) <= 2 + 2 * (cluster.now_us - began_us) // 100_000


def test_a_quiet_subscription_gives_a_sign_of_life_every_second(cluster, partition, reader):
    leader = cluster.await_leader(partition)
    subscriber = Subscriber(reader).subscribe(leader, partition)
    stay(reader, leader, 5000)

    subscriber.take()

    assert 5 <= len(subscriber.messages) <= 6
    assert 5000 * 1000 // len(subscriber.messages) <= SIGN_OF_LIFE_INTERVAL_US + 100_000


def test_a_replica_behind_the_checkpoint_waits_for_it(cluster, partition, writer, reader, named):
    host = followers(cluster, partition)[0]
    leader = cluster.await_leader(partition)
    write(writer, named, names(0, 2))
    cluster.cut(leader, host)
    write(writer, named, names(2, 8))
    subscriber = Subscriber(reader).subscribe(host, partition, after=5)
    cluster.turns(50)
    subscriber.take()
    behind = subscriber.position
    cluster.heal()
    subscriber.follow(3)

    assert behind < 5
    assert subscriber.datas == names(5, 8)


def test_a_subscription_ends_when_no_leader_has_been_seen_for_a_while(cluster, partition, writer, reader, named):
    write(writer, named, names(0, 3))
    host = followers(cluster, partition)[0]
    subscriber = Subscriber(reader).subscribe(host, partition)
    subscriber.follow(3)
    for other in cluster.hosts:
        if other is not host:
            cluster.cut(host, other)

    began_us = cluster.now_us
    subscriber.follow(4, turns=10_000)
    waited_us = cluster.now_us - began_us
    again = Subscriber(reader, 2).subscribe(host, partition)
    again.follow(1)

    assert subscriber.ended.code == again.ended.code == Code.NOT_READY
    assert LEADERLESS_MAX_US <= waited_us <= LEADERLESS_MAX_US + 3_000_000
    assert again.seen == []


def test_a_subscription_at_a_damaged_replica_ends_and_serves_nothing_wrong(cluster, partition, writer, reader, named):
    write(writer, named, names(0, 10))
    host = followers(cluster, partition)[0]
    cluster.until(lambda: host.core.replicas[partition].index.position(1) == 10)
    entries = list(host.engine.scan(f"log:{partition}", b"", b"\xff" * 9))
    key, data = next((key, data) for key, data in entries if b"e6" in data)
    host.engine.put(f"log:{partition}", [(key, data.replace(b"e6", b"f6"))])

    subscriber = Subscriber(reader).subscribe(host, partition)
    subscriber.follow(10)
    refused = Subscriber(reader, 2).subscribe(host, partition)
    refused.follow(1)
    leader = cluster.await_leader(partition)
    subscriber.resume(leader, partition).follow(10)

    assert refused.ended.code == Code.DAMAGED
    assert subscriber.datas == names(0, 10)


def test_a_node_that_stops_ends_its_subscriptions_at_once(cluster, partition, writer, reader, named):
    write(writer, named, names(0, 3))
    leader = cluster.await_leader(partition)
    subscriber = Subscriber(reader).subscribe(leader, partition)
    subscriber.follow(3)

    leader.core.drain()
    cluster.turns(2)
    subscriber.take()

    assert subscriber.ended.code == Code.NOT_READY


def test_an_unsubscribed_or_forgotten_subscription_costs_nothing(cluster, partition, writer, reader, named):
    leader = cluster.await_leader(partition)
    subscriber = Subscriber(reader).subscribe(leader, partition)
    Subscriber(reader, 2).subscribe(leader, partition)
    cluster.turns(5)
    served = len(leader.core.subscriptions)

    reader.send(leader, Unsubscribe(1))
    reader.send(leader, Unsubscribe(1))
    cluster.turns(2)
    left = len(leader.core.subscriptions)
    subscriber.take()
    write(writer, named, names(0, 3))
    cluster.turns(6000)  # without a ping

    assert (served, left, len(leader.core.subscriptions)) == (2, 1, 0)
    assert subscriber.take().seen == []
    assert not leader.core.subscriptions.waiting
    reader.send(leader, GetVersion(5, partition, 1, STREAM, True, 0, reader.deadline_us))
    reader.await_message(lambda message: isinstance(message, HelloRequired))


def test_a_new_handshake_ends_the_subscriptions_of_the_one_before(cluster, partition, writer, reader, named):
    leader = cluster.await_leader(partition)
    Subscriber(reader).subscribe(leader, partition)
    cluster.turns(2)

    reader.hello(leader)
    subscriber = Subscriber(reader).subscribe(leader, partition)
    write(writer, named, names(0, 3))
    subscriber.follow(3)

    assert len(leader.core.subscriptions) == 1
    assert subscriber.datas == names(0, 3)


def test_reads_and_appends_go_on_beside_a_thousand_subscriptions(cluster, partition, writer, named):
    write(writer, named, names(0, 5))
    leader = cluster.await_leader(partition)
    clients = [cluster.client(f"reader-{number}") for number in range(5)]
    subscribers = []
    for client in clients:
        client.hello(leader)
        subscribers += [Subscriber(client, number).subscribe(leader, partition) for number in range(200)]

    write(writer, named, names(5, 10))
    answer, _ = writer.ask(leader, GetVersion, partition, 1, STREAM, True, 0, writer.deadline_us)
    for subscriber in subscribers:
        subscriber.follow(10)

    assert isinstance(answer, VersionIs)
    assert all(subscriber.datas == names(0, 10) for subscriber in subscribers)
    assert leader.core.metrics.events_pushed == 10_000
