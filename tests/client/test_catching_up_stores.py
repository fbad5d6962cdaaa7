"""Programs that stop once they have caught up: one contract for both stores, over real sockets."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from both_shells import AsyncioShell, BlockingShell

import rewind
from rewind import NewEvent

PATIENCE_S = 20.0
HOUR_US = 3_600_000_000
LATE_S = 0.1  # how late partitions answer: long enough for a client to have taken in what the others say

Look = Callable[[Any, bool], None]  # what a program does with each event, and with what `caught_up` is then


class Blocking(BlockingShell):
    def append(self, stream: str, events: list[NewEvent]) -> int:
        return self.store.append(stream, events).partition

    def catch_up(self, look: Look, **options: Any) -> int | None:
        """Follow the context until it is caught up; return how many events that took, None if it does not end."""
        with self.store.subscribe(**options) as subscription:
            watchdog = threading.Timer(PATIENCE_S, subscription.close)
            watchdog.start()
            try:
                for count, each in enumerate(subscription, 1):
                    caught_up = subscription.caught_up
                    look(each, caught_up)
                    if caught_up:
                        return count
            finally:
                watchdog.cancel()
        return None

    def closed_while_waiting(self, count: int) -> int:
        """Follow the context, close the subscription `LATE_S` after so many events, and return how many came."""
        came = 0
        with self.store.subscribe() as subscription:
            for came, _ in enumerate(subscription, 1):
                if came == count:
                    threading.Timer(LATE_S, subscription.close).start()
        return came


class Asyncio(AsyncioShell):
    def append(self, stream: str, events: list[NewEvent]) -> int:
        async def run() -> int:
            return (await self.store.append(stream, events)).partition

        return self.run(run())  # type: ignore[no-any-return] # a shell runs anything

    def catch_up(self, look: Look, **options: Any) -> int | None:
        async def run() -> int | None:
            count = 0
            async with self.store.subscribe(**options) as subscription:
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        async for each in subscription:
                            count += 1
                            caught_up = subscription.caught_up
                            look(each, caught_up)
                            if caught_up:
                                return count
                except TimeoutError:
                    return None
            return None

        return self.run(run())  # type: ignore[no-any-return] # as above

    def closed_while_waiting(self, count: int) -> int:
        async def run() -> int:
            came = 0
            async with self.store.subscribe() as subscription:

                async def close() -> None:
                    await asyncio.sleep(LATE_S)
                    await subscription.close()

                async for _ in subscription:
                    came += 1
                    if came == count:
                        closing = asyncio.create_task(close())
            await closing
            return came

        return self.run(run())  # type: ignore[no-any-return] # as above


@pytest.fixture(params=[Blocking, Asyncio], ids=["blocking", "asyncio"])
def store(request: pytest.FixtureRequest, server: Any) -> Iterator[Any]:
    made = request.param(server.addresses)
    yield made
    made.close()


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the last event be held for as long as it takes."""
    monkeypatch.setattr("rewind.inbox.HOLD_US", HOUR_US)


def events(count: int) -> list[NewEvent]:
    return [NewEvent("T", b"")] * count


def mute_others(server: Any, partition: int) -> None:
    """Let all nodes say nothing of any partition but this one."""

    def run() -> None:
        for node in server.cluster.nodes:
            node.feeds.muted = set(server.cluster.partitions) - {partition}

    server.do(run)


def unmute(server: Any) -> None:
    def run() -> None:
        for node in server.cluster.nodes:
            node.feeds.muted = set()

    server.do(run)


@pytest.mark.usefixtures("endless")
def test_a_program_that_stops_once_it_has_caught_up_ends(store: Any, server: Any) -> None:
    mute_others(server, store.append("s", events(5)))
    seen: list[bool] = []

    def look(_: Any, caught_up: bool) -> None:
        seen.append(caught_up)
        if len(seen) == 4:
            threading.Timer(LATE_S, unmute, [server]).start()

    assert store.catch_up(look) == 5
    assert seen == [False, False, False, False, True]


@pytest.mark.usefixtures("endless")
@pytest.mark.parametrize(("prefix", "count"), [("", 2000), ("order-7", 50), ("order-", 1000)])
def test_it_ends_with_a_filter_and_many_partitions_as_well(store: Any, prefix: str, count: int) -> None:
    for number in range(40):
        store.append(f"order-{number}" if number % 2 else f"cart-{number}", events(50))
    found: set[tuple[int, int]] = set()

    taken = store.catch_up(lambda each, _: found.add((each.partition, each.position)), prefix=prefix)

    assert taken == len(found) == count


def test_a_partition_that_is_not_heard_does_not_keep_the_last_event_for_ever(
    store: Any, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewind.inbox.HOLD_US", 50_000)
    mute_others(server, store.append("s", events(5)))
    seen: list[bool] = []

    def look(_: Any, caught_up: bool) -> None:
        seen.append(caught_up)
        if len(seen) == 5:
            unmute(server)
            store_of_others.append("s", NewEvent("T", b""))

    with rewind.connect(server.addresses) as store_of_others:
        assert store.catch_up(look) == 6

    assert seen == [False, False, False, False, False, True]


@pytest.mark.usefixtures("endless")
def test_closing_ends_the_wait_for_the_last_event(store: Any, server: Any) -> None:
    mute_others(server, store.append("s", events(5)))

    assert store.closed_while_waiting(4) == 4


@pytest.mark.usefixtures("endless")
def test_threads_that_share_a_subscription_share_the_wait(server: Any) -> None:
    with rewind.connect(server.addresses) as store:
        mute_others(server, store.append("s", events(5)).partition)
        subscription = store.subscribe()
        came: list[int] = []
        four, five = threading.Event(), threading.Event()

        def follow() -> None:
            for each in subscription:
                came.append(each.version)
                if len(came) == 4:
                    four.set()
                if len(came) == 5:
                    five.set()

        threads = [threading.Thread(target=follow) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert four.wait(PATIENCE_S)
        unmute(server)
        assert five.wait(PATIENCE_S)
        subscription.close()
        for thread in threads:
            thread.join(PATIENCE_S)

    assert sorted(came) == [1, 2, 3, 4, 5]
