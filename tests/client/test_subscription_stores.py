"""Subscriptions and reads of whole contexts: one contract for both stores, over real sockets."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from both_shells import AsyncioShell, BlockingShell

import rewind
from rewind import ANY, NOW, NewEvent
from rewind.aio_subscription import EVENTS_IN_A_ROW
from rewind_cluster.client_messages import CLIENT_CODEC, Code
from rewind_cluster.ranges import SubscriptionEnded

PATIENCE_S = 20.0


class Blocking(BlockingShell):
    def append(self, stream: str, *events: NewEvent) -> rewind.AppendResult:
        return self.store.append(stream, list(events), ANY)

    def read_all(self, **options: Any) -> list[Any]:
        return list(self.store.read_all(**options))

    def subscribe(self, **options: Any) -> Any:
        return self.store.subscribe(**options)


class Asyncio(AsyncioShell):
    def append(self, stream: str, *events: NewEvent) -> rewind.AppendResult:
        async def run() -> rewind.AppendResult:
            return await self.store.append(stream, list(events), ANY)

        return self.runner.run(run())

    def read_all(self, **options: Any) -> list[Any]:
        async def run() -> list[Any]:
            return [event async for event in self.store.read_all(**options)]

        return self.runner.run(run())

    def subscribe(self, **options: Any) -> Any:
        async def run() -> rewind.AsyncSubscription:
            return await self.store.subscribe(**options)

        return self.runner.run(run())


@pytest.fixture(params=[Blocking, Asyncio], ids=["blocking", "asyncio"])
def make_store(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def store(server: Any, make_store: Any) -> Iterator[Any]:
    made = make_store(server.addresses)
    yield made
    made.close()


def event(kind: str = "T", data: bytes = b"") -> NewEvent:
    return NewEvent(kind, data)


def until(store: Any, condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never came to pass"
        store.pause()


def places(events: list[Any]) -> list[tuple[int, int]]:
    found = sorted((each.partition, each.position) for each in events)
    assert len(found) == len(set(found))
    return found


def give_up(server: Any) -> None:
    """Let every node end every subscription it serves."""

    def run() -> list[Any]:
        news = []
        for node in server.cluster.nodes:
            for route, number in node.feeds.served:
                ended = SubscriptionEnded(number, Code.NOT_READY, "the node stops")
                news.append((node, route, [CLIENT_CODEC.encode(ended)]))
            node.feeds.served.clear()
        return news

    server.do(run)


def test_a_subscription_gives_the_past_and_then_what_is_appended(store: Any) -> None:
    store.append("a", event(), event())
    store.append("b", event(data=b"1"))
    subscription = store.subscribe()

    past = store.take(subscription, 3)
    appended = store.append("b", NewEvent("U", b"2", metadata={"user": 7}))
    (live,) = store.take(subscription, 1)

    assert sorted((each.stream, each.version) for each in past) == [("a", 1), ("a", 2), ("b", 1)]
    assert (live.stream, live.version, live.type, live.data, live.metadata) == ("b", 2, "U", b"2", {"user": 7})
    assert (live.partition, live.position, live.timestamp) == (
        appended.partition,
        appended.position,
        appended.timestamp,
    )
    (read,) = [each for each in store.read_all() if each.id == live.id]
    assert read == live
    store.end(subscription)


def test_now_means_what_is_appended_once_it_has_begun(store: Any) -> None:
    store.append("a", event(), event())

    subscription = store.subscribe(after=NOW)
    store.append("a", event())

    assert [each.version for each in store.take(subscription, 1)] == [3]
    store.end(subscription)


def test_another_store_goes_on_from_a_checkpoint(store: Any, make_store: Any, server: Any) -> None:
    for number in range(30):
        store.append(f"s{number}", event())
    subscription = store.subscribe()
    first = store.take(subscription, 11)
    checkpoint = subscription.checkpoint
    store.end(subscription)
    other = make_store(server.addresses)

    second = other.take(other.subscribe(after=checkpoint), 19)

    assert len(places(first + second)) == 30
    assert len(places(first + store.read_all(after=checkpoint))) == 30
    other.close()


def test_types_and_prefixes_filter_and_checkpoints_move_on(store: Any) -> None:
    for number in range(12):
        store.append(f"{'order' if number % 2 else 'cart'}-{number}", event("A"), event("B"))

    read = store.read_all(types=["B"], prefix="order-")
    subscription = store.subscribe(types=["B"], prefix="order-")
    taken = store.take(subscription, 6)

    assert places(read) == places(taken)
    assert {(each.type, each.stream.split("-")[0]) for each in read} == {("B", "order")}
    until(store, lambda: subscription.caught_up)
    positions = [int(place.split(":")[1]) for place in subscription.checkpoint.split("/")[2].split(",")]
    assert sum(positions) == 24
    store.end(subscription)


def test_a_subscription_says_when_it_has_caught_up(store: Any) -> None:
    for number in range(30):
        store.append(f"s{number}", event())
    subscription = store.subscribe()

    store.take(subscription, 29)
    early = subscription.caught_up
    store.take(subscription, 1)

    assert not early
    until(store, lambda: subscription.caught_up)
    store.end(subscription)


def test_a_subscription_goes_on_when_nodes_give_up(store: Any, server: Any) -> None:
    subscription = store.subscribe()
    seen = []

    for _ in range(5):
        store.append("a", event(), event())
        seen += store.take(subscription, 2)
        give_up(server)

    assert [each.version for each in seen] == list(range(1, 11))
    store.end(subscription)


def test_many_events_come_through_small_windows(store: Any, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewind.feed.WINDOWS_BYTES", 40_000)
    monkeypatch.setattr("rewind.feed.WINDOW_BYTES_MIN", 10_000)
    for number in range(60):
        store.append(f"s{number % 7}", *[event(data=bytes(100))] * 100)

    subscription = store.subscribe()
    taken = store.take(subscription, 6000)
    read = store.read_all()

    assert places(taken) == places(read)
    assert len(taken) == 6000
    assert all(node.feeds.unconsumed_max < 10_000 + 100 * 200 for node in server.cluster.nodes)
    store.end(subscription)


def test_an_ordered_context_is_read_newest_first(store: Any, make_store: Any, server: Any) -> None:
    if isinstance(store, Blocking):
        store.store.create_context("ledger", ordered=True)
    else:
        store.runner.run(store.store.create_context("ledger", ordered=True))
    ledger = make_store(server.addresses, context="ledger")
    for number in range(20):
        ledger.append(f"s{number % 3}", event())

    assert [each.position for each in ledger.read_all(reverse=True, limit=5)] == [20, 19, 18, 17, 16]
    assert [each.position for each in ledger.read_all()] == list(range(1, 21))
    with pytest.raises(rewind.InvalidArgument, match="ordered"):
        store.read_all(reverse=True)
    ledger.close()


def test_wrong_arguments_are_told(store: Any) -> None:
    token = store.append("a", event()).token
    subscription = store.subscribe()
    checkpoint = subscription.checkpoint
    wrong = (
        {"after": "junk"},
        {"after": 7},
        {"after": token},  # which says nothing of the other partitions
        {"after": "x" + checkpoint},
        {"after": checkpoint.replace("/1/", "/2/")},
        {"after": checkpoint.rsplit(":", 1)[0] + ":99"},
        {"types": "T"},
        {"types": []},
        {"prefix": "a\n"},
    )

    for options in wrong:
        with pytest.raises(rewind.InvalidArgument):
            store.subscribe(**options)
        with pytest.raises(rewind.InvalidArgument):
            store.read_all(**options)
    with pytest.raises(rewind.InvalidArgument):
        store.read_all(after=NOW)
    store.end(subscription)


def test_a_closed_subscription_has_ended_and_its_store_goes_on(store: Any) -> None:
    subscription = store.subscribe()
    store.append("a", event(), event())
    store.take(subscription, 1)

    store.end(subscription)
    store.end(subscription)

    assert store.rest(subscription) == []
    assert "/1/" in subscription.checkpoint
    assert store.append("a", event()).version == 3


def test_closing_a_store_ends_its_subscriptions_with_an_error(server: Any, make_store: Any) -> None:
    store = make_store(server.addresses)
    subscription = store.subscribe()

    if isinstance(store, Blocking):
        store.close()
        with pytest.raises(rewind.Closed):
            next(subscription)
        subscription.close()
        return

    async def run() -> None:
        waiting = asyncio.create_task(anext(subscription))
        await asyncio.sleep(0)
        await store.store.close()
        with pytest.raises(rewind.Closed):
            await waiting
        await subscription.close()

    store.runner.run(run())
    store.runner.close()


def test_another_thread_ends_a_waiting_subscription(server: Any) -> None:
    with rewind.connect(server.addresses) as store, store.subscribe() as subscription:
        store.append("a", event())
        seen: list[Any] = []
        waiting = threading.Thread(target=lambda: seen.extend(subscription))
        waiting.start()
        deadline_s = time.monotonic() + PATIENCE_S
        while not seen and time.monotonic() < deadline_s:
            time.sleep(0.005)

        subscription.close()
        waiting.join(PATIENCE_S)

        assert not waiting.is_alive()
        assert len(seen) == 1


def test_closing_a_store_wakes_whoever_waits(server: Any) -> None:
    store = rewind.connect(server.addresses)
    subscription = store.subscribe()
    errors: list[rewind.RewindError] = []

    def wait() -> None:
        try:
            next(subscription)
        except rewind.RewindError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    store.close()
    waiting.join(PATIENCE_S)

    assert [type(error) for error in errors] == [rewind.Closed]


def test_several_threads_may_share_a_subscription(server: Any) -> None:
    with rewind.connect(server.addresses) as store, store.subscribe() as subscription:
        store.append("a", [event()] * 400)
        shares: list[list[Any]] = [[] for _ in range(4)]
        threads = [
            threading.Thread(target=lambda share=share: share.extend(next(subscription) for _ in range(100)))
            for share in shares
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)

        assert len(places([each for share in shares for each in share])) == 400


def test_a_checkpoint_has_the_event_just_yielded_whatever_arrives_meanwhile(server: Any) -> None:
    noting = threading.Event()

    class Slow(dict[int, int]):
        def __setitem__(self, partition: int, position: int) -> None:
            noting.set()
            time.sleep(0.05)  # so that whoever does not wait for this sees it half done
            super().__setitem__(partition, position)

    with rewind.connect(server.addresses) as store, store.subscribe(types=["A"]) as subscription:
        store.append("a", event("A"))
        yielded = next(subscription)
        cursor = subscription._waiting._inbox._cursor
        cursor._positions = Slow(cursor._positions)
        store.submit("a", event("B"))

        assert noting.wait(PATIENCE_S)
        assert f"{yielded.partition}:0" not in subscription.checkpoint


def test_a_callback_must_not_wait_for_an_event(server: Any) -> None:
    with rewind.connect(server.addresses) as store, store.subscribe() as subscription:
        told: list[BaseException] = []
        done = threading.Event()

        def callback(_: Any) -> None:
            try:
                next(subscription)
            except rewind.InvalidArgument as error:
                told.append(error)
            done.set()

        store.submit("a", event()).add_done_callback(callback)

        assert done.wait(PATIENCE_S)
        assert "callback" in str(told[0])


def test_a_forked_child_is_told_and_harms_nothing(server: Any) -> None:
    with rewind.connect(server.addresses) as store, store.subscribe() as subscription:
        store.append("a", event())
        next(subscription)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                subscription.close()
                for look in (lambda: next(subscription), lambda: subscription.checkpoint):
                    try:
                        look()
                    except rewind.Closed as error:
                        os.write(writing, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)

        assert os.read(reading, 1000).count(b"after a fork") == 2
        store.append("a", event())
        assert next(subscription).version == 2


def test_another_task_ends_a_waiting_subscription(server: Any) -> None:
    async def run() -> list[Any]:
        async with rewind.connect_async(server.addresses) as store:
            subscription = store.subscribe()
            first_came = asyncio.Event()

            async def follow() -> list[Any]:
                return [first_came.set() or each async for each in subscription]

            task = asyncio.create_task(follow())
            await store.append("a", event())
            async with asyncio.timeout(PATIENCE_S):
                await first_came.wait()
                await subscription.close()
                return await task

    assert len(asyncio.run(run())) == 1


def test_a_cancelled_wait_loses_no_event(server: Any) -> None:
    async def run() -> list[int]:
        async with rewind.connect_async(server.addresses) as store, store.subscribe() as subscription:
            waiting = asyncio.create_task(anext(subscription))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await store.append("a", [event(), event()])
            return [(await anext(subscription)).version for _ in range(2)]

    assert asyncio.run(run()) == [1, 2]


def test_an_asyncio_subscription_has_no_checkpoint_before_it_begins(server: Any) -> None:
    async def run() -> None:
        async with rewind.connect_async(server.addresses) as store:
            subscription = store.subscribe(after=NOW)
            with pytest.raises(rewind.InvalidArgument, match="begun"):
                _ = subscription.checkpoint
            assert not subscription.caught_up
            await subscription.close()
            assert [each async for each in subscription] == []

    asyncio.run(run())


def test_a_consumer_that_never_waits_leaves_others_their_turn(server: Any) -> None:
    async def run() -> list[int]:
        async with rewind.connect_async(server.addresses) as store, store.subscribe() as subscription:
            await store.append("a", [event()] * 4000)
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            turn_of = [(await anext(subscription), turns)[1] for _ in range(4000)]
            counting.cancel()
            return turn_of

    turn_of = asyncio.run(run())

    assert max(map(turn_of.count, set(turn_of))) <= EVENTS_IN_A_ROW
