"""What subscriptions may cost: credit, budgets and limits; and what a node makes of messages outside the rules."""

import pytest
from ranges_by_hand import Subscriber, append_parts

from rewind_cluster.client_messages import Code, GetVersion, Refused, VersionIs
from rewind_cluster.ranges import (
    CLIENT_WINDOWS_BYTES_MAX,
    WINDOW_BYTES_MAX,
    Consumed,
    EventsAre,
    Subscribe,
    SubscriptionEnded,
    Unsubscribe,
)
from rewind_node import subscriptions as module
from rewind_node.subscription import MESSAGE_COST_BYTES

STREAM = "order-1"
DATA_BYTES = 10_000


@pytest.fixture
def partition(cluster):
    return cluster.partition_of(STREAM)


@pytest.fixture
def writer(cluster, partition):
    writer = cluster.client("writer")
    writer.session(partition)
    return writer


@pytest.fixture
def leader(cluster, partition):
    return cluster.await_leader(partition)


@pytest.fixture
def reader(cluster, leader):
    client = cluster.client("reader")
    client.hello(leader)
    return client


def fill(writer, partition, count, first=0, size=DATA_BYTES, events=1):
    """Append `count` runs of `events` events of `size` bytes."""
    for number in range(first, first + count):
        datas = [("T", f"{number}.{place}".rjust(size, ".")) for place in range(events)]
        append_parts(writer, partition, [(STREAM, datas)])


def unconsumed(subscriber):
    return sum(subscriber.row_bytes)


@pytest.mark.parametrize("window", [1, 25_000, 200_000])
def test_no_more_than_a_window_is_sent_and_not_consumed(cluster, partition, writer, leader, reader, window):
    fill(writer, partition, 60)
    subscriber = Subscriber(reader).subscribe(leader, partition, window=window)
    cluster.turns(500)
    subscriber.take()
    first = len(subscriber.seen)

    assert 1 <= first < 60
    assert unconsumed(subscriber) <= max(window, DATA_BYTES + 200)
    assert leader.core.subscriptions.waiting is False  # what waits for credit keeps nobody awake

    subscriber.consume()
    cluster.turns(100)
    subscriber.take()
    assert first < len(subscriber.seen) <= 2 * first + 1

    subscriber.consume()
    subscriber.follow(60)
    assert [event.version for event in subscriber.seen] == list(range(1, 61))


def test_many_small_messages_count_for_more_than_their_rows(cluster, partition, writer, leader, reader):
    subscriber = Subscriber(reader).subscribe(leader, partition, window=20 * MESSAGE_COST_BYTES)
    cluster.turns(2)

    fill(writer, partition, 40, size=1)
    subscriber.take()

    assert 10 <= len(subscriber.seen) <= 20


def test_a_slow_subscriber_slows_nobody(cluster, partition, writer, leader, reader):
    slow = Subscriber(reader, 1).subscribe(leader, partition, window=30_000)
    other = cluster.client("other")
    other.hello(leader)
    fast, beside = Subscriber(other, 1), Subscriber(reader, 2)
    fast.subscribe(leader, partition)
    beside.subscribe(leader, partition)

    for number in range(30):
        fill(writer, partition, 1, first=number)
        for subscriber in (fast, beside):
            subscriber.take()
            subscriber.consume()
    slow.take()

    assert len(fast.seen) == len(beside.seen) == 30
    assert len(slow.seen) <= 3
    assert slow.ended is None
    slow.consume()
    slow.follow(30)
    assert [event.version for event in slow.seen] == list(range(1, 31))


def test_a_run_larger_than_the_window_still_arrives(partition, writer, leader, reader):
    fill(writer, partition, 2, size=50_000, events=60)

    subscriber = Subscriber(reader).subscribe(leader, partition, window=1000)
    subscriber.follow(60)
    first = len(subscriber.seen)
    subscriber.consume()
    subscriber.follow(120)

    assert first == 60
    assert len(subscriber.seen) == 120


def test_large_rows_fill_the_window_without_waiting_for_each(cluster, partition, writer, leader, reader):
    fill(writer, partition, 10, size=50_000, events=4)

    subscriber = Subscriber(reader).subscribe(leader, partition, window=WINDOW_BYTES_MAX)
    cluster.turns(50)
    subscriber.take()

    assert len(subscriber.seen) == 5 * 4


def test_subscriptions_of_one_connection_share_what_a_node_keeps_for_a_slow_one(
    cluster, partition, writer, leader, reader
):
    fill(writer, partition, 60, size=100_000)
    others = 100
    for number in range(others):
        reader.send(leader, Subscribe(1000 + number, partition, 1, 60, None, "", WINDOW_BYTES_MAX))
    subscriber = Subscriber(reader, 1).subscribe(leader, partition, window=1 << 62)
    cluster.turns(500)
    subscriber.take()

    assert unconsumed(subscriber) <= max(CLIENT_WINDOWS_BYTES_MAX // (others + 1), 100_300)
    for number in range(others):
        reader.send(leader, Unsubscribe(1000 + number))
    subscriber.consume()
    subscriber.row_bytes.clear()
    cluster.turns(500)
    subscriber.take()
    assert WINDOW_BYTES_MAX - 200_000 <= unconsumed(subscriber) <= WINDOW_BYTES_MAX


def test_what_a_turn_spends_on_the_past_is_bounded(cluster, partition, writer, leader):
    fill(writer, partition, 100, size=50_000)
    clients = [cluster.client(f"reader-{number}") for number in range(20)]
    for client in clients:
        client.hello(leader)
    for client in clients:
        Subscriber(client).subscribe(leader, partition)

    cluster.turns(2)
    arrived = sum(
        sum(map(len, frames))
        for client in clients
        for _, message, frames in client.received
        if type(message) is EventsAre
    )

    assert 0 < arrived <= 2 * (module.PAST_COST_MAX + module.PUSH_COST_MAX)
    assert leader.core.deadline_us == 0  # and goes on at once


def test_readers_of_the_past_do_not_hold_up_news(cluster, partition, writer, leader, reader):
    fill(writer, partition, 100, size=50_000)
    live = Subscriber(reader).subscribe(leader, partition, after=100)
    cluster.turns(5)
    clients = [cluster.client(f"past-{number}") for number in range(40)]
    for client in clients:
        client.hello(leader)
    for client in clients:
        Subscriber(client).subscribe(leader, partition)
    cluster.turns(1)

    fill(writer, partition, 1, first=100)
    live.take()
    busy = leader.core.subscriptions.waiting

    assert busy
    assert [event.version for event in live.seen] == [101]


def test_all_readers_of_the_past_come_forward_together(cluster, partition, writer, leader):
    fill(writer, partition, 40, size=50_000)
    clients = [cluster.client(f"reader-{number}") for number in range(12)]
    for client in clients:
        client.hello(leader)
    subscribers = [Subscriber(client).subscribe(leader, partition) for client in clients]

    cluster.turns(8)
    come = [len(subscriber.take().seen) for subscriber in subscribers]

    assert min(come) > 0
    assert max(come) <= 2 * min(come) + 3


def test_a_connection_and_a_node_have_a_limit_of_subscriptions(cluster, partition, leader, reader, monkeypatch):
    monkeypatch.setattr(module, "CLIENT_SUBSCRIPTIONS_MAX", 3)
    monkeypatch.setattr(module, "SUBSCRIPTIONS_MAX", 5)
    other = cluster.client("other")
    other.hello(leader)

    for client, count in ((reader, 5), (other, 3)):
        for number in range(count):
            client.send(leader, Subscribe(number, partition, 1, 0, None, "", 1000))
    cluster.turns(3)
    ends = {
        client.name: [message.code for _, message, _ in client.received if type(message) is SubscriptionEnded]
        for client in (reader, other)
    }

    assert ends == {"reader": [Code.OVERLOADED] * 2, "other": [Code.OVERLOADED]}
    assert len(leader.core.subscriptions) == 5


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"types": [b"x"]}, Code.INVALID),
        ({"types": ["a", ""]}, Code.INVALID),
        ({"types": ["T"] * 257}, Code.TOO_LARGE),
        ({"types": ["T" * 300]}, Code.TOO_LARGE),
        ({"prefix": "\n"}, Code.INVALID),
        ({"prefix": "p" * 256}, Code.TOO_LARGE),
        ({"partition": 0}, Code.NOT_READY),
        ({"partition": 77}, Code.NOT_READY),
        ({"context": 999}, Code.CONTEXT_LAGGING),
    ],
)
def test_what_cannot_be_served_ends_at_once_with_its_reason(partition, leader, reader, changes, code):
    asked = {"partition": partition, "context": 1, "after": 0, "types": None, "prefix": "", "window_bytes": 1} | changes

    reader.send(leader, Subscribe(1, **asked))
    ended, _ = reader.await_message(lambda message: isinstance(message, SubscriptionEnded))

    assert (ended.subscription, Code(ended.code)) == (1, code)
    assert ended.text
    assert len(leader.core.subscriptions) == 0


def test_credit_for_what_was_never_sent_is_none(cluster, partition, writer, leader, reader):
    fill(writer, partition, 30)
    reader.send(leader, Consumed(9, 5))
    subscriber = Subscriber(reader).subscribe(leader, partition, window=25_000)

    reader.send(leader, Consumed(1, (1 << 64) - 1))
    cluster.turns(2)
    reader.send(leader, Consumed(1, 0))
    cluster.turns(200)
    subscriber.take()

    assert len(subscriber.seen) <= 3
    assert len(leader.core.subscriptions) == 1


def test_a_number_in_use_ends_the_connection(partition, leader, reader):
    reader.send(leader, Subscribe(1, partition, 1, 0, None, "", 1000))
    reader.send(leader, Subscribe(1, partition, 1, 0, None, "", 1000))

    refused, _ = reader.await_message(lambda message: isinstance(message, Refused))

    assert refused.code == "malformed"
    assert len(leader.core.subscriptions) == 0


@pytest.mark.parametrize("after", [(1 << 64) - 1, 1 << 63, 7])
def test_a_position_that_no_event_has_is_waited_for(cluster, partition, writer, leader, reader, after):
    fill(writer, partition, 1)
    subscriber = Subscriber(reader).subscribe(leader, partition, after=after)

    cluster.turns(1500)
    subscriber.take()

    assert subscriber.seen == []
    assert subscriber.position == 1
    assert len(subscriber.messages) >= 2


def test_a_client_that_vanishes_while_it_is_served_costs_no_turn(cluster, partition, writer, leader, reader):
    fill(writer, partition, 30)
    Subscriber(reader).subscribe(leader, partition, window=WINDOW_BYTES_MAX)
    leader.inbox.append(lambda node: node.client_protocol.gone(reader.route(leader)))

    cluster.turns(3)
    answer, _ = writer.ask(leader, GetVersion, partition, 1, STREAM, True, 0, writer.deadline_us)

    assert isinstance(answer, VersionIs)
    assert len(leader.core.subscriptions) == 0
    assert not leader.core.subscriptions.waiting
