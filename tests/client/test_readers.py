"""Readers of whole contexts as programs use them: left and gone on with, interrupted, failing."""

import asyncio
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

import rewind
from rewind import ANY, NewEvent, ProtocolError, scanning
from rewind_cluster.client_messages import CLIENT_CODEC
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


def test_an_awaited_reader_that_was_given_up_on_goes_on_without_a_gap(store: rewind.Store, server: Any) -> None:
    wanted = [place(event) for event in store.read_all()]

    async def run() -> list[tuple[int, int]]:
        async with rewind.connect_async(server.addresses) as awaited:
            reader = awaited.read_all()
            seen = [place(await anext(reader)) for _ in range(3)]
            for node in server.cluster.nodes:
                node.paused = True
            while True:
                try:
                    seen.append(place(await asyncio.wait_for(anext(reader), 0.05)))
                except TimeoutError:
                    break
            for node in server.cluster.nodes:
                server.do(lambda node=node: [(node, *news) for news in node.resume(time.monotonic_ns() // 1000)])
            return seen + [place(event) async for event in reader]

    assert asyncio.run(run()) == wanted
