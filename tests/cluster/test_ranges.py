"""Rows of events by position: what comes over the wire fits together and into its range, or is refused."""

import msgpack
import pytest

from rewind_cluster.client_messages import CLIENT_CODEC
from rewind_cluster.columns import Events, pack_events, unpack_types
from rewind_cluster.errors import DamagedError, ProtocolError
from rewind_cluster.ranges import EventRow, ReadAll, Subscribe, pack_row, pack_rows, unpack_rows


def packed(count):
    return pack_events(Events(bytes(16 * count), ["T"] * count, [b"d"] * count, None))


WHOLE = EventRow(11, 500, None, ["a", "b"], [1, 7], [2, 1], packed(3))
CUT = EventRow(11, 500, [0, 2], ["a", "b"], [1, 7], None, packed(2))


def frame(*rows):
    return pack_rows([pack_row(row) for row in rows])


def test_rows_come_back_as_they_were_packed():
    rows = unpack_rows(frame(WHOLE, CUT), 1, 100)

    assert [tuple(row) for row in rows] == [tuple(WHOLE), tuple(CUT)]
    assert list(zip(*rows[0].by_event(), strict=True)) == [(11, 500, "a", 1), (12, 501, "a", 2), (13, 502, "b", 7)]
    assert list(zip(*rows[1].by_event(), strict=True)) == [(11, 500, "a", 1), (13, 502, "b", 7)]
    assert [row.unpack_events().event_count for row in rows] == [3, 2]


def test_a_row_without_counts_has_an_event_for_each_part():
    row = WHOLE._replace(counts=None, events=packed(2))

    (back,) = unpack_rows(frame(row), 11, 12)

    assert list(zip(*back.by_event(), strict=True)) == [(11, 500, "a", 1), (12, 501, "b", 7)]


def test_later_versions_may_add_to_a_row():
    longer = msgpack.packb([[*WHOLE, "new"]])

    assert unpack_rows(longer, 1, 100) == [WHOLE]


@pytest.mark.parametrize(("first", "last"), [(12, 13), (11, 12), (1, 10), (14, 99)])
@pytest.mark.parametrize("row", [WHOLE, CUT])
def test_a_row_outside_its_range_is_refused(row, first, last):
    with pytest.raises(ProtocolError, match="outside its range"):
        unpack_rows(frame(row), first, last)


@pytest.mark.parametrize(
    "changes",
    [
        {"position": 0},
        {"position": "1"},
        {"timestamp": -1},
        {"timestamp": None},
        {"streams": []},
        {"streams": ["a"]},
        {"streams": ["a", 1]},
        {"streams": "ab"},
        {"first_versions": [1]},
        {"first_versions": [0, 1]},
        {"first_versions": [1, -1]},
        {"first_versions": [1, True]},
        {"first_versions": None},
        {"counts": [0, 3]},
        {"counts": [3]},
        {"counts": "21"},
        {"counts": [2, 1.0]},
        {"offsets": [0, 1]},
        {"offsets": [1, 0], "counts": None},
        {"offsets": [1, 1], "counts": None},
        {"offsets": [-1, 1], "counts": None},
        {"offsets": [0], "counts": None},
        {"offsets": [0, "1"], "counts": None},
        {"offsets": "01", "counts": None},
        {"events": "text"},
        {"events": None},
    ],
)
def test_columns_that_do_not_fit_together_are_refused(changes):
    with pytest.raises(ProtocolError):
        unpack_rows(frame(WHOLE._replace(**changes)), 1, 100)


@pytest.mark.parametrize(
    "garbage", [b"", b"\xc1", b"\xc0", b"\x91", b"\x91\x90", b"\x91\xc0", b"\x81\x01\x02", b"\x01"]
)
def test_garbage_is_no_rows(garbage):
    with pytest.raises(ProtocolError):
        unpack_rows(garbage, 1, 100)


def test_events_that_are_not_as_many_as_their_row_says_are_refused():
    (row,) = unpack_rows(frame(WHOLE._replace(events=packed(2))), 1, 100)

    with pytest.raises(ProtocolError):
        row.unpack_events()


def test_types_are_read_without_what_stands_behind_them():
    events = pack_events(Events(bytes(32), ["A", "B"], [b"x", b"y"], None))

    assert unpack_types(events[:-4] + b"\xc1\xc1\xc1\xc1", 2) == ["A", "B"]
    for damaged, count in ((events, 3), (b"", 2), (b"\x94\xc4", 2), (msgpack.packb([b"", ["A", 1], [], None]), 2)):
        with pytest.raises(DamagedError):
            unpack_types(damaged, count)


@pytest.mark.parametrize(
    "message",
    [Subscribe(1, 2, 3, 0, None, "", 9), Subscribe(1, 2, 3, 4, ["A"], "p", 9)]
    + [ReadAll(1, 2, 3, after, 4, 5, types, "", True, False, 0, 9) for after in (None, 7) for types in (None, [])],
)
def test_messages_with_and_without_filters_come_back(message):
    assert CLIENT_CODEC.decode(CLIENT_CODEC.encode(message)) == message


def test_types_that_are_no_array_are_refused():
    with pytest.raises(ProtocolError, match="types"):
        CLIENT_CODEC.decode(msgpack.packb([24, 1, 2, 3, 0, "T", "", 9]))
