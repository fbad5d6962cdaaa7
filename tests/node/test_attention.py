"""What `rewind status` and the dashboard say needs attention."""

import pytest

from rewind_node.attention import LAG_MAX, attention


def node(name: str = "n1", state: str = "up", reasons: list[str] | None = None) -> dict[str, object]:
    return {"name": name, "address": f"{name}:7070", "state": state, "reasons": reasons}


def partition(number: int, leader: str | None = "n1", **replica: object) -> dict[str, object]:
    second = {"node": "n2", "role": "follower", "match": 20_000, "applied": 20_000} | replica
    return {"partition": number, "leader": leader, "commit": 20_000, "replicas": [second]}


def test_where_all_is_well_nothing_needs_attention() -> None:
    assert attention([node(), node("n2", reasons=[])], [partition(0), partition(1, match=20_000 - LAG_MAX)]) == []


@pytest.mark.parametrize(
    ("nodes", "partitions", "line"),
    [
        ([], [partition(3, leader=None)], "partition 3 has no leader: it takes no appends"),
        ([], [partition(3, role="quarantined")], "partition 3: the replica on n2 is quarantined"),
        ([], [partition(3, match=19_999 - LAG_MAX)], "partition 3: the replica on n2 is 10,001 entries behind"),
        ([node(state="down")], [], "node n1 at n1:7070 is down"),
        ([node(reasons=["its disk is full"])], [], "node n1: its disk is full"),
    ],
)
def test_what_is_not_as_it_should_be_has_a_line(
    nodes: list[dict[str, object]], partitions: list[dict[str, object]], line: str
) -> None:
    (told,) = attention(nodes, partitions)

    assert told.startswith(line)


def test_what_nobody_can_write_to_comes_first() -> None:
    lines = attention([node(state="down")], [partition(1, role="quarantined"), partition(2, leader=None)])

    assert [line.split()[:2] for line in lines] == [["partition", "2"], ["partition", "1:"], ["node", "n1"]]


def test_what_nobody_knows_needs_no_attention() -> None:
    unknown = partition(1, match=None) | {"commit": None}

    assert attention([node(reasons=None)], [unknown]) == []
