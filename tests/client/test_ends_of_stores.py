"""Whoever waits for a store is told when it ends: closed at any moment, or broken down."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from threads_by_hand import CallInThread, in_a_thread

import rewind
from rewind import NewEvent
from rewind.engine import Engine
from rewind.groups import Groups
from rewind.session import Session
from rewind.sockets import Sockets

EVENT = NewEvent("T", b"")
PATIENCE_S = 20


def kinds(threads: list[CallInThread]) -> list[str]:
    """Wait for threads, and return what kind of end each came to."""
    for thread, _ in threads:
        thread.join(PATIENCE_S)
    return [type(ends[0]).__name__ if ends else "it hangs" for _, ends in threads]


def pause(server: Any) -> None:
    for node in server.cluster.nodes:
        node.paused = True


def test_threads_that_wait_for_room_are_told_when_their_store_closes(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewind.room.APPENDS_MAX", 1)
    store = rewind.connect(server.addresses)
    pause(server)
    store.submit("s", EVENT)
    waiting = [in_a_thread(lambda: store.append("s", EVENT, timeout=600)) for _ in range(4)]
    deadline_s = time.monotonic() + PATIENCE_S
    while len(store._engine._changed._waiters) < len(waiting):  # type: ignore[attr-defined] # the waiting threads
        assert time.monotonic() < deadline_s
        time.sleep(0.005)

    store.close(timeout=0.01)

    assert kinds(waiting) == ["Closed"] * 4


def test_a_call_that_comes_while_the_thread_ends_is_told(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = rewind.connect(server.addresses)
    ending, may_end = threading.Event(), threading.Event()
    check, close = Engine.check_open, Sockets.close

    def close_slowly(sockets: Sockets) -> None:
        ending.set()
        assert may_end.wait(PATIENCE_S)
        close(sockets)

    def check_just_before_the_end(engine: Engine) -> None:
        check(engine)
        monkeypatch.setattr(Engine, "check_open", check)
        closing.append(in_a_thread(lambda: store.close(timeout=0.01)))
        assert ending.wait(PATIENCE_S)

    closing: list[Any] = []
    monkeypatch.setattr(Sockets, "close", close_slowly)
    monkeypatch.setattr(Engine, "check_open", check_just_before_the_end)
    call = in_a_thread(lambda: store.contexts(timeout=600))
    assert ending.wait(PATIENCE_S)
    call[0].join(0.1)
    may_end.set()

    assert kinds([call]) == ["Closed"]
    assert kinds(closing) == ["NoneType"]


@pytest.fixture(
    params=[(Groups, "look"), (Session, "take"), (Session, "abandon")], ids=["groups", "every turn", "the end"]
)
def break_session(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what makes the session break each time it comes to a certain place."""

    def surprise(*_: Any) -> None:
        raise KeyError("surprise")

    return lambda: monkeypatch.setattr(*request.param, surprise)


def test_whoever_waits_for_a_blocking_store_that_breaks_down_is_told(
    server: Any, break_session: Callable[[], None]
) -> None:
    store = rewind.connect(server.addresses)
    subscription, group = store.subscribe(), store.group("g")
    pause(server)
    waiting = [
        in_a_thread(call)
        for call in (
            store.submit("s", EVENT, timeout=600).result,
            lambda: store.create_context("c", timeout=600),
            lambda: store.version("s", timeout=600),
            lambda: next(subscription),
            lambda: next(group),
        )
    ]

    break_session()
    store.close(timeout=0.1)

    assert kinds(waiting) == ["OutcomeUnknown", "OutcomeUnknown", "Closed", "Closed", "Closed"]
    assert store._engine._sockets.closed


def test_whoever_waits_for_an_asyncio_store_that_breaks_down_is_told(
    server: Any, break_session: Callable[[], None]
) -> None:
    async def run() -> list[str]:
        store = await rewind.connect_async(server.addresses)
        subscription, group = await store.subscribe(), await store.group("g")
        pause(server)
        waiting = [
            asyncio.ensure_future(call)
            for call in (
                store.append("s", EVENT, timeout=600),
                store.create_context("c", timeout=600),
                store.version("s", timeout=600),
                anext(subscription),
                anext(group),
            )
        ]
        await asyncio.sleep(0)
        break_session()
        await store.close(timeout=0.1)
        assert store._engine._sockets.closed
        async with asyncio.timeout(PATIENCE_S):
            return [type(end).__name__ for end in await asyncio.gather(*waiting, return_exceptions=True)]

    assert asyncio.run(run()) == ["OutcomeUnknown", "OutcomeUnknown", "Closed", "Closed", "Closed"]
