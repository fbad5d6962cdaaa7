"""Checkpoints keep pace with what is applied: memory and the number of segments stay bounded, whatever the load."""

import pytest

from rewind_cluster.records import Run
from rewind_node.applying import CHECKPOINT_ROWS_MIN, SLICE_ROWS, EventIndex
from rewind_node.memory_engine import MemoryEngine
from rewind_node.segment_catalogue import Catalogue
from rewind_node.store import Store
from rewind_node.stream_segments import MERGED_AT_ONCE

MANY_PARTITIONS = 1_000  # of one node: then each one's checkpoints are as small as they get
IDLE_TURNS_MAX = 20_000


class Load:
    """An index that is fed runs of new streams, a turn each, as a replica that keeps up or catches up is."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        store = Store(self.engine)
        store.create_partition(1)
        self.index = EventIndex(1, store, 0, MANY_PARTITIONS)
        self.rows = 0
        self.most_gathered = 0
        self.longest_checkpoint = 0  # turns
        self._turns = 0

    def turn(self, count: int) -> None:
        if count:
            streams = [f"s-{number}" for number in range(self.rows, self.rows + count)]
            self.rows += count
            self.index.applied += 1
            run = Run(1, self.index.applied, 1, 0, streams, [1] * count, None, None)
            self.index.streams.add(1, run, self.index.applied, 0, 9)
        if self.index.checkpoint_due:
            self.index.begin_checkpoint()
        self._turns = self._turns + 1 if self.index.checkpointing else 0
        self.index.keep_house()
        self.most_gathered = max(self.most_gathered, self.index.streams.row_count)
        self.longest_checkpoint = max(self.longest_checkpoint, self._turns)

    @property
    def segments(self) -> int:
        return len(Catalogue(1, self.engine, self.index.checkpointed).segments.get(1, ()))


@pytest.mark.parametrize("rows_a_turn", [1, SLICE_ROWS, 4 * SLICE_ROWS, 3 * CHECKPOINT_ROWS_MIN])
def test_rows_do_not_gather_faster_than_they_are_written(rows_a_turn: int) -> None:
    load = Load()

    while load.rows < max(12 * CHECKPOINT_ROWS_MIN, 12 * rows_a_turn):
        load.turn(rows_a_turn)

    assert load.index.checkpointed > 0
    assert load.most_gathered <= 2 * (CHECKPOINT_ROWS_MIN + rows_a_turn)


def test_a_checkpoint_of_a_quiet_replica_ends_too() -> None:
    load = Load()
    load.turn(CHECKPOINT_ROWS_MIN)

    for _ in range(CHECKPOINT_ROWS_MIN // SLICE_ROWS + 10):
        load.turn(0)

    assert load.index.checkpointed == load.index.applied


@pytest.mark.parametrize("rows_a_turn", [SLICE_ROWS, 2 * CHECKPOINT_ROWS_MIN])
def test_segments_stay_few_under_a_load_that_never_ends(rows_a_turn: int) -> None:
    load = Load()
    most = 0

    while load.rows < 24 * max(CHECKPOINT_ROWS_MIN, rows_a_turn):
        load.turn(rows_a_turn)
        most = max(most, load.segments)

    assert most <= 2 * MERGED_AT_ONCE


def test_merging_goes_on_until_all_is_in_order_when_the_load_ends() -> None:
    load = Load()
    for _ in range(20):
        load.turn(2 * CHECKPOINT_ROWS_MIN)

    idle = 0
    while (load.index.checkpointing or load.index.streams.untidy) and idle < IDLE_TURNS_MAX:
        load.turn(0)
        idle += 1

    assert idle < IDLE_TURNS_MAX
    assert load.segments <= 2 * MERGED_AT_ONCE
    assert load.index.head(1, "s-0") == load.index.head(1, f"s-{load.rows - 1}") == 1
