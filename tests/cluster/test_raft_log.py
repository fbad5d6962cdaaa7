"""The log: Raft paper, section 5.3 (log matching), and what a damaged disk must not get away with."""

from random import Random
from typing import Any

import pytest

from rewind_cluster.entry import NO_DIGEST, Entry, EntryKind
from rewind_cluster.errors import DamagedError
from rewind_cluster.raft_log import RaftLog


def chain(terms: list[int], after: Entry | None = None, body: bytes = b"body") -> list[Entry]:
    """Return entries of these terms, each continuing the one before."""
    entries: list[Entry] = []
    for term in terms:
        last = entries[-1] if entries else after
        entries.append(
            Entry.build(
                EntryKind.RECORDS,
                term=term,
                index=last.index + 1 if last else 1,
                timestamp=last.last_timestamp + 1 if last else 1,
                previous_digest=last.digest if last else NO_DIGEST,
                body=body,
                event_count=3,
            )
        )
    return entries


def write(log: RaftLog, store: Any) -> None:
    """Do what a driver does."""
    truncate_from, entries = log.take_unwritten()
    if truncate_from is not None:
        del store.log[truncate_from - 1 :]
    store.log.extend(entry.data for entry in entries)
    log.mark_persisted(log.last_index)


def test_an_empty_log_ends_at_index_0_of_term_0(memory_store: Any) -> None:
    log = RaftLog(memory_store)

    assert (log.last_index, log.last_term, log.last_timestamp, log.last_digest) == (0, 0, 0, NO_DIGEST)
    assert (log.term_at(0), log.term_at(1), log.term_at(-1)) == (0, None, None)


@pytest.mark.parametrize("seed", range(20))
def test_a_log_found_on_disk_knows_the_term_of_every_entry(memory_store: Any, seed: int) -> None:
    random = Random(seed)
    terms = sorted(random.choices(range(1, 9), k=random.randint(1, 60)))
    memory_store.log = [entry.data for entry in chain(terms)]

    log = RaftLog(memory_store)

    assert [log.term_at(index) for index in range(1, log.last_index + 1)] == terms
    assert log.last_term == terms[-1]


def test_terms_are_found_without_reading_the_whole_log(memory_store: Any) -> None:
    memory_store.log = [entry.data for entry in chain([1] * 900 + [2] * 900)]
    reads: list[int] = []
    read = memory_store.entry
    memory_store.entry = lambda index: reads.append(index) or read(index)

    RaftLog(memory_store)

    assert len(reads) < 30


def test_terms_that_fall_along_the_disk_are_damage(memory_store: Any) -> None:
    low, high = chain([1, 1, 1]), chain([5, 5])
    memory_store.log = [high[0].data, high[1].data, low[2].data]

    with pytest.raises(DamagedError):
        RaftLog(memory_store)


@pytest.mark.parametrize(
    "damage", ["index", "digest", "timestamp", "term"], ids=lambda name: f"{name} that does not continue"
)
def test_only_an_entry_that_continues_the_log_is_added(memory_store: Any, damage: str) -> None:
    log = RaftLog(memory_store)
    first, second = chain([2, 2])
    log.append(first)
    fields: dict[str, Any] = {"index": 2, "term": 2, "timestamp": 4, "previous_digest": first.digest}
    fields |= {
        "index": {"index": 3},
        "digest": {"previous_digest": NO_DIGEST},
        "timestamp": {"timestamp": 3},
        "term": {"term": 1},
    }[damage]

    with pytest.raises(DamagedError):
        log.append(Entry.build(EntryKind.NOOP, **fields))

    assert log.last_index == 1
    log.append(second)


def test_a_truncated_log_continues_from_where_it_was_cut(memory_store: Any) -> None:
    log = RaftLog(memory_store)
    entries = chain([1, 1, 2, 3])
    for entry in entries:
        log.append(entry)

    log.truncate(3)

    assert (log.last_index, log.last_term, log.last_digest) == (2, 1, entries[1].digest)
    assert log.term_at(3) is None
    (other,) = chain([4], after=entries[1])
    log.append(other)
    assert [log.term_at(index) for index in (1, 2, 3)] == [1, 1, 4]


def test_what_was_never_handed_to_the_disk_is_not_truncated_there(memory_store: Any) -> None:
    log = RaftLog(memory_store)
    for entry in chain([1, 1, 1]):
        log.append(entry)

    log.truncate(2)

    truncate_from, entries = log.take_unwritten()
    assert truncate_from is None
    assert [entry.index for entry in entries] == [1]


def test_two_truncations_in_a_turn_reach_the_disk_as_the_lower_one(memory_store: Any) -> None:
    log = RaftLog(memory_store)
    entries = chain([1, 1, 1, 1])
    for entry in entries:
        log.append(entry)
    write(log, memory_store)
    log.truncate(2)
    (other,) = chain([2], after=entries[0])
    log.append(other)
    log.truncate(2)
    (last,) = chain([3], after=entries[0])
    log.append(last)

    write(log, memory_store)

    assert memory_store.log == [entries[0].data, last.data]


def test_the_committed_is_not_truncated(memory_store: Any) -> None:
    log = RaftLog(memory_store)
    for entry in chain([1, 1]):
        log.append(entry)
    log.mark_committed(2)

    with pytest.raises(DamagedError):
        log.truncate(2)

    assert log.last_index == 2


def test_memory_is_bounded_but_holds_all_that_is_not_durable_or_not_committed(memory_store: Any) -> None:
    log = RaftLog(memory_store, cache_bytes_max=1000)
    entries = chain([1] * 40)
    for entry in entries:
        log.append(entry)
    assert log.first_cached == 1

    log.mark_committed(20)
    assert log.first_cached == 1
    write(log, memory_store)
    assert log.first_cached == 21
    log.mark_committed(40)

    assert log.first_cached > 25
    assert [log.entry(index).data for index in range(1, 41)] == [entry.data for entry in entries]


def test_a_slice_has_at_least_one_entry_and_keeps_to_its_bytes(memory_store: Any) -> None:
    log = RaftLog(memory_store)
    entries = chain([1] * 10)
    size = len(entries[0].data)
    for entry in entries:
        log.append(entry)

    assert [entry.index for entry in log.slice(3, 10, 1)] == [3]
    assert [entry.index for entry in log.slice(3, 10, 3 * size)] == [3, 4, 5]
    assert [entry.index for entry in log.slice(3, 4, 99 * size)] == [3, 4]


def test_a_slice_of_the_disk_is_verified(memory_store: Any) -> None:
    entries = chain([1] * 10)
    memory_store.log = [entry.data for entry in entries]
    log = RaftLog(memory_store)
    assert [entry.index for entry in log.slice(1, 10, 1 << 20)] == list(range(1, 11))

    memory_store.log[4] = chain([1] * 5, body=b"else")[4].data

    with pytest.raises(DamagedError):
        log.slice(1, 10, 1 << 20)


def test_an_entry_in_the_place_of_another_is_damage(memory_store: Any) -> None:
    entries = chain([1] * 5)
    memory_store.log = [entry.data for entry in entries]
    log = RaftLog(memory_store)

    memory_store.log[1] = memory_store.log[2]

    with pytest.raises(DamagedError):
        log.entry(2)


def test_the_last_entry_up_to_a_term_is_where_two_logs_may_meet(memory_store: Any) -> None:
    log = RaftLog(memory_store)
    for entry in chain([2, 2, 4, 4, 6]):
        log.append(entry)

    found = {(term, index): log.last_index_of_terms_to(term, index) for term in range(1, 8) for index in (0, 2, 3, 9)}

    terms = [0, 2, 2, 4, 4, 6]
    for (term, index), answer in found.items():
        assert answer == max(place for place, other in enumerate(terms) if other <= term and place <= index)


@pytest.mark.parametrize("seed", range(30))
def test_a_log_equals_a_plain_list_whatever_is_done_to_it(memory_store: Any, seed: int) -> None:
    random = Random(seed)
    log, model, commit = RaftLog(memory_store, cache_bytes_max=400), [], 0
    for _ in range(200):
        action = random.random()
        if action < 0.5:
            last = model[-1] if model else None
            (entry,) = chain([(last.term if last else 1) + (random.random() < 0.2)], after=last)
            log.append(entry)
            model.append(entry)
        elif action < 0.6 and len(model) > commit:
            first = random.randint(commit + 1, len(model))
            log.truncate(first)
            del model[first - 1 :]
        elif action < 0.8:
            write(log, memory_store)
        elif action < 0.9:
            commit = random.randint(commit, len(model))
            log.mark_committed(commit)
        else:
            write(log, memory_store)
            log = RaftLog(memory_store, cache_bytes_max=400)
            log.mark_committed(commit)

        assert log.last_index == len(model)
        assert [log.entry(entry.index).data for entry in model] == [entry.data for entry in model]
        assert [log.term_at(entry.index) for entry in model] == [entry.term for entry in model]
        assert log.last_digest == (model[-1].digest if model else NO_DIGEST)
