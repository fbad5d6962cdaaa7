"""Readers of whole contexts as programs use them: left and gone on with, interrupted, failing."""

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from both_shells import AsyncioShell, BlockingShell

import rewind
from rewind import ANY, NewEvent, ProtocolError, reading, scanning
from rewind_cluster.client_messages import CLIENT_CODEC, ReadStream, StreamIs, pack_chunk
from rewind_cluster.columns import Events, pack_events
from rewind_cluster.ranges import AllIs, ReadAll, pack_rows

STREAMS = 20


@pytest.fixture
def store(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[rewind.Store]:
    """Return a store with forty events in four partitions, which are read three at a time."""
    monkeypatch.setattr(scanning, "CHUNK_EVENTS_MAX", 3)
    with rewind.connect(server.addresses) as store:
        for number in range(STREAMS):
            store.append(f"s{number}", [NewEvent("T", b"")] * 2, ANY)
        yield store


def place(event: rewind.Event) -> tuple[int, int]:
    return event.partition, event.position


def test_a_reader_is_left_and_gone_on_with_in_any_way(store: rewind.Store) -> None:
    wanted = [place(event) for event in store.read_all()]
    reader = store.read_all()

    seen = [next(reader)]
    for event in reader:
        seen.append(event)
        if len(seen) == 8:
            break
    seen += islice(reader, 5)
    seen += [next(reader), next(reader)]
    seen += [event for pair in zip(reader, reader, strict=False) for event in pair]

    assert len(wanted) == 2 * STREAMS
    assert [place(event) for event in seen] == wanted[: len(seen)]
    assert len(seen) >= len(wanted) - 1  # where one is left for the pair, zip drops it
    assert list(reader) == []


@pytest.mark.parametrize("taken", range(0, 2 * STREAMS + 1, 7))
def test_the_checkpoint_in_a_loop_includes_the_event_just_yielded_and_no_more(store: rewind.Store, taken: int) -> None:
    wanted = {place(event) for event in store.read_all()}
    reader = store.read_all()
    seen = set()

    for event in reader:
        if len(seen) == taken:
            break
        seen.add(place(event))
        checkpoint = reader.checkpoint
    rest = [place(event) for event in store.read_all(after=checkpoint if seen else None)]

    assert len(rest) == len(wanted) - len(seen)
    assert set(rest) == wanted - seen


def test_a_reader_that_failed_fails_again_rather_than_to_seem_to_end(store: rewind.Store, server: Any) -> None:
    def answer(message: Any, _: Any) -> list[Any] | None:
        if not isinstance(message, ReadAll) or not message.after:
            return None
        stuck = AllIs(message.request, message.after, message.after, 1 << 20, True)
        return [[CLIENT_CODEC.encode(stuck), pack_rows([])]]

    for node in server.cluster.nodes:
        node.answer = answer
    reader = store.read_all()

    for use in (list, list, next):
        with pytest.raises(ProtocolError, match="where there is more"):
            use(reader)


READERS: dict[str, Callable[..., Any]] = {
    "read": lambda store, **options: store.read("s0", **options),
    "read in reverse": lambda store, **options: store.read("s0", reverse=True, **options),
    "read with a limit": lambda store, **options: store.read("s0", limit=8, **options),
    "read_all": lambda store, **options: store.read_all(**options),
    "read_all with a limit": lambda store, **options: store.read_all(limit=30, **options),
    "streams": lambda store, **options: store.streams(**options),
}


def begin(shell: Any, kind: str, **options: Any) -> Any:
    if isinstance(shell, BlockingShell):
        return READERS[kind](shell.store, **options)

    async def run() -> Any:
        return READERS[kind](shell.store, **options)

    return shell.run(run())


def seen(item: Any) -> Any:
    return item if isinstance(item, str) else (item.partition, item.position)


@pytest.fixture(params=[BlockingShell, AsyncioShell], ids=["blocking", "asyncio"])
def shell(request: pytest.FixtureRequest, server: Any, store: rewind.Store) -> Iterator[Any]:
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setattr(reading, "CHUNK_EVENTS_MAX", 3)
    monkeypatch.setattr("rewind.listing.CHUNK_NAMES_MAX", 2)
    for _ in range(8):
        store.append("s0", NewEvent("T", b""), ANY)
    made = request.param(server.addresses)
    yield made
    made.close()


def resume(server: Any) -> None:
    for node in server.cluster.nodes:
        server.do(lambda node=node: [(node, *news) for news in node.resume(time.monotonic_ns() // 1000)])


def take_until(error: type[rewind.RewindError], shell: Any, reader: Any) -> list[Any]:
    """Take from a reader until it fails so twice in a row."""
    taken: list[Any] = []
    failures = 0
    while failures < 2:
        try:
            taken.extend(shell.take(reader, 1))
            failures = 0
        except error:
            failures += 1
    return taken


def take_all(error: type[rewind.RewindError], shell: Any, reader: Any) -> list[Any]:
    """Take from a reader to its end, past what had failed while it was on its way."""
    taken: list[Any] = []
    while True:
        try:
            taken.extend(shell.take(reader, 1))
        except error:
            continue
        except (StopIteration, StopAsyncIteration):
            return taken


def check_whole(kind: str, items: list[Any], wanted: list[Any]) -> None:
    """Check that a reader gave what is wanted; that of several partitions comes in turns that an error may change."""
    if not kind.startswith("read_all"):
        assert items == wanted
        return
    assert len(items) == len(wanted)
    for partition in {partition for partition, _ in items}:
        positions = [position for of, position in items if of == partition]
        assert positions == list(range(1, len(positions) + 1))


@pytest.mark.parametrize("kind", READERS)
def test_a_reader_whose_time_was_up_goes_on_without_a_gap(shell: Any, server: Any, kind: str) -> None:
    wanted = [seen(item) for item in shell.rest(begin(shell, kind))]
    reader = begin(shell, kind, timeout=0.2)
    first = shell.take(reader, 2)

    for node in server.cluster.nodes:
        node.paused = True
    more = take_until(rewind.DeadlineExceeded, shell, reader)
    resume(server)
    rest = take_all(rewind.DeadlineExceeded, shell, reader)

    assert len(first + more) < len(wanted)
    check_whole(kind, [seen(item) for item in (*first, *more, *rest)], wanted)


@pytest.mark.parametrize("kind", [kind for kind in READERS if kind != "streams"])
def test_a_reader_that_was_told_nonsense_goes_on_without_a_gap(shell: Any, server: Any, kind: str) -> None:
    wanted = [seen(item) for item in shell.rest(begin(shell, kind))]

    def talk_nonsense(message: Any, _: Any) -> list[Any] | None:
        if isinstance(message, ReadStream):  # far beyond, where there is more
            row = (1 << 20, 1 << 20, 1, pack_events(Events(bytes(16), ("T",), (b"",), None)))
            return [[CLIENT_CODEC.encode(StreamIs(message.request, 1 << 20, 1 << 20, more=True)), pack_chunk([row])]]
        if isinstance(message, ReadAll) and message.after:
            unasked = AllIs(message.request, message.after - 1, 1 << 20, 1 << 20, True)
            return [[CLIENT_CODEC.encode(unasked), pack_rows([])]]
        return None

    reader = begin(shell, kind)
    first = shell.take(reader, 2)
    for node in server.cluster.nodes:
        node.answer = talk_nonsense
    more = take_until(ProtocolError, shell, reader)
    for node in server.cluster.nodes:
        node.answer = None
    rest = take_all(ProtocolError, shell, reader)

    assert len(first + more) < len(wanted)
    check_whole(kind, [seen(item) for item in (*first, *more, *rest)], wanted)


@pytest.mark.parametrize("kind", READERS)
def test_a_reader_of_a_closed_store_never_seems_to_end(shell: Any, kind: str) -> None:
    reader = begin(shell, kind)
    shell.take(reader, 1)

    if isinstance(shell, AsyncioShell):
        shell.run(shell.store.close())
    else:
        shell.store.close()

    take_until(rewind.Closed, shell, reader)


@pytest.mark.parametrize("shell", [AsyncioShell], ids=["asyncio"], indirect=True)
@pytest.mark.parametrize("kind", READERS)
def test_an_awaited_reader_that_was_given_up_on_goes_on_without_a_gap(shell: Any, server: Any, kind: str) -> None:
    wanted = [seen(item) for item in shell.rest(begin(shell, kind))]

    async def run() -> list[Any]:
        reader = READERS[kind](shell.store)
        items = [await anext(reader), await anext(reader)]
        for node in server.cluster.nodes:
            node.paused = True
        while True:
            try:
                items.append(await asyncio.wait_for(anext(reader), 0.05))
            except TimeoutError:
                break
        resume(server)
        return items + [item async for item in reader]

    assert [seen(item) for item in shell.run(run())] == wanted
