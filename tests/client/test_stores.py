"""One contract for both stores, blocking and asyncio, over real sockets against the fake cluster."""

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

import rewind
from rewind import ANY, NO_STREAM, NewEvent
from rewind.append import Append
from rewind.room import Room
from rewind.tokens import Origin
from rewind_cluster.columns import Events


class Blocking:
    """The blocking store as it is."""

    def __init__(self, where: Any, **options: Any) -> None:
        self.store = rewind.connect(where, **options)

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        answer = getattr(self.store, name)(*args, **options)
        return list(answer) if name in ("read", "streams") else answer

    def submit_all(self, *calls: tuple[Any, ...]) -> list[Any]:
        return [future.result() for future in [self.store.submit(*call) for call in calls]]

    def close(self) -> None:
        self.store.close()


class Asyncio:
    """The asyncio store, run to the end of each call."""

    def __init__(self, where: Any, **options: Any) -> None:
        self.runner = asyncio.Runner()
        try:
            self.store = self.runner.run(self._connect(where, options))
        except BaseException:
            self.runner.close()
            raise

    async def _connect(self, where: Any, options: Any) -> rewind.AsyncStore:
        return await rewind.connect_async(where, **options)

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        async def run() -> Any:
            answer = getattr(self.store, name)(*args, **options)
            if name in ("read", "streams"):
                return [item async for item in answer]
            return answer if name == "partition_of" else await answer

        return self.runner.run(run())

    def submit_all(self, *calls: tuple[Any, ...]) -> list[Any]:
        async def run() -> list[Any]:
            return await asyncio.gather(*[await self.store.submit(*call) for call in calls])

        return self.runner.run(run())

    def close(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()


@pytest.fixture(params=[Blocking, Asyncio], ids=["blocking", "asyncio"])
def make_store(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def store(server: Any, make_store: Any) -> Iterator[Any]:
    made = make_store(server.addresses[:1])
    yield made
    made.close()


def test_what_is_appended_is_read_back(store: Any) -> None:
    first = store.call("append", "order-1", NewEvent("Placed", b"{}", metadata={"user": "7"}), expected=NO_STREAM)
    second = store.call("append", "order-1", [NewEvent("Paid", b"1"), NewEvent("Sent", b"2")], expected=first.version)

    events = store.call("read", "order-1")
    assert [(event.version, event.type, event.data) for event in events] == [
        (1, "Placed", b"{}"),
        (2, "Paid", b"1"),
        (3, "Sent", b"2"),
    ]
    assert events[0].metadata == {"user": "7"}
    assert (events[2].version, events[2].position, events[2].timestamp, events[2].partition) == (
        second.version,
        second.position,
        second.timestamp,
        second.partition,
    )
    assert store.call("version", "order-1") == 3
    assert [event.version for event in store.call("read", "order-1", reverse=True, limit=2)] == [3, 2]


def test_a_wrong_version_is_told(store: Any) -> None:
    store.call("append", "s", NewEvent("T", b""))

    with pytest.raises(rewind.WrongExpectedVersion) as caught:
        store.call("append", "s", NewEvent("T", b""), expected=5)

    assert (caught.value.stream, caught.value.expected, caught.value.actual) == ("s", 5, 1)


def test_many_appends_are_pipelined_in_order(store: Any) -> None:
    results = store.submit_all(*[("s", NewEvent("T", str(number).encode())) for number in range(3000)])

    assert [result.version for result in results] == list(range(1, 3001))
    assert [int(event.data) for event in store.call("read", "s")] == list(range(3000))


def test_an_append_to_several_streams_is_one(store: Any) -> None:
    results = store.call(
        "append_many", [("{k}a", NewEvent("T", b""), NO_STREAM), ("{k}b", [NewEvent("T", b"")] * 2, ANY)]
    )

    assert [result.version for result in results] == [1, 2]
    assert results[1].timestamp - results[0].timestamp == results[1].position - results[0].position
    with pytest.raises(rewind.WrongExpectedVersion):
        store.call("append_many", [("{k}a", NewEvent("T", b""), 1), ("{k}b", NewEvent("T", b""), 9)])
    assert store.call("version", "{k}a") == 1


def test_an_append_across_partitions_is_refused_before_it_is_sent(store: Any, server: Any) -> None:
    names = [f"s{number}" for number in range(20)]
    assert len({store.call("partition_of", name) for name in names}) > 1

    with pytest.raises(rewind.CrossPartition, match="tag"):
        store.call("append_many", [(name, NewEvent("T", b""), ANY) for name in names])

    assert server.cluster.appended == 0


def test_an_ordered_context_takes_any_streams_together(server: Any, make_store: Any, store: Any) -> None:
    assert store.call("create_context", "ledger", ordered=True).ordered
    ledger = make_store(server.addresses, context="ledger")

    results = ledger.call("append_many", [(f"s{number}", NewEvent("T", b""), 0) for number in range(20)])

    assert [result.position for result in results] == list(range(1, 21))
    assert len(ledger.call("streams")) == 20
    ledger.close()


def test_contexts_are_created_once_and_listed(store: Any) -> None:
    created = store.call("create_context", "billing")

    assert store.call("create_context", "billing") == created
    assert [context.name for context in store.call("contexts")] == ["default", "billing"]
    with pytest.raises(rewind.InvalidArgument):
        store.call("create_context", "billing", ordered=True)


def test_a_token_makes_a_read_see_the_append(store: Any) -> None:
    result = store.call("append", "s", NewEvent("T", b""))

    assert store.call("version", "s", consistency="any", at_least=result.token) == 1
    assert len(store.call("read", "s", consistency="any", at_least=result.token)) == 1


def test_a_token_beyond_the_head_or_of_another_context_is_refused(store: Any) -> None:
    token = store.call("append", "s", NewEvent("T", b"")).token

    for bad in (token.rsplit(":", 1)[0] + ":999", token.replace("/1/", "/2/"), "x" + token, "junk"):
        with pytest.raises(rewind.InvalidArgument):
            store.call("version", "s", at_least=bad)


def test_streams_are_listed_in_order(store: Any) -> None:
    for name in ("b", "a", "order-2", "order-1"):
        store.call("append", name, NewEvent("T", b""))

    assert store.call("streams") == ["a", "b", "order-1", "order-2"]
    assert store.call("streams", "order-") == ["order-1", "order-2"]


def test_the_status_is_that_of_a_node(store: Any) -> None:
    assert store.call("status")["cluster_id"] == "cluster-1"


def test_appends_go_on_when_a_leader_changes(store: Any, server: Any) -> None:
    store.call("append", "s", NewEvent("T", b""))
    partition = store.call("partition_of", "s")

    server.do(lambda: server.cluster.elect(partition, server.cluster.other(server.cluster.leading(partition))))

    assert store.call("append", "s", NewEvent("T", b""), expected=1).version == 2


def test_appends_go_on_when_a_leader_is_stopped(store: Any, server: Any) -> None:
    store.call("append", "s", NewEvent("T", b""))
    partition = store.call("partition_of", "s")
    old = server.cluster.leading(partition)

    def stop_and_elect() -> Any:
        old.paused = True
        return server.cluster.elect(partition, server.cluster.other(old))

    server.do(stop_and_elect)

    assert store.call("append", "s", NewEvent("T", b""), expected=1).version == 2


def test_no_answer_means_an_unknown_outcome(store: Any, server: Any) -> None:
    store.call("append", "s", NewEvent("T", b""))
    server.cluster.leading(store.call("partition_of", "s")).paused = True

    with pytest.raises(rewind.OutcomeUnknown):
        store.call("append", "s", NewEvent("T", b""), timeout=0.3)


def test_wrong_arguments_are_told_at_the_call(store: Any, server: Any) -> None:
    for name, args, options in (
        ("append", ("", NewEvent("T", b"")), {}),
        ("append", ("s", NewEvent("T", b"")), {"expected": -2}),
        ("append", ("s", NewEvent("T", b"")), {"expected": True}),
        ("append", ("s", NewEvent("T", b"")), {"timeout": -1}),
        ("append_many", ([],), {}),
        ("append_many", ([("s", NewEvent("T", b""))],), {}),
        ("read", ("s",), {"after": -1}),
        ("read", ("s",), {"limit": "5"}),
        ("read", ("s",), {"reverse": 1}),
        ("read", ("s",), {"consistency": "some"}),
        ("version", ("a\x00b",), {}),
        ("streams", ("a\nb",), {}),
        ("create_context", ("no spaces",), {}),
        ("create_context", ("ok",), {"ordered": 1}),
    ):
        with pytest.raises(rewind.InvalidArgument):
            store.call(name, *args, **options)
    assert server.cluster.appended == 0


def test_a_context_that_is_not_there_is_told(server: Any, make_store: Any) -> None:
    with pytest.raises(rewind.ContextNotFound, match="nowhere"):
        make_store(server.addresses, context="nowhere")


def test_a_cluster_that_cannot_be_reached_is_unavailable(make_store: Any) -> None:
    with pytest.raises(rewind.Unavailable, match=r"127\.0\.0\.1:1"):
        make_store("rewind://127.0.0.1:1/orders?timeout=0.2")


def test_a_closed_store_says_so(server: Any, make_store: Any) -> None:
    store = make_store(server.addresses)
    closed = store.store
    store.close()

    if isinstance(closed, rewind.Store):
        with pytest.raises(rewind.Closed):
            closed.append("s", NewEvent("T", b""))
        closed.close()
    else:

        async def use() -> None:
            with pytest.raises(rewind.Closed):
                await closed.append("s", NewEvent("T", b""))
            await closed.close()

        asyncio.run(use())


def test_closing_waits_for_the_appends_under_way(server: Any) -> None:
    store = rewind.connect(server.addresses)
    futures = [store.submit("s", NewEvent("T", b"")) for _ in range(500)]

    store.close()

    assert [future.result(0).version for future in futures] == list(range(1, 501))


def test_closing_in_a_hurry_tells_what_is_known(server: Any) -> None:
    store = rewind.connect(server.addresses)
    store.append("s", NewEvent("T", b""))
    server.cluster.leading(store.partition_of("s")).paused = True
    future = store.submit("s", NewEvent("T", b""))

    store.close(timeout=0.1)

    with pytest.raises(rewind.OutcomeUnknown, match="closed"):
        future.result(0)


def test_a_blocking_store_is_shared_by_threads(server: Any) -> None:
    with rewind.connect(server.addresses) as store:
        threads = [
            threading.Thread(target=lambda: [store.append("s", NewEvent("T", b"")) for _ in range(50)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert store.version("s") == 400


def test_a_callback_may_submit_and_must_not_wait(server: Any) -> None:
    with rewind.connect(server.addresses) as store:
        told: Future[Any] = Future()

        def callback(_: Any) -> None:
            try:
                store.append("s", NewEvent("T", b""))
            except rewind.InvalidArgument as error:
                told.set_result((error, store.submit("s", NewEvent("T", b""))))

        store.submit("s", NewEvent("T", b"")).add_done_callback(callback)
        error, follow_up = told.result(10)

        assert "callback" in str(error)
        assert follow_up.result(10).version in (2, 3)  # the append that was not waited for went on


def test_a_submit_waits_for_room(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewind.room.APPENDS_MAX", 3)
    with rewind.connect(server.addresses) as store:
        store.append("s", NewEvent("T", b""))
        leader = server.cluster.leading(store.partition_of("s"))
        leader.paused = True
        futures = [store.submit("s", NewEvent("T", b"")) for _ in range(3)]

        with pytest.raises(rewind.Overloaded, match="3 appends"):
            store.submit("s", NewEvent("T", b""), timeout=0.1)

        server.do(lambda: [(leader, *answer) for answer in leader.resume(0)])
        assert [future.result(10).version for future in futures] == [2, 3, 4]
        assert store.append("s", NewEvent("T", b"")).version == 5


def test_an_awaited_submit_waits_for_room(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewind.room.APPENDS_MAX", 3)

    async def run() -> None:
        async with rewind.connect_async(server.addresses) as store:
            results = await asyncio.gather(*[store.append("s", NewEvent("T", b"")) for _ in range(50)])
            assert sorted(result.version for result in results) == list(range(1, 51))
            server.cluster.leading(store.partition_of("s")).paused = True
            for _ in range(3):
                await store.submit("s", NewEvent("T", b""), timeout=0.5)
            with pytest.raises(rewind.Overloaded):
                await store.submit("s", NewEvent("T", b""), timeout=0.1)
            await store.close(timeout=0.1)

    asyncio.run(run())


NO_EVENTS = Events(b"", (), (), None)


def test_room_is_counted_in_bytes_too() -> None:
    room = Room()
    append = Append((("s", 0, NO_EVENTS),), 40 << 20, 1, Origin("c", 1), 1, many=False)

    room.enter(append)
    assert room.is_free()
    room.enter(append)
    assert not room.is_free()
    assert room.leave([append])
    assert room.is_free()


def test_a_forked_child_is_told_to_connect_again(server: Any) -> None:
    with rewind.connect(server.addresses) as store:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                store.append("s", NewEvent("T", b""))
            except rewind.Closed as error:
                os.write(writing, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)

        assert b"fork" in os.read(reading, 1000)
        assert store.append("s", NewEvent("T", b"")).version == 1


def test_a_cancelled_task_leaves_its_append_to_go_on(server: Any) -> None:
    async def run() -> int:
        async with rewind.connect_async(server.addresses) as store:
            task = asyncio.create_task(store.append("s", NewEvent("T", b"")))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return (await store.append("s", NewEvent("T", b""))).version

    assert asyncio.run(run()) == 2


def test_an_asyncio_store_belongs_to_one_loop(server: Any) -> None:
    runner = asyncio.Runner()

    async def connect() -> rewind.AsyncStore:
        return await rewind.connect_async(server.addresses)

    store = runner.run(connect())

    async def use() -> None:
        with pytest.raises(rewind.InvalidArgument, match="loop"):
            await store.version("s")

    asyncio.run(use())
    runner.run(store.close())
    runner.close()


def test_a_loop_that_cannot_watch_sockets_is_refused(server: Any) -> None:
    class Blind(asyncio.SelectorEventLoop):
        def add_reader(self, *_: Any) -> None:
            raise NotImplementedError

    async def run() -> None:
        with pytest.raises(rewind.InvalidArgument, match="add_reader"):
            await rewind.connect_async(server.addresses)

    with asyncio.Runner(loop_factory=Blind) as runner:
        runner.run(run())
