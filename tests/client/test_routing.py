"""What the client believes about the map when nodes contradict each other."""

from dataclasses import replace

import pytest

from rewind.routing import Leader, Routing
from rewind_cluster.client_messages import MapIs
from rewind_cluster.errors import ProtocolError
from rewind_cluster.names import slot

MAP = MapIs(
    1,
    "c",
    5,
    [[0, 1], [32768, 2]],
    [["a", "node-a", "h:1"], ["b", "node-b", "h:2"]],
    [[1, 3, "a"], [2, 4, "b"]],
    [[1, ["a", "b"]], [2, ["a", "b"]]],
)


def test_a_stream_belongs_to_the_partition_of_its_slot() -> None:
    routing = Routing()
    routing.learn_map(MAP, "a")
    low = next(f"s{n}" for n in range(99) if slot(f"s{n}") < 32768)
    high = next(f"s{n}" for n in range(99) if slot(f"s{n}") >= 32768)

    assert routing.slots is not None
    assert (routing.slots.partition_of(low), routing.slots.partition_of(high)) == (1, 2)


@pytest.mark.parametrize(
    ("told", "told_by", "believed"),
    [
        (Leader(4, "b"), "c", Leader(4, "b")),  # a higher term, whoever tells it
        (Leader(2, "b"), "b", Leader(3, "a")),  # a lower one, even of itself
        (Leader(3, "b"), "c", Leader(3, "a")),  # a term has one leader: the second name is a mistake
        (Leader(3, ""), "c", Leader(3, "a")),  # another that has not heard yet
        (Leader(3, ""), "a", Leader(3, "")),  # its own word that it leads no longer
        (Leader(4, ""), "a", Leader(4, "")),  # the same, after it has seen a higher term
        (Leader(9, ""), "a", Leader(4, "")),  # one that it may forget: the next leader may be of any term after its own
        (Leader(4, ""), "c", Leader(3, "a")),  # a candidate, perhaps alone in a term that never has a leader
    ],
)
def test_the_highest_term_that_has_a_leader_is_believed(told: Leader, told_by: str, believed: Leader) -> None:
    routing = Routing()
    routing.learn_map(MAP, "a")

    routing.learn_leader(1, told, told_by=told_by)

    assert routing.leader(1) == believed


def test_a_leader_is_found_after_a_candidate_of_a_higher_term_was_forgotten() -> None:
    routing = Routing()
    routing.learn_map(replace(MAP, leaders=[[1, 4, ""]]), "b")  # it crashes before term 4 is durable

    changed = routing.learn_map(MAP, "a")

    assert changed == [1, 2]
    assert routing.leader(1) == Leader(3, "a")


@pytest.mark.parametrize("told_by", ["a", "c"])
def test_a_term_that_nobody_won_keeps_no_later_leader_of_a_lower_term_from_being_believed(told_by: str) -> None:
    routing = Routing()
    routing.learn_map(MAP, "a")
    routing.learn_leader(1, Leader(9, ""), told_by=told_by)

    routing.learn_leader(1, Leader(4, "b"), told_by="b")

    assert routing.leader(1) == Leader(4, "b")


def test_before_any_leader_is_known_a_term_without_one_hides_none() -> None:
    routing = Routing()

    routing.learn_leader(1, Leader(9, ""), told_by="c")
    routing.learn_leader(1, Leader(3, "a"), told_by="b")

    assert routing.leader(1) == Leader(3, "a")


def test_an_older_map_changes_no_addresses_and_still_tells_newer_leaders() -> None:
    routing = Routing()
    routing.learn_map(MAP, "a")

    changed = routing.learn_map(replace(MAP, index=4, nodes=[["a", "node-a", "h:9"]], leaders=[[1, 9, "b"]]), "b")

    assert changed == [1]
    assert routing.addresses == {"a": "h:1", "b": "h:2"}


@pytest.mark.parametrize(
    "slots",
    [[], [[1, 1]], [[0, 1], [0, 2]], [[0, 1], [65536, 2]], [["0", 1]], [[0]]],
)
def test_a_map_whose_slots_have_holes_is_refused(slots: list[object]) -> None:
    with pytest.raises(ProtocolError):
        Routing().learn_map(replace(MAP, slots=slots), "a")
