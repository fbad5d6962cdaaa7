"""The blocking and the asyncio client against a real cluster: the same calls, the same answers, the same errors."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Self
from uuid import uuid4

import pytest
from real_cluster import RealCluster

import rewind
from rewind import ANY, NO_STREAM, NewEvent
from rewind_node.demo import free_port_base

pytestmark = pytest.mark.processes

PARTITIONS = 3


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Return one cluster for all tests of this module: each uses names of its own."""
    directory = tmp_path_factory.mktemp("clients")
    with RealCluster(directory, nodes=3, partitions=PARTITIONS, port_base=free_port_base(3)) as cluster:
        yield cluster.serve()


class Awaited:
    """An `AsyncStore` under the blocking store's names: each call is run to its end on a loop of its own."""

    def __init__(self, where: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        try:
            self._store = self._run(rewind.connect_async(where, **options))
        except BaseException:
            self._runner.close()
            raise

    def _run(self, awaitable: Any) -> Any:
        async def wait() -> Any:
            return await awaitable

        return self._runner.run(wait())

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*arguments: Any, **options: Any) -> Any:
            async def wait() -> Any:
                result = method(*arguments, **options)
                if isinstance(result, AsyncIterator):
                    return [item async for item in result]
                return await result if hasattr(result, "__await__") else result

            return self._runner.run(wait())

        return call

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._store.close())
        self._runner.close()


Connect = Callable[..., Any]


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Return what connects, once for each client."""
    return rewind.connect if request.param == "blocking" else Awaited


@pytest.fixture
def store(served: RealCluster, connect: Connect) -> Iterator[Any]:
    with connect(served.url) as store:
        yield store


@pytest.fixture
def name() -> str:
    """Return a name that no other test uses."""
    return f"name-{uuid4().hex[:12]}"


def streams_of(store: Any, name: str, partition: int, count: int) -> list[str]:
    """Return names of streams that live in one partition."""
    names = (f"{name}-{number}" for number in range(1000))
    return [stream for stream in names if store.partition_of(stream) == partition][:count]


def test_what_was_appended_is_read_back_in_every_detail(store: Any, name: str) -> None:
    event_id = uuid4()
    first = store.append(name, [NewEvent("Placed", b"\x00\xff", event_id, {"user": "7"}), NewEvent("Noted", b"")])
    second = store.append(name, NewEvent("Paid", b"{}"), expected=first.version)

    placed, noted, paid = list(store.read(name))

    assert (placed.id, placed.type, placed.data, placed.metadata) == (event_id, "Placed", b"\x00\xff", {"user": "7"})
    assert [event.version for event in (placed, noted, paid)] == [1, 2, 3]
    assert (first.version, second.version) == (2, 3)
    assert (paid.position, paid.partition, paid.timestamp) == (second.position, second.partition, second.timestamp)
    assert placed.timestamp < noted.timestamp < paid.timestamp
    assert noted.metadata == {}


def test_reading_takes_a_part_either_way(store: Any, name: str) -> None:
    store.append(name, [NewEvent("Happened", str(number).encode()) for number in range(1, 101)])

    def versions(**part: Any) -> list[int]:
        return [event.version for event in store.read(name, **part)]

    assert versions(after=97) == [98, 99, 100]
    assert versions(after=10, limit=2) == [11, 12]
    assert versions(reverse=True, limit=3) == [100, 99, 98]
    assert versions(after=100) == []


def test_a_stream_that_is_not_there_has_version_0_and_no_events(store: Any, name: str) -> None:
    assert store.version(name) == NO_STREAM
    assert list(store.read(name)) == []


def test_an_append_that_expects_another_version_is_refused_with_the_true_one(store: Any, name: str) -> None:
    store.append(name, NewEvent("Placed", b""), expected=NO_STREAM)

    with pytest.raises(rewind.WrongExpectedVersion) as caught:
        store.append(name, NewEvent("Placed", b""), expected=NO_STREAM)

    assert (caught.value.stream, caught.value.expected, caught.value.actual) == (name, 0, 1)
    assert store.version(name) == 1


def test_the_same_ids_with_the_same_expected_version_get_the_first_answer(store: Any, name: str) -> None:
    event = NewEvent("Placed", b"", id=uuid4())
    first = store.append(name, event, expected=NO_STREAM)
    store.append(name, NewEvent("Paid", b""))

    again = store.append(name, event, expected=NO_STREAM)

    assert (again.version, again.position) == (first.version, first.position)
    assert store.version(name) == 2


def test_a_token_makes_any_replica_wait_until_it_has_seen_the_append(store: Any, name: str) -> None:
    seen = []
    for number in range(1, 31):
        token = store.append(name, NewEvent("Happened", b"")).token
        seen.append((number, store.version(name, consistency="any", at_least=token)))

    assert all(version == number for number, version in seen)


def test_streams_of_one_partition_are_appended_to_together_or_not_at_all(store: Any, name: str) -> None:
    first, second = streams_of(store, name, 1, 2)
    event = NewEvent("Happened", b"")

    results = store.append_many([(first, event, NO_STREAM), (second, [event, event], NO_STREAM)])
    with pytest.raises(rewind.WrongExpectedVersion):
        store.append_many([(first, event, 1), (second, event, 1)])

    assert [result.version for result in results] == [1, 2]
    assert (store.version(first), store.version(second)) == (1, 2)


def test_streams_of_two_partitions_are_not(store: Any, name: str) -> None:
    (here,), (there,) = streams_of(store, name, 1, 1), streams_of(store, name, 2, 1)
    event = NewEvent("Happened", b"")

    with pytest.raises(rewind.CrossPartition):
        store.append_many([(here, event, ANY), (there, event, ANY)])

    assert (store.version(here), store.version(there)) == (0, 0)


def test_names_of_streams_come_from_all_partitions_in_order(store: Any, name: str) -> None:
    streams = sorted(f"{name}-{number:03}" for number in range(50))
    for stream in streams:
        store.append(stream, NewEvent("Happened", b""))

    assert list(store.streams(prefix=f"{name}-")) == streams
    assert len({store.partition_of(stream) for stream in streams}) == PARTITIONS


def test_an_ordered_context_has_one_order_and_atomic_appends_over_all_its_streams(
    served: RealCluster, connect: Connect, store: Any, name: str
) -> None:
    created = store.create_context(name, ordered=True)
    with connect(served.url, context=name) as ordered:
        event = NewEvent("Happened", b"")
        results = [ordered.append(f"s-{number}", event) for number in range(20)]
        both = ordered.append_many([(f"s-{number}", event, 1) for number in range(20)])

    assert created.ordered
    assert created in store.contexts()
    assert [result.position for result in results] == list(range(1, 21))
    assert [result.position for result in both] == list(range(21, 41))
    assert {result.partition for result in results} == {created.partition}


def test_a_partitioned_context_holds_streams_of_its_own(
    served: RealCluster, connect: Connect, store: Any, name: str
) -> None:
    created = store.create_context(name)
    with connect(served.url, context=name) as other:
        other.append("order-1", NewEvent("Happened", b""))
        here = other.version("order-1")

    assert not created.ordered
    assert here == 1
    assert store.create_context(name) == created
    with pytest.raises(rewind.InvalidArgument):
        store.create_context(name, ordered=True)


def test_mistakes_are_told_and_nothing_is_written(served: RealCluster, connect: Connect, store: Any, name: str) -> None:
    with pytest.raises(rewind.ContextNotFound):
        connect(served.url, context=name)
    with pytest.raises(rewind.InvalidArgument):
        store.append("", NewEvent("Happened", b""))
    with pytest.raises(rewind.InvalidArgument):
        store.append(name, NewEvent("", b""))
    with pytest.raises(rewind.InvalidArgument):
        store.append(name, [])
    with pytest.raises(rewind.TooLarge):
        store.append(name, NewEvent("Happened", bytes((1 << 20) + 1)))
    with pytest.raises(rewind.TooLarge):
        store.append(name, [NewEvent("Happened", b"")] * 4097)

    assert store.version(name) == 0


def test_an_event_of_the_largest_size_and_an_append_of_the_most_events_are_taken(store: Any, name: str) -> None:
    large = bytes(1 << 20)
    store.append(name, NewEvent("Happened", large))
    result = store.append(name, [NewEvent("Happened", b"x")] * 4096, expected=1)

    events = list(store.read(name))

    assert result.version == 4097
    assert events[0].data == large
    assert [event.version for event in events] == list(range(1, 4098))


def test_nobody_at_the_address_is_unavailable_in_time(connect: Connect) -> None:
    with pytest.raises(rewind.Unavailable):
        connect(f"rewind://127.0.0.1:{free_port_base(1)}/default?timeout=0.5")


def test_a_blocking_store_is_shared_by_threads(served: RealCluster, name: str) -> None:
    with rewind.connect(served.url) as store, ThreadPoolExecutor(8) as threads:
        versions = list(threads.map(lambda _: store.append(name, NewEvent("Happened", b"")).version, range(200)))

    assert sorted(versions) == list(range(1, 201))


def test_submitted_appends_take_effect_in_their_order(served: RealCluster, name: str) -> None:
    with rewind.connect(served.url) as store:
        futures = [store.submit(name, NewEvent("Happened", str(number).encode())) for number in range(500)]
        versions = [future.result().version for future in futures]
        read = [event.data for event in store.read(name)]

    assert versions == list(range(1, 501))
    assert read == [str(number).encode() for number in range(500)]


@pytest.mark.asyncio
async def test_appends_of_many_tasks_that_expect_versions_are_serialized(served: RealCluster, name: str) -> None:
    async def increment(store: rewind.AsyncStore) -> int:
        while True:
            version = await store.version(name)
            with suppress(rewind.WrongExpectedVersion):
                return (await store.append(name, NewEvent("Counted", b""), expected=version)).version

    async with rewind.connect_async(served.url) as first, rewind.connect_async(served.url) as second:
        versions = await asyncio.gather(*[increment(store) for store in (first, second) for _ in range(10)])

    assert sorted(versions) == list(range(1, 21))
