"""The simulated disk: what a crash takes and what it leaves, and the ways in which a disk can fail."""

import random
from typing import Any

import pytest
from simulator.disk import FaultyEngine, SimulatedReserve, Stopwatch

from rewind_node.disk_reserve import DISK_RESERVE_BYTES_MIN
from rewind_node.storage_errors import StorageFailedError, StorageFullError

TABLE = "table"


def make_engine(seed: int = 1) -> tuple[FaultyEngine, Stopwatch]:
    """Return a disk with one empty table, durable, and its stopwatch."""
    watch = Stopwatch()
    engine = FaultyEngine(random.Random(seed), watch)
    engine.create_table(TABLE)
    engine.commit()
    engine.settle(watch.now_us)
    return engine, watch


def contents(engine: FaultyEngine) -> dict[bytes, bytes]:
    """Return what is in the table."""
    return dict(engine.scan(TABLE, b"", b"\xff"))


def test_a_crash_loses_what_was_not_committed() -> None:
    engine, watch = make_engine()
    engine.put(TABLE, [(b"kept", b"1")])
    engine.commit()
    engine.put(TABLE, [(b"lost", b"2"), (b"kept", b"3")])

    engine.cut_power(watch.now_us, torn=False)

    assert contents(engine) == {b"kept": b"1"}
    assert not engine.dirty


def test_a_commit_takes_time_and_is_durable_from_its_end_on() -> None:
    for early_us, expected in ((1, {}), (0, {b"key": b"value"})):
        engine, watch = make_engine()
        begun_us = watch.now_us
        engine.put(TABLE, [(b"key", b"value")])
        engine.commit()
        assert 200 <= watch.now_us - begun_us <= 3000

        engine.cut_power(watch.now_us - early_us, torn=False)

        assert contents(engine) == expected


def test_a_torn_commit_is_durable_although_nobody_was_told() -> None:
    engine, watch = make_engine()
    begun_us = watch.now_us
    engine.put(TABLE, [(b"key", b"value")])
    engine.commit()
    engine.put(TABLE, [(b"later", b"value")])

    engine.cut_power(begun_us, torn=True)

    assert contents(engine) == {b"key": b"value"}


def test_a_commit_that_has_not_begun_is_never_durable() -> None:
    engine, watch = make_engine()
    engine.put(TABLE, [(b"first", b"1")])
    engine.commit()
    second_us = watch.now_us
    engine.put(TABLE, [(b"second", b"2")])
    engine.commit()

    engine.cut_power(second_us - 1, torn=True)

    assert contents(engine) == {b"first": b"1"}


def test_a_commit_of_nothing_takes_no_time() -> None:
    engine, watch = make_engine()
    before_us = watch.now_us

    engine.commit()

    assert watch.now_us == before_us


@pytest.mark.parametrize("seed", range(30))
def test_the_disk_holds_what_some_durable_commit_held(seed: int) -> None:
    """Against a model: the contents after each commit, of which a crash leaves the newest that was durable."""
    drawn = random.Random(seed)
    engine, watch = make_engine(seed)
    states = [(0, contents(engine))]
    for _ in range(60):
        key = b"%d" % drawn.randrange(8)
        if drawn.random() < 0.3:
            engine.delete(TABLE, [key])
        else:
            engine.put(TABLE, [(key, b"%d" % drawn.randrange(100))])
        if drawn.random() < 0.4:
            engine.commit()
            states.append((watch.now_us, contents(engine)))
        if drawn.random() < 0.2:
            engine.settle(watch.now_us)
            watch.now_us += 10
        if drawn.random() < 0.1:
            crash_us = drawn.randint(watch.now_us - 2, watch.now_us)
            engine.cut_power(crash_us, torn=False)
            durable = [state for state in states if state[0] <= crash_us]
            assert contents(engine) == durable[-1][1]
            states = [durable[-1]]
            watch.now_us += 10


def test_a_slow_disk_is_slow() -> None:
    engine, watch = make_engine()
    engine.slowness = 50
    before_us = watch.now_us

    engine.put(TABLE, [(b"key", b"value")])
    engine.commit()

    assert watch.now_us - before_us >= 10_000


def test_a_stuck_commit_ends_when_the_disk_is_no_longer_stuck() -> None:
    engine, watch = make_engine()
    engine.stuck_until_us = watch.now_us + 4_000_000
    engine.put(TABLE, [(b"key", b"value")])

    engine.commit()
    assert watch.now_us == engine.stuck_until_us
    engine.cut_power(watch.now_us - 1, torn=False)

    assert contents(engine) == {}


def test_a_failing_commit_may_have_become_durable() -> None:
    outcomes = set()
    for seed in range(20):
        engine, watch = make_engine(seed)
        engine.failing = True
        engine.put(TABLE, [(b"key", b"value")])

        with pytest.raises(StorageFailedError):
            engine.commit()
        engine.cut_power(watch.now_us, torn=False)
        outcomes.add(b"key" in contents(engine))

    assert outcomes == {True, False}


def test_a_full_disk_refuses_commits_until_there_is_space() -> None:
    engine, watch = make_engine()
    engine.free_bytes = 100
    engine.put(TABLE, [(b"key", bytes(200))])
    with pytest.raises(StorageFullError):
        engine.commit()
    engine.cut_power(watch.now_us, torn=False)
    assert contents(engine) == {}

    engine.give_space()
    engine.put(TABLE, [(b"key", bytes(200))])
    engine.commit()

    assert contents(engine) == {b"key": bytes(200)}


@pytest.mark.parametrize(("share", "expected"), [(1.0, (False, False)), (0.5, (True, False)), (0.2, (True, True))])
def test_the_reserve_is_judged_as_on_a_real_disk(share: float, expected: tuple[bool, bool]) -> None:
    engine, _ = make_engine()
    reserve = SimulatedReserve(engine)

    engine.free_bytes = int(DISK_RESERVE_BYTES_MIN * share)

    assert (reserve.is_breached(), reserve.is_exhausted()) == expected


def test_a_flipped_bit_changes_one_bit_and_survives_a_crash() -> None:
    engine, watch = make_engine()
    engine.put(TABLE, [(b"key", b"\x00\x00")])
    engine.commit()
    engine.settle(watch.now_us)

    engine.flip(TABLE, b"key", 9)
    engine.cut_power(watch.now_us, torn=False)

    assert contents(engine) == {b"key": b"\x00\x02"}
    assert [flip.key for flip in engine.damaged_rows()] == [b"key"]


def test_a_repaired_row_is_damaged_again_if_a_crash_takes_the_repair_back() -> None:
    engine, watch = make_engine()
    engine.put(TABLE, [(b"key", b"good")])
    engine.commit()
    engine.settle(watch.now_us)
    engine.flip(TABLE, b"key", 0)

    engine.put(TABLE, [(b"key", b"good")])
    assert engine.damaged_rows() == []
    engine.cut_power(watch.now_us, torn=False)
    assert len(engine.damaged_rows()) == 1
    engine.put(TABLE, [(b"key", b"good")])
    engine.commit()
    engine.cut_power(watch.now_us, torn=False)

    assert engine.damaged_rows() == []


def test_what_a_host_puts_is_taken_from_its_space(founded: Any) -> None:
    host = founded.leads(1)
    before = host.engine.free_bytes

    founded.append(founded.stream_in(1))

    assert host.engine.free_bytes < before - 100
