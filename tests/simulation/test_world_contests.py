"""Trouble around elections and late words to clients: that it comes to what the planted bugs need to be found."""

import random
from collections import Counter
from typing import Any

import pytest
from simulator.connection import DIALLER
from simulator.disk import FaultyEngine, Stopwatch
from simulator.faults import apply
from simulator.plan import Fault

from rewind_node.storage_errors import StorageFailedError

LONG_US = 5_000_000


def strike(world: Any, kind: str, *, for_us: int = LONG_US, choice: int = 1) -> None:
    """Let a fault happen now."""
    apply(world, Fault(world.now_us, kind, tuple(range(len(world.hosts))), for_us, choice))


def words(line: str) -> dict[str, str]:
    """Return the facts of a line of the story."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def terms(world: Any) -> int:
    """Return how many terms of the data partitions somebody has campaigned in."""
    told = [words(line) for line in world.told("event=campaigning")]
    return len({(facts["partition"], facts["term"]) for facts in told if facts["partition"] != "0"})


def test_leaders_and_candidates_of_a_hounded_partition_are_hit_at_once(make_world: Any) -> None:
    hits = Counter[str]()
    for seed in range(6):
        world = make_world(seed, nodes=5, replication_factor=5).found()
        strike(world, "hound", for_us=20_000_000, choice=seed)
        for _ in range(8):
            strike(world, "transfer", choice=world.now_us)
            world.wait(2_500_000)
        hits.update(words(line)["move"] for line in world.told("hit"))

    assert hits.keys() == {"crash", "crash-other", "part", "strand", "shake"}


def test_a_swinging_voter_lets_terms_pass_and_crashes_after_it_has_voted(make_world: Any) -> None:
    passed = voted = 0
    for seed in range(6):
        world = make_world(seed).found()
        before = terms(world)
        strike(world, "swing", for_us=10_000_000, choice=seed)
        world.wait(14_000_000)
        passed += terms(world) - before
        voted += len(world.told("swing", "step=vote"))

    assert passed > 12
    assert voted > 3


def test_the_second_in_a_duel_wants_its_change_before_it_has_committed_anything(make_world: Any) -> None:
    refusals = []
    for seed in range(4):
        world = make_world(seed, nodes=5, memberships=True).found()
        strike(world, "duel", choice=seed)
        world.wait(18_000_000)
        refusals += world.told("duel", "the leader has committed nothing in its term yet")

    assert len(refusals) > 1


def test_what_was_sent_on_a_stalled_connection_comes_after_what_is_sent_on_the_next(make_world: Any) -> None:
    world = make_world().found()
    world.append("stream")
    client = world.clients[0]
    host = world.leads(client.calls.partition_of("stream"))
    for connection in world.network.between(host, client):
        world.network.stall(connection, DIALLER, 1_000_000)
    call = world.begin("stream")
    world.wait(100_000)
    late = world.network.between(host, client)
    for connection in late:
        world.network.give_up(connection)

    world.finish(call)
    answered_us = world.now_us
    world.until(lambda: not any(any(connection.held) for connection in late))

    assert call.error is None
    assert call.result.version == 2
    assert world.now_us > answered_us


@pytest.mark.parametrize("kind", ["late-requests", "late-answers", "roll"])
def test_appends_take_effect_once_whatever_comes_late(make_world: Any, kind: str) -> None:
    for seed in range(5):
        world = make_world(seed).found()
        world.append("stream")
        strike(world, kind, choice=seed)
        calls = []
        for _ in range(40):
            calls.append(world.begin("stream", timeout=30.0))
            world.wait(25_000)

        world.finish(*calls)

        assert [call.error for call in calls] == [None] * 40
        assert [call.result.version for call in calls] == list(range(2, 42))


def test_a_commit_that_fails_leaves_all_of_it_or_nothing() -> None:
    left = set()
    for seed in range(20):
        engine = FaultyEngine(random.Random(seed), Stopwatch())
        engine.create_table("table")
        engine.commit()
        engine.put("table", [(b"earlier", b"1")])
        engine.commit()
        engine.put("table", [(b"one", b"2"), (b"other", b"3")])
        engine.failing = True
        with pytest.raises(StorageFailedError):
            engine.commit()
        left.add(tuple(key for key, _ in engine.scan("table", b"", b"\xff")))

    assert left == {(b"earlier",), (b"earlier", b"one", b"other")}
