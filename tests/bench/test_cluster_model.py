"""The model of a larger cluster: what a node pays for an event, and what then bounds it."""

import pytest
from cluster_model import Bound, Cost, Costs, Shape, bound

COSTS = Costs(leader=Cost(10.0, 12.0), follower=Cost(4.0, 6.0), client_us=20.0)


def bound_of(shape: Shape, commit_share: float = 0.25, costs: Costs = COSTS) -> Bound:
    return bound(costs, shape, commit_ms=0.5, commit_share=commit_share, round_trip_ms=0.2)


def test_three_nodes_that_lead_a_third_each_and_follow_the_rest_pay_for_it_in_that_proportion() -> None:
    found = bound_of(Shape(nodes=3, cores=64, partitions=3))

    assert found.ceiling == pytest.approx(1e6 / ((10 + 2 * 4) / 3))
    assert found.events == pytest.approx(found.ceiling * 0.75), "a loop that waits for its disk takes no events"
    assert found.is_loop
    assert found.client_cores == pytest.approx(found.events * 20 / 1e6)


def test_nodes_of_one_core_are_bound_by_all_their_threads() -> None:
    found = bound_of(Shape(nodes=3, cores=1, partitions=3), commit_share=0.01)

    assert not found.is_loop
    assert found.events == pytest.approx(1e6 / ((12 + 2 * 6) / 3))


def test_four_times_the_nodes_with_four_times_the_partitions_take_four_times_the_events() -> None:
    small, large = (bound_of(Shape(nodes, 4, nodes * 2)) for nodes in (3, 12))

    assert large.events == pytest.approx(4 * small.events)
    assert large.append_ms == small.append_ms


def test_partitions_that_cannot_be_spread_evenly_are_bound_by_the_node_with_most() -> None:
    shape = Shape(nodes=12, cores=4, partitions=13)

    assert (shape.leads, shape.follows) == (2, 2)
    assert bound_of(shape).events < bound_of(Shape(nodes=12, cores=4, partitions=12)).events


def test_an_append_waits_for_turns_that_are_as_long_as_their_commits_are_rare() -> None:
    seldom, often = (bound_of(Shape(3, 4, 3), commit_share=share).append_ms for share in (0.1, 0.5))

    assert seldom == pytest.approx(2.5 * 5.0 + 0.4)
    assert often == pytest.approx(2.5 * 1.0 + 0.4)


def test_fitted_costs_add_up_to_what_all_replicas_cost_and_keep_their_proportion() -> None:
    fitted = COSTS.fitted(3, Cost(36.0, 48.0))

    assert fitted.leader.loop_us + 2 * fitted.follower.loop_us == pytest.approx(36.0)
    assert fitted.leader.all_us + 2 * fitted.follower.all_us == pytest.approx(48.0)
    assert fitted.leader.loop_us / fitted.follower.loop_us == pytest.approx(10 / 4)


@pytest.mark.parametrize("shape", [(0, 1, 1, 1), (2, 1, 1, 3), (3, 1, 0, 3)])
def test_what_is_no_cluster_is_refused(shape: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="is no cluster"):
        Shape(*shape)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="leaves nothing"):
        bound_of(Shape(3, 4, 3), commit_share=share)
