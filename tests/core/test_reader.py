"""A reader believes no index: rows that a damaged page hides, doubles or moves are damage, never a shorter stream."""

import pytest
from runs_by_hand import answers, run_of, send

from rewind_cluster.errors import DamagedError

STREAM = "{read}"
EVENTS = [f"e{version}" for version in range(1, 6)]  # an append, and so a row, each
HOLES = {
    "the oldest": lambda rows: rows[1:],
    "one between": lambda rows: rows[:2] + rows[3:],
    "the newest": lambda rows: rows[:-1],
    "all": lambda rows: rows[:0],
}
OVERLAPS = {
    "one twice": lambda rows: rows[:3] + rows[2:],
    "one over two versions": lambda rows: [rows[0], rows[1]._replace(event_count=2), *rows[2:]],
}


@pytest.fixture
def replica(cluster):
    client = cluster.client()
    partition = cluster.partition_of(STREAM)
    leader = cluster.leader(partition)
    for number, name in enumerate(EVENTS, 1):
        send(client, leader, partition, [run_of(number, [[(STREAM, number - 1, [name])]])])
        answers(client, 1)
    return leader.core.replicas[partition]


@pytest.fixture
def hide(replica, monkeypatch):
    """Return the function that changes what the index says of the stream's rows."""

    def hide(change):
        rows_of = type(replica.index.streams).rows

        def rows(index, context, stream, after, *, reverse):
            changed = change(list(rows_of(index, context, stream, 0, reverse=False)))
            if reverse:
                return iter([row for row in reversed(changed) if row.first_version <= after])
            return iter([row for row in changed if row.last_version > after])

        monkeypatch.setattr(type(replica.index.streams), "rows", rows)

    return hide


def read(replica, after, *, reverse=False):
    chunk = replica.reader.chunk(1, STREAM, after, 1000, 1_000_000, reverse=reverse)
    return [data.decode() for append in chunk.appends for data in append.events.datas]


def test_a_whole_index_is_read_from_anywhere_both_ways(replica, hide):
    hide(lambda rows: rows)

    assert [read(replica, after) for after in range(7)] == [EVENTS[after:] for after in range(7)]
    assert [read(replica, start, reverse=True) for start in range(6)] == [EVENTS[:start][::-1] for start in range(6)]
    assert read(replica, None, reverse=True) == EVENTS[::-1]


@pytest.mark.parametrize("lost", HOLES)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_lost_row_is_damage(replica, hide, lost, reverse):
    hide(HOLES[lost])

    with pytest.raises(DamagedError, match="hole"):
        read(replica, 5 if reverse else 0, reverse=reverse)


@pytest.mark.parametrize("change", OVERLAPS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_row_that_does_not_join_its_neighbours_is_damage(replica, hide, change, reverse):
    hide(OVERLAPS[change])

    with pytest.raises(DamagedError, match=r"hole|another append"):
        read(replica, 5 if reverse else 0, reverse=reverse)


def test_a_row_that_begins_before_its_neighbour_ends_is_not_even_opened(replica, hide):
    hide(lambda rows: [*rows[:2], rows[2]._replace(first_version=2, event_count=2), *rows[3:]])

    with pytest.raises(DamagedError, match="overlap, at version 3"):
        read(replica, 0)


def test_a_read_that_needs_no_lost_row_is_served(replica, hide):
    hide(HOLES["the oldest"])

    assert read(replica, 1) == EVENTS[1:]
    with pytest.raises(DamagedError, match="hole"):
        read(replica, 3, reverse=True)


def test_an_earlier_answer_is_not_made_of_an_index_with_a_hole(cluster, replica, hide):
    hide(HOLES["one between"])
    client = cluster.client("other")
    leader = next(host for host in cluster.hosts if replica in host.core.replicas.values())
    again = run_of(1, [[(STREAM, 0, EVENTS)]])

    send(client, leader, replica.partition, [again])
    told = cluster.until(lambda: replica.damage)

    assert "hole" in told
