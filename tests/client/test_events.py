"""New events in, events out: what is checked, what is packed, what comes back."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgpack
import pytest

from rewind.errors import InvalidArgument, TooLarge
from rewind.events import AppendResult, Event, NewEvent, time_of
from rewind.ids import IDS_PER_DRAW, RandomIds
from rewind.packing import new_events
from rewind.tokens import Origin
from rewind_cluster.columns import check_events, pack_events

IDS = RandomIds()


def test_what_is_packed_passes_the_nodes_checks() -> None:
    given = UUID("12345678-1234-5678-1234-567812345678")
    events = [NewEvent("A", b"1", given, {"user": "7", "tags": ["x", None, 1.5, {"deep": True}]}), NewEvent("B", b"")]

    columns, size = new_events(events, IDS)

    packed = pack_events(columns)
    checked = check_events(packed, 2)
    assert len(packed) <= size
    assert checked.ids[:16] == given.bytes
    assert checked.types == ["A", "B"]
    assert checked.datas == [b"1", b""]
    assert checked.metadatas[1] is None
    assert checked.metadatas[0] is not None
    assert msgpack.unpackb(checked.metadatas[0]) == events[0].metadata


def test_random_ids_are_valid_and_never_repeat() -> None:
    ids = [UUID(bytes=IDS.take()) for _ in range(IDS_PER_DRAW * 3)]

    assert len(set(ids)) == len(ids)
    assert {one.version for one in ids} == {4}
    assert {one.variant for one in ids} == {"specified in RFC 4122"}


@pytest.mark.parametrize("data", [bytearray(b"x"), memoryview(b"x")])
def test_data_may_be_any_kind_of_bytes(data: Any) -> None:
    columns, _ = new_events(NewEvent("T", data), IDS)

    assert columns.datas == (b"x",)
    assert type(columns.datas[0]) is bytes


@pytest.mark.parametrize(
    "event",
    [
        NewEvent("", b""),
        NewEvent("a\nb", b""),
        NewEvent("\ud800", b""),
        NewEvent(None, b""),  # type: ignore[arg-type]
        NewEvent("T", "text"),  # type: ignore[arg-type]
        NewEvent("T", b"", "not a UUID"),  # type: ignore[arg-type]
        NewEvent("T", b"", None, ["no map"]),  # type: ignore[arg-type]
        NewEvent("T", b"", None, []),  # type: ignore[arg-type]
        NewEvent("T", b"", None, {1: "x"}),  # type: ignore[dict-item]
        NewEvent("T", b"", None, {"x": {1: "x"}}),
        NewEvent("T", b"", None, {"x": b"bytes"}),
        NewEvent("T", b"", None, {"x": float("nan")}),
        NewEvent("T", b"", None, {"x": 1 << 64}),
        NewEvent("T", b"", None, {"x": "\ud800"}),
        "no event",
        [],
        ["no event"],
        None,
    ],
)
def test_what_is_no_event_is_refused_at_once(event: Any) -> None:
    with pytest.raises(InvalidArgument):
        new_events(event, IDS)


def test_metadata_that_is_nested_without_end_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["x"] = endless

    with pytest.raises(InvalidArgument):
        new_events(NewEvent("T", b"", None, endless), IDS)


@pytest.mark.parametrize(
    "events",
    [
        NewEvent("T", bytes(1024 * 1024 + 1)),
        NewEvent("T" * 256, b""),
        NewEvent("T", b"", None, {"x": "y" * 70_000}),
        [NewEvent("T", b"")] * 4097,
        [NewEvent("T", bytes(1024 * 1024))] * 9,
    ],
)
def test_what_is_over_a_limit_is_too_large(events: Any) -> None:
    with pytest.raises(TooLarge):
        new_events(events, IDS)


def test_an_event_decodes_its_id_metadata_and_time_when_asked() -> None:
    micros = 1_700_000_000_123_456
    event = Event("s", 1, "T", b"", (micros << 12) + 7, 1, 1, bytes(range(16)), msgpack.packb({"a": [1]}))

    assert event.id == UUID(bytes=bytes(range(16)))
    assert event.metadata == {"a": [1]}
    assert event.time == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    event.metadata["a"].append(2)
    assert event.metadata == {"a": [1]}


def test_a_result_has_a_token_and_a_time() -> None:
    result = AppendResult(2, 9, 4, 5 << 12, Origin("c", 1))

    assert result.token == "c/1/4:9"  # noqa: S105 - not that kind of token
    assert result.time == time_of(5 << 12)


def test_what_is_printed_of_events_and_results_is_what_they_mean() -> None:
    event = Event("s", 1, "T", b"{}", 1 << 12, 2, 3, UUID(int=7).bytes, msgpack.packb({"user": "7"}))
    result = AppendResult(1, 2, 3, 1 << 12, Origin("c", 1))

    assert str(event) == (
        "Event(stream='s', version=1, type='T', data=b'{}', id=UUID('00000000-0000-0000-0000-000000000007'), "
        "metadata={'user': '7'}, time='1970-01-01T00:00:00.000001+00:00', position=2, partition=3)"
    )
    assert str(result) == (
        "AppendResult(version=1, position=2, partition=3, time='1970-01-01T00:00:00.000001+00:00', "
        f"token={result.token!r})"
    )
