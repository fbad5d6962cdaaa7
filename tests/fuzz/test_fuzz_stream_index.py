"""Random runs, checkpoints, merges and crashes of an index of streams, against a plain dictionary."""

from collections import defaultdict

import pytest
from fuzzing.material import search
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from rewind_cluster.errors import DamagedError
from rewind_cluster.records import Run
from rewind_node import stream_blocks, stream_segments
from rewind_node.memory_engine import MemoryEngine
from rewind_node.store import Store, StreamRow
from rewind_node.stream_index import VERSION_MAX, StreamIndex

STEPS = 60
CONTEXTS = (1, 7)
NAMES = st.sampled_from(["a", "aa", "a\u00e4", "b", "c", "\U0010ffff", "z" * 255])
FRESH = st.integers(1, 90)  # how many streams that nobody has seen a run begins
COUNTS = st.integers(1, 3)


class IndexModel(RuleBasedStateMachine):
    """The log that leads to the index is kept, as a replica's is: what a crash loses is applied anew from the mark."""

    @initialize()
    def start(self) -> None:
        self.store = Store(MemoryEngine())
        self.log: list[tuple[int, Run]] = []
        self.mark = self.durable_mark = 0
        self.applied = 0
        self.frozen = 0  # the mark of the checkpoint under way
        self.rows: dict[int, dict[str, list[StreamRow]]] = {context: defaultdict(list) for context in CONTEXTS}
        self.new_streams = 0
        self.store.commit()
        self.index = StreamIndex(1, self.store, 0)

    def apply(self, context: int, run: Run) -> None:
        self.applied += 1
        self.index.add(context, run, self.applied, 5, 50)

    @rule(
        context=st.sampled_from(CONTEXTS),
        names=st.lists(st.tuples(NAMES, COUNTS), max_size=5),
        fresh=FRESH,
        single=st.booleans(),
    )
    def append(self, context: int, names: list[tuple[str, int]], fresh: int, single: bool) -> None:
        parts = [(f"new-{self.new_streams + number}", 1) for number in range(fresh)]
        parts += [(name, 1 if single else count) for name, count in names]
        self.new_streams += fresh
        rows = self.rows[context]
        first_versions = []
        for name, count in parts:
            before = rows[name][-1].last_version if rows[name] else 0
            rows[name].append(StreamRow(before + 1, count, self.applied + 1, 5, 50))
            first_versions.append(before + 1)
        counts = None if all(count == 1 for _, count in parts) else [count for _, count in parts]
        run = Run(1, 1, 1, 0, [name for name, _ in parts], first_versions, counts, None)
        self.log.append((context, run))
        self.apply(context, run)

    @rule(rows_max=st.sampled_from([1, 50, 100_000]))
    def checkpoint(self, rows_max: int) -> None:
        if not self.frozen:
            if self.applied == self.mark:
                return
            self.index.freeze()
            self.frozen = self.applied
        if self.index.write(rows_max):
            self.index.thaw(self.frozen)
            self.mark, self.frozen = self.frozen, 0

    @rule(times=st.integers(1, 60))
    def tidy(self, times: int) -> None:
        for _ in range(times):
            self.index.tidy(20)

    @rule()
    def commit(self) -> None:
        self.store.commit()
        self.durable_mark = self.mark

    @rule()
    def crash(self) -> None:
        engine = self.store.engine
        assert isinstance(engine, MemoryEngine)
        engine.crash()
        self.store = Store(engine)
        self.index = StreamIndex(1, self.store, self.durable_mark)
        self.mark = self.applied = self.durable_mark
        self.frozen = 0
        for context, run in self.log[self.durable_mark :]:
            self.apply(context, run)

    @rule(context=st.sampled_from(CONTEXTS), name=NAMES, version=st.sampled_from([0, 1, 2, 3, 5, 9, 30, VERSION_MAX]))
    def read(self, context: int, name: str, version: int) -> None:
        rows = self.rows[context].get(name, [])

        assert self.index.head(context, name) == (rows[-1].last_version if rows else 0)
        up, down = (list(self.index.rows(context, name, version, reverse=reverse)) for reverse in (False, True))
        assert up == [row for row in rows if row.last_version > version]
        assert down == [row for row in reversed(rows) if row.first_version <= version]
        assert self.index.knows_none_of(context, ["strange", name]) == (not rows)

    @rule(context=st.sampled_from(CONTEXTS), prefix=st.sampled_from(["", "a", "new-1", "q"]), after=st.none() | NAMES)
    def names(self, context: int, prefix: str, after: str | None) -> None:
        known = sorted(name for name, rows in self.rows[context].items() if rows and name.startswith(prefix))

        beyond = [name for name in known if after is None or name > after]

        assert self.index.names(context, prefix, after, 7) == beyond[:7]

    @invariant()
    def knows_what_came_last(self) -> None:
        if self.log:
            context, run = self.log[-1]
            assert self.index.head(context, run.streams[-1]) == self.rows[context][run.streams[-1]][-1].last_version


def test_an_index_of_streams_behaves_like_a_dictionary_whatever_is_merged_or_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_blocks, "VALUE_BYTES_MAX", 400)
    monkeypatch.setattr(stream_segments, "MERGED_AT_ONCE", 3)

    run_state_machine_as_test(IndexModel, settings=settings(search(60), stateful_step_count=STEPS))


def keep_in_order(index: StreamIndex) -> None:
    while index.untidy:
        index.tidy(100)


def test_a_stream_that_begins_anew_is_damage_when_its_rows_are_merged() -> None:
    store = Store(MemoryEngine())
    index = StreamIndex(1, store, 0)
    for number in range(1, stream_segments.MERGED_AT_ONCE + 1):
        streams = ["s", "t"] if number in (1, 4) else [f"other-{number}"]
        index.add(1, Run(1, number, 1, 0, streams, [1] * len(streams), None, None), number, 5, 50)
        index.freeze()
        assert index.write(100)
        index.thaw(number)

    with pytest.raises(DamagedError, match="stream 's' has a row at version 1"):
        keep_in_order(index)


def test_rows_of_one_hot_stream_are_written_in_slices() -> None:
    store = Store(MemoryEngine())
    index = StreamIndex(1, store, 0)
    for version in range(1, 3001):
        index.add(1, Run(1, version, 1, 0, ["hot"], [version], None, None), version, 5, 50)
    index.freeze()

    slices = 1
    while not index.write(100):
        slices += 1
    index.thaw(3000)

    assert slices >= 30
    assert [row.first_version for row in index.rows(1, "hot", 0, reverse=False)] == list(range(1, 3001))
