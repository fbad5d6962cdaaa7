"""What a node is configured with, what it answers over HTTP, and what it finds in its data directory."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import msgpack
import pytest
import structlog
import zmq
from fuzzing.material import NUMBERS, RAW_VALUES, SCALARS, TEXTS, VALUES, mutations, nested, refusal, search
from hypothesis import given
from hypothesis import strategies as st
from segments_by_hand import put_segment, run_of, segments_of

from rewind_cluster.cluster_map import ADDRESS
from rewind_cluster.errors import DamagedError
from rewind_node import addresses
from rewind_node import store_layout as layout
from rewind_node.admin import State, application, take_snapshots
from rewind_node.admin_link import LENGTH
from rewind_node.data_directory import check_format, read_format
from rewind_node.exits import UsageError
from rewind_node.memory_engine import MemoryEngine
from rewind_node.metrics import Metrics
from rewind_node.options import OPTIONS, resolve
from rewind_node.storage_errors import NewerFormatError, StorageFailedError
from rewind_node.store import PositionRow, Store
from rewind_node.stream_blocks import Block, pack_block
from rewind_node.transport import Transport

GIVEN = {"name": "n1", "data_dir": "/d", "seeds": "h:1"}

# Options.

WORDS = st.one_of(
    st.sampled_from(
        [
            "",
            "1",
            "-1",
            "9" * 5000,
            "٣",
            "n1",
            "h:1",
            "h:1,h:2",
            "[::1]:7",
            "*:7",
            "h:99999",
            "a=b",
            "true",
            "json",
            "_h:1",
        ]
    ),
    st.text(st.characters(exclude_characters="\0"), max_size=12),
)


@search(400)
@given(
    st.dictionaries(
        st.sampled_from([option.name for option in OPTIONS]), st.one_of(WORDS, st.lists(WORDS, max_size=2))
    ),
    st.dictionaries(st.sampled_from([option.variable for option in OPTIONS]), WORDS),
)
def test_any_flags_and_variables_are_options_or_one_line_of_usage(flags: Any, environment: Any) -> None:
    told = refusal(lambda: resolve(GIVEN | flags, environment), UsageError)

    assert told is None or "\n" not in told


TOML_VALUES = st.one_of(
    st.sampled_from(
        ["1", "true", '"x"', "[]", "{}", "1979-05-27", "nan", "0x10", '"a\\u0000b"', '"h:1"', '["h:1", 5]', "{a = 1}"]
    ),
    st.integers().map(str),
    st.text(max_size=5),
)
TOML_LINES = st.builds(
    lambda key, value: f"{key} = {value}\n",
    st.one_of(st.sampled_from([option.name.replace("_", "-") for option in OPTIONS]), st.text(max_size=3)),
    TOML_VALUES,
)


@search(250)
@given(
    st.one_of(
        st.lists(TOML_LINES, max_size=3).map("".join).map(lambda text: text.encode(errors="replace")),
        st.binary(max_size=30),
    )
)
def test_any_configuration_file_is_options_or_one_line_of_usage(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            resolve(GIVEN, {"REWIND_CONFIG": file.name})
        except UsageError:
            return


@pytest.mark.parametrize(
    "content",
    [b"a = " + b"[" * 5000, b"partitions = " + b"9" * 5000, b"\xff", b"a = 1\na = 2", b"a.b = {" * 5000],
    ids=["deep", "long", "no text", "twice", "deep tables"],
)
def test_a_configuration_file_that_cannot_be_read_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(content)

    with pytest.raises(UsageError, match="is not TOML") as told:
        resolve(GIVEN, {"REWIND_CONFIG": str(path)})

    assert "\n" not in str(told.value)


@pytest.mark.parametrize("address", ["_a:7071", "_a.b:7071", "_:1", "-a:1", ".:1"])
def test_an_address_that_no_socket_dials_is_refused_and_one_that_came_otherwise_ends_nothing(address: str) -> None:
    structlog.reset_defaults()  # other tests keep all lines but the worst from being written
    transport = Transport("127.0.0.1:*", "127.0.0.1:*")
    try:
        with structlog.testing.capture_logs() as lines:
            for _ in range(3):
                transport.dial({address, "127.0.0.1:1"})
        transport.dial(set())
    finally:
        transport.close()

    assert [line["event"] for line in lines] == ["cannot dial an address"]
    with pytest.raises(ValueError, match=r"\S"):
        addresses.dialled(address)


@search(300)
@given(
    st.one_of(
        st.text("ab_-.0:[]\u00e9*", max_size=8).map(lambda host: host + ":1"),
        st.sampled_from(["a_b:1", "a-:1", "a..b:1", "[::1]:1", "1.2.3.4:1", "a.1:1"]),
    )
)
def test_every_address_that_may_be_advertised_can_be_dialled(text: str) -> None:
    try:
        address = addresses.dialled(text)
    except ValueError:
        return
    assert ADDRESS.match(address)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.IPV6, 1 if address.startswith("[") else 0)
        socket.connect(f"tcp://{address}")


@search(400)
@given(
    st.one_of(st.text(max_size=12), st.sampled_from(["h:" + "9" * 5000, "[::1%x]:1", "[:1", "h:٣", "_a:1", "a_b:1"]))
)
def test_any_address_is_canonical_or_a_value_error(text: str) -> None:
    for parse in (addresses.listening, addresses.dialled):
        try:
            address = parse(text)
        except ValueError:
            continue
        assert parse(address) == address


# HTTP.

SNAPSHOT = {
    "ready": True,
    "reasons": [],
    "status": {"cluster_id": "c", "nodes": [], "partitions": []},
    "metrics": Metrics().snapshot(),
}
PATHS = st.one_of(
    st.sampled_from(["/", "/livez", "/readyz", "/metrics", "/api/status"]), st.text(max_size=20).map("/".__add__)
)


def ask(app: Any, method: str, path: str, headers: list[tuple[bytes, bytes]], query: bytes, body: bytes) -> int:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": query, "root_path": ""}
    asyncio.run(app(scope, receive, send))
    return int(sent[0]["status"])


@search(150)
@given(
    st.sampled_from(["GET", "HEAD", "POST", "DELETE", "OPTIONS", "X"]),
    PATHS,
    st.lists(
        st.tuples(st.sampled_from([b"accept", b"host", b"content-length", b"range"]), st.binary(max_size=30)),
        max_size=3,
    ),
    st.binary(max_size=10),
    st.binary(max_size=10),
)
def test_any_http_request_is_answered_and_changes_nothing(
    method: str, path: str, headers: list[tuple[bytes, bytes]], query: bytes, body: bytes
) -> None:
    state = State()
    state.take(SNAPSHOT)

    status = ask(application(state, 1), method, path, headers, query, body)

    assert status in (200, 404, 405)
    assert state.snapshot is SNAPSHOT


def feed(written: bytes) -> State:
    """Return the state after an admin process has read these bytes from the node's pipe."""

    async def take() -> State:
        state = State()
        reader = asyncio.StreamReader()
        reader.feed_data(written)
        reader.feed_eof()
        await take_snapshots(state, reader)
        return state

    return asyncio.run(take())


@search(100)
@given(st.lists(st.binary(max_size=20), max_size=3), st.integers(0, 30))
def test_snapshots_that_were_cut_short_are_not_taken(junk: list[bytes], cut: int) -> None:
    whole = b"".join(LENGTH.pack(len(packed)) + packed for packed in [msgpack.packb({"junk": each}) for each in junk])

    state = feed(whole + (LENGTH.pack(100) + b"x" * 99)[:cut])

    assert state.snapshot == ({"junk": junk[-1]} if junk else None)


# Rows of the store.

STATES = st.builds(
    layout.ReplicaState,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.binary(max_size=9),
    NUMBERS,
    st.binary(max_size=9),
    NUMBERS,
)
U32 = st.integers(0, (1 << 32) - 1)
COUNTS = st.integers(1, (1 << 32) - 1)
STREAM_ROWS = st.builds(layout.StreamRow, NUMBERS, COUNTS, NUMBERS, U32, U32)
POSITION_ROWS = st.builds(layout.PositionRow, NUMBERS, COUNTS, NUMBERS)
ANSWERS = st.one_of(
    st.just([]),
    st.builds(lambda *fields: [0, *fields], st.lists(NUMBERS, max_size=3), NUMBERS, NUMBERS, st.none(), st.none()),
    st.builds(lambda *fields: [1, *fields], st.text(max_size=4), st.integers(-1, 9), NUMBERS, st.booleans()),
)
SESSION_ROWS = st.builds(layout.SessionRun, NUMBERS, NUMBERS, U32, NUMBERS, U32, NUMBERS, ANSWERS)
BLOCK_KEY = layout.SEGMENT_KEY.pack(1, 1, 1)
PAIRS = st.one_of(  # key, value, how it is read, what comes out
    STATES.map(lambda state: (b"\0\1", layout.pack_state(b"\0\1", state), layout.unpack_state, state)),
    STREAM_ROWS.map(
        lambda row: (
            *pack_block(BLOCK_KEY, [b"s"], [row], b""),
            lambda key, value: Block(key, value).row(0),
            row,
        )
    ),
    POSITION_ROWS.map(lambda row: (*layout.pack_position(1, 1, row), layout.unpack_position, row)),
    SESSION_ROWS.map(lambda run: (*layout.pack_session_run(1, run), layout.unpack_session_run, run)),
)


@search(300)
@given(PAIRS)
def test_a_row_comes_out_as_it_went_in(pair: Any) -> None:
    key, value, unpack, row = pair

    assert unpack(key, value) == row


@search(600)
@given(PAIRS, st.data())
def test_no_accident_to_a_row_or_its_key_goes_unnoticed(pair: Any, data: st.DataObject) -> None:
    key, value, unpack, _ = pair
    damaged_key = data.draw(st.just(key) | mutations(st.just(key)) | st.binary(max_size=20))
    damaged = data.draw(mutations(st.just(value)) | st.binary(max_size=40) | st.just(value))
    if (damaged_key, damaged) == (key, value):
        return

    with pytest.raises(DamagedError):
        unpack(damaged_key, damaged)


@search(400)
@given(
    st.sampled_from([layout.unpack_state, Block, layout.unpack_position, layout.unpack_session_run]),
    st.binary(max_size=22),
    st.one_of(st.binary(max_size=60), RAW_VALUES, RAW_VALUES.map(lambda raw: bytes(20) + raw)),
)
def test_any_row_with_a_right_checksum_is_read_or_is_damage(unpack: Any, key: bytes, payload: bytes) -> None:
    try:
        unpack(key, layout.seal(key, payload))
    except DamagedError:
        return


SESSION_KEY = layout.session_key(1, 7, 40)
ODD_ANSWERS = st.one_of(
    VALUES,
    st.lists(VALUES, max_size=7),
    st.tuples(st.just(0), VALUES, VALUES, VALUES, VALUES, VALUES),
    st.tuples(st.just(0), st.lists(VALUES, max_size=3), VALUES, VALUES, VALUES, st.lists(VALUES, max_size=3)),
).map(lambda answer: bytes(20) + msgpack.packb(answer))


@search(500)
@given(st.one_of(ODD_ANSWERS, RAW_VALUES.map(lambda raw: bytes(20) + raw), mutations(ODD_ANSWERS)))
def test_any_answer_stored_for_a_session_can_be_counted_or_is_damage(payload: bytes) -> None:
    try:
        run = layout.unpack_session_run(SESSION_KEY, layout.seal(SESSION_KEY, payload))
    except DamagedError:
        return

    assert run.count >= 0
    assert run.last_sequence >= run.first_sequence == 40


def one_row_each() -> MemoryEngine:
    """Return an engine that holds a stream, a position and a replica, all of partition 1."""
    engine = MemoryEngine()
    store = Store(engine)
    put_segment(segments_of(store), {"order-1": run_of(1, 1)}, through=1)
    store.put_positions(1, 1, [PositionRow(1, 1, 1)])
    store.put_replica_state(1, layout.ReplicaState(1, 0, 0, 0, b"", 0, b"", 0))
    return engine


@pytest.mark.parametrize("table", [layout.STREAMS, layout.FILTERS, layout.SEGMENTS, layout.POSITIONS])
def test_no_flipped_bit_of_a_key_gives_a_name_or_a_position_that_never_was(table: str) -> None:
    key, value = list(one_row_each().scan(table, b"", b"\xff" * 30))[-1]
    for bit in range(len(key) * 8):
        damaged = bytearray(key)
        damaged[bit // 8] ^= 1 << bit % 8
        engine = one_row_each()
        engine.delete(table, [key])
        engine.put(table, [(bytes(damaged), value)])
        store = Store(engine)

        told = found = None
        try:
            if table == layout.POSITIONS:
                found = [row.index for row in store.position_rows(1, 1, 0)]
            else:
                found = segments_of(store, 1).names(1, "", None, 5)
        except DamagedError as error:
            told = error

        assert told is not None or found == []  # in another partition or context it is not looked at


@pytest.mark.parametrize("length", range(10))
def test_a_key_too_short_to_be_one_is_damage_and_is_told_once(length: int) -> None:
    engine = one_row_each()
    for table in (layout.STREAMS, layout.FILTERS, layout.SEGMENTS, layout.POSITIONS):
        key, value = list(engine.scan(table, b"", b"\xff" * 30))[-1]
        engine.delete(table, [key])
        if length >= 2:
            engine.put(table, [(key[:length], value)])
    if length not in (0, 2):
        engine.put(layout.RAFT, [(bytes(length), b"")])
    store = Store(engine)

    if length >= layout.SPACE.size:
        with pytest.raises(DamagedError):
            store.position_head(1, 1)
    if length >= 2:
        with pytest.raises(DamagedError):
            segments_of(store, 1)
    assert store.partitions() == [1]


@search(200)
@given(st.binary(max_size=12), st.booleans())
def test_any_stored_format_is_known_newer_damaged_or_somebody_elses(value: bytes, sealed: bool) -> None:
    engine = MemoryEngine()
    Store(engine)
    engine.put(layout.NODE, [(b"format", layout.seal(b"format", value) if sealed else value)])
    try:
        check_format(read_format(engine))
    except (DamagedError, NewerFormatError, StorageFailedError):
        return

    assert int.from_bytes(value) <= 1


# A published snapshot is made of what other nodes said.


@search(100)
@given(st.dictionaries(TEXTS, st.one_of(SCALARS, VALUES), max_size=3))
def test_any_status_that_was_published_is_answered(status: Any) -> None:
    state = State()
    state.take({"ready": False, "reasons": ["x", 5], "status": status, "metrics": Metrics().snapshot()})

    for path in ("/readyz", "/livez"):
        assert ask(application(state, 1), "GET", path, [], b"", b"") in (200, 503)


def test_a_value_nested_too_deeply_is_read_by_no_row() -> None:
    with pytest.raises(DamagedError):
        layout.unpack_session_run(bytes(18), layout.seal(bytes(18), bytes(20) + nested(1100)))
