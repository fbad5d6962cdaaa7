"""What the checker is given: logs from stores and dumps, the final one among replicas, and histories in files."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from time import process_time
from uuid import UUID

import msgpack
import pytest
from histories.checker import check
from histories.history import ANY, AppendDone, History, Outcome
from histories.logs import StoredAppend, StoredEntry, StoredLog, log_of_store, logs_of_dump
from histories.model import Model
from histories.planting import PARTITION, Case
from histories.recording import append_done, content_of, digest_of, part_of, seen_event
from histories.replicas import final_log
from histories.violations import Kind

from rewind import AppendResult, Event, NewEvent, OutcomeUnknown, StorageFull, WrongExpectedVersion
from rewind.tokens import Origin
from rewind_cluster.columns import Events, pack_events
from rewind_cluster.entry import NO_DIGEST, Entry, EntryKind
from rewind_cluster.records import RecordKind, Run, pack_record, pack_run
from rewind_node.data_directory import DataDirectory
from rewind_node.dump import dump
from rewind_node.memory_engine import MemoryEngine
from rewind_node.store import ReplicaState, Store

CONTEXT = 3
EVENTS = [NewEvent(f"Type{n % 2}", b"%d" % n, UUID(int=n + 1), {"n": n} if n else None) for n in range(7)]
CHECK_S = 20  # it takes 4 s of processor time for 100,000 operations; a quadratic checker would take minutes


def columns(events: list[NewEvent]) -> bytes:
    metadatas = [msgpack.packb(event.metadata) if event.metadata else None for event in events]
    return pack_events(
        Events(
            b"".join(event.id.bytes for event in events if event.id),
            [event.type for event in events],
            [event.data for event in events],
            metadatas if any(metadatas) else None,
        )
    )


def fill(store: Store) -> None:
    """Store four entries of partition 1: a session, one event, a run of two appends, and one event of another run."""
    bodies = [
        (pack_record(RecordKind.SESSION, ()), 0, 0, 0),
        (pack_run(Run(1, 1, 1, 0, ["a"], [1], None, None), columns(EVENTS[:1])), 1, 1, 700),
        (pack_run(Run(1, 2, 1, 0, ["a", "b", "a"], [2, 1, 3], [1, 2, 1], [2, 1]), columns(EVENTS[1:5])), 4, 2, 900),
        (
            pack_run(Run(1, 4, 1, 0, ["b"], [3], None, None), columns(EVENTS[5:6]))
            + pack_run(Run(9, 7, 1, 1, ["c"], [1], None, None), columns(EVENTS[6:])),
            2,
            6,
            1000,
        ),
    ]
    store.create_partition(1)
    previous = NO_DIGEST
    for index, (body, count, position, timestamp) in enumerate(bodies, 1):
        entry = Entry.build(
            EntryKind.RECORDS,
            term=4,
            index=index,
            timestamp=timestamp,
            previous_digest=previous,
            body=body,
            context=CONTEXT if count else 0,
            first_position=position,
            event_count=count,
        )
        store.append_entries(1, [entry])
        previous = entry.digest
    store.put_replica_state(1, ReplicaState(9, 4, 0, 2, b"", 0, b"", 0))
    store.commit()


def expected_appends() -> list[tuple[StoredAppend, ...]]:
    ids = [event.id.hex for event in EVENTS if event.id]
    digests = [content_of(event).digest for event in EVENTS]
    types = [event.type for event in EVENTS]

    def stored(stream: str, version: int, position: int, stamp: int, count: int, *author: int) -> StoredAppend:
        columns = (tuple(column[position - 1 : position - 1 + count]) for column in (ids, digests, types))
        own_ids, own_digests, own_types = columns
        return StoredAppend(stream, version, position, stamp, own_ids, own_digests, *author, own_types)

    return [
        (),
        (stored("a", 1, 1, 700, 1, 1, 1),),
        (stored("a", 2, 2, 900, 1, 1, 2), stored("b", 1, 3, 901, 2, 1, 2), stored("a", 3, 5, 903, 1, 1, 3)),
        (stored("b", 3, 6, 1000, 1, 1, 4), stored("c", 1, 7, 1001, 1, 9, 7)),
    ]


def test_a_store_s_log_has_all_that_was_stored() -> None:
    store = Store(MemoryEngine())
    fill(store)

    log = log_of_store(store, 1, "n1")

    assert (log.node, log.partition, log.committed, log.damage) == ("n1", 1, 2, [])
    assert [(entry.index, entry.term, entry.context) for entry in log.entries] == [
        (1, 4, 0),
        (2, 4, 3),
        (3, 4, 3),
        (4, 4, 3),
    ]
    assert [entry.appends for entry in log.entries] == expected_appends()
    assert log_of_store(store, 1, "n1", committed=3).committed == 3


def test_a_store_s_damaged_entry_is_damage_of_its_log() -> None:
    engine = MemoryEngine()
    fill(Store(engine))
    key = (2).to_bytes(8)
    data = engine.get("log:1", key)
    assert data is not None
    engine.put("log:1", [(key, data[:-1] + bytes([data[-1] ^ 1]))])

    log = log_of_store(Store(engine), 1, "n1")

    assert [entry.index for entry in log.entries] == [1, 3, 4]
    assert "entry 2" in log.damage[0]


def without_details(logs: list[StoredLog]) -> list[StoredLog]:
    """Return logs as a dump would tell them."""
    return [replace(log, entries=[_without_details(entry) for entry in log.entries]) for log in logs]


def _without_details(entry: StoredEntry) -> StoredEntry:
    parts = [part._replace(first_timestamp=0, digests=(), session=0, sequence=0, types=()) for part in entry.appends]
    return replace(entry, appends=tuple(parts))


def test_a_dump_tells_the_same_log_without_what_it_leaves_out(tmp_path: Path) -> None:
    opened = DataDirectory.open(tmp_path)
    fill(opened.store)
    whole = log_of_store(opened.store, 1, "n1")
    opened.close()
    lines: list[str] = []
    dump(tmp_path, lines.append)

    (log,) = logs_of_dump("n1", lines)

    assert (log.node, log.partition, log.committed, log.damage) == ("n1", 1, 2, [])
    assert [log] == without_details([whole])


def test_damage_in_a_dump_is_damage_of_the_log() -> None:
    lines = [
        json.dumps({"partition": partition, "kind": "damage", "table": "raft", "where": None, "error": "a flipped bit"})
        for partition in (0, 1, None)
    ]

    logs = logs_of_dump("n1", lines)

    assert [(log.partition, len(log.damage)) for log in logs] == [(0, 2), (1, 1)]
    assert [violation.kind for violation in check(History(), logs)] == [Kind.DAMAGED_REPLICA] * 3


@pytest.mark.parametrize("seed", range(5))
def test_a_correct_history_has_no_violation_against_dumps(seed: int) -> None:
    case = Case.draw(seed)

    assert check(case.history, without_details(case.logs)) == []


def test_against_dumps_too_what_was_read_must_be_what_was_appended() -> None:
    case = Case.draw(1)
    context, stream, _ = case.outdated()
    events = case.events(context, stream)
    case.add_read(context, stream, events=(events[0]._replace(digest="0"), *events[1:]))

    assert [violation.kind for violation in check(case.history, without_details(case.logs))] == [Kind.PHANTOM]


# The final log among replicas. A log is written as the terms of its entries; a letter tells entries of a term apart.


def replica(number: int, committed: int, entries: str) -> StoredLog:
    listed = [StoredEntry(index, int(entry[0]), entry) for index, entry in enumerate(entries.split(), 1)]
    return StoredLog(f"n{number}", 1, committed, listed)


def final(*replicas: StoredLog, voters: int | None = None) -> str:
    return " ".join(entry.digest for entry in final_log(replicas, voters))


def test_the_final_log_is_what_the_foremost_replica_has_applied() -> None:
    replicas = replica(1, 1, "1 1 2"), replica(2, 2, "1 1 2"), replica(3, 0, "1")

    assert final(*replicas) == "1 1"
    assert check(History(), replicas) == []


def test_what_a_majority_of_voters_holds_and_nobody_can_overrule_is_final_too() -> None:
    assert final(replica(1, 1, "1 1 2"), replica(2, 0, "1 1 2"), replica(3, 0, "1 1"), voters=3) == "1 1 2"
    assert final(replica(1, 1, "1 1 2"), replica(2, 0, "1 1"), replica(3, 0, "1"), voters=3) == "1 1"
    assert final(replica(1, 0, "1 2 3"), replica(2, 0, "1 2"), replica(3, 0, "1 2x"), voters=3) == "1 2"


def test_what_a_majority_holds_is_not_final_where_a_newer_entry_may_replace_it() -> None:
    # Figure 8 of the Raft paper: the third may be elected and replace what the others hold.
    assert final(replica(1, 1, "1 2"), replica(2, 1, "1 2"), replica(3, 1, "1 3"), voters=3) == "1"


def test_a_replica_may_hold_another_tail_but_must_not_have_applied_it() -> None:
    good = replica(1, 2, "1 2 2")

    assert check(History(), [good, replica(2, 1, "1 1x")]) == []
    assert [each.kind for each in check(History(), [good, replica(2, 2, "1 1x")])] == [Kind.DIVERGED_REPLICA]


def test_an_acknowledged_append_on_too_few_replicas_is_named() -> None:
    case = Case.draw(1)
    case.rewrite(case.entries)
    behind = case.replicas[2]
    behind.committed = 5
    del behind.entries[5:]

    assert case.check(copies=2) == []
    missing = [each for each in case.check(copies=3) if each.operations[0].partition == PARTITION]

    assert {each.kind for each in missing} == {Kind.MISSING_COPY}
    assert 0 < len(missing) < len(case.history.appends)


# Histories.


def test_a_history_is_the_same_after_a_detour_through_a_file() -> None:
    history = Case.draw(1).history

    assert History.of_lines(history.lines()) == history


def test_what_the_client_library_answers_is_recorded_as_it_is() -> None:
    event = NewEvent("Happened", b"x", UUID(int=7), {"user": "7"})
    parts = (part_of("s", ANY, event),)
    result = AppendResult(3, 4, 1, 500, Origin("c", CONTEXT))

    def done(answer: object) -> AppendDone:
        return append_done(1, 2, CONTEXT, 1, 10, 20, parts, answer)  # type: ignore[arg-type]

    assert (done(result).outcome, done([result]).places) == (Outcome.OK, ((3, 4, 500),))
    assert (done(None).outcome, done(OutcomeUnknown("?")).outcome) == (Outcome.UNKNOWN, Outcome.UNKNOWN)
    assert (done(StorageFull("full")).outcome, done(StorageFull("full")).places) == (Outcome.FAILED, ())
    assert done(WrongExpectedVersion("s", 1, 2)).refusal == ("s", 1, 2)


def test_an_event_that_was_read_has_the_digest_of_the_one_that_was_appended() -> None:
    metadata = {"user": "7", "n": 1}
    new = NewEvent("Happened", b"x", UUID(int=7), metadata)
    event = Event("s", 1, "Happened", b"x", 500, 1, 1, UUID(int=7).bytes, msgpack.packb(metadata))

    assert seen_event(event)[3:] == content_of(new)
    assert digest_of("Happened", b"x", None) == digest_of("Happened", b"x", {}) != content_of(new).digest


def test_a_hundred_thousand_operations_are_checked_in_seconds() -> None:
    model = Model(Random(1), partitions=16, streams=400)
    model.run(100_000)
    since = process_time()

    violations = check(model.history, model.logs)

    assert violations == []
    assert process_time() - since < CHECK_S
