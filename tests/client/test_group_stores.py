"""Consumer groups: one contract for both stores, over real sockets."""

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
from rewind_cluster.groups import ClaimGroup

PATIENCE_S = 20.0


class Blocking(BlockingShell):
    def append(self, *streams: str, kind: str = "T") -> None:
        for stream in streams:
            self.store.append(stream, NewEvent(kind, b""), ANY)

    def group(self, name: str = "mailer", **options: Any) -> Any:
        return self.store.group(name, **options)


class Asyncio(AsyncioShell):
    def append(self, *streams: str, kind: str = "T") -> None:
        async def run() -> None:
            for stream in streams:
                await self.store.append(stream, NewEvent(kind, b""), ANY)

        self.runner.run(run())

    def group(self, name: str = "mailer", **options: Any) -> Any:
        async def run() -> rewind.AsyncGroup:
            return await self.store.group(name, **options)

        return self.runner.run(run())

    def take(self, group: Any, count: int) -> list[Any]:
        async def run() -> list[Any]:
            return [_Awaited(self, await anext(group)) for _ in range(count)]

        return self.runner.run(run())


class _Awaited:
    """A delivery whose verdicts are awaited on its loop."""

    def __init__(self, store: Asyncio, delivery: Any) -> None:
        self._store = store
        self._delivery = delivery
        self.event = delivery.event
        self.attempt = delivery.attempt

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> bool:
            async def run() -> bool:
                told = getattr(self._delivery, name)(*arguments, **options)
                assert bool(told) == await told
                return bool(told)

            return self._store.runner.run(run())

        return call


@pytest.fixture(params=[Blocking, Asyncio], ids=["blocking", "asyncio"])
def make_store(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def store(server: Any, make_store: Any) -> Iterator[Any]:
    made = make_store(server.addresses)
    yield made
    made.close()


def until(store: Any, condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never came to pass"
        store.pause()


def state(server: Any, partition: int, name: str = "mailer") -> Any:
    return server.cluster.groups.group(name, partition)


def test_events_are_delivered_and_what_is_acknowledged_is_done(store: Any, server: Any, make_store: Any) -> None:
    store.append(*"aabbc")
    group = store.group()
    seen = []
    for _ in range(5):
        (delivery,) = store.take(group, 1)
        seen.append((delivery.event.stream, delivery.event.version, delivery.attempt))
        assert delivery.ack()
    store.end(group)
    store.append("c")

    other = make_store(server.addresses)
    (delivery,) = other.take(other.group(), 1)

    assert sorted(seen) == [("a", 1, 1), ("a", 2, 1), ("b", 1, 1), ("b", 2, 1), ("c", 1, 1)]
    assert (delivery.event.stream, delivery.event.version) == ("c", 2)
    other.close()


def test_an_event_that_is_given_back_comes_again(store: Any) -> None:
    group = store.group(max_attempts=2)
    store.append("a", "a")

    (first,) = store.take(group, 1)
    assert first.nack(retry_after=0.01)
    (second,) = store.take(group, 1)
    assert second.nack(0.01)
    (third,) = store.take(group, 1)

    assert [(each.event.version, each.attempt) for each in (first, second, third)] == [(1, 1), (1, 2), (2, 1)]
    assert not first.ack()
    store.end(group)


def test_an_event_is_set_aside_with_a_reason(store: Any, server: Any) -> None:
    group = store.group()
    store.append("a", "a")

    (delivery,) = store.take(group, 1)
    delivery.park("no address")
    (following,) = store.take(group, 1)

    parked = state(server, delivery.event.partition).parked
    assert following.event.version == 2
    assert [(position, each.reason) for position, each in parked.items()] == [(delivery.event.position, "no address")]
    store.end(group)


def test_closing_waits_until_the_cluster_knows(store: Any, server: Any) -> None:
    group = store.group()
    store.append(*[f"s{number}" for number in range(20)])
    taken = store.take(group, 20)
    for delivery in taken:
        delivery.ack()

    store.end(group)

    groups = server.cluster.groups
    assert sum(each.checkpoint for each in groups.by_place.values()) == 20
    assert {each.owner for each in groups.by_place.values()} == {b""}
    assert groups.members[1, "mailer"] == {}
    assert store.rest(group) == []
    assert not taken[0].ack()
    store.end(group)


def test_closing_does_not_wait_for_ever(store: Any, server: Any) -> None:
    group = store.group()
    until(store, lambda: len(group.partitions) == 4)
    for node in server.cluster.nodes:
        node.paused = True

    began_s = time.monotonic()
    if isinstance(store, Blocking):
        group.close(timeout=0.1)
    else:
        store.runner.run(group.close(timeout=0.1))

    assert 0.1 <= time.monotonic() - began_s < 5
    for node in server.cluster.nodes:
        node.paused = False


def test_members_share_partitions(store: Any, server: Any, make_store: Any) -> None:
    group = store.group()
    until(store, lambda: len(group.partitions) == 4)
    other = make_store(server.addresses)
    second = other.group()

    def both() -> bool:
        other.pause()
        return (len(group.partitions), len(second.partitions)) == (2, 2)

    until(store, both)

    assert sorted(group.partitions + second.partitions) == [1, 2, 3, 4]
    other.end(second)
    until(store, lambda: len(group.partitions) == 4)
    other.close()
    store.end(group)


def test_a_new_group_begins_where_it_is_told(store: Any) -> None:
    store.append("a", "a")
    group = store.group(after=NOW, types=["U"], prefix="a")
    store.append("a", "b")
    store.append("a", "b", kind="U")

    (delivery,) = store.take(group, 1)

    assert (delivery.event.stream, delivery.event.version) == ("a", 4)
    store.end(group)


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": None},
        {"max_attempts": 0},
        {"max_attempts": 1001},
        {"max_attempts": True},
        {"after": 7},
        {"after": "junk"},
        {"types": []},
        {"prefix": "\n"},
        {"timeout": 0},
    ],
    ids=str,
)
def test_wrong_arguments_are_told(store: Any, options: dict[str, Any]) -> None:
    with pytest.raises(rewind.InvalidArgument):
        store.group(**options)


def test_wrong_verdicts_are_told(store: Any) -> None:
    group = store.group()
    store.append("a")
    (delivery,) = store.take(group, 1)

    for retry_after in (-1, float("nan"), "1", True, 1e9):
        with pytest.raises(rewind.InvalidArgument):
            delivery.nack(retry_after=retry_after)
    with pytest.raises(rewind.InvalidArgument):
        delivery.park(None)
    assert delivery.ack()
    store.end(group)


def test_closing_a_store_ends_its_groups_with_an_error(server: Any, make_store: Any) -> None:
    store = make_store(server.addresses)
    group = store.group()
    store.append("a")
    (delivery,) = store.take(group, 1)

    store.close() if isinstance(store, Blocking) else store.runner.run(store.store.close())

    assert not delivery.ack()
    with pytest.raises(rewind.Closed):
        store.take(group, 1)
    store.end(group)
    with pytest.raises(rewind.Closed):
        store.group()
    if isinstance(store, Asyncio):
        store.runner.close()


def test_threads_share_a_group_and_streams_stay_in_order(server: Any) -> None:
    with rewind.connect(server.addresses) as store, store.group("mailer") as group:
        appended = [store.submit(f"s{number % 5}", NewEvent("T", b"")) for number in range(400)]
        seen: dict[str, list[int]] = {f"s{number}": [] for number in range(5)}
        in_hand: set[str] = set()
        together: list[str] = []

        def work() -> None:
            for delivery in group:
                stream = delivery.event.stream
                if stream in in_hand:
                    together.append(stream)
                in_hand.add(stream)
                seen[stream].append(delivery.event.version)
                time.sleep(0.0001)
                in_hand.discard(stream)
                delivery.ack()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for future in appended:
            future.result(PATIENCE_S)
        deadline_s = time.monotonic() + PATIENCE_S
        while sum(map(len, seen.values())) < 400 and time.monotonic() < deadline_s:
            time.sleep(0.005)
        group.close()
        for thread in threads:
            thread.join(PATIENCE_S)

        assert all(versions == list(range(1, 81)) for versions in seen.values())
        assert not together
        assert not any(thread.is_alive() for thread in threads)


def test_a_callback_must_not_wait_for_a_delivery(server: Any) -> None:
    with rewind.connect(server.addresses) as store, store.group("mailer") as group:
        told: list[BaseException] = []
        done = threading.Event()

        def callback(_: Any) -> None:
            try:
                next(group)
            except rewind.InvalidArgument as error:
                told.append(error)
            group.close()  # which must not wait here either
            done.set()

        store.submit("a", NewEvent("T", b"")).add_done_callback(callback)

        assert done.wait(PATIENCE_S)
        assert "callback" in str(told[0])


def test_a_forked_child_is_told_and_harms_nothing(server: Any) -> None:
    with rewind.connect(server.addresses) as store, store.group("mailer") as group:
        store.append("a", [NewEvent("T", b"")] * 2)
        delivery = next(group)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            for attempt in (delivery.ack, lambda: next(group), lambda: group.partitions):
                try:
                    attempt()
                except rewind.Closed:
                    os.write(writing, b"fork;")
            group.close()
            os._exit(0)
        os.waitpid(child, 0)

        assert os.read(reading, 1000) == b"fork;" * 3
        assert delivery.ack()
        assert next(group).event.version == 2


def test_a_cancelled_wait_loses_no_delivery(server: Any) -> None:
    async def run() -> list[int]:
        async with rewind.connect_async(server.addresses) as store, store.group("mailer") as group:
            waiting = asyncio.create_task(anext(group))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await store.append("a", [NewEvent("T", b"")] * 2)
            versions = []
            for _ in range(2):
                delivery = await anext(group)
                versions.append(delivery.event.version)
                delivery.ack()
            return versions

    assert asyncio.run(run()) == [1, 2]


def test_another_task_ends_a_waiting_group(server: Any) -> None:
    async def run() -> list[Any]:
        async with rewind.connect_async(server.addresses) as store:
            group = store.group("mailer")
            came = asyncio.Event()

            async def follow() -> list[Any]:
                return [came.set() or await each.ack() async for each in group]

            tasks = [asyncio.create_task(follow()) for _ in range(3)]
            await store.append("a", NewEvent("T", b""))
            async with asyncio.timeout(PATIENCE_S):
                await came.wait()
                await group.close()
                return [done for task in tasks for done in await task]

    assert asyncio.run(run()) == [True]


def test_a_group_that_never_began_ends_without_a_word(server: Any) -> None:
    async def run() -> None:
        async with rewind.connect_async(server.addresses) as store:
            group = store.group("mailer", after=NOW)
            assert group.partitions == ()
            await group.close()
            assert [each async for each in group] == []

    asyncio.run(run())

    assert not any(isinstance(each, ClaimGroup) for node in server.cluster.nodes for each in node.hears)


def test_verdicts_must_come_from_the_loop(server: Any) -> None:
    async def run() -> str:
        async with rewind.connect_async(server.addresses) as store, store.group("mailer") as group:
            await store.append("a", NewEvent("T", b""))
            delivery = await anext(group)
            with pytest.raises(rewind.InvalidArgument) as caught:
                await asyncio.to_thread(delivery.ack)
            assert delivery.ack()
            return str(caught.value)

    assert "event loop" in asyncio.run(run())


def test_a_worker_that_never_waits_leaves_others_their_turn(server: Any) -> None:
    async def run() -> list[int]:
        async with rewind.connect_async(server.addresses) as store, store.group("mailer") as group:
            await store.append("a", [NewEvent("T", b"")] * 2000)
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            turn_of = []
            for _ in range(2000):
                delivery = await anext(group)
                await delivery.ack()
                turn_of.append(turns)
            counting.cancel()
            return turn_of

    turn_of = asyncio.run(run())

    assert max(map(turn_of.count, set(turn_of))) <= EVENTS_IN_A_ROW
