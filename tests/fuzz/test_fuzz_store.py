"""Random operations on a store, over both engines, against plain dictionaries that are copied at each commit."""

import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fuzzing.borrowed import store
from fuzzing.material import search
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rewind_cluster.entry import NO_DIGEST, Entry, EntryKind
from rewind_cluster.errors import DamagedError
from rewind_node.storage_errors import AppendOrderError
from rewind_node.store import GroupRow, ReplicaState, SessionRun, Store
from rewind_node.store_layout import U64_MAX, PositionRow

STEPS = 40
SMALL_MAP_BYTES = 1 << 18  # so small that it has to grow on the way
PLACES = (0, 255)  # few, so that operations meet; the next after 255 has another first byte
PARTITIONS = st.sampled_from(PLACES)
CONTEXTS = st.sampled_from([255, (1 << 32) - 1])
COUNTS = st.integers(1, 3)
BODIES = st.binary(max_size=4).map(lambda text: text * 500)
NUMBERS = st.sampled_from([0, 1, 2, 3, 5, 8, U64_MAX - 1, U64_MAX])
ANSWERS = st.sampled_from([[], [0, [1], 1, 1, None, None], [0, [1, 7], 1, 1, [1, 3], [2]], [1, "s", 0, 1, True]])
GROUPS = st.sampled_from(["a", "a.b", "b", "a" * 64])
REPLICA_STATES = st.builds(
    ReplicaState, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.binary(max_size=3), NUMBERS, st.binary(max_size=3), NUMBERS
)


@dataclass
class Model:
    """What a store holds, in dictionaries; each key begins with the partition."""

    values: dict[str, bytes] = field(default_factory=dict)
    states: dict[int, ReplicaState] = field(default_factory=dict)
    logs: dict[int, list[Entry]] = field(default_factory=dict)
    positions: dict[tuple[int, int], list[PositionRow]] = field(default_factory=dict)
    runs: dict[tuple[int, int, int], SessionRun] = field(default_factory=dict)
    groups: dict[tuple[int, int, str], bytes] = field(default_factory=dict)

    def index_rows(self, partition: int) -> int:
        positions = sum(len(rows) for key, rows in self.positions.items() if key[0] == partition)
        return positions + sum(key[0] == partition for key in (*self.runs, *self.groups))

    def drop_indexes(self, partition: int) -> None:
        self.positions = {key: rows for key, rows in self.positions.items() if key[0] != partition}
        self.runs = {key: run for key, run in self.runs.items() if key[0] != partition}
        self.groups = {key: state for key, state in self.groups.items() if key[0] != partition}


class StoreModel(RuleBasedStateMachine):
    """Compares after each step. A subclass makes the machine."""

    make: Callable[[Path], Any]

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.machine = self.make(Path(self.directory.name))
        self.store = Store(self.machine.engine)
        self.store.commit()
        self.model = Model()
        self.durable = Model()

    def teardown(self) -> None:
        self.machine.stop()
        self.directory.cleanup()

    # Commits and crashes.

    @rule()
    def commit(self) -> None:
        self.store.commit()
        self.durable = deepcopy(self.model)

    @rule()
    def crash_and_reopen(self) -> None:
        self.store = Store(self.machine.crash())
        self.model = deepcopy(self.durable)

    # Replicas and values.

    @rule(key=st.sampled_from(["founding", "k"]), value=st.binary(max_size=5))
    def put_value(self, key: str, value: bytes) -> None:
        self.store.put_node_value(key, value)
        self.model.values[key] = value

    @rule(partition=PARTITIONS, state=REPLICA_STATES)
    def place_replica(self, partition: int, state: ReplicaState) -> None:
        if self.model.logs.get(partition) and partition not in self.model.states:
            return  # the remains of another must be dropped first
        self.store.create_partition(partition)
        self.store.put_replica_state(partition, state)
        self.model.logs.setdefault(partition, [])
        self.model.states[partition] = state

    @precondition(lambda self: self.model.states)
    @rule(data=st.data(), state=REPLICA_STATES)
    def put_state(self, data: st.DataObject, state: ReplicaState) -> None:
        partition = data.draw(st.sampled_from(sorted(self.model.states)))
        self.store.put_replica_state(partition, state)
        self.model.states[partition] = state

    # Logs.

    @precondition(lambda self: self.model.logs)
    @rule(data=st.data(), bodies=st.lists(BODIES, min_size=1, max_size=4))
    def append(self, data: st.DataObject, bodies: list[bytes]) -> None:
        partition = data.draw(st.sampled_from(sorted(self.model.logs)))
        log = self.model.logs[partition]
        entries: list[Entry] = []
        for body in bodies:
            last = entries[-1] if entries else log[-1] if log else None
            entries.append(self.entry(len(log) + len(entries) + 1, body, last.digest if last else NO_DIGEST))
        self.store.append_entries(partition, entries)
        log += entries

    @staticmethod
    def entry(index: int, body: bytes, previous: bytes) -> Entry:
        return Entry.build(EntryKind.RECORDS, term=1, index=index, timestamp=index, previous_digest=previous, body=body)

    @precondition(lambda self: any(self.model.logs.values()))
    @rule(data=st.data(), body=BODIES)
    def touch_a_log(self, data: st.DataObject, body: bytes) -> None:
        partition = data.draw(st.sampled_from(sorted(number for number, log in self.model.logs.items() if log)))
        log = self.model.logs[partition]
        index = data.draw(st.integers(1, len(log)))
        match data.draw(st.sampled_from(["truncate", "replace", "append out of order"])):
            case "truncate":
                self.store.truncate(partition, index)
                del log[index - 1 :]
            case "replace":
                log[index - 1] = self.entry(index, body, NO_DIGEST)
                self.store.replace_entry(partition, log[index - 1])
            case _:
                with pytest.raises(AppendOrderError):
                    self.store.append_entries(partition, [log[index - 1]])

    # Indexes.

    @rule(partition=PARTITIONS, context=CONTEXTS, count=COUNTS)
    def put_position(self, partition: int, context: int, count: int) -> None:
        rows = self.model.positions.setdefault((partition, context), [])
        first = rows[-1].last_position + 1 if rows else 1
        self.store.put_positions(partition, context, [PositionRow(first, count, first * 2)])
        rows.append(PositionRow(first, count, first * 2))

    @rule(partition=PARTITIONS, context=st.integers(1, 3), group=GROUPS, state=st.binary(max_size=5))
    def put_group(self, partition: int, context: int, group: str, state: bytes) -> None:
        self.store.put_groups(partition, [GroupRow(context, group, state)])
        self.model.groups[partition, context, group] = state

    @rule(partition=PARTITIONS, context=st.integers(1, 3), group=GROUPS)
    def delete_group(self, partition: int, context: int, group: str) -> None:
        self.store.delete_groups(partition, [(context, group)])
        self.model.groups.pop((partition, context, group), None)

    @rule(partition=PARTITIONS, session=NUMBERS, first=NUMBERS, answer=ANSWERS)
    def put_run(self, partition: int, session: int, first: int, answer: list[Any]) -> None:
        run = SessionRun(session, first, 1, 1, 0, 1, answer)
        self.store.put_session_runs(partition, [run])
        self.model.runs[partition, session, first] = run

    @rule(partition=PARTITIONS, keys=st.lists(st.tuples(NUMBERS, NUMBERS), max_size=6))
    def delete_runs(self, partition: int, keys: list[tuple[int, int]]) -> None:
        self.store.delete_session_runs(partition, keys)
        for key in keys:
            self.model.runs.pop((partition, *key), None)

    # Removal, in slices with a commit and perhaps a crash between two of them.

    @rule(partition=PARTITIONS, count=st.integers(1, 4))
    def drop_indexes(self, partition: int, count: int) -> None:
        rows = self.model.index_rows(partition)
        slices = 1
        while not self.store.drop_indexes(partition, count):
            slices += 1
        state = self.model.states.get(partition)
        if state is not None:
            self.model.states[partition] = replace(state, applied=0)
        self.model.drop_indexes(partition)
        assert slices <= rows // count + 1

    @precondition(lambda self: self.model.logs)
    @rule(data=st.data(), count=st.integers(1, 4), crash=st.booleans())
    def drop_partition(self, data: st.DataObject, count: int, crash: bool) -> None:
        partition = data.draw(st.sampled_from(sorted(self.model.logs)))
        done = self.store.drop_partition(partition, count)
        self.commit()
        if crash:
            self.store = Store(self.machine.crash())
        assert partition not in self.store.partitions()
        assert partition in self.store.stateless_partitions()
        while not done:
            done = self.store.drop_partition(partition, count)
        self.model.logs[partition] = []
        self.model.states.pop(partition, None)
        self.model.drop_indexes(partition)
        self.commit()

    # What is found.

    @precondition(lambda self: any(self.model.logs.values()))
    @rule(data=st.data(), bytes_max=st.sampled_from([0, 1, 600, 3000, 1 << 20]))
    def read_a_log(self, data: st.DataObject, bytes_max: int) -> None:
        partition = data.draw(st.sampled_from(sorted(number for number, log in self.model.logs.items() if log)))
        log = self.model.logs[partition]
        first = data.draw(st.integers(1, len(log)))
        last = data.draw(st.integers(first, len(log)))
        wanted = [entry.data for entry in log[first - 1 : last]]

        found = self.store.entries(partition, first, last, bytes_max)

        assert found == wanted[: len(found)]
        assert found
        assert len(found) == 1 or sum(map(len, found)) <= bytes_max
        assert len(found) == len(wanted) or sum(map(len, wanted[: len(found) + 1])) > bytes_max
        with pytest.raises(DamagedError):
            self.store.entries(partition, len(log) + 1, len(log) + 1, 1)

    @rule(partition=PARTITIONS, context=CONTEXTS, position=NUMBERS)
    def find_a_position(self, partition: int, context: int, position: int) -> None:
        rows = self.model.positions.get((partition, context), [])
        wanted = [row for row in rows if row.last_position >= position]

        assert self.store.position_head(partition, context) == (rows[-1].last_position if rows else 0)
        assert list(self.store.position_rows(partition, context, position)) == wanted

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        store, model = self.store, self.model
        assert {key: value for key in ("founding", "k") if (value := store.node_value(key)) is not None} == model.values
        assert store.partitions() == sorted(model.states)
        assert {number: store.replica_state(number) for number in model.states} == model.states
        assert store.stateless_partitions() == sorted(model.logs.keys() - model.states.keys())
        for number, log in model.logs.items():
            assert store.log_store(number).last_index() == len(log)
            if log:
                assert store.log_store(number).entry(len(log)) == log[-1].data
        for space, rows in model.positions.items():
            assert list(store.position_rows(*space, 0)) == rows
        for number in PLACES:
            runs = sorted(key for key in model.runs if key[0] == number)
            assert list(store.session_runs(number)) == [model.runs[key] for key in runs]
            groups = sorted(key for key in model.groups if key[0] == number)
            assert list(store.groups(number)) == [GroupRow(*key[1:], model.groups[key]) for key in groups]


@pytest.mark.parametrize("engine", ["memory", "lmdb"])
def test_a_store_behaves_like_dictionaries_that_are_saved_at_each_commit(engine: str) -> None:
    class Machine(StoreModel):
        def make(self, path: Path) -> Any:
            return store.MemoryMachine() if engine == "memory" else store.LmdbMachine(path, SMALL_MAP_BYTES)

    run_state_machine_as_test(Machine, settings=settings(search(40), stateful_step_count=STEPS))
