"""What one replica of one partition holds in the end: its log, from a node's offline dump or straight from its store.

The two know different things. A store has all of it. A dump leaves out positions, timestamps, contents and sessions:
positions follow from counting a context's events, the rest stays unknown and unchecked.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, NamedTuple
from uuid import UUID

from histories.recording import digest_of
from rewind_cluster.columns import ID_BYTES, Events, starts, unpack_events
from rewind_cluster.entry import Entry, EntryKind
from rewind_cluster.errors import DamagedError
from rewind_cluster.group_records import Operation, unpack_operation
from rewind_cluster.names import CONTROL
from rewind_cluster.records import RecordKind, Run, iterate_body, unpack_run
from rewind_node.groups import GroupTable
from rewind_node.store import Store


class StoredAppend(NamedTuple):
    """The events that one append added to one stream.

    Unknown are, in a log from a dump: `digests` and `types`, then empty; `first_timestamp`, `session` and `sequence`,
    then 0.
    """

    stream: str
    first_version: int
    first_position: int
    first_timestamp: int
    ids: tuple[str, ...]
    digests: tuple[str, ...] = ()
    session: int = 0
    sequence: int = 0
    types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One entry. `digest` is its header's, in hexadecimal digits; it seals all entries before.

    `groups`: what happens to consumer groups; a dump does not tell.
    """

    index: int
    term: int
    digest: str
    context: int = 0
    appends: tuple[StoredAppend, ...] = ()
    groups: tuple[Operation, ...] = ()


class GroupView(NamedTuple):
    """A consumer group's state in one partition.

    By position: `failed`, the attempts and whether it waits; `parked`, the attempts and the replays that were begun.
    """

    checkpoint: int
    owner: str
    epoch: int
    max_attempts: int
    settled: tuple[tuple[int, int], ...]
    failed: dict[int, tuple[int, bool]]
    parked: dict[int, tuple[int, int]]


GroupViews = dict[tuple[int, str], GroupView]  # by context and group


@dataclass(slots=True)
class StoredLog:
    """One replica. `node` is for people. `committed`: up to which index it is known to be committed.

    `damage`: what of it could not be read, a line each. `groups`: the states of consumer groups as of `committed`, None
    where they are not known.
    """

    node: str
    partition: int
    committed: int = 0
    entries: list[StoredEntry] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    groups: GroupViews | None = None


def log_of_store(store: Store, partition: int, node: str, committed: int | None = None) -> StoredLog:
    """Return a replica's log. `committed`: what its core has applied; if not given, what is stored of that.

    The stored mark trails the core by up to a checkpoint.
    """
    if committed is None:
        state = store.replica_state(partition)
        committed = 0 if state is None else state.applied
    log = StoredLog(node, partition, committed)
    for index in range(1, store.last_index(partition) + 1):
        try:
            log.entries.append(_stored_entry(Entry.decode(store.entry(partition, index))))
        except DamagedError as error:
            log.damage.append(f"entry {index}: {error}")
    return log


def _stored_entry(entry: Entry) -> StoredEntry:
    appends: list[StoredAppend] = []
    groups: list[Operation] = []
    if entry.kind is EntryKind.RECORDS:
        for record in iterate_body(entry.body):
            if record.kind == RecordKind.RUN:
                appends += _stored_appends(entry, unpack_run(record.payload), unpack_events(record.events))
            elif record.kind == RecordKind.GROUP:
                groups.append(unpack_operation(record.payload))
    return StoredEntry(entry.index, entry.term, entry.digest.hex(), entry.context, tuple(appends), tuple(groups))


def views_of(table: GroupTable) -> GroupViews:
    """Return the groups that a replica holds."""
    return {
        key: GroupView(
            state.checkpoint,
            state.owner.hex(),
            state.epoch,
            state.max_attempts,
            tuple(state.settled),
            {position: (failures.attempts, failures.waiting) for position, failures in sorted(state.failed.items())},
            {position: (parked.attempts, parked.replay) for position, parked in sorted(state.parked.items())},
        )
        for key, state in sorted(table.items())
    }


def _stored_appends(entry: Entry, run: Run, events: Events) -> Iterator[StoredAppend]:
    """Yield each part of each append of a run."""
    ids = [events.ids[start : start + ID_BYTES].hex() for start in range(0, len(events.ids), ID_BYTES)]
    digests = list(map(digest_of, events.types, events.datas, events.metadatas or repeat(None)))
    pieces = list(starts(run.counts, len(run.streams)))
    for sequence, (first, beyond) in enumerate(starts(run.parts, run.append_count), run.first_sequence):
        for part in range(first, beyond):
            start, stop = pieces[part]
            yield StoredAppend(
                run.streams[part],
                run.first_versions[part],
                entry.first_position + run.place + start,
                entry.timestamp + run.place + start,
                tuple(ids[start:stop]),
                tuple(digests[start:stop]),
                run.session,
                sequence,
                tuple(events.types[start:stop]),
            )


def logs_of_dump(node: str, lines: Iterable[bytes | str]) -> list[StoredLog]:
    """Return a node's logs from what `rewind-node dump` printed. What is wrong with all of it counts to partition 0."""
    logs: dict[int, StoredLog] = {}
    heads: Counter[tuple[int, int]] = Counter()  # newest position by partition and context
    for text in lines:
        line: dict[str, Any] = json.loads(text)
        partition = CONTROL if line["partition"] is None else line["partition"]
        log = logs.setdefault(partition, StoredLog(node, partition))
        if line["kind"] == "state":
            log.committed = line["applied"]
        elif line["kind"] == "damage":
            log.damage.append(f"{line['table']} {line['where']}: {line['error']}")
        else:
            log.entries.append(_dumped_entry(line, heads))
    return [logs[partition] for partition in sorted(logs)]


def _dumped_entry(line: dict[str, Any], heads: Counter[tuple[int, int]]) -> StoredEntry:
    space = (line["partition"], line["context"])
    appends = []
    for append in line["appends"]:
        ids = tuple(UUID(event_id).hex for event_id in append["ids"])
        appends.append(StoredAppend(append["stream"], append["version"], heads[space] + 1, 0, ids))
        heads[space] += len(ids)
    return StoredEntry(line["index"], line["term"], line["digest"], line["context"], tuple(appends))
