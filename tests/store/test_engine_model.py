"""Random operations on an engine, against a dictionary that is copied at each commit."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from rewind_node.storage_errors import AppendOrderError

KEYS = st.binary(min_size=1, max_size=3)
VALUES = st.binary(max_size=8)
TABLES = st.sampled_from(["a", "b"])
BOUNDS = st.binary(max_size=3)
Rows = dict[bytes, bytes]


def between(model: Rows, start: bytes, stop: bytes) -> list[tuple[bytes, bytes]]:
    return sorted((key, value) for key, value in model.items() if start <= key < stop)


class EngineModel(RuleBasedStateMachine):
    """Compares after each step. A subclass makes the machine."""

    make: Callable[[Path], Any]

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.machine = self.make(Path(self.directory.name))
        self.engine = self.machine.engine
        for table in ("a", "b"):
            self.engine.create_table(table)
        self.engine.commit()
        self.model: dict[str, Rows] = {"a": {}, "b": {}}
        self.durable: dict[str, Rows] = {"a": {}, "b": {}}

    def teardown(self) -> None:
        self.machine.stop()
        self.directory.cleanup()

    @rule(table=TABLES, items=st.lists(st.tuples(KEYS, VALUES), max_size=5))
    def put(self, table: str, items: list[tuple[bytes, bytes]]) -> None:
        self.engine.put(table, items)
        self.model[table].update(items)

    @rule(table=TABLES, items=st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=3))
    def append(self, table: str, items: list[tuple[bytes, bytes]]) -> None:
        keys = [key for key, _ in items]
        in_order = keys == sorted(set(keys)) and keys[0] > max(self.model[table], default=b"")
        try:
            self.engine.append(table, items)
            assert in_order
            self.model[table].update(items)
        except AppendOrderError:
            assert not in_order

    @rule(table=TABLES, keys=st.lists(KEYS, max_size=4))
    def delete(self, table: str, keys: list[bytes]) -> None:
        self.engine.delete(table, keys)
        for key in keys:
            self.model[table].pop(key, None)

    @rule(table=TABLES, start=BOUNDS, stop=BOUNDS, count_max=st.one_of(st.none(), st.integers(0, 4)))
    def delete_range(self, table: str, start: bytes, stop: bytes, count_max: int | None) -> None:
        doomed = between(self.model[table], start, stop)[:count_max]
        assert self.engine.delete_range(table, start, stop, count_max) == len(doomed)
        for key, _ in doomed:
            del self.model[table][key]

    @rule(table=TABLES, after=st.one_of(st.just(b""), KEYS), count=st.integers(0, 4))
    def delete_run(self, table: str, after: bytes, count: int) -> None:
        model = self.model[table]
        there = not after or after in model
        doomed = [pair for pair in sorted(model.items()) if pair[0] > after][:count] if there else []
        assert self.engine.run(table, after, count) == doomed
        assert self.engine.delete_run(table, after, count) == len(doomed)
        for key, _ in doomed:
            del model[key]

    @rule()
    def commit(self) -> None:
        self.engine.commit()
        self.durable = {table: dict(rows) for table, rows in self.model.items()}

    @rule()
    def crash(self) -> None:
        self.engine = self.machine.crash()
        self.model = {table: dict(rows) for table, rows in self.durable.items()}

    @rule(table=TABLES, key=KEYS)
    def look(self, table: str, key: bytes) -> None:
        model = self.model[table]
        assert self.engine.get(table, key) == model.get(key)
        floors = between(model, b"", key + b"\x00")
        assert self.engine.floor(table, key) == (floors[-1] if floors else None)

    @rule(table=TABLES, start=BOUNDS, stop=BOUNDS)
    def scan(self, table: str, start: bytes, stop: bytes) -> None:
        expected = between(self.model[table], start, stop)
        assert list(self.engine.scan(table, start, stop)) == expected
        assert list(self.engine.scan(table, start, stop, reverse=True)) == expected[::-1]

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        for table, model in self.model.items():
            assert dict(self.engine.scan(table, b"", b"\xff" * 4)) == model


def test_an_engine_behaves_like_a_dictionary_that_is_saved_at_each_commit(machine: Any) -> None:
    kind = type(machine)

    class Model(EngineModel):
        def make(self, path: Path) -> Any:
            return kind(path, 1 << 20) if kind.__name__ == "LmdbMachine" else kind()

    run_state_machine_as_test(
        Model, settings=settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True)
    )
