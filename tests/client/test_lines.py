"""The format of import and export: what comes out goes in again as the same bytes."""

import json
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind.errors import RewindError
from rewind.events import Event
from rewind.lines import data_fields, dump, export_fields, parse_line, time_text

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4),
    max_leaves=10,
)


def line(**fields: Any) -> bytes:
    return json.dumps({"stream": "s", "type": "T", "data": 1, **fields}).encode()


def event(data: bytes = b"1", metadata: dict[str, Any] | None = None) -> Event:
    return Event("s", 1, "T", data, 1, 1, 1, bytes(16), msgpack.packb(metadata) if metadata else None)


@given(st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode()))
def test_exported_data_is_imported_to_the_same_bytes(data: bytes) -> None:
    parsed = parse_line(dump(export_fields(event(data))).encode())

    assert parsed.data == data


@given(st.dictionaries(texts, json_values, max_size=4))
def test_exported_metadata_is_imported_to_the_same_metadata(metadata: dict[str, Any]) -> None:
    parsed = parse_line(dump(export_fields(event(metadata=metadata))).encode())

    assert (parsed.metadata or {}) == metadata
    assert parsed.id == UUID(int=0)


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (b'{"a":1}', {"data": {"a": 1}}),
        ('"é"'.encode(), {"data": "é"}),
        (b"null", {"data": None}),
        (b'{"a": 1}', {"data_base64": "eyJhIjogMX0="}),  # not compact
        (b'{"a":1,"a":2}', {"data_base64": "eyJhIjoxLCJhIjoyfQ=="}),  # a key twice
        (b"1e2", {"data_base64": "MWUy"}),  # would become 100.0
        (b"NaN", {"data_base64": "TmFO"}),
        (b'"\\ud800"', {"data_base64": "Ilx1ZDgwMCI="}),
        (b"hello", {"data_base64": "aGVsbG8="}),
        (b"", {"data_base64": ""}),
    ],
)
def test_data_is_shown_as_json_only_where_it_comes_back_the_same(data: bytes, fields: dict[str, Any]) -> None:
    assert data_fields(data) == fields


@pytest.mark.parametrize(
    ("given_time", "kept"),
    [
        ("2015-08-25T14:35:29+01:00", "2015-08-25T14:35:29+01:00"),
        ("2015-08-25T14:35:29Z", "2015-08-25T14:35:29Z"),
        ("2015-08-25T14:35:29", "2015-08-25T14:35:29Z"),
        ("2015-08-25 14:35:29.5", "2015-08-25T14:35:29.500000Z"),
        ("2015-08-25", "2015-08-25T00:00:00Z"),
    ],
)
def test_a_time_is_kept_as_given_and_without_an_offset_means_utc(given_time: str, kept: str) -> None:
    parsed = parse_line(line(time=given_time, metadata={"user": "7"}))

    assert parsed.metadata == {"user": "7", "time": kept}
    assert time_text(kept) == kept


def test_a_kept_time_is_exported_as_the_time() -> None:
    fields = export_fields(event(metadata={"time": "2015-08-25T14:35:29+01:00", "user": "7"}))

    assert fields["time"] == "2015-08-25T14:35:29+01:00"
    assert fields["metadata"] == {"user": "7"}


def test_a_time_in_metadata_that_is_no_kept_time_stays_there() -> None:
    assert export_fields(event(metadata={"time": 12}))["metadata"] == {"time": 12}
    assert export_fields(event(metadata={"time": "2015-08-25T14:35:29"}))["metadata"] == {"time": "2015-08-25T14:35:29"}


def test_a_derived_id_depends_on_stream_ordinal_and_content_only() -> None:
    first = parse_line(line()).event(1)

    assert first == parse_line(b' {"data": 1, "type": "T", "stream": "s"} ').event(1)
    others = [parse_line(line()).event(2), parse_line(line(stream="t")).event(1), parse_line(line(type="U")).event(1)]
    others += [parse_line(line(data=2)).event(1), parse_line(line(metadata={"a": 1})).event(1)]
    assert len({each.id for each in (first, *others)}) == 6


def test_a_given_id_is_kept() -> None:
    given_id = "12345678-1234-5678-1234-567812345678"

    assert parse_line(line(id=given_id)).event(5).id == UUID(given_id)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"stream":"s","type":"T"}',
        b'{"stream":"s","data":1}',
        b'{"type":"T","data":1}',
        b'{"stream":"s","type":"T","data":1,"data_base64":""}',
        b'{"stream":"s","type":"T","data":{"a":1,"a":2}}',
        b'{"stream":"s","type":"T","data":NaN}',
        b'{"stream":"s","type":"T","data":1e999}',
        b'{"stream":"s","type":"T","data":0.12345678901234567890}',
        b'{"stream":"s","type":"T","data":"\\ud800"}',
        b"[" * 100_000,
        line(data_base64="!", data=1),
        line(stream=""),
        line(stream=1),
        line(type="a\nb"),
        line(id="x"),
        line(id=5),
        line(time="yesterday"),
        line(time=5),
        line(metadata=[]),
        line(metadata={"a": 1 << 70}),
        line(time="2015-08-25T14:35:29Z", metadata={"time": "x"}),
        line(other=1),
        line(data="x" * (1024 * 1024)),
    ],
)
def test_a_line_that_is_no_event_is_refused(text: bytes) -> None:
    with pytest.raises(RewindError):
        parse_line(text)
