"""The client: what nodes answer, and what users type, read from files and keep in variables."""

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgpack
import pytest
from fuzzing.borrowed import fake_cluster
from fuzzing.borrowed import lab as laboratory
from fuzzing.material import (
    NUMBERS,
    RAW_VALUES,
    TEXTS,
    UINT_MAX,
    VALUES,
    header_frames,
    messages,
    mutations,
    nested,
    raw_array,
    search,
)
from hypothesis import given
from hypothesis import strategies as st

from rewind import inquiries
from rewind.cli import run
from rewind.errors import InvalidArgument, RewindError
from rewind.lines import parse_line
from rewind.reading import StreamRead
from rewind.tokens import Origin, make_token, read_token
from rewind.urls import parse_addresses, parse_target
from rewind_cluster.client_messages import (
    CLIENT_CODEC,
    AppendsDone,
    ContextIs,
    ContextsAre,
    Failed,
    HelloRequired,
    LeaderIs,
    MapIs,
    Pong,
    Refused,
    SessionIs,
    StatusIs,
    StreamIs,
    StreamsAre,
    VersionIs,
    Welcome,
    pack_chunk,
)
from rewind_cluster.columns import Events, pack_events

CLUSTER = "cluster-1"
SMALL = st.integers(0, 6)
MOSTLY_SMALL = st.one_of(SMALL, NUMBERS)


# What nodes say.


def row(first_version: int = 1, count: int = 1, position: int = 1, timestamp: int = 1) -> tuple[int, int, int, bytes]:
    events = Events(b"i" * 16 * count, ["T"] * count, [b""] * count, None)
    return first_version, position, timestamp, pack_events(events)


@st.composite
def odd_events(draw: st.DrawFn) -> bytes:
    """Draw stored events with columns that are anything at all."""
    columns: list[Any] = [b"i" * 16, ["T"], [b""], draw(st.sampled_from([None, [None], [b"\x80"]]))]
    for place in draw(st.lists(st.integers(0, 3), max_size=2)):
        columns[place] = draw(st.one_of(VALUES, st.lists(VALUES, min_size=1, max_size=2)))
    return bytes(msgpack.packb(columns))


EVENTS = st.one_of(
    odd_events(), mutations(st.just(row()[3])), st.builds(lambda count: row(1, count)[3], st.integers(1, 3))
)
ROWS = st.tuples(MOSTLY_SMALL, NUMBERS, NUMBERS, EVENTS)
WHOLE = st.lists(
    st.integers(1, 3), max_size=3
).map(  # rows that follow one another
    lambda counts: [row(1 + sum(counts[:place]), count) for place, count in enumerate(counts)]
)
CHUNKS = st.one_of(
    st.lists(ROWS, max_size=3).map(pack_chunk),
    WHOLE.map(pack_chunk),
    mutations(st.just(pack_chunk([row()]))),
    RAW_VALUES,
)
COUNTS = st.none() | st.lists(st.integers(-1, 3), max_size=3)
ANSWERS = st.lists(
    st.one_of(
        VALUES,
        st.lists(VALUES, min_size=2, max_size=7),
        st.tuples(SMALL, SMALL, VALUES, VALUES, VALUES, VALUES, VALUES),
        st.tuples(SMALL, st.just(0), st.lists(MOSTLY_SMALL, max_size=3), MOSTLY_SMALL, MOSTLY_SMALL, COUNTS, COUNTS),
        st.builds(
            lambda sequence, *columns: (sequence, 0, *columns, None, [len(columns[0])]),
            SMALL,
            *[st.lists(VALUES, min_size=1, max_size=2)] * 3,
        ),
        st.tuples(SMALL, st.integers(0, 25), st.text(max_size=5), VALUES, VALUES, st.booleans()),
    ),
    max_size=3,
)


def said_by_nodes() -> st.SearchStrategy[list[bytes]]:
    """Draw messages of nodes to clients, most of them nearly right."""
    cluster_ids = st.one_of(st.just("cluster-1"), st.text(max_size=4))
    asked: dict[str, Any] = {"request": SMALL}
    row = st.lists(VALUES, min_size=2, max_size=4)
    slots = st.one_of(st.just([[0, 1]]), st.lists(st.lists(MOSTLY_SMALL, min_size=2, max_size=3), max_size=3))
    addresses = st.one_of(st.sampled_from(["host-1:7070", "_:1", "", "h:99999"]), st.text(max_size=5))
    nodes = st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4), addresses), max_size=3)
    leaders = st.lists(st.tuples(MOSTLY_SMALL, MOSTLY_SMALL, st.text(max_size=4)), max_size=3)
    replicas = st.lists(st.tuples(MOSTLY_SMALL, st.lists(VALUES, max_size=3)), max_size=3)
    valid = st.one_of(
        messages(Welcome, cluster_id=cluster_ids),
        messages(Refused, code=st.sampled_from(["access", "version", "cluster", "malformed", ""])),
        messages(HelloRequired),
        messages(Pong),
        messages(MapIs, **asked, cluster_id=cluster_ids, slots=slots, nodes=nodes, leaders=leaders, replicas=replicas),
        messages(
            MapIs, **asked, cluster_id=cluster_ids, slots=st.lists(row), nodes=st.lists(row), leaders=st.lists(row)
        ),
        messages(LeaderIs, partition=MOSTLY_SMALL, node_id=st.sampled_from(["n1", "n2", ""])),
        messages(ContextIs, **asked),
        messages(ContextsAre, **asked, contexts=st.lists(row)),
        messages(SessionIs, **asked, partition=MOSTLY_SMALL),
        messages(AppendsDone, partition=SMALL, session=MOSTLY_SMALL, epoch=MOSTLY_SMALL, answers=ANSWERS),
        messages(StreamIs, **asked),
        messages(VersionIs, **asked),
        messages(StreamsAre, **asked),
        messages(StatusIs, **asked),
        messages(Failed, **asked, code=st.one_of(st.integers(0, 25), NUMBERS)),
    )
    headers = st.one_of(valid.map(CLIENT_CODEC.encode), header_frames(CLIENT_CODEC))
    return st.builds(lambda header, frames: [header, *frames], headers, st.lists(CHUNKS, max_size=1))


@search(120)
@given(st.data())
def test_nothing_a_node_says_ends_a_session_and_every_call_ends_in_time(data: st.DataObject) -> None:
    lab = laboratory.Lab(fake_cluster, nodes=3, seeds=3).connect()
    session = lab.session
    read = StreamRead(
        lab.calls.origin, 1, "s", inquiries.View(fresh=True, at_least=0), 10_000_000, after=0, limit=None, reverse=False
    )
    asked = [read.next_request(), inquiries.list_contexts(10_000_000), inquiries.get_status(10_000_000)]
    for node in lab.cluster.nodes:
        node.paused = True
    for request in asked:
        session.request(request, lab.now_us)
    calls = [*asked, lab.append("s"), lab.append("t")]
    lab.settle()

    for message in data.draw(st.lists(said_by_nodes(), min_size=3, max_size=15)):
        session.received(f"host-{data.draw(st.integers(1, 3))}:7070", message, lab.now_us)
        if data.draw(st.booleans()):
            work = session.take(lab.now_us)
            lab.ended.extend(work.completed)
    for _ in range(12):
        lab.now_us += 1_000_000
        session.tick(lab.now_us)
        lab.ended.extend(session.take(lab.now_us).completed)

    assert all(call in lab.ended for call in calls)
    assert all(call.error is None or isinstance(call.error, RewindError) for call in calls)


@search(400)
@given(st.lists(CHUNKS, min_size=1, max_size=3), st.booleans())
def test_any_chunk_becomes_events_in_order_or_an_error_of_ours(chunks: list[bytes], reverse: bool) -> None:
    view = inquiries.View(fresh=True, at_least=0)
    read = StreamRead(Origin("c", 1), 1, "s", view, 1, after=0, limit=None, reverse=reverse)
    for number, frame in enumerate(chunks):
        request = read.next_request()
        if request is None:
            return
        message = StreamIs(number, 1, 1, more=True)
        if not request.answered(message, [frame]) or request.error is not None:
            assert request.error is None or isinstance(request.error, RewindError)
            return
        try:
            events = read.take(request.result)
        except RewindError:
            return
        versions = [event.version for event in events]
        assert versions == sorted(versions, reverse=reverse)
        for event in events:
            assert (type(event.type), type(event.data), type(event.id)) == (str, bytes, UUID)


def test_answers_that_cannot_be_shown_or_counted_break_the_connection_only() -> None:
    for answer in ({"0": 1}, [1, 2, "leader", float("inf")], [1, 12, msgpack.unpackb(nested(1020))], [1, {}], [[], 0]):
        lab = laboratory.Lab(fake_cluster).connect()
        for node in lab.cluster.nodes:
            node.hears.clear()
        append = lab.append("s")
        lab.settle()
        writer = next(iter(lab.session._writers.values()))
        assert append in lab.ended
        lab.session.received("host-1:7070", [raw_answer(writer, answer)], lab.now_us)

        again = lab.append("s")
        lab.run(again)

        assert again.error is None


@pytest.mark.parametrize("address", ["_h:1", "", "h h:1", "*:1", "h"])
def test_a_map_with_an_address_that_no_socket_takes_breaks_the_connection_only(address: str) -> None:
    lab = laboratory.Lab(fake_cluster).connect()
    known = dict(lab.session.routing.addresses)
    message = MapIs(0, "cluster-1", UINT_MAX, [[0, 1]], [["n", "n", address]], [], [])

    lab.session.received("host-1:7070", [CLIENT_CODEC.encode(message)], lab.now_us)
    again = lab.append("s")
    lab.run(again)

    assert lab.session.routing.addresses == known
    assert again.error is None


def test_a_node_whose_clock_is_at_the_end_of_time_gets_deadlines_that_can_be_sent() -> None:
    lab = laboratory.Lab(fake_cluster).connect()

    lab.session.received("host-1:7070", [CLIENT_CODEC.encode(Pong(0, UINT_MAX))], lab.now_us)
    again = lab.append("s")
    lab.run(again)

    assert again.error is None


def raw_answer(writer: Any, answer: Any) -> bytes:
    depth = isinstance(answer, list) and isinstance(answer[-1], list) and answer[-1] and isinstance(answer[-1][0], list)
    packed = raw_array([b"\x01", b"\x0c", nested(1020)]) if depth else msgpack.packb(answer)
    parts = [msgpack.packb(value) for value in (23, writer.partition, writer.session, writer.epoch)]
    return raw_array([*parts, b"\x91" + packed, b"\x00"])


# Tokens and URLs.

ORIGIN = Origin("cluster-1", 1)
TOKENS = st.dictionaries(st.integers(0, 1024), NUMBERS, max_size=4).map(lambda positions: make_token(ORIGIN, positions))


@search(150)
@given(st.dictionaries(st.integers(0, 1024), NUMBERS, max_size=4))
def test_a_token_comes_out_as_it_went_in(positions: dict[int, int]) -> None:
    assert read_token(make_token(ORIGIN, positions), ORIGIN) == positions


@st.composite
def edited(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """Draw a valid text with an accident."""
    text = draw(texts)
    place = draw(st.integers(0, len(text)))
    end = draw(st.integers(place, len(text)))
    inserted = draw(
        st.one_of(st.text(max_size=3), st.sampled_from([",", ":", "/", "?", "%", "[", "9" * 5000, "٣", "\0", "\ud800"]))
    )
    return text[:place] + inserted + text[end:]


@search(500)
@given(st.one_of(edited(TOKENS), TEXTS, VALUES))
def test_any_token_is_positions_or_an_invalid_argument(token: Any) -> None:
    try:
        positions = read_token(token, ORIGIN)
    except InvalidArgument:
        return

    assert all(0 <= position <= UINT_MAX for position in positions.values())


URLS = st.sampled_from(
    ["rewind://db1:7070,[::1]:7070/ctx?timeout=2.5", "rewind://h:1", "10.0.0.7:7070,h:1", "[fe80::1%eth0]:1"]
)


@search(600)
@given(st.one_of(edited(URLS), TEXTS, VALUES), st.none() | TEXTS, st.none() | VALUES)
def test_any_target_is_addresses_that_a_socket_takes_or_an_invalid_argument(
    where: Any, context: Any, timeout: Any
) -> None:
    try:
        target = parse_target(where, context, timeout)
    except InvalidArgument:
        return

    assert target.addresses == parse_addresses(target.addresses)
    for address in target.addresses:
        assert address.isascii()
        assert address[0].isalnum() or address[0] == "["
    assert 0 < target.timeout_us <= 3_600_000_000


# Lines of an import.

JSON_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("\ud800"))
JSON_VALUES = st.one_of(
    JSON_SCALARS,
    st.lists(JSON_SCALARS, max_size=3),
    st.dictionaries(st.text(max_size=3), st.one_of(JSON_SCALARS, st.lists(JSON_SCALARS, max_size=2)), max_size=3),
)
TIMES = st.sampled_from(
    ["2024-05-01", "2024-05-01T12:00:00+02:00", "2024-05-01\ud80012:00:00+00:00", "0001-01-01T00:00+14:00"]
)
LINES = st.fixed_dictionaries(
    {"stream": st.sampled_from(["s", "\ud800", ""]) | JSON_VALUES, "type": st.just("T") | JSON_VALUES},
    optional={
        "data": JSON_VALUES,
        "data_base64": st.just("aGk=") | JSON_VALUES,
        "time": TIMES | JSON_VALUES,
        "id": st.just(str(UUID(int=1))) | JSON_VALUES,
        "metadata": JSON_VALUES,
        "odd": JSON_VALUES,
    },
).map(lambda fields: json.dumps(fields).encode())
BAD_NUMBERS = [
    b"9" * 5000,
    b"1e999",
    b"-" + b"9" * 5000,
    b"NaN",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"1e-99999999999999999999",
]


@search(600)
@given(st.one_of(LINES, mutations(LINES), st.binary(max_size=30), st.sampled_from(BAD_NUMBERS)))
def test_any_line_is_an_event_that_can_be_sent_or_an_error_of_ours(text: bytes) -> None:
    for line in (text, b'{"stream": "s", "type": "T", "data": ' + text + b"}"):
        try:
            event = parse_line(line).event(1)
        except RewindError:
            continue
        assert type(event.data) is bytes
        assert event.id is not None


# The command line.

COMMANDS: list[Callable[[str], list[str]]] = [
    lambda text: ["append", "s", "--type", "T", "--data", "d", "--expected", text],
    lambda text: ["append", "s", "--type", "T", "--data", "d", "--metadata", text],
    lambda text: ["append", "s", "--type", "T", "--data", "d", "--id", text],
    lambda text: ["append", text, "--type", text, "--data", text],
    lambda text: ["--timeout", text, "status"],
    lambda text: ["--servers", text, "status"],
    lambda text: ["--context", text, "read", "s"],
    lambda text: ["read", text, "--after", text],
    lambda text: ["read", "s", "--limit", text, "--reverse"],
    lambda text: ["import", text],
    lambda text: ["import", "--rate", text, "/nowhere"],
    lambda text: [text],
]
ARGUMENTS = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9),
    st.sampled_from(["9" * 5000, "-1", "nan", "inf", "1e400", "[" * 5000, "_h:1", "٣", "{}", "-", "\udc80"]),
)


@search(150)
@given(st.sampled_from(COMMANDS), ARGUMENTS)
def test_any_argument_is_told_or_used(command: Callable[[str], list[str]], text: str) -> None:
    arguments = command(text)
    if "--servers" not in arguments:
        arguments = ["--servers", "127.0.0.1:1", *arguments]
    if "--timeout" not in arguments:
        arguments = ["--timeout", "0.001", *arguments]

    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        code = run(arguments)

    assert code in (1, 2)
    assert told.getvalue()
