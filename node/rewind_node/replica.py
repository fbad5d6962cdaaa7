"""One replica of a partition: its consensus core, its log on disk, and how both go through a turn of the node's loop.

A turn takes a replica through four steps: `step`, `tick` and the requests of clients; `flush`, which says what may be
sent before the disk; `persist`, which puts what the turn owes into the store and applies what has been committed; and,
when the store has committed, `persisted`, which says what had to wait for that. What the log means is for the
subclasses to say.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rewind_cluster.entry import Entry
from rewind_cluster.errors import DamagedError
from rewind_cluster.membership import MEMBERS_MAX, Membership
from rewind_cluster.raft import HardState, Output, Raft, RaftOptions, Role
from rewind_cluster.raft_log import RaftLog
from rewind_cluster.raft_messages import Envelope, ReplicaId
from rewind_node.store import ReplicaState, Store

APPLY_BYTES_MAX = 4 * 1024 * 1024  # of entries applied in one turn: a replica that catches up must not stall the others
READS_MAX = 10_000  # waiting at one replica; beyond it reads are refused as `OVERLOADED`
BEHIND_ENTRIES_MAX = 10_000  # to apply at an elected replica: half a second, in which another would lead since long
TAIL_SLICE_BYTES = 4 * 1024 * 1024
REPAIR_BYTES_MAX = 1024 * 1024
REPAIR_ENTRIES_MAX = 512
SENDERS_MAX = MEMBERS_MAX  # replicas that may speak before the membership here names them; more are made up


@dataclass(slots=True)
class PendingRead:
    """A read that waits: for a read-index round (0: for none), then for the index that it told, and to be `ready`."""

    round: int
    deadline_us: int
    ready: Callable[[], bool]
    serve: Callable[[], None]
    fail: Callable[[str], None]
    index: int | None = None


class Replica(ABC):
    """What every partition's replica does, whatever its log means."""

    def __init__(
        self, partition: int, store: Store, options: RaftOptions, pick: Callable[[int, int], int], now_us: int
    ) -> None:
        state = store.known_state(partition)
        self.partition = partition
        self.store = store
        self.applied = state.applied
        self.damage: str | None = None
        self.raft = _load_raft(partition, store, state, options, pick, now_us)
        self._stored = state
        self._owed: list[Output] = []
        self._reads: list[PendingRead] = []
        self._reads_left = False  # more of them can be served, in the next turn
        self._led_term = 0
        self._stepped_aside = False
        self.senders: dict[ReplicaId, str] = {}  # nodes of members that the membership here does not name yet

    # What subclasses say.

    @abstractmethod
    def apply_entry(self, entry: Entry) -> None:
        """Apply a committed entry to the state, raising `DamagedError` where it does not fit."""

    @abstractmethod
    def lead(self) -> None:
        """Begin to lead: everything committed has been applied, and what the log holds beyond is short."""

    @abstractmethod
    def resign(self) -> None:
        """End leading: answer everybody who waits."""

    @abstractmethod
    def close_turn(self, wall_us: int) -> None:
        """Propose what this turn has gathered."""

    @abstractmethod
    def reads_ready(self, number: int) -> None:
        """Take in that the read-index rounds up to `number` have succeeded."""

    @property
    def answers_full(self) -> bool:
        """Whether this turn has answered reads with as many bytes as a turn may."""
        return False

    @property
    def wants_turn(self) -> bool:
        """Whether something waits for the next turn to be proposed."""
        return False

    @abstractmethod
    def settle_refusals(self) -> None:
        """Do what waited for the log to be applied so far."""

    @property
    @abstractmethod
    def checkpointed(self) -> int:
        """The index that the state as it is stored leads to, at most `applied`."""

    @property
    def untidy(self) -> bool:
        """Whether what is stored should be brought into order, when there is time."""
        return False

    @abstractmethod
    def checkpoint(self, now_us: int) -> None:
        """Bring the stored state closer to the applied one, or into order, by a slice at most."""

    @abstractmethod
    def finish_checkpoint(self) -> None:
        """Bring the stored state up to the applied one."""

    # The turn.

    @property
    def leading(self) -> bool:
        """Whether this replica leads and may take requests."""
        return self._led_term != 0 and self.raft.role is Role.LEADER and self.raft.term == self._led_term

    @property
    def deadline_us(self) -> int:
        """When this replica next needs a turn, whatever arrives: the clock's time in microseconds, 0 for at once."""
        if (
            self._owed
            or self._reads_left
            or self.wants_turn
            or (self.applied < self.raft.commit and self.damage is None)
        ):
            return 0
        return self.raft.deadline_us

    def follow_role(self) -> None:
        """Begin or end leading, as the consensus core says."""
        if self._led_term and not self.leading:
            self._led_term = 0
            self.resign()
            self._fail_fresh_reads("the partition's leader has changed")
        if not self._led_term and self.raft.role is Role.LEADER and self._may_lead:
            self._led_term = self.raft.term
            self.guard(self.lead)

    @property
    def _may_lead(self) -> bool:
        """Whether what is committed has been applied, and the tail of the log beyond it is short.

        A tail that a follower has in memory is what its leader had under way. Who was started or repaired since may
        hold much more, of which it does not know yet that it is committed; an entry of its own term tells.
        """
        tail_in_memory = self.raft.log.first_cached <= self.applied + 1
        return self.applied >= self.raft.commit and (tail_in_memory or self.raft.committed_in_term)

    def _step_aside(self, now_us: int) -> None:
        """Hand over, if elected with much to apply: another voter may be able to lead at once.

        It is done once: replicas that all have much to apply must not pass it round.
        """
        is_behind = self.raft.committed_in_term and self.raft.commit - self.applied > BEHIND_ENTRIES_MAX
        if is_behind and not self._led_term and not self._stepped_aside:
            self._stepped_aside = self.raft.transfer(None, now_us)

    def heard(self, sender: ReplicaId, node: str) -> None:
        """Note the node of a replica that the membership here does not name yet, so that it can be answered."""
        if sender in self.raft.membership.members:
            self.senders.pop(sender, None)
            return
        if sender not in self.senders and len(self.senders) >= SENDERS_MAX:
            del self.senders[next(iter(self.senders))]
        self.senders[sender] = node

    def flush(self, wall_us: int) -> list[Envelope]:
        """Close the turn's gathering and return what may leave before the disk."""
        self.follow_role()
        if self.leading:
            self.close_turn(wall_us)
        return self._take()

    def _take(self) -> list[Envelope]:
        output = self.raft.take()
        for number, index in output.reads:
            self.reads_ready(number)
            for read in self._reads:
                if read.index is None and read.round <= number:
                    read.index = index
        if output.writes or output.late:
            self._owed.append(output)
        if output.damage is not None:
            self.quarantine(str(output.damage))
        return output.early

    def persist(self, now_us: int) -> bool:
        """Put what the turn owes into the store, apply what is committed; return whether it must be durable now."""
        owes = any(output.writes for output in self._owed)
        self._guard_owed(self._put_log)
        self.apply()
        self._step_aside(now_us)
        self.guard(self.settle_refusals)
        if self.damage is None:
            self.guard(lambda: self.checkpoint(now_us))
        self._guard_owed(self.put_state)
        self._serve_reads(now_us)
        return owes

    def _guard_owed(self, action: Callable[[], None]) -> None:
        """Run `action`, which stores what is owed; nothing that waits for it to be durable leaves if it fails."""
        if not self.guard(action):
            self._owed.clear()

    def _put_log(self) -> None:
        for output in self._owed:
            if output.truncate_from is not None:
                assert output.truncate_from > self.applied
                self.store.truncate(self.partition, output.truncate_from)
            if output.entries:
                self.store.append_entries(self.partition, output.entries)

    def persisted(self) -> list[Envelope]:
        """Return what may leave now that the store has committed what was put."""
        if not self._owed:
            return []
        owed, self._owed = self._owed, []
        envelopes: list[Envelope] = []
        for output in owed:
            envelopes.extend(output.late)
            self.raft.persisted(output.mark)
        envelopes.extend(self._take())
        return envelopes

    def put_state(self) -> None:
        """Put term, vote, membership and the mark of the last checkpoint into the store, where they have changed."""
        raft, stored = self.raft, self._stored
        if stored.applied == self.checkpointed and not self._owed:
            return
        state = ReplicaState(
            replica=raft.replica,
            term=raft.term,
            vote=raft.vote,
            applied=self.checkpointed,
            membership=stored.membership,
            membership_index=raft.membership_index,
            previous_membership=stored.previous_membership,
            previous_index=raft.previous_index,
        )
        if state.membership_index != stored.membership_index or state.previous_index != stored.previous_index:
            state = pack_memberships(state, raft)
        if state != stored:
            self.store.put_replica_state(self.partition, state)
            self._stored = state

    # Applying.

    def apply(self) -> None:
        """Apply committed entries, a bounded number of bytes."""
        if self.applied >= self.raft.commit or self.damage is not None:
            return
        self.guard(self._apply)
        self.follow_role()

    def _apply(self) -> None:
        size = 0
        while self.applied < self.raft.commit and size < APPLY_BYTES_MAX:
            for entry in self.raft.log.slice(self.applied + 1, self.raft.commit, APPLY_BYTES_MAX):
                self.apply_entry(entry)
                self.applied = entry.index
                size += len(entry.data)

    def guard(self, action: Callable[[], None]) -> bool:
        """Run `action`; damage that it meets puts the replica under quarantine. Return whether it went well."""
        try:
            action()
        except DamagedError as error:
            self.quarantine(str(error))
            return False
        return True

    def quarantine(self, why: str) -> None:
        """Take this replica out of voting, leading and serving: a byte of it is not what it was.

        The node then repairs what is stored, see `rewind_node.repair`, and loads the replica anew.
        """
        if self.damage is None:
            self.damage = why
        self.raft.quarantine()
        self.follow_role()
        reads, self._reads = self._reads, []
        for read in reads:
            read.fail(f"this replica is under repair: {why}")

    def committed_entries(self, first: int, last: int) -> list[bytes]:
        """Return committed entries for another replica's repair, as many as one message may hold."""
        last = min(last, self.raft.commit)
        if not 1 <= first <= last:
            return []
        return [entry.data for entry in self.raft.log.slice(first, last, REPAIR_BYTES_MAX)][:REPAIR_ENTRIES_MAX]

    def tail(self) -> Iterator[Entry]:
        """Yield the entries after the applied ones."""
        log = self.raft.log
        index = self.applied
        while index < log.last_index:
            for entry in log.slice(index + 1, log.last_index, TAIL_SLICE_BYTES):
                yield entry
                index = entry.index

    # Reads.

    def add_read(self, read: PendingRead, *, fresh: bool) -> bool:
        """Let a read wait; a fresh one for a read-index round that begins after it. Return False if too many do."""
        if len(self._reads) >= READS_MAX:
            return False
        if fresh:
            read.round = self.raft.read()
        else:
            read.index = 0
        self._reads.append(read)
        return True

    @property
    def reads_waiting(self) -> bool:
        """Whether reads wait here."""
        return bool(self._reads)

    def _serve_reads(self, now_us: int) -> None:
        if self.damage is not None:
            self.quarantine(self.damage)
            return
        reads, self._reads = self._reads, []
        self._reads_left = False
        for place, read in enumerate(reads):
            if self.answers_full:
                self._reads += reads[place:]
                self._reads_left = True
                return
            try:
                if not self._serve_read(read, now_us):
                    self._reads.append(read)
            except DamagedError as error:
                self._reads += reads[place:]
                self.quarantine(str(error))
                return

    def _serve_read(self, read: PendingRead, now_us: int) -> bool:
        """Serve a read or fail it, and return whether it is done with."""
        if read.index is not None and read.index <= self.applied and read.ready():
            read.serve()
        elif now_us > read.deadline_us:
            read.fail("the deadline passed before this replica could serve the read")
        else:
            return False
        return True

    def _fail_fresh_reads(self, why: str) -> None:
        failed = [read for read in self._reads if read.round]
        self._reads = [read for read in self._reads if not read.round]
        for read in failed:
            read.fail(why)


def pack_memberships(state: ReplicaState, raft: Raft) -> ReplicaState:
    """Return the state with the memberships as the consensus core has them now."""
    previous = raft.previous_membership
    return ReplicaState(
        replica=state.replica,
        term=state.term,
        vote=state.vote,
        applied=state.applied,
        membership=raft.membership.pack(),
        membership_index=raft.membership_index,
        previous_membership=b"" if previous is None else previous.pack(),
        previous_index=raft.previous_index,
    )


def _load_raft(
    partition: int,
    store: Store,
    state: ReplicaState,
    options: RaftOptions,
    pick: Callable[[int, int], int],
    now_us: int,
) -> Raft:
    return Raft(
        partition,
        ReplicaId(state.replica),
        RaftLog(store.log_store(partition)),
        HardState(state.term, ReplicaId(state.vote)),
        state.applied,
        Membership.unpack(state.membership),
        state.membership_index,
        Membership.unpack(state.previous_membership) if state.previous_membership else None,
        state.previous_index,
        options,
        pick,
        now_us,
    )
