"""One replica's state machine of Raft. Pure and deterministic, in the manner of etcd's raft.

Messages and the time go in by `step`, `tick` and the like; what is to be sent and written comes out of `take`, once
per turn. Nothing is sent or written from inside. `Elector` decides who leads; this half keeps the log, after Ongaro
and Ousterhout, "In Search of an Understandable Consensus Algorithm", 2014:

- an entry counts as held by this replica only once it is durable, the leader's own entries included;
- an acknowledgement leaves only after the disk; nothing of an older term is committed by counting (5.4.2);
- a commit index is taken over only as far as this log is known to equal the leader's (5.3).

A damaged entry found on the way quarantines the replica: it neither votes, campaigns nor acknowledges until it is
released. What a leader knows is in `Leadership`; how a follower takes entries, in `acceptance`.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from rewind_cluster.acceptance import accept
from rewind_cluster.election_timer import Pick
from rewind_cluster.elections import Elector, Role
from rewind_cluster.entry import Entry, EntryKind
from rewind_cluster.errors import ChangeRefusedError, DamagedError, NotLeaderError
from rewind_cluster.leadership import Leadership
from rewind_cluster.membership import Membership, MembershipHistory
from rewind_cluster.outbox import HardState, Mark, Output
from rewind_cluster.progress import Progress
from rewind_cluster.raft_log import RaftLog
from rewind_cluster.raft_messages import (
    NOBODY,
    Append,
    AppendReply,
    Envelope,
    Heartbeat,
    HeartbeatReply,
    ReplicaId,
    TimeoutNow,
    Vote,
    VoteReply,
)
from rewind_cluster.raft_options import RaftOptions

__all__ = ["HardState", "Mark", "Output", "Raft", "RaftOptions", "Role"]

Handler: TypeAlias = Callable[[ReplicaId, Any], None]

_NOTHING = Output()  # what an untouched group puts out; never changed


class Raft(Elector):
    """One replica of one partition.

    `commit` is what is known to be committed at the start, that is, applied. `pick(a, b)` returns a random number
    in [a, b].
    `storage_full` is the driver's to set: entries with events are then refused until it is taken back.
    Raises `DamagedError` if what it is given contradicts itself.
    """

    def __init__(
        self,
        partition: int,
        replica: ReplicaId,
        log: RaftLog,
        hard_state: HardState,
        commit: int,
        membership: Membership,
        membership_index: int,
        previous_membership: Membership | None,
        previous_index: int,
        options: RaftOptions,
        pick: Pick,
        now_us: int,
        quarantined: bool = False,
    ) -> None:
        if max(commit, membership_index) > log.last_index or hard_state.term < log.last_term:
            raise DamagedError(
                f"partition {partition}: commit {commit}, membership {membership_index} and term {hard_state.term} "
                f"do not fit a log that ends at {log.last_index} of term {log.last_term}"
            )
        history = MembershipHistory(membership, membership_index, previous_membership, previous_index)
        super().__init__(
            partition=partition,
            replica=replica,
            log=log,
            hard_state=hard_state,
            commit=commit,
            history=history,
            options=options,
            pick=pick,
            now_us=now_us,
        )
        self.quarantined = quarantined
        self._written_state = hard_state
        self._damage: DamagedError | None = None
        self._handlers: dict[type[Any], Handler] = {
            Vote: self._on_vote,
            VoteReply: self._on_vote_reply,
            Append: self._on_append,
            AppendReply: self._on_append_reply,
            Heartbeat: self._on_heartbeat,
            HeartbeatReply: self._on_heartbeat_reply,
            TimeoutNow: self._on_timeout_now,
        }
        log.mark_committed(commit)

    def step(self, envelope: Envelope, now_us: int) -> None:
        """Take in a message; one for another partition or replica is dropped."""
        if envelope.partition != self.partition or envelope.to != self.replica:
            return
        self._enter(now_us)
        try:
            self._handlers[type(envelope.message)](envelope.sender, envelope.message)
        except DamagedError as error:
            self._fail(error)

    def tick(self, now_us: int) -> None:
        """Do what is due at `now_us`, if `deadline_us` has come. Messages that have arrived are to be stepped first."""
        if now_us < self.deadline_us:
            return
        self._enter(now_us)
        if self._leadership is None:
            self._pre_campaign()
            return
        self._leadership.tick(now_us)
        if not self._leadership.has_quorum(now_us):
            self._become_follower(self.term)

    @property
    def deadline_us(self) -> int:
        """When `tick` must next be called."""
        return self._timer.deadline_us if self._leadership is None else self._leadership.deadline_us

    def peer_dropped(self, replica: ReplicaId, now_us: int) -> None:
        """Learn that our connection to another replica was lost."""
        self._now_us = now_us
        if replica in self.membership.members or replica == self.leader:
            self._unconnected.add(replica)
        if self._leadership is not None:
            self._leadership.dropped(replica)
        elif replica == self.leader:
            self._timer.leader_dropped(now_us)

    def peer_connected(self, replica: ReplicaId, now_us: int) -> None:
        """Learn that our connection to another replica is up."""
        self._unconnected.discard(replica)
        if self._leadership is not None:
            self._enter(now_us)
            self._leadership.connected(replica)

    def peer_rerouted(self, replica: ReplicaId, now_us: int) -> None:
        """Learn that our connection to another replica was lost, with what was on its way, but another one is up.

        So a leader probes it at once, and nobody doubts a leader.
        """
        if self._leadership is not None:
            self._enter(now_us)
            self._leadership.dropped(replica)
            self._leadership.connected(replica)

    def propose(self, *, context: int, first_position: int, event_count: int, timestamp: int, body: bytes) -> Entry:
        """Append an entry of records and return it, or raise `NotLeaderError`, also during a transfer."""
        self._proposing()
        return self._append(
            EntryKind.RECORDS,
            timestamp=timestamp,
            body=body,
            context=context,
            first_position=first_position,
            event_count=event_count,
        )

    def propose_membership(self, change: Membership) -> Entry:
        """Append a change of membership and return its entry.

        Raises `NotLeaderError`; `ChangeRefusedError` until an entry of this term is committed, because only then no
        other leader can still commit another change (Ongaro, raft-dev, 2015), and until the change before is
        committed; `InvalidArgumentError` if more than one voter differs.
        """
        leadership = self._proposing()
        if not leadership.committed_in_term:
            raise ChangeRefusedError("the leader has committed nothing in its term yet; retry")
        if self._history.newest_index > self.commit:
            raise ChangeRefusedError(f"the change at index {self._history.newest_index} is not committed yet; retry")
        self.membership.check_change(change)
        entry = self._append(EntryKind.MEMBERSHIP, timestamp=self.log.last_timestamp + 1, body=change.pack())
        leadership.adopt(change)
        return entry

    def read(self) -> int:
        """Return the number of the read-index round that the next `take` begins, or raise `NotLeaderError`."""
        self._touched = True
        return self._leading().rounds.request()

    def transfer(self, to: ReplicaId | None, now_us: int) -> bool:
        """Begin to hand over to `to`, or to the best voter; return False where that is not possible now."""
        self._enter(now_us)
        return self._leadership is not None and self._leadership.transfer(to, now_us)

    def take(self) -> Output:
        """Return what is to be sent and written since the last call."""
        if not self._touched:
            return _NOTHING
        self._touched = False
        reads = self._send()
        truncate_from, entries = self.log.take_unwritten()
        early, late = self._outbox.drain()
        state = HardState(self.term, self.vote)
        changed_state = state if state != self._written_state else None
        self._written_state = state
        membership_changed, self._history.changed = self._history.changed, False
        damage, self._damage = self._damage, None
        mark = Mark(self.term, self.vote, self.log.last_index, self.log.last_term)
        return Output(mark, early, late, truncate_from, entries, changed_state, membership_changed, reads, damage)

    def persisted(self, mark: Mark) -> None:
        """Learn that the output of `mark` is durable.

        A mark of an earlier term counts for nothing: the output that carried this term has a mark of its own. Within
        a term no entry is truncated and comes back, so that index and term name one entry.
        """
        if mark.term != self.term:
            return
        self._touched = True
        if self.log.term_at(mark.index) == mark.index_term:
            self.log.mark_persisted(mark.index)
        try:
            if self.role is Role.CANDIDATE and mark.vote == self.replica:
                self._votes[self.replica] = True
                self._count_votes()
            elif self._leadership is not None:
                self._advance_commit()
        except DamagedError as error:
            self._fail(error)

    @property
    def transferring(self) -> bool:
        """Whether we lead and are handing over."""
        return self._leadership is not None and self._leadership.transferee != NOBODY

    @property
    def committed_in_term(self) -> bool:
        """Whether we lead and an entry of our term is committed."""
        return self._leadership is not None and self._leadership.committed_in_term

    def progress(self, replica: ReplicaId) -> Progress | None:
        """Return what the leader knows of another replica; None if we do not lead, or for ourselves and strangers."""
        return None if self._leadership is None else self._leadership.followers.get(replica)

    def quorum_full(self) -> bool:
        """Return whether we lead and no majority of the voters can take events."""
        return self._leadership is not None and self._leadership.quorum_full(full=self.storage_full)

    def _on_append(self, sender: ReplicaId, append: Append) -> None:
        if not self._follow(sender, append.term):
            return
        reply = accept(self.log, self._history, append, full=self.storage_full)
        if not reply.rejected:
            self._commit_to(min(append.commit, reply.index))
        self._outbox.answer_append(sender, reply)

    def _on_heartbeat(self, sender: ReplicaId, heartbeat: Heartbeat) -> None:
        if not self._follow(sender, heartbeat.term):
            return
        if heartbeat.commit > self.log.last_index:
            raise DamagedError(f"entry {heartbeat.commit} was acknowledged, yet the log ends at {self.log.last_index}")
        self._commit_to(heartbeat.commit)
        if heartbeat.round:
            self._outbox.answer_heartbeat(sender, HeartbeatReply(self.term, heartbeat.round))

    def _on_append_reply(self, sender: ReplicaId, reply: AppendReply) -> None:
        leadership = self._answered(sender, reply.term)
        if leadership is not None and leadership.append_answered(sender, reply, self._now_us):
            self._advance_commit()

    def _on_heartbeat_reply(self, sender: ReplicaId, reply: HeartbeatReply) -> None:
        leadership = self._answered(sender, reply.term)
        if leadership is not None:
            leadership.heartbeat_answered(sender, reply, self._now_us)

    def _answered(self, sender: ReplicaId, term: int) -> Leadership | None:
        """Return our leadership if a reply of `term` from `sender` belongs to it; a higher term ends it."""
        if sender not in self.membership.members:
            return None  # Removed since; it is not to depose anybody.
        if term > self.term:
            self._become_follower(term)
        return self._leadership if term == self.term else None

    def _send(self) -> list[tuple[int, int]]:
        """Let a leader send what it owes, and return the reads that may be served."""
        if self._leadership is None:
            return []
        try:
            self._leadership.messages(self.commit)
        except DamagedError as error:
            self._fail(error)
            return []
        confirmed = self._leadership.confirmed_round()
        return [] if confirmed is None else [(confirmed, self.commit)]

    def _advance_commit(self) -> None:
        """Commit what a majority has, if it is of our term (Raft paper, section 5.4.2)."""
        leadership = self._leading()
        agreed = leadership.agreed()
        if agreed <= self.commit or self.log.term_at(agreed) != self.term:
            return
        self._commit_to(agreed)
        leadership.committed_in_term = True
        if self._history.newest_index <= agreed and self.replica not in self.membership.voters:
            self._retire(leadership)

    def _retire(self, leadership: Leadership) -> None:
        """Step down after committing that we are no voter any more (Ongaro's thesis, section 4.2.2), naming an heir."""
        leadership.messages(self.commit)
        heir = leadership.heir()
        if heir != NOBODY:
            self._outbox.send_late(heir, TimeoutNow(self.term))
        self._become_follower(self.term)

    def _commit_to(self, index: int) -> None:
        if index > self.commit:
            self.commit = index
            self.log.mark_committed(index)

    def _fail(self, error: DamagedError) -> None:
        self._damage = error
        self.quarantine()

    def _proposing(self) -> Leadership:
        leadership = self._leading()
        if leadership.transferee != NOBODY:
            raise NotLeaderError(f"partition {self.partition} is being handed over to replica {leadership.transferee}")
        return leadership
