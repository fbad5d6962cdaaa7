"""Consumer groups with the blocking and the asyncio client against a real cluster: the same deliveries and ends."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Self
from uuid import uuid4

import pytest
from real_cluster import RealCluster, eventually

import rewind
from rewind import ANY, NOW, NewEvent
from rewind.group_operator import GroupOperator
from rewind.urls import parse_target
from rewind_node.demo import free_port_base

pytestmark = pytest.mark.processes

PARTITIONS = 3


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Return one cluster for all tests of this module: each uses a context of its own."""
    directory = tmp_path_factory.mktemp("groups")
    with RealCluster(directory, nodes=3, partitions=PARTITIONS, port_base=free_port_base(3)) as cluster:
        yield cluster.serve()


@pytest.fixture(params=[False, True], ids=["partitioned", "ordered"])
def context(served: RealCluster, request: pytest.FixtureRequest) -> str:
    with rewind.connect(served.url) as store:
        return str(store.create_context(f"c-{uuid4().hex[:12]}", ordered=request.param).name)


@pytest.fixture
def operator(served: RealCluster, context: str) -> Iterator[GroupOperator]:
    with GroupOperator(parse_target(served.url, context, 30)) as store:
        store.open_context()
        yield store


class Blocking:
    """A member with the blocking client."""

    def __init__(self, url: str, context: str, **options: Any) -> None:
        self._store = rewind.connect(url, context=context, timeout=30)
        self._group = self._store.group("mailer", **options)

    def take(self) -> Any:
        return next(self._group)

    def say(self, verdict: Any) -> bool:
        return bool(verdict())

    def partitions(self) -> int:
        return len(self._group.partitions)

    def meanwhile(self, condition: Callable[[], bool]) -> Callable[[], bool]:
        return condition

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._group.close()
        self._store.close()


class Asyncio:
    """A member with the asyncio client; its loop runs for as long as each call takes."""

    def __init__(self, url: str, context: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(self._begin(url, context, options))

    async def _begin(self, url: str, context: str, options: Any) -> None:
        self._store = await rewind.connect_async(url, context=context, timeout=30)
        self._group = await self._store.group("mailer", **options)

    async def _take(self) -> Any:
        return await anext(self._group)

    async def _say(self, verdict: Any) -> bool:
        said: bool = await verdict()
        return said

    async def _close(self) -> None:
        await self._group.close()
        await self._store.close()

    def take(self) -> Any:
        return self._runner.run(self._take())

    def say(self, verdict: Any) -> bool:
        return self._runner.run(self._say(verdict))

    def partitions(self) -> int:
        return len(self._group.partitions)

    def meanwhile(self, condition: Callable[[], bool]) -> Callable[[], bool]:
        """Return a condition that lets the loop run before it is looked at."""
        return lambda: self._runner.run(asyncio.sleep(0.05)) or condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._close())
        self._runner.close()


@pytest.fixture(params=[Blocking, Asyncio], ids=["blocking", "asyncio"])
def join(request: pytest.FixtureRequest, served: RealCluster, context: str) -> Any:
    """Return what makes members, once for each client."""
    return lambda **options: request.param(served.url, context, **options)


def append(store: rewind.Store, *streams: str, kind: str = "T") -> None:
    for stream in streams:
        store.append(stream, NewEvent(kind, b""), ANY)


def test_events_are_dealt_with_once_and_the_next_member_goes_on(join: Any, operator: GroupOperator) -> None:
    append(operator, *[f"s{number % 7}" for number in range(70)])
    seen = []
    for _ in range(2):
        with join() as member:
            for _ in range(35):
                delivery = member.take()
                seen.append((delivery.event.stream, delivery.event.version))
                assert member.say(delivery.ack)

    assert len(set(seen)) == 70
    for stream in {stream for stream, _ in seen}:
        assert [version for name, version in seen if name == stream] == list(range(1, 11))
    assert operator.group_state("mailer").lag == 0


def test_failures_are_counted_and_in_the_end_parked_and_replayed(join: Any, operator: GroupOperator) -> None:
    append(operator, "a", "a")
    with join(max_attempts=2) as member:
        first = member.take()
        assert member.say(lambda: first.nack(retry_after=0.05))
        second = member.take()
        assert member.say(lambda: second.nack(retry_after=0.05))
        third = member.take()
        assert member.say(third.ack)
        (parked,) = operator.parked_events("mailer")
        assert operator.replay_parked("mailer", None) == 1
        replayed = member.take()
        assert member.say(replayed.ack)
        nothing_parked = member.meanwhile(lambda: not list(operator.parked_events("mailer")))
        eventually(nothing_parked, "the replay is acknowledged")

    told = [(each.event.version, each.attempt) for each in (first, second, third, replayed)]
    assert told == [(1, 1), (1, 2), (2, 1), (1, 1)]
    assert (parked.event.version, parked.attempts, parked.reason) == (1, 2, "given back 2 times")


def test_a_reset_reaches_a_living_member(join: Any, operator: GroupOperator) -> None:
    append(operator, "a", "a")
    with join() as member:
        for _ in range(2):
            assert member.say(member.take().ack)
        operator.reset_group("mailer", None)
        again = member.take()
        assert member.say(again.ack)

    assert again.event.version == 1


def test_a_new_group_begins_now_and_filters(join: Any, operator: GroupOperator) -> None:
    append(operator, "a")
    with join(after=NOW, types=["U"]) as member:
        append(operator, *["a", "b"] * 5)
        append(operator, "b", kind="U")
        delivery = member.take()
        assert member.say(delivery.ack)
        all_settled = member.meanwhile(lambda: operator.group_state("mailer").lag == 0)
        eventually(all_settled, "what was filtered out is settled")

    assert (delivery.event.stream, delivery.event.version) == ("b", 6)
    operator.delete_group("mailer")
    assert operator.group_states() == []


def test_members_share_what_there_is(join: Any, operator: GroupOperator, context: str, served: RealCluster) -> None:
    in_use = len({operator.partition_of(f"s{number}") for number in range(50)})
    with join() as first, Blocking(served.url, context) as second:

        def is_shared() -> bool:
            return sorted((first.partitions(), second.partitions())) == [in_use // 2, in_use - in_use // 2]

        eventually(first.meanwhile(is_shared), "the partitions are shared out")

    assert in_use in (1, PARTITIONS)
