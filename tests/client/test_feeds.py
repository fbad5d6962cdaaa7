"""Subscriptions in the session, in simulated time: whatever goes wrong on the way, each event comes once, in order."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewind.beginning import NOW
from rewind.errors import AccessDenied, Closed, InvalidArgument
from rewind.events import ANY, NewEvent
from rewind.feeds import DOUBT_US, PATIENCE_US, SILENT_US
from rewind_cluster.client_messages import CLIENT_CODEC, Code, Refused
from rewind_cluster.ranges import Consumed, EventsAre, GetPosition, Subscribe, SubscriptionEnded, Unsubscribe, pack_rows

SECOND_US = 1_000_000


@pytest.fixture
def one(make_lab: Callable[..., Any]) -> Any:
    """Return a session with three nodes and one partition."""
    return make_lab(partitions=1).connect()


def add(lab: Any, count: int = 1, kind: str = "T", stream: str = "s", data: bytes = b"") -> None:
    for _ in range(count):
        append = lab.calls.append(stream, NewEvent(kind, data), ANY, None)
        lab.session.append(append, lab.now_us)
        lab.run(append)


def positions(watcher: Any) -> list[int]:
    return [event.position for event in watcher.events]


def serving(lab: Any) -> list[Any]:
    """Return the nodes that serve a subscription."""
    return [node for node in lab.cluster.nodes if node.feeds.served]


def restarts(lab: Any) -> int:
    return sum(isinstance(message, Subscribe) for node in lab.cluster.nodes for message in node.hears)


def test_the_past_comes_first_and_then_what_is_appended(one: Any) -> None:
    add(one, 3)
    watcher = one.subscribe()
    one.settle()
    seen_before = positions(watcher)

    add(one, 2)
    one.settle()

    assert seen_before == [1, 2, 3]
    assert positions(watcher) == [1, 2, 3, 4, 5]
    assert restarts(one) == 1


def test_now_takes_only_what_comes_later(one: Any) -> None:
    add(one, 3)

    watcher = one.subscribe(after=NOW)
    add(one, 2)
    one.settle()

    assert positions(watcher) == [4, 5]


def test_a_checkpoint_goes_on_where_it_was_taken(lab: Any) -> None:
    for number in range(40):
        add(lab, stream=f"s{number}")
    first = lab.subscribe(eager=False)
    lab.settle()
    first.take(17)

    second = lab.subscribe(after=first.inbox.checkpoint)
    lab.settle()

    seen = [(event.partition, event.position) for event in first.events + second.events]
    assert len(seen) == len(set(seen)) == 40


def test_a_lost_message_is_asked_for_again_and_never_passed_over(one: Any, caplog: pytest.LogCaptureFixture) -> None:
    watcher = one.subscribe()
    one.settle()
    (node,) = serving(one)
    node.feeds.spoil = lambda message, frame: [] if message.through == 2 else [[CLIENT_CODEC.encode(message), frame]]

    add(one, 3)
    one.advance(SECOND_US)

    assert positions(watcher) == [1, 2, 3]
    assert restarts(one) == 2
    assert "leaves a hole" in caplog.text


def test_a_message_that_comes_twice_is_taken_once(one: Any) -> None:
    watcher = one.subscribe()
    one.settle()
    (node,) = serving(one)
    node.feeds.spoil = lambda message, frame: [[CLIENT_CODEC.encode(message), frame]] * 2

    add(one, 3)
    one.advance(SECOND_US)

    assert positions(watcher) == [1, 2, 3]


def test_a_range_that_overlaps_is_not_taken(one: Any, caplog: pytest.LogCaptureFixture) -> None:
    watcher = one.subscribe()
    add(one, 1)
    (node,) = serving(one)
    (served,) = node.feeds.served.values()

    served.through = 0  # what it has sent goes out once more, with what is new
    add(one, 2)
    one.advance(SECOND_US)

    assert positions(watcher) == [1, 2, 3]
    assert "overlaps" in caplog.text


@pytest.mark.parametrize(
    "frames",
    [[], [b""], [b"\xc1"], [pack_rows([])], [pack_rows([b"\x93\1\2\3"])]],
    ids=["none", "empty", "garbage", "no rows", "no row"],
)
def test_a_range_that_is_not_whole_is_not_believed(one: Any, frames: list[bytes]) -> None:
    watcher = one.subscribe()
    one.settle()
    (node,) = serving(one)
    node.feeds.spoil = lambda message, _: [[CLIENT_CODEC.encode(message), *frames]]

    add(one, 3)
    one.advance(SECOND_US)

    assert positions(watcher) == [1, 2, 3]
    assert serving(one) != [node]


def test_a_node_that_does_not_filter_is_not_believed(one: Any) -> None:
    for node in one.cluster.nodes[1:]:
        node.up = False
        one.drop(node)
    (node,) = one.cluster.nodes[:1]
    one.push(one.cluster.elect(1, node))
    watcher = one.subscribe(types=["A"])
    one.settle()
    for served in node.feeds.served.values():
        served.wanted = Subscribe(*(1, 1, 1, 0, None, "", 1 << 20))

    add(one, kind="B")
    add(one, kind="A")
    one.advance(SECOND_US)

    assert [(event.type, event.position) for event in watcher.events] == [("A", 2)]


NUMBERS = st.one_of(st.integers(0, 5), st.integers(0, 2**64 - 1))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_a_node_says_no_position_is_left_out_or_comes_twice(
    make_lab: Callable[..., Any], data: st.DataObject
) -> None:
    lab = make_lab(partitions=1).connect()
    watcher = lab.subscribe()
    add(lab, 2)

    def spoil(message: EventsAre, frame: bytes) -> list[list[bytes]]:
        kind = data.draw(st.sampled_from(["numbers", "bytes", "cut", "flip", "right", "again"]))
        if kind == "numbers":
            message = EventsAre(message.subscription, data.draw(NUMBERS), data.draw(NUMBERS), data.draw(NUMBERS))
        elif kind == "bytes":
            frame = data.draw(st.binary(max_size=40))
        elif kind == "cut":
            frame = frame[: data.draw(st.integers(0, len(frame)))]
        elif kind == "flip":
            place = data.draw(st.integers(0, len(frame) - 1))
            frame = frame[:place] + bytes([data.draw(st.integers(0, 255))]) + frame[place + 1 :]
        return [[CLIENT_CODEC.encode(message), frame]] * (2 if kind == "again" else 1)

    for node in lab.cluster.nodes:
        node.feeds.spoil = spoil
    for _ in range(4):
        add(lab, 2)
        lab.advance(SECOND_US)
    for node in lab.cluster.nodes:
        node.feeds.spoil = None
    lab.advance(20 * SECOND_US)

    assert positions(watcher) == list(range(1, 11))


def test_a_subscription_outlives_its_replica(one: Any) -> None:
    watcher = one.subscribe()
    add(one, 3)
    (node,) = serving(one)

    one.crash(node)
    if one.cluster.leader(1) == node.id:
        one.push(one.cluster.elect(1, one.cluster.other(node)))
    add(one, 3)
    one.advance(SECOND_US)

    assert positions(watcher) == [1, 2, 3, 4, 5, 6]
    assert node not in [each for each in serving(one) if each.up]


def test_a_node_that_forgot_the_connection_is_subscribed_to_anew(one: Any) -> None:
    watcher = one.subscribe()
    one.settle()
    (node,) = serving(one)

    node.clients.clear()  # as after the process was stopped for long
    node.feeds.served.clear()
    add(one, 3)
    one.advance(SILENT_US + SECOND_US)

    assert positions(watcher) == [1, 2, 3]


def test_a_process_that_slept_for_long_goes_on(lab: Any) -> None:
    watcher = lab.subscribe()
    add(lab, 3)

    lab.now_us += 3600 * SECOND_US
    for node in lab.cluster.nodes:
        node.clients.clear()
        node.feeds.served.clear()
    for number in range(20):
        add(lab, stream=f"s{number}")
    lab.advance(SILENT_US + SECOND_US)

    assert len({(event.partition, event.position) for event in watcher.events}) == len(watcher.events) == 23


def test_a_silent_replica_is_left_for_another(one: Any) -> None:
    watcher = one.subscribe()
    one.settle()
    (node,) = serving(one)

    node.feeds.mute = True
    add(one, 3)
    one.advance(SILENT_US + SECOND_US)

    assert positions(watcher) == [1, 2, 3]
    assert any(isinstance(message, Unsubscribe) for message in node.hears)


def test_a_replica_that_says_it_is_behind_is_left_for_another(one: Any) -> None:
    add(one, 5)
    nodes = one.cluster.nodes
    one.push(one.cluster.elect(1, nodes[2]))
    for node in nodes[:2]:
        node.newest_max = 2
    watcher = one.subscribe(after="cluster-1/1/1:5")

    add(one, 1)
    one.advance(DOUBT_US - SECOND_US)

    assert positions(watcher) == [6]
    assert serving(one) == [nodes[2]]


def test_a_replica_that_stands_still_is_found_out(one: Any, caplog: pytest.LogCaptureFixture) -> None:
    watcher = one.subscribe()
    add(one, 3)
    one.settle()
    (node,) = serving(one)
    if one.cluster.leader(1) == node.id:
        one.push(one.cluster.elect(1, one.cluster.other(node)))

    node.newest_max = 3  # lives, talks, and has no idea
    add(one, 2)
    one.advance(DOUBT_US + 5 * SECOND_US)

    assert positions(watcher) == [1, 2, 3, 4, 5]
    assert "known to the leader and does not come" in caplog.text


def test_a_quiet_context_is_no_reason_to_move(one: Any) -> None:
    add(one, 3)
    one.subscribe()

    one.advance(10 * DOUBT_US)

    assert restarts(one) == 1
    assert sum(isinstance(message, GetPosition) for node in one.cluster.nodes for message in node.hears) >= 9


@pytest.mark.parametrize("code", [Code.NOT_READY, Code.OVERLOADED, Code.CONTEXT_LAGGING, Code.DAMAGED, 77])
def test_a_node_that_gives_up_is_left_for_another(one: Any, code: int) -> None:
    for node in one.cluster.nodes[:2]:
        node.feeds.ending = SubscriptionEnded(0, code, "not here")

    watcher = one.subscribe()
    add(one, 3)
    one.advance(5 * SECOND_US)

    assert positions(watcher) == [1, 2, 3]


def test_a_definite_answer_ends_a_subscription(one: Any) -> None:
    for node in one.cluster.nodes:
        node.feeds.ending = SubscriptionEnded(0, Code.INVALID, "the prefix is no name")

    watcher = one.subscribe()
    one.settle()

    assert type(watcher.inbox.error) is InvalidArgument
    assert "partition 1" in str(watcher.inbox.error)
    assert "the prefix is no name" in str(watcher.inbox.error)


def test_where_every_node_denies_access_subscriptions_end(one: Any) -> None:
    watcher = one.subscribe()
    one.settle()
    for node in one.cluster.nodes:
        node.answer = lambda _, __: [Refused("access", "who are you")]

    for node in one.cluster.nodes:
        one.drop(node)
    one.settle()

    assert type(watcher.inbox.error) is AccessDenied


def test_trouble_is_told_while_it_lasts_and_when_it_is_over(one: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rewind.client")
    watcher = one.subscribe()
    one.settle()
    for node in one.cluster.nodes:
        node.feeds.ending = SubscriptionEnded(0, Code.NOT_READY, "no leader in sight")
        one.drop(node)

    one.advance(PATIENCE_US - SECOND_US)
    early = [record for record in caplog.records if record.levelno == logging.WARNING]
    one.advance(2 * SECOND_US)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    for node in one.cluster.nodes:
        node.feeds.ending = None
    add(one, 1)
    one.advance(10 * SECOND_US)

    assert early == []
    assert len(warned) == 1
    assert "partition 1" in warned[0]
    assert "no leader in sight" in warned[0]
    assert positions(watcher) == [1]
    assert "serves it again" in caplog.text


def test_a_node_that_serves_for_a_moment_again_and_again_is_trouble_too(
    one: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one.subscribe()

    for _ in range(6):
        one.advance(2 * SECOND_US)
        for node in serving(one):
            one.drop(node)

    assert "no node has served it steadily" in caplog.text


def test_a_slow_consumer_holds_a_bounded_number_of_bytes(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewind.feed.WINDOWS_BYTES", 20_000)
    monkeypatch.setattr("rewind.feed.WINDOW_BYTES_MIN", 20_000)
    add(one, 200, data=bytes(1000))

    watcher = one.subscribe(eager=False)
    one.advance(10 * SECOND_US)
    for node in serving(one):  # a new window is not opened beside a full one
        one.drop(node)
    one.advance(10 * SECOND_US)
    held = sum(batch.size for batch in watcher.inbox._queue)

    assert 20_000 <= held < 20_000 * 1.5 + 2 * 110_000
    while len(watcher.events) < 200:
        assert watcher.take(), "the subscription stalled"
        one.advance(SECOND_US)
    assert positions(watcher) == list(range(1, 201))


def test_a_slow_consumer_whose_node_dies_waits_for_half_a_window(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewind.feed.WINDOWS_BYTES", 300_000)
    add(one, 400, data=bytes(1000))
    watcher = one.subscribe(eager=False)
    one.settle()
    (node,) = serving(one)

    one.crash(node)
    one.advance(SECOND_US)
    resumed_full = [each for each in serving(one) if each is not node]
    watcher.take(300)
    one.advance(SECOND_US)

    assert resumed_full == []
    assert [each for each in serving(one) if each is not node]
    watcher.take()
    one.advance(SECOND_US)
    watcher.take()
    assert positions(watcher) == list(range(1, 401))


def test_what_is_consumed_is_told_at_the_latest_when_nothing_is_left(one: Any) -> None:
    watcher = one.subscribe(eager=False)
    add(one, 5)
    (node,) = serving(one)

    watcher.take(4)
    one.settle()
    told_early = [message for message in node.hears if isinstance(message, Consumed)]
    watcher.take()
    one.settle()

    assert told_early == []
    assert [message.through for message in node.hears if isinstance(message, Consumed)] == [5]


def test_ranges_without_events_cost_no_memory_and_move_the_checkpoint(one: Any) -> None:
    watcher = one.subscribe(types=["A"], eager=False)
    add(one, 1, kind="A")
    add(one, 50, kind="B")
    one.settle()
    before = watcher.inbox.checkpoint

    (event,) = watcher.take()
    after = watcher.inbox.checkpoint
    add(one, 5, kind="B")
    one.settle()

    assert event.position == 1
    assert before == "cluster-1/1/1:0"
    assert after == "cluster-1/1/1:51"
    assert watcher.inbox.checkpoint == "cluster-1/1/1:56"
    assert not watcher.inbox._queue


def test_a_range_without_events_extends_the_one_that_is_being_read(one: Any) -> None:
    append = one.calls.append("s", [NewEvent("A", b""), NewEvent("A", b"")], ANY, None)
    one.session.append(append, one.now_us)
    one.run(append)
    watcher = one.subscribe(types=["A"], eager=False)
    one.settle()

    watcher.take(1)
    add(one, 5, kind="B")
    one.settle()
    between = watcher.inbox.checkpoint
    watcher.take(1)

    assert between == "cluster-1/1/1:1"
    assert watcher.inbox.checkpoint == "cluster-1/1/1:7"


def test_a_checkpoint_within_a_range_says_what_was_handed_out(one: Any) -> None:
    append = one.calls.append("s", [NewEvent("A", b""), NewEvent("B", b""), NewEvent("A", b"")], ANY, None)
    one.session.append(append, one.now_us)
    one.run(append)
    watcher = one.subscribe(types=["A"], eager=False)
    one.settle()

    watcher.take(1)

    assert watcher.inbox.checkpoint == "cluster-1/1/1:1"
    again = one.subscribe(after=watcher.inbox.checkpoint, types=["A"])
    one.settle()
    assert [(event.position, event.version) for event in again.events] == [(3, 3)]


def test_caught_up_means_consumed_to_where_the_context_stood(lab: Any) -> None:
    for number in range(40):
        add(lab, stream=f"s{number}")
    watcher = lab.subscribe(eager=False)
    at_first = watcher.inbox.caught_up

    lab.settle()
    watcher.take(39)
    before = watcher.inbox.caught_up
    watcher.take()

    assert not at_first
    assert not before
    assert watcher.inbox.caught_up


def test_a_subscription_to_an_empty_context_is_caught_up(lab: Any) -> None:
    watcher = lab.subscribe()

    lab.settle()

    assert watcher.inbox.caught_up


def test_a_subscription_that_had_to_begin_anew_must_catch_up_again(one: Any) -> None:
    watcher = one.subscribe(eager=False)
    add(one, 1)
    watcher.take()
    was = watcher.inbox.caught_up
    (node,) = serving(one)

    node.newest_max = 1
    add(one, 5)
    one.crash(node)
    if one.cluster.leader(1) == node.id:
        one.push(one.cluster.elect(1, one.cluster.other(node)))
    one.advance(SECOND_US)

    assert was
    assert not watcher.inbox.caught_up
    watcher.take()
    assert watcher.inbox.caught_up


def test_closing_tells_the_nodes_and_what_still_comes_is_passed_over(lab: Any) -> None:
    watcher = lab.subscribe()
    lab.settle()

    watcher.close()
    lab.settle()
    add(lab, 3)

    assert serving(lab) == []
    assert watcher.events == []


def test_a_closed_store_ends_its_subscriptions(lab: Any) -> None:
    watcher = lab.subscribe()
    lab.settle()

    lab.session.abandon()
    lab.settle()

    assert type(watcher.inbox.error) is Closed


def test_replicas_share_the_subscribers(one: Any) -> None:
    for _ in range(60):
        one.subscribe()
    one.settle()

    shares = [len(node.feeds.served) for node in one.cluster.nodes]

    assert sum(shares) == 60
    assert min(shares) >= 10


@pytest.mark.parametrize("spread", [1, 4])
def test_each_event_comes_once_and_in_order_through_a_storm(make_lab: Callable[..., Any], spread: int) -> None:
    lab = make_lab(partitions=spread).connect()
    watcher = lab.subscribe()
    names = [f"s{number}" for number in range(12)]

    for step in range(60):
        add(lab, 3, stream=names[step % 12])
        node = lab.cluster.nodes[step % 3]
        if step % 5 == 0:
            lab.drop(node)
        elif step % 7 == 0:
            node.feeds.mute = not node.feeds.mute
        elif step % 11 == 0:
            dropped = step // 11
            node.feeds.spoil = lambda message, frame, dropped=dropped: (
                [] if message.through % 5 == dropped % 5 else [[CLIENT_CODEC.encode(message), frame]]
            )
        lab.advance(700_000)
    for node in lab.cluster.nodes:
        node.feeds.mute, node.feeds.spoil = False, None
    lab.advance(20 * SECOND_US)

    assert len(watcher.events) == 180
    for partition in lab.cluster.partitions:
        seen = [event.position for event in watcher.events if event.partition == partition]
        assert seen == list(range(1, len(seen) + 1))
    for name in names:
        assert [event.version for event in watcher.events if event.stream == name] == list(range(1, 16))
