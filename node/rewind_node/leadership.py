"""Leading a data partition: taking appends into the log, and answering for them.

A leader judges each append against the tail of its log, committed or not, so that every entry in a log is valid. An
append that is taken is answered when its entry has been applied. One that is refused for its version goes to
`rewind_node.judging`: a refusal must be as true as an answer. Nothing here survives the term.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from rewind_cluster.batches import AppendRun
from rewind_cluster.client_messages import ANY_VERSION, SESSION_WINDOW, AppendBatch, Code, Failed, SessionIs
from rewind_cluster.clock import HybridClock
from rewind_cluster.cluster_map import ClusterMap, ContextInfo
from rewind_cluster.columns import ID_BYTES, check_events, starts, unpack_columns
from rewind_cluster.entry import Entry
from rewind_cluster.errors import ClusterError, DamagedError, ProtocolError, TooLargeError
from rewind_cluster.names import APPEND_BYTES_MAX, APPEND_EVENTS_MAX, are_plain_names, check_stream_name, slot
from rewind_cluster.raft import Raft
from rewind_cluster.records import Record, RecordKind, Run, pack_record, pack_refusal, pack_run
from rewind_node.applying import Applied, EventIndex
from rewind_node.connections import Burst, Client, Outbox
from rewind_node.draft import Draft
from rewind_node.judging import Judgement, Judging, Mismatch, Part
from rewind_node.overlay import Overlay, Pending, TailSession, Waiters
from rewind_node.reading import Reader, StoredRuns
from rewind_node.sessions import answer_of

ENTRY_BODY_BYTES_TARGET = 1024 * 1024  # a draft this large is closed: replication and reads move whole entries
TAIL_BYTES_MAX = 32 * 1024 * 1024  # uncommitted at one leader; beyond it appends are refused as `OVERLOADED`
JUDGEMENTS_MAX = 4096  # refusals under way at one leader, each with its request's event IDs
OPENING_MAX = 1000  # sessions asked for in one turn; each is an entry, and a client needs one


class Judged(NamedTuple):
    """A run judged against the tail: each part's first version, the versions it would leave, its events' IDs."""

    first_versions: list[int]
    heads: dict[str, int]
    ids: bytes
    mismatch: Mismatch | None


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
        obstacle = self.obstacle()
        if len(self._opening) >= OPENING_MAX:
            obstacle = (Code.OVERLOADED, f"partition {self._partition} opens {OPENING_MAX} sessions; retry later")
        if obstacle is not None:
            self._outbox.send(client, Failed(request, *obstacle, "", 0))
        else:
            self._opening.append((client, request))

    @property
    def _tail_is_full(self) -> bool:
        gathered = sum(draft.body_bytes for draft in (*self._drafts.values(), *self._closed))
        return self._overlay.tail_bytes + gathered > TAIL_BYTES_MAX

    def take(self, client: Client, batch: AppendBatch, runs: Sequence[AppendRun]) -> None:
        """Judge the appends of a batch in order: each is taken, refused for good, or refused with all that follow.

        A run is taken as a whole where nothing about it is out of the ordinary, else append by append.
        """
        burst = client.burst(self._partition, batch.session, batch.epoch)
        refusal = self._refusal_of_all(batch)
        tail = self._overlay.session(batch.session)
        if refusal is None and tail is None:
            refusal = (Code.SESSION_UNKNOWN, f"partition {self._partition} does not know session {batch.session}")
        if refusal is not None or tail is None:
            assert refusal is not None
            self.refuse(burst, runs, *refusal)
            return
        tail.low = max(tail.low, batch.low)
        context = self._map.contexts[batch.context]
        for number, run in enumerate(runs):
            if self._take_whole(burst, run, context, tail):
                continue
            singles = self._split(burst, run)
            for place, single in enumerate(singles):
                if self._answered(burst, single, tail):
                    continue
                if single.first_sequence >= tail.low + SESSION_WINDOW:
                    text = f"more than {SESSION_WINDOW} appends of the session are unsettled"
                    self.refuse(burst, [*singles[place:], *runs[number + 1 :]], Code.OVERLOADED, text)
                    return
                self._take_single(burst, single, context, tail)

    def obstacle(self) -> tuple[Code, str] | None:
        """Return why nothing can be logged now, or None; without a text where another node is to be asked."""
        if self._raft.transferring:
            return Code.NOT_LEADER, ""
        if self._tail_is_full or len(self._judging) > JUDGEMENTS_MAX:
            return Code.OVERLOADED, f"partition {self._partition} has too much to commit; retry later"
        if not self._has_space():
            return Code.STORAGE_FULL, f"too little disk space for partition {self._partition}; free some and retry"
        return None

    def _refusal_of_all(self, batch: AppendBatch) -> tuple[Code, str] | None:
        obstacle = self.obstacle()
        if obstacle is not None:
            return obstacle
        if batch.context not in self._map.contexts:
            return Code.CONTEXT_LAGGING, f"context {batch.context} is not known here yet"
        return None

    def refuse(self, burst: Burst, runs: Sequence[AppendRun], code: Code, text: str) -> None:
        """Refuse the rest of a batch for routing or load, and with it the rest of its epoch."""
        burst.client.refused[self._partition] = burst.epoch
        if code is Code.NOT_LEADER:
            self._outbox.refuse(burst, runs, (code, "", self.term), (code, "", self.term))
        else:
            self._outbox.refuse(burst, runs, (code, text), (Code.EPOCH, ""))

    def _take_whole(self, burst: Burst, run: AppendRun, context: ContextInfo, tail: TailSession) -> bool:
        """Take a run whose numbers are all new and whose appends are all as they should be; else do nothing."""
        first, last = run.first_sequence, run.sequences[-1]
        if first <= max(tail.last, self._judging.highest(burst.session)) or first < tail.low:
            return False
        if last >= tail.low + SESSION_WINDOW:
            return False
        try:
            judged = self._judge(context, run)
        except DamagedError:
            raise
        except ClusterError:
            return False
        if judged.mismatch is not None:
            return False
        self._write(burst, run, context.number, tail, judged)
        return True

    def _split(self, burst: Burst, run: AppendRun) -> list[AppendRun]:
        """Return each append of a run as a run of its own; refuse them all if their events cannot be told apart."""
        if run.append_count == 1:
            return [run]
        try:
            return run.split(unpack_columns(run.events, run.event_count))
        except ProtocolError as error:
            self._outbox.refuse(burst, [run], (Code.INVALID, str(error)), (Code.INVALID, str(error)))
            return []

    def _answered(self, burst: Burst, single: AppendRun, tail: TailSession) -> bool:
        """Answer an append that was settled before, or let it wait for the end of a copy that is under way."""
        sequence = single.first_sequence
        if sequence < tail.low:
            text = f"number {sequence} is below the session's low-water mark {tail.low}"
            self._outbox.answer(burst, [sequence, Code.SETTLED, text])
            return True
        applied = self._index.sessions.find(burst.session)
        answer = None if applied is None else applied.answer(sequence)
        if answer is not None:
            self._outbox.answer(burst, answer)
            return True
        pending = tail.pending.find(sequence)
        if pending is not None:
            pending.waiters.append((burst, sequence, sequence))
            return True
        judgement = self._judging.find(burst.session, sequence)
        if judgement is not None:
            judgement.join((burst, sequence, sequence), is_open=single.open)
        return judgement is not None

    def _take_single(self, burst: Burst, single: AppendRun, context: ContextInfo, tail: TailSession) -> None:
        sequence = single.first_sequence
        try:
            judged = self._judge(context, single)
        except DamagedError:
            raise  # of this replica, not of the append
        except TooLargeError as error:
            self._outbox.answer(burst, [sequence, Code.TOO_LARGE, str(error)])
        except WrongPartitionError as error:
            self._outbox.answer(burst, [sequence, Code.WRONG_PARTITION, str(error)])
        except ClusterError as error:
            self._outbox.answer(burst, [sequence, Code.INVALID, str(error)])
        else:
            if judged.mismatch is None:
                self._write(burst, single, context.number, tail, judged)
                return
            pieces = starts(single.counts, len(single.streams))
            parts = [
                Part(stream, expected, judged.ids[start * ID_BYTES : stop * ID_BYTES])
                for stream, expected, (start, stop) in zip(single.streams, single.expected, pieces, strict=True)
            ]
            waiters = [(burst, sequence, sequence)]
            self._judging.add(
                Judgement(
                    context.number, burst.session, sequence, tail.low, single.open, parts, judged.mismatch, waiters
                )
            )

    def _judge(self, context: ContextInfo, run: AppendRun) -> Judged:
        """Judge a run against the tail. Raises `ClusterError` where an append is outside the rules."""
        counts = run.counts
        total = run.event_count
        if total > APPEND_EVENTS_MAX and run.largest_append > APPEND_EVENTS_MAX:
            raise TooLargeError(f"an append of {run.largest_append} events is over the limit of {APPEND_EVENTS_MAX}")
        if len(run.events) > APPEND_BYTES_MAX:
            raise TooLargeError(f"an append of {len(run.events)} bytes is over the limit of {APPEND_BYTES_MAX}")
        ids = check_events(run.events, total).ids
        if self._are_new(context, run):
            streams = run.streams
            return Judged([1] * len(streams), dict.fromkeys(streams, 1), ids, None)
        heads: dict[str, int] = {}
        first_versions: list[int] = []
        mismatch = None
        tail_heads, applied_head = self._overlay.heads(context.number), self._index.streams.head
        for place, (stream, expected) in enumerate(zip(run.streams, run.expected, strict=True)):
            version = heads.get(stream)
            if version is None:
                self._check_owner(context, check_stream_name(stream))
                version = tail_heads.get(stream)
                if version is None:
                    version = applied_head(context.number, stream)
            if expected not in (version, ANY_VERSION) and mismatch is None:
                mismatch = Mismatch(stream, expected, version)
            first_versions.append(version + 1)
            heads[stream] = version + (1 if counts is None else counts[place])
        return Judged(first_versions, heads, ids, mismatch)

    def _are_new(self, context: ContextInfo, run: AppendRun) -> bool:
        """Return whether a run begins as many streams as it has events, as it expects: the rule where much is appended.

        What is judged one by one otherwise is asked of all at once. A False says nothing.
        """
        streams = run.streams
        if run.counts is not None or any(run.expected) or len(set(streams)) < len(streams):
            return False
        if not are_plain_names(streams) or not self._owns_all(context, streams):
            return False
        if not self._overlay.heads(context.number).keys().isdisjoint(streams):
            return False
        return self._index.streams.knows_none_of(context.number, streams)

    def _owns_all(self, context: ContextInfo, streams: Sequence[str]) -> bool:
        if context.partition is None:
            return self._map.owns_all(self._partition, streams)
        return context.partition == self._partition

    def _check_owner(self, context: ContextInfo, stream: str) -> None:
        owner = context.partition
        if owner is None:
            owner = self._map.partition_of_slot(slot(stream))
        if owner != self._partition:
            raise WrongPartitionError(f"stream {stream!r} belongs to partition {owner}, not {self._partition}")

    def _write(self, burst: Burst, run: AppendRun, context: int, tail: TailSession, judged: Judged) -> None:
        draft = self._draft(context)
        if draft.body_bytes and draft.body_bytes + len(run.events) > ENTRY_BODY_BYTES_TARGET:
            self._close(self._drafts.pop(context))
            draft = self._draft(context)
        first, last = run.first_sequence, run.sequences[-1]
        stored = Run(
            burst.session, first, tail.low, draft.event_count, run.streams, judged.first_versions, run.counts, run.parts
        )
        pending = Pending(burst.session, first, last, [(burst, first, last)])
        draft.add(pack_run(stored, run.events), stored.event_count, RecordKind.RUN, stored, pending)
        tail.pending.add(pending)
        self._overlay.heads(context).update(judged.heads)
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
            self.log_records(pack_record(RecordKind.SESSION, ()), wall_us, Waiters(sessions=[opening]))
        self._opening.clear()
        if self._judging.wants_round:
            self._judging.close_turn(self._raft.read(), self._raft.log.last_index)

    def log_records(self, body: bytes, wall_us: int, waiters: Waiters | None = None) -> int:
        """Log records without a position, and return their entry's index."""
        entry = self._propose(Draft(0, 0), body, wall_us)
        self._overlay.enter(entry, waiters or Waiters())
        return entry.index

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
        ended, opened = self._overlay.applied(entry, applied)
        for (burst, first, last), settled in ended:
            if settled is not None:
                self._outbox.answer(burst, answer_of(settled, first, last))
                continue
            for sequence in range(first, last + 1):
                self._outbox.answer(burst, [sequence, Code.OPEN, "the session was evicted"])
        for client, request in opened:
            self._outbox.send(client, SessionIs(request, self._partition, entry.index))

    def reads_ready(self, number: int) -> None:
        """Take in that read-index rounds up to `number` have succeeded."""
        self._judging.round = number

    def judge_ready(self, applied: int) -> None:
        """Answer, or log, the refusals that have waited long enough."""
        runs = StoredRuns()  # an import that is repeated asks for one after the other
        for judgement in self._judging.ready(applied):
            answer = judgement.verdict(self._reader, runs)
            self._judging.end(judgement)  # only now: damage that a verdict meets leaves it and the rest to `resign`
            tail = self._overlay.session(judgement.session)
            refused = answer[1] == Code.WRONG_VERSION
            if refused and judgement.open and tail is not None and not self._raft.transferring:
                refusal = judgement.refusal
                pending = Pending(judgement.session, judgement.sequence, judgement.sequence, judgement.waiters)
                draft = self._draft(judgement.context)
                draft.add(pack_refusal(refusal), 0, RecordKind.REFUSAL, refusal, pending)
                tail.pending.add(pending)
                continue
            if refused and judgement.open:
                answer = [judgement.sequence, Code.OPEN, "the refusal could not be logged"]
            for burst, _, _ in judgement.waiters:
                self._outbox.answer(burst, answer)

    def resign(self) -> None:
        """Tell all who wait that this replica leads no more and does not know how their requests will end."""
        why = "the partition's leader has changed"
        gathered = [draft.waiters for draft in (*self._drafts.values(), *self._closed)]
        waiting = [*self._overlay.resign(), *gathered]
        ended = [waiter for waiters in waiting for pending in waiters.pending for waiter in pending.waiters]
        for burst, first, last in (*ended, *self._judging.resign()):
            refused = burst.client.refused
            refused[self._partition] = max(burst.epoch, refused.get(self._partition, -1))
            for sequence in range(first, last + 1):
                self._outbox.answer(burst, [sequence, Code.OPEN, why])
        for client, request in (*(each for waiters in waiting for each in waiters.sessions), *self._opening):
            self._outbox.send(client, Failed(request, Code.OPEN, why, "", 0))
