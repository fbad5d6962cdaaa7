"""The world: one queue of events, one course for each seed."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from membership_steps import learners
from simulator.faults import apply, draw_faults, heal_all
from simulator.randomness import source

from rewind_cluster.names import CONTROL

TESTS = Path(__file__).parents[1]
PROGRAM = """
from simulator.flavours import draw_plan
from simulator.run import run
print(run(draw_plan({seed})).trace_hash)
"""


def eventful(world: Any) -> str:
    """Let a world go through faults and appends, and return the hash of its trace."""
    world.found()
    for fault in draw_faults(source(world.seed, "faults"), world.shape):
        world.at(world.now_us + fault.at_us, apply, world, fault)
    for number in range(40):
        world.at(world.now_us + number * 250_000, world.begin, str(number % 7))
    world.wait(12_000_000)
    heal_all(world)
    world.wait(1_000_000)
    return str(world.trace_hash())


def test_a_cluster_is_founded_and_takes_appends(founded: Any) -> None:
    results = [founded.append(stream).result for stream in ("a", "b", "a")]

    assert [result.version for result in results] == [1, 1, 2]
    assert {host.node.cluster_id for host in founded.hosts} == {founded.founding.cluster_id}


def test_a_seed_takes_the_same_course_again(make_world: Any) -> None:
    assert eventful(make_world(3)) == eventful(make_world(3))


def test_two_seeds_take_different_courses(make_world: Any) -> None:
    assert eventful(make_world(3)) != eventful(make_world(4))


def test_telling_the_story_does_not_change_the_course(make_world: Any) -> None:
    silent, told = make_world(5, keep_story=False), make_world(5)

    assert eventful(silent) == eventful(told)
    assert (silent.story == [], told.story == []) == (True, False)


def test_a_seed_takes_the_same_course_in_every_process() -> None:
    def hash_of_run(hash_seed: int) -> str:
        environment = os.environ | {"PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(TESTS)}
        command = [sys.executable, "-c", PROGRAM.format(seed=17)]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    assert hash_of_run(1) == hash_of_run(2)


def test_sources_of_different_names_or_seeds_are_different() -> None:
    drawn = [source(seed, name).random() for seed, name in ((1, "a"), (1, "b"), (2, "a"), (1, "a"))]

    assert len(set(drawn)) == 3
    assert drawn[0] == drawn[3]


def test_events_happen_in_the_order_of_their_times_and_numbers(world: Any) -> None:
    seen: list[tuple[int, str]] = []
    for at_us, name in ((20, "c"), (10, "a"), (10, "b"), (30, "d")):
        world.at(at_us, lambda name: seen.append((world.now_us, name)), name)

    world.run_until(25)

    assert seen == [(10, "a"), (10, "b"), (20, "c")]
    assert world.now_us == 25


def test_what_is_planned_for_the_past_happens_now(world: Any) -> None:
    seen: list[int] = []
    world.run_until(100)

    world.at(50, lambda: seen.append(world.now_us))
    world.run_until(200)

    assert seen == [100]


def test_time_passes_while_a_condition_holds_and_no_longer_than_allowed(world: Any) -> None:
    assert world.run_while(lambda: world.now_us < 55_000, 1_000_000)
    assert 55_000 <= world.now_us < 100_000
    assert not world.run_while(lambda: True, 200_000)
    assert world.now_us == 200_000


def test_a_late_node_joins_as_a_learner_of_partition_0_alone(make_world: Any) -> None:
    world = make_world(late_nodes=1).found()
    late = world.hosts[3]

    world.until(lambda: late.node is not None and late.node.control is not None)

    assert list(late.node.replicas) == [CONTROL]
    world.until(lambda: world.replica(late, CONTROL).applied == world.replica(world.leads(CONTROL), CONTROL).applied)
    assert world.replica(late, CONTROL).raft.replica in learners(world.replica(late, CONTROL).raft.membership)


def test_five_nodes_are_founded_with_three_replicas_of_each_partition(make_world: Any) -> None:
    world = make_world(nodes=5, partitions=4).found()

    assert [len(host.node.replicas) - 1 for host in world.hosts].count(0) == 0
    assert sum(len(host.node.replicas) - 1 for host in world.hosts) == 12
