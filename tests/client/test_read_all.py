"""Reading a whole context without sockets: every event once, in order, to where the context ended."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from rewind import scanning
from rewind.errors import InvalidArgument, ProtocolError
from rewind.events import ANY, Event, NewEvent
from rewind.inquiries import Range
from rewind.rows import Rows
from rewind.scanning import ContextRead
from rewind_cluster.client_messages import CLIENT_CODEC
from rewind_cluster.ranges import AllIs, ReadAll, pack_rows


def fill(lab: Any, *streams: str, size: int = 1, kinds: str = "AB") -> None:
    """Append to streams in turn, `size` events of alternating types each time."""
    for stream in streams:
        events = [NewEvent(kinds[number % len(kinds)], stream.encode()) for number in range(size)]
        append = lab.calls.append(stream, events, ANY, None)
        lab.session.append(append, lab.now_us)
        lab.run(append)


def begin(lab: Any, **options: Any) -> Any:
    asked = {
        "after": None,
        "limit": None,
        "types": None,
        "prefix": "",
        "reverse": False,
        "consistency": "linearizable",
        "at_least": None,
        "timeout": None,
    }
    return lab.calls.read_all(*(asked | options).values())


Finish = Callable[[Any, Any], list[Event]]


def read_on(lab: Any, read: Any, take: Callable[[Any], Iterable[Event]]) -> list[Event]:
    events: list[Event] = []
    asked: list[tuple[int, Any]] = []
    while True:
        while (wanted := read.next_request()) is not None:
            asked.append(wanted)
        assert len(asked) <= scanning.CHUNKS_AHEAD
        events += take(read)
        if not asked or read.full:
            return events
        partition, request = asked.pop(0)
        lab.ask(request)
        if request.error is not None:
            raise request.error
        read.take(partition, request.result)


@pytest.fixture(params=["event by event", "in a loop"])
def finish(request: pytest.FixtureRequest) -> Finish:
    """Read to the end as the readers do, and check that no more is asked for than may be on its way."""
    in_a_loop = request.param == "in a loop"
    return lambda lab, read: read_on(lab, read, ContextRead.rest if in_a_loop else lambda it: iter(it.pop, None))


def places(events: list[Event]) -> set[tuple[int, int]]:
    assert len({(event.partition, event.position) for event in events}) == len(events)
    return {(event.partition, event.position) for event in events}


@pytest.fixture
def ordered(make_lab: Callable[..., Any]) -> Any:
    """Return a session whose context lives in one partition, with events at positions 1 to 10."""
    lab = make_lab(partitions=1).connect()
    fill(lab, "a", "b", "a", "c", "b", size=2)
    return lab


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_every_event_of_every_partition_comes_once_and_in_order(
    lab: Any, monkeypatch: pytest.MonkeyPatch, chunk: int, finish: Finish
) -> None:
    monkeypatch.setattr(scanning, "CHUNK_EVENTS_MAX", chunk)
    names = [f"s{number}" for number in range(25)]
    fill(lab, *names, *names, size=2)

    events = finish(lab, begin(lab))

    assert len(places(events)) == 100
    for partition in lab.cluster.partitions:
        positions = [event.position for event in events if event.partition == partition]
        assert positions == list(range(1, len(positions) + 1))
    assert [event.version for event in events if event.stream == "s7"] == [1, 2, 3, 4]
    assert all(event.data == event.stream.encode() for event in events)


def test_few_chunks_are_on_their_way_however_many_partitions_there_are(
    make_lab: Callable[..., Any], finish: Finish
) -> None:
    lab = make_lab(partitions=12).connect()
    fill(lab, *[f"s{number}" for number in range(50)])

    assert len(finish(lab, begin(lab))) == 50


@pytest.mark.parametrize("chunk", [1, 2, 3, 1000])
@pytest.mark.parametrize("after", [0, 1, 4, 9, 10])
@pytest.mark.parametrize("limit", [None, 0, 1, 5, 99])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("types", [None, ["B"]])
def test_a_read_gives_exactly_the_events_asked_for(
    ordered: Any,
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
    after: int,
    limit: int | None,
    reverse: bool,
    types: list[str] | None,
    finish: Finish,
) -> None:
    monkeypatch.setattr(scanning, "CHUNK_EVENTS_MAX", chunk)
    read = begin(ordered, after=f"cluster-1/1/1:{after}", limit=limit, reverse=reverse, types=types)

    got = finish(ordered, read)

    wanted = [position for position in range(1, 11) if position > after and (types is None or position % 2 == 0)]
    assert [event.position for event in got] == (wanted[::-1] if reverse else wanted)[:limit]


def test_only_streams_with_the_prefix_come(lab: Any, finish: Finish) -> None:
    fill(lab, *[f"order-{number}" for number in range(10)], *[f"cart-{number}" for number in range(10)])

    events = finish(lab, begin(lab, prefix="order-"))

    assert sorted(event.stream for event in events) == sorted(f"order-{number}" for number in range(10))


@pytest.mark.parametrize("taken", [0, 1, 7, 24, 50])
def test_a_checkpoint_goes_on_where_it_was_taken(
    lab: Any, monkeypatch: pytest.MonkeyPatch, taken: int, finish: Finish
) -> None:
    monkeypatch.setattr(scanning, "CHUNK_EVENTS_MAX", 4)
    fill(lab, *[f"s{number}" for number in range(25)], size=2)
    first = begin(lab, limit=taken)
    head = finish(lab, first)

    tail = finish(lab, begin(lab, after=first.checkpoint))

    assert len(places(head + tail)) == 50
    assert len(head) == taken


def test_a_checkpoint_moves_past_what_was_filtered_out(ordered: Any, finish: Finish) -> None:
    read = begin(ordered, types=["C"])

    assert finish(ordered, read) == []
    assert read.checkpoint == "cluster-1/1/1:10"


def test_a_checkpoint_within_a_chunk_says_what_was_handed_out(ordered: Any, finish: Finish) -> None:
    read = begin(ordered, types=["B"], limit=2)

    finish(ordered, read)

    assert read.checkpoint == "cluster-1/1/1:4"


def test_in_reverse_the_checkpoint_is_that_of_the_newest_event(ordered: Any, finish: Finish) -> None:
    read = begin(ordered, reverse=True, limit=3)

    finish(ordered, read)

    assert read.checkpoint == "cluster-1/1/1:10"


def test_a_read_ends_where_the_context_ended_when_it_began(
    ordered: Any, monkeypatch: pytest.MonkeyPatch, finish: Finish
) -> None:
    monkeypatch.setattr(scanning, "CHUNK_EVENTS_MAX", 2)
    ended_at = []
    leader = ordered.cluster.leading(1)

    def append_more(message: Any, _: Any) -> None:
        if isinstance(message, ReadAll):
            ended_at.append(message.after)
            ordered.cluster.positions[1, 1] += 2  # as if two more had come; nobody gets as far as to ask for them

    leader.answer = append_more
    events = finish(ordered, begin(ordered, types=["A"]))

    assert [event.position for event in events] == [1, 3, 5, 7, 9]
    assert len(ended_at) < 10


def test_a_context_with_several_partitions_cannot_be_reversed(lab: Any) -> None:
    with pytest.raises(InvalidArgument, match="ordered"):
        begin(lab, reverse=True)


def test_a_checkpoint_beyond_the_newest_event_is_refused(ordered: Any, finish: Finish) -> None:
    for reverse in (False, True):
        with pytest.raises(InvalidArgument):
            finish(ordered, begin(ordered, after="cluster-1/1/1:11", reverse=reverse))


@pytest.mark.parametrize("types", ["A", b"A", [], [""], ["a\n"], [7], 7, [str(number) for number in range(257)]])
def test_types_that_are_none_are_refused(lab: Any, types: Any) -> None:
    with pytest.raises(InvalidArgument):
        begin(lab, types=types)


@pytest.mark.parametrize(("after", "through"), [(5, 7), (3, 5)])
def test_a_range_that_does_not_join_is_never_passed_over(ordered: Any, after: int, through: int) -> None:
    read = begin(ordered)
    partition, request = read.next_request()
    ordered.ask(request)

    with pytest.raises(ProtocolError, match="try again"):
        read.take(partition, Range(after, through, 10, Rows(1, (), 0)))


def test_a_node_that_makes_no_progress_is_not_waited_for(ordered: Any) -> None:
    read = begin(ordered)
    partition, _ = read.next_request()

    with pytest.raises(ProtocolError, match="where there is more"):
        read.take(partition, Range(0, 0, 10, Rows(1, (), 0)))


@pytest.mark.parametrize(
    ("after", "through", "frames"),
    [
        (0, 10, [pack_rows([])]),  # a hole of ten events
        (0, 10, []),
        (10, 0, [pack_rows([])]),  # the wrong way
        (0, 10, [b"\xc1"]),
        (0, 10, [b"\x01"]),
    ],
)
def test_an_answer_that_is_not_whole_is_an_error(
    ordered: Any, after: int, through: int, frames: list[bytes], finish: Finish
) -> None:
    def answer(message: Any, _: Any) -> list[Any] | None:
        if not isinstance(message, ReadAll):
            return None
        return [[CLIENT_CODEC.encode(AllIs(message.request, after, through, 10, False)), *frames]]

    for node in ordered.cluster.nodes:
        node.answer = answer

    with pytest.raises(ProtocolError):
        finish(ordered, begin(ordered))


def test_any_replica_may_be_read_as_long_as_it_has_got_there(ordered: Any, finish: Finish) -> None:
    asked = []
    for node in ordered.cluster.nodes:
        node.answer = lambda message, _, node=node: asked.append((node, message))

    for _ in range(20):
        finish(ordered, begin(ordered, consistency="any", at_least="cluster-1/1/1:7"))

    reads = [(node, message) for node, message in asked if isinstance(message, ReadAll)]
    assert len({node.id for node, _ in reads}) == 3
    assert all(not message.fresh and message.at_least == 7 for _, message in reads)
