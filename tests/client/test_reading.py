"""Reads and listings without sockets: cutting, order, and holes."""

from collections.abc import Callable
from typing import Any

import pytest

from rewind import reading
from rewind.errors import ProtocolError
from rewind.events import ANY, NewEvent
from rewind.inquiries import Chunk, Names, View
from rewind.listing import StreamList
from rewind_cluster.client_messages import CLIENT_CODEC, Code, Failed, ReadStream, StreamIs, pack_chunk


def fill(lab: Any, *sizes: int) -> None:
    """Append events 1, 2, 3, … to stream `s` in appends of these sizes."""
    number = 0
    for size in sizes:
        events = [NewEvent(f"T{number + step}", b"") for step in range(1, size + 1)]
        append = lab.calls.append("s", events, ANY, None)
        lab.session.append(append, lab.now_us)
        lab.run(append)
        number += size


def versions(lab: Any, **options: Any) -> list[int]:
    asked = {
        "after": 0,
        "limit": None,
        "reverse": False,
        "consistency": "linearizable",
        "at_least": None,
        "timeout": None,
    }
    read = lab.calls.read("s", *(asked | options).values())
    events = []
    while (request := read.next_request()) is not None:
        events.extend(read.take(lab.ask(request).result))
    assert [event.type for event in events] == [f"T{event.version}" for event in events]
    assert [event.position for event in events] == [event.version for event in events]
    return [event.version for event in events]


@pytest.mark.parametrize("chunk", [1, 2, 3, 1000])
@pytest.mark.parametrize("after", [0, 1, 4, 10, 99])
@pytest.mark.parametrize("limit", [None, 0, 1, 5, 99])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_read_gives_exactly_the_events_asked_for(
    lab: Any, monkeypatch: pytest.MonkeyPatch, chunk: int, after: int, limit: int | None, reverse: bool
) -> None:
    monkeypatch.setattr(reading, "CHUNK_EVENTS_MAX", chunk)
    fill(lab, 1, 4, 2, 3)

    got = versions(lab, after=after, limit=limit, reverse=reverse)

    expected = [version for version in range(1, 11) if version > after]
    assert got == (expected[::-1] if reverse else expected)[:limit]


def test_a_stream_that_is_not_there_has_no_events(lab: Any) -> None:
    assert versions(lab) == []
    assert versions(lab, reverse=True) == []


def test_a_hole_between_chunks_is_never_passed_over(lab: Any) -> None:
    fill(lab, 1, 1, 1)
    read = lab.calls.read("s", 0, None, False, "linearizable", None, None)
    chunk = lab.ask(read.next_request()).result
    with_hole = Chunk([chunk.appends[0], chunk.appends[2]], chunk.position, more=False)

    with pytest.raises(ProtocolError):
        read.take(with_hole)


def test_a_node_that_promises_more_and_sends_nothing_is_not_the_end(lab: Any) -> None:
    read = lab.calls.read("s", 0, None, False, "linearizable", None, None)

    with pytest.raises(ProtocolError):
        read.take(Chunk([], 0, more=True))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_read_of_any_replica_goes_on_only_where_all_is_that_was_there_when_it_began(
    lab: Any, monkeypatch: pytest.MonkeyPatch, reverse: bool
) -> None:
    monkeypatch.setattr(reading, "CHUNK_EVENTS_MAX", 1)
    fill(lab, *[1] * 10)
    begun_at: list[Any] = []
    waited = []

    def lag(node: Any, message: Any) -> list[Any] | None:
        """Let the node that gave the first chunk be at position 10, and all others have no events yet."""
        if not isinstance(message, ReadStream):
            return None
        begun_at.append(node)
        if node is begun_at[0]:
            return None
        if message.at_least:
            waited.append(node)
            return [Failed(message.request, Code.NOT_READY, "position 10 did not come in time", "", 0)]
        return [[CLIENT_CODEC.encode(StreamIs(message.request, 0, 0, more=False)), pack_chunk([])]]

    for node in lab.cluster.nodes:
        node.answer = lambda message, _, node=node: lag(node, message)
    got = versions(lab, reverse=reverse, consistency="any")

    assert sorted(got, reverse=reverse) == got
    assert len(got) == 10
    assert waited


def test_a_token_of_a_read_tells_what_was_seen(lab: Any) -> None:
    fill(lab, 3)
    read = lab.calls.read("s", 0, None, False, "linearizable", None, None)

    read.take(lab.ask(read.next_request()).result)

    assert read.token == f"cluster-1/1/{lab.cluster.partition_of('s')}:3"


def listing(lab: Any, prefix: str = "") -> list[str]:
    streams = lab.calls.streams(prefix, None)
    names: list[str] = []
    while True:
        wanted = streams.wanted()
        for partition, request in wanted:
            streams.take(partition, lab.ask(request).result)
        popped = streams.pop()
        names.extend(popped)
        if not wanted and not popped:
            return names


def test_names_of_all_partitions_come_in_bytewise_order(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewind.listing.CHUNK_NAMES_MAX", 3)
    names = [*(f"order-{number}" for number in range(40)), "Z", "é", "z", "\U0001f600", "\uffee"]
    for name in names:
        lab.run(lab.append(name))

    assert listing(lab) == sorted(names, key=str.encode)
    assert listing(lab, "order-3") == sorted(name for name in names if name.startswith("order-3"))


def test_a_name_waits_for_partitions_that_may_have_an_earlier_one(make_lab: Callable[..., Any]) -> None:
    lab = make_lab().connect()
    streams = StreamList(lab.calls.origin, (1, 2), "", dict.fromkeys((1, 2), View(fresh=True, at_least=0)), 1)

    streams.take(1, Names(["a", "d"], more=False))
    streams.take(2, Names(["b"], more=True))

    assert streams.pop() == ["a", "b"]
    streams.take(2, Names(["c"], more=False))
    assert streams.pop() == ["c", "d"]
