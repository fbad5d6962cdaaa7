"""What becomes of a store that is used where it must not be, is closed in the middle, or whose time is up."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from threads_by_hand import in_a_thread

import rewind
from rewind import NewEvent
from rewind.append import Append
from rewind.engine import now_us
from rewind.session import Session
from rewind_cluster.client_messages import Code, ContextIs, CreateContext, Failed

EVENT = NewEvent("T", b"")

CALLS: dict[str, Callable[[rewind.Store], object]] = {
    "append": lambda store: store.append("s", EVENT),
    "submit": lambda store: store.submit("s", EVENT),
    "append_many": lambda store: store.append_many([("s", EVENT, 0)]),
    "read": lambda store: list(store.read("s")),
    "read_all": lambda store: list(store.read_all()),
    "subscribe": lambda store: store.subscribe(),
    "version": lambda store: store.version("s"),
    "streams": lambda store: list(store.streams()),
    "partition_of": lambda store: store.partition_of("s"),
    "create_context": lambda store: store.create_context("c"),
    "contexts": lambda store: store.contexts(),
    "status": lambda store: store.status(),
}

ASYNC_CALLS: dict[str, Callable[[rewind.AsyncStore], Any]] = {
    "append": lambda store: store.append("s", EVENT),
    "submit": lambda store: store.submit("s", EVENT),
    "append_many": lambda store: store.append_many([("s", EVENT, 0)]),
    "read": lambda store: anext(store.read("s")),
    "read_all": lambda store: anext(store.read_all()),
    "subscribe": lambda store: store.subscribe(),
    "version": lambda store: store.version("s"),
    "streams": lambda store: anext(store.streams()),
    "create_context": lambda store: store.create_context("c"),
    "contexts": lambda store: store.contexts(),
    "status": lambda store: store.status(),
    "close": lambda store: store.close(),
}


async def outcome(call: Callable[[], Any]) -> str:
    """Return the name of the error that an asyncio call ends with, "none" without one."""
    try:
        await call()
    except (rewind.RewindError, StopAsyncIteration) as error:
        return type(error).__name__
    return "none"


def in_a_child(run: Callable[[], str]) -> str:
    """Return what a forked child says, which ends without any cleaning up."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, run().encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def test_no_call_of_a_blocking_store_goes_on_in_a_forked_child(server: Any) -> None:
    def run() -> str:
        told = []
        for name, call in CALLS.items():
            try:
                call(store)
            except rewind.Closed as error:
                told.append(name if "connect again after a fork" in str(error) else str(error))
        store.close()
        return ",".join(told)

    with rewind.connect(server.addresses) as store:
        said = in_a_child(run)

        assert said.split(",") == list(CALLS)
        assert store.append("s", EVENT).version == 1


def test_a_reader_of_the_parents_is_no_trap_in_a_forked_child(server: Any) -> None:
    def run() -> str:
        told = []
        for reader in readers:
            try:
                next(reader)
            except rewind.Closed as error:
                told.append(type(error).__name__)
        return ",".join(told)

    with rewind.connect(server.addresses) as store:
        store.append("s", EVENT)
        for node in server.cluster.nodes:
            node.paused = True
        readers = [store.read("s"), store.read_all()]

        said = in_a_child(run)

        assert said == "Closed,Closed"
        store.close(timeout=0.01)


def test_a_reader_of_another_event_loop_is_refused(server: Any) -> None:
    async def run() -> list[str]:
        async with rewind.connect_async(server.addresses) as store:
            await store.append("s", EVENT)
            for node in server.cluster.nodes:
                node.paused = True
            readers = [store.read("s"), store.read_all()]

            async def use() -> list[str]:
                return [await outcome(partial(anext, reader)) for reader in readers]

            ends = await asyncio.to_thread(lambda: asyncio.run(use()))
            await store.close(timeout=0.01)
            return ends

    assert asyncio.run(run()) == ["InvalidArgument", "InvalidArgument"]


def test_a_program_that_ends_without_closing_ends_at_once_and_in_silence(server: Any) -> None:
    code = f"import rewind; store = rewind.connect({server.addresses!r}); store.append('s', rewind.NewEvent('T', b''))"

    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True, timeout=20
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_no_call_of_an_asyncio_store_goes_on_in_a_forked_child(server: Any) -> None:
    def run(store: rewind.AsyncStore) -> str:
        told = []
        for name, call in ASYNC_CALLS.items():
            try:
                call(store).__await__().send(None)  # the loop is the parent's: nothing here must need it
            except rewind.Closed:
                told.append(name)
            except StopIteration:
                told.append(f"{name} did nothing")
        return ",".join(told)

    async def fork() -> tuple[str, int]:
        async with rewind.connect_async(server.addresses) as store:
            return in_a_child(lambda: run(store)), (await store.append("s", EVENT)).version

    said, version = asyncio.run(fork())

    assert said.split(",") == [name for name in ASYNC_CALLS if name != "close"] + ["close did nothing"]
    assert version == 1


def test_no_call_of_an_asyncio_store_is_taken_in_another_thread(server: Any) -> None:
    async def run() -> tuple[dict[str, str], int]:
        async with rewind.connect_async(server.addresses) as store:

            async def use() -> dict[str, str]:
                return {name: await outcome(lambda call=call: call(store)) for name, call in ASYNC_CALLS.items()}

            ends = await asyncio.to_thread(lambda: asyncio.run(use()))
            return ends, (await store.append("s", EVENT)).version

    ends, version = asyncio.run(run())

    assert ends == dict.fromkeys(ASYNC_CALLS, "InvalidArgument")
    assert version == 1


def test_an_asyncio_store_can_still_be_closed_when_its_loop_has_ended(server: Any) -> None:
    async def connect() -> rewind.AsyncStore:
        store = await rewind.connect_async(server.addresses)
        await store.append("s", EVENT)
        return store

    async def use(store: rewind.AsyncStore) -> tuple[str, str]:
        before = await outcome(lambda: store.append("s", EVENT))
        await store.close()
        return before, await outcome(lambda: store.append("s", EVENT))

    ends = asyncio.run(use(asyncio.run(connect())))

    assert ends == ("InvalidArgument", "Closed")


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gathers the deadlines of the appends that sessions take; there is room for one at a time."""
    taken: list[int] = []
    take = Session.append

    def watch(session: Session, append: Append, time_us: int) -> None:
        take(session, append, time_us)
        taken.append(append.deadline_us)

    monkeypatch.setattr(Session, "append", watch)
    monkeypatch.setattr("rewind.room.APPENDS_MAX", 1)
    return taken


def test_the_time_that_an_append_waits_for_room_counts(server: Any, deadlines: list[int]) -> None:
    with rewind.connect(server.addresses) as store:
        store.append("s", EVENT)
        server.cluster.leading(store.partition_of("s")).paused = True
        store.submit("s", EVENT, timeout=1.0)
        began_us = now_us()

        store.submit("s", EVENT, timeout=60.0)  # there is room for it after a second
        store.close(timeout=0.01)

    assert 0 <= deadlines[-1] - began_us - 60_000_000 < 900_000


def test_the_time_that_an_awaited_append_waits_for_room_counts(server: Any, deadlines: list[int]) -> None:
    async def run() -> int:
        async with rewind.connect_async(server.addresses) as store:
            await store.append("s", EVENT)
            server.cluster.leading(store.partition_of("s")).paused = True
            first = await store.submit("s", EVENT, timeout=1.0)
            began_us = now_us()
            second = await store.submit("s", EVENT, timeout=60.0)
            await store.close(timeout=0.01)
            ends = await asyncio.gather(first, second, return_exceptions=True)
            assert [type(end) for end in ends] == [rewind.OutcomeUnknown] * 2
            return began_us

    began_us = asyncio.run(run())

    assert 0 <= deadlines[-1] - began_us - 60_000_000 < 900_000


def on_creations(server: Any, answer: Callable[[CreateContext], list[Any]]) -> threading.Event:
    """Have nodes answer requests to create a context so; return an event that tells of the first."""
    heard = threading.Event()

    def hear(message: Any, _: Any) -> list[Any] | None:
        if not isinstance(message, CreateContext):
            return None
        heard.set()
        return answer(message)

    for node in server.cluster.nodes:
        node.answer = hear
    return heard


def test_closing_waits_for_a_context_that_is_being_created(server: Any) -> None:
    store = rewind.connect(server.addresses)
    heard = on_creations(server, lambda message: [Failed(message.request, Code.NOT_READY, "not yet", "", 0)])
    creating, created = in_a_thread(lambda: store.create_context("ledger"))
    assert heard.wait(10)
    closing, _ = in_a_thread(store.close)
    closing.join(0.1)

    on_creations(server, lambda message: [ContextIs(message.request, 9, message.name, None)])
    closing.join(20)
    creating.join(20)

    assert created == [rewind.Context("ledger", 9, None)]


def test_a_creation_that_closing_cuts_short_has_an_unknown_outcome(server: Any) -> None:
    store = rewind.connect(server.addresses)
    heard = on_creations(server, lambda _: [])
    creating, created = in_a_thread(lambda: store.create_context("ledger"))
    assert heard.wait(10)

    store.close(timeout=0.05)
    creating.join(20)

    assert [type(error) for error in created] == [rewind.OutcomeUnknown]


def test_the_log_tells_of_connections_and_leaders_and_has_no_handlers(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("rewind.client")
    caplog.set_level(logging.INFO, logger.name)
    with rewind.connect(server.addresses) as store:
        store.append("s", EVENT)
        partition = store.partition_of("s")
        node = server.cluster.other(server.cluster.leading(partition))
        server.do(lambda: server.cluster.elect(partition, node))
        store.append("s", EVENT)

    told = {(record.name, record.levelname, record.getMessage()) for record in caplog.records}
    assert ("rewind.client", "INFO", f"partition {partition}: {node.name} leads in term 2") in told
    assert ("rewind.client", "INFO", f"connected to node {node.name} at {node.address}") in told
    assert (logger.handlers, logging.getLogger("rewind").handlers, logger.propagate) == ([], [], True)


def test_the_log_tells_of_lost_connections(lab: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rewind.client")
    node = lab.cluster.nodes[0]

    lab.drop(node)
    lab.settle()

    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        ("INFO", f"lost the connection to node {node.name} at {node.address}"),
        ("INFO", f"connected to node {node.name} at {node.address}"),
    ]
