"""Leading a data partition: taking appends into the log, and answering for them.

A leader judges each append against the tail of its log, committed or not, so that every entry in a log is valid. An
append that is taken is answered when its entry has been applied. One that is refused for its version goes to
`rewind_node.judging`: a refusal must be as true as an answer. Nothing here survives the term.
"""

from collections.abc import Callable, Iterable
from typing import Any

from rewind_cluster.client_messages import ANY_VERSION, SESSION_WINDOW, AppendBatch, Code, Failed, SessionIs
from rewind_cluster.clock import HybridClock
from rewind_cluster.cluster_map import ClusterMap, ContextInfo
from rewind_cluster.entry import Entry
from rewind_cluster.errors import ClusterError, DamagedError, TooLargeError
from rewind_cluster.names import APPEND_BYTES_MAX, APPEND_EVENTS_MAX, check_stream_name, slot
from rewind_cluster.raft import Raft
from rewind_cluster.records import Append, Record, RecordKind, check_events, pack_append, pack_record, pack_refusal
from rewind_node.applying import Applied, EventIndex
from rewind_node.connections import Burst, Client, Outbox
from rewind_node.judging import Judgement, Judging, Mismatch, Part
from rewind_node.overlay import Overlay, TailSession, Waiters
from rewind_node.reading import Reader

ENTRY_BODY_BYTES_TARGET = 1024 * 1024  # a draft this large is closed: replication and reads move whole entries
TAIL_BYTES_MAX = 32 * 1024 * 1024  # uncommitted at one leader; beyond it appends are refused as `OVERLOADED`
JUDGEMENTS_MAX = 10_000  # refusals under way at one leader, each with its request's event IDs
OPENING_MAX = 1000  # sessions asked for in one turn; each is an entry, and a client needs one


class Draft:
    """The entry of one context that this turn's appends are gathered in."""

    __slots__ = ("body_bytes", "context", "event_count", "first_position", "records", "waiters")

    def __init__(self, context: int, first_position: int) -> None:
        self.context = context
        self.first_position = first_position
        self.waiters = Waiters()
        self.records: list[bytes] = []
        self.event_count = 0
        self.body_bytes = 0

    def add(self, record: bytes, count: int, kind: int, payload: tuple[Any, ...]) -> None:
        """Put a record of `count` events at the end. Applying the entry will not have to read it again."""
        self.records.append(record)
        self.waiters.records.append((self.body_bytes, len(record), kind, payload))
        self.event_count += count
        self.body_bytes += len(record)


class WrongPartitionError(ClusterError):
    """A stream belongs to another partition."""


class Leadership:
    """One term's leadership of one data partition."""

    def __init__(
        self,
        raft: Raft,
        index: EventIndex,
        reader: Reader,
        cluster_map: ClusterMap,
        clock: HybridClock,
        outbox: Outbox,
        has_space: Callable[[], bool],
        tail: Iterable[Entry],
    ) -> None:
        self.term = raft.term
        self._raft = raft
        self._index = index
        self._reader = reader
        self._map = cluster_map
        self._clock = clock
        self._outbox = outbox
        self._has_space = has_space
        self._partition = index.partition
        self._drafts: dict[int, Draft] = {}
        self._closed: list[Draft] = []
        self._opening: list[tuple[Client, int]] = []
        self._judging = Judging()
        self._overlay = Overlay(index, tail)

    @property
    def tail_bytes(self) -> int:
        """Bytes of the log that are not committed."""
        return self._overlay.tail_bytes

    @property
    def wants_turn(self) -> bool:
        """Whether records wait to be proposed."""
        return bool(self._drafts or self._closed or self._opening) and not self._raft.transferring

    # Taking appends and sessions.

    def open_session(self, client: Client, request: int) -> None:
        """Log a new session; who asked is answered once it is committed."""
        if len(self._opening) >= OPENING_MAX or self._tail_is_full:
            text = f"partition {self._partition} has too much to commit; retry later"
            self._outbox.send(client, Failed(request, Code.OVERLOADED, text, "", 0))
        elif not self._has_space():
            text = f"too little disk space for partition {self._partition}; free some and retry"
            self._outbox.send(client, Failed(request, Code.STORAGE_FULL, text, "", 0))
        else:
            self._opening.append((client, request))

    @property
    def _tail_is_full(self) -> bool:
        gathered = sum(draft.body_bytes for draft in (*self._drafts.values(), *self._closed))
        return self._overlay.tail_bytes + gathered > TAIL_BYTES_MAX

    def take(self, client: Client, batch: AppendBatch, requests: list[list[Any]]) -> None:
        """Judge the appends of a batch in order: each is taken, refused for good, or refused with all that follow."""
        burst = client.burst(self._partition, batch.session, batch.epoch)
        refusal = self._refusal_of_all(batch)
        tail = self._overlay.session(batch.session)
        if refusal is None and tail is None:
            refusal = (Code.SESSION_UNKNOWN, f"partition {self._partition} does not know session {batch.session}")
        if refusal is not None or tail is None:
            assert refusal is not None
            self.refuse(burst, requests, *refusal)
            return
        tail.low = max(tail.low, batch.low)
        applied = self._index.sessions.find(batch.session)
        answers = {} if applied is None else applied.answers
        context = self._map.contexts[batch.context]
        for number, (sequence, is_open, parts, *_) in enumerate(requests):
            if sequence in answers:
                self._outbox.answer(burst, sequence, answers[sequence])
            elif not self._joined(burst, sequence, tail, is_open=is_open):
                if sequence >= tail.low + SESSION_WINDOW:
                    text = f"more than {SESSION_WINDOW} appends of the session are unsettled"
                    self.refuse(burst, requests[number:], Code.OVERLOADED, text)
                    return
                self._take_new(burst, sequence, context, tail, parts, is_open=is_open)

    def _refusal_of_all(self, batch: AppendBatch) -> tuple[Code, str] | None:
        if self._raft.transferring:
            return Code.NOT_LEADER, ""
        if self._tail_is_full or len(self._judging) > JUDGEMENTS_MAX:
            return Code.OVERLOADED, f"partition {self._partition} has too much to commit; retry later"
        if not self._has_space():
            return Code.STORAGE_FULL, f"too little disk space for partition {self._partition}; free some and retry"
        if batch.context not in self._map.contexts:
            return Code.CONTEXT_LAGGING, f"context {batch.context} is not known here yet"
        return None

    def refuse(self, burst: Burst, requests: list[list[Any]], code: Code, text: str) -> None:
        """Refuse the rest of a batch for routing or load, and with it the rest of its epoch."""
        burst.client.refused[self._partition] = burst.epoch
        for number, request in enumerate(requests):
            answer = [code, text] if number == 0 else [Code.EPOCH, ""]
            if code is Code.NOT_LEADER:
                answer = [code, "", self.term]
            self._outbox.answer(burst, request[0], answer)

    def _joined(self, burst: Burst, sequence: int, tail: TailSession, *, is_open: bool) -> bool:
        """Let a copy of a request that is under way wait for the same end."""
        pending = tail.pending.get(sequence)
        if pending is not None:
            pending.appends.append((burst, sequence))
            return True
        if not self._judging:
            return False
        judgement = self._judging.find(burst.session, sequence)
        if judgement is None:
            return False
        judgement.join((burst, sequence), is_open=is_open)
        return True

    def _take_new(
        self,
        burst: Burst,
        sequence: int,
        context: ContextInfo,
        tail: TailSession,
        parts: list[list[Any]],
        *,
        is_open: bool,
    ) -> None:
        if sequence < tail.low:
            text = f"number {sequence} is below the session's low-water mark {tail.low}"
            self._outbox.answer(burst, sequence, [Code.SETTLED, text])
            return
        try:
            checked, mismatch = self._judge(context, parts)
        except DamagedError:
            raise  # of this replica, not of the append
        except TooLargeError as error:
            self._outbox.answer(burst, sequence, [Code.TOO_LARGE, str(error)])
        except WrongPartitionError as error:
            self._outbox.answer(burst, sequence, [Code.WRONG_PARTITION, str(error)])
        except ClusterError as error:
            self._outbox.answer(burst, sequence, [Code.INVALID, str(error)])
        else:
            if mismatch is None:
                self._write(burst, sequence, context.number, tail, checked)
                return
            waiters = [(burst, sequence)]
            checked = [part._replace(events=b"") for part in checked]  # the IDs suffice, and these wait for a round
            self._judging.add(
                Judgement(context.number, burst.session, sequence, tail.low, is_open, checked, mismatch, waiters)
            )

    def _judge(self, context: ContextInfo, parts: list[list[Any]]) -> tuple[list[Part], Mismatch | None]:
        """Return the parts, checked, and the first that finds another version than it expects."""
        checked: list[Part] = []
        heads: dict[str, int] = {}
        mismatch = None
        size = total = 0
        for stream, expected, packed, *_ in parts:
            self._check_owner(context, check_stream_name(stream))
            events = check_events(packed)
            count = len(events.types)
            version = heads.get(stream)
            if version is None:
                version = self._overlay.head(context.number, stream)
            if expected not in (ANY_VERSION, version) and mismatch is None:
                mismatch = Mismatch(stream, expected, version)
            checked.append(Part(stream, expected, version, count, events.ids, packed))
            heads[stream] = version + count
            size += len(packed)
            total += count
        if total > APPEND_EVENTS_MAX:
            raise TooLargeError(f"an append of {total} events is over the limit of {APPEND_EVENTS_MAX}")
        if size > APPEND_BYTES_MAX:
            raise TooLargeError(f"an append of {size} bytes is over the limit of {APPEND_BYTES_MAX}")
        return checked, mismatch

    def _check_owner(self, context: ContextInfo, stream: str) -> None:
        owner = context.partition
        if owner is None:
            owner = self._map.partition_of_slot(slot(stream))
        if owner != self._partition:
            raise WrongPartitionError(f"stream {stream!r} belongs to partition {owner}, not {self._partition}")

    def _write(self, burst: Burst, sequence: int, context: int, tail: TailSession, parts: list[Part]) -> None:
        draft = self._draft(context)
        for stream, _, version, count, _, events in parts:
            append = Append(stream, version + 1, draft.event_count, burst.session, sequence, tail.low, count, events)
            draft.add(pack_append(append), count, RecordKind.APPEND, append)
            self._overlay.set_head(context, stream, version + count)
        draft.waiters.appends.append((burst, sequence))
        tail.pending[sequence] = draft.waiters
        if draft.body_bytes >= ENTRY_BODY_BYTES_TARGET:
            self._close(self._drafts.pop(context))

    # Closing the turn.

    def _draft(self, context: int) -> Draft:
        draft = self._drafts.get(context)
        if draft is None:
            draft = self._drafts[context] = Draft(context, self._overlay.position(context) + 1)
        return draft

    def _close(self, draft: Draft) -> None:
        if draft.event_count:
            self._overlay.set_position(draft.context, draft.first_position + draft.event_count - 1)
        self._closed.append(draft)

    def close_turn(self, wall_us: int) -> None:
        """Propose what this turn has gathered, and begin the read-index round that its refusals wait for."""
        if self._raft.transferring:
            return  # what was gathered before waits until the transfer has ended, one way or the other
        for draft in self._drafts.values():
            self._close(draft)
        self._drafts.clear()
        for draft in self._closed:
            entry = self._propose(draft, b"".join(draft.records), wall_us)
            self._overlay.enter(entry, draft.waiters)
        self._closed.clear()
        for opening in self._opening:
            entry = self._propose(Draft(0, 0), pack_record(RecordKind.SESSION, ()), wall_us)
            self._overlay.enter(entry, Waiters([], [opening]))
        self._opening.clear()
        if self._judging.wants_round:
            self._judging.close_turn(self._raft.read(), self._raft.log.last_index)

    def _propose(self, draft: Draft, body: bytes, wall_us: int) -> Entry:
        timestamp = max(self._clock.read(wall_us), self._raft.log.last_timestamp + 1)
        entry = self._raft.propose(
            context=draft.context,
            first_position=draft.first_position if draft.event_count else 0,
            event_count=draft.event_count,
            timestamp=timestamp,
            body=body,
        )
        self._clock.observe(entry.last_timestamp)
        return entry

    # Answering.

    def records(self, entry: Entry) -> list[Record] | None:
        """Return an entry's records, where this leader has made them."""
        return self._overlay.records(entry)

    def applied(self, entry: Entry, applied: Applied) -> None:
        """Answer those who waited for an entry that has been applied."""
        waiters = self._overlay.applied(entry, applied)
        answer = self._outbox.answer
        for burst, sequence in waiters.appends:
            settled = self._index.sessions.answer(burst.session, sequence)
            answer(burst, sequence, settled or (Code.OPEN, "the session was evicted"))
        for client, request in waiters.sessions:
            self._outbox.send(client, SessionIs(request, self._partition, entry.index))

    def reads_ready(self, number: int) -> None:
        """Take in that read-index rounds up to `number` have succeeded."""
        self._judging.round = number

    def judge_ready(self, applied: int) -> None:
        """Answer, or log, the refusals that have waited long enough."""
        for judgement in self._judging.take_ready(applied):
            answer = judgement.verdict(self._reader)
            tail = self._overlay.session(judgement.session)
            if answer[0] == Code.WRONG_VERSION and judgement.open and tail is not None and not self._raft.transferring:
                draft = self._draft(judgement.context)
                refusal = judgement.refusal
                draft.add(pack_refusal(refusal), 0, RecordKind.REFUSAL, refusal)
                draft.waiters.appends.extend(judgement.waiters)
                tail.pending[judgement.sequence] = draft.waiters
                continue
            if answer[0] == Code.WRONG_VERSION and judgement.open:
                answer = [Code.OPEN, "the refusal could not be logged"]
            for burst, sequence in judgement.waiters:
                self._outbox.answer(burst, sequence, answer)

    def resign(self) -> None:
        """Tell all who wait that this replica leads no more and does not know how their requests will end."""
        why = "the partition's leader has changed"
        gathered = [draft.waiters for draft in (*self._drafts.values(), *self._closed)]
        waiting = [*self._overlay.resign(), *gathered]
        for burst, sequence in (*(each for waiters in waiting for each in waiters.appends), *self._judging.resign()):
            refused = burst.client.refused
            refused[self._partition] = max(burst.epoch, refused.get(self._partition, -1))
            self._outbox.answer(burst, sequence, [Code.OPEN, why])
        for client, request in (*(each for waiters in waiting for each in waiters.sessions), *self._opening):
            self._outbox.send(client, Failed(request, Code.NOT_LEADER, why, "", 0))
