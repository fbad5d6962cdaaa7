"""Terms, roles and votes: the half of a replica that decides who leads.

The rules it keeps, after Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", 2014, and
Ongaro's thesis of the same year:

- at most one vote per term, durable before it is sent; the candidate's own counts only once it is durable (paper,
  5.2);
- nobody votes for a log behind its own (5.4.1);
- a follower with a live leader refuses votes, and candidates ask before they raise the term (thesis, 9.6), so that
  terms do not rise while a leader is there, whoever cannot hear it;
- a lower term is answered with ours, so that nobody stays stuck above a leader;
- a replica may be asked for its vote by one that it does not know, and may follow a leader that it does not know:
  memberships count from their appending on, and it may lack the newest (4.1). Answers of strangers count for
  nothing.
"""

from enum import Enum

from rewind_cluster.acceptance import append_entry
from rewind_cluster.election_timer import ElectionTimer, Pick
from rewind_cluster.entry import Entry, EntryKind
from rewind_cluster.errors import NotLeaderError
from rewind_cluster.leadership import Leadership
from rewind_cluster.membership import Membership, MembershipHistory
from rewind_cluster.outbox import HardState, Outbox
from rewind_cluster.quorum import VoteResult, count_votes
from rewind_cluster.raft_log import RaftLog
from rewind_cluster.raft_messages import NOBODY, AppendReply, ReplicaId, TimeoutNow, Vote, VoteReply
from rewind_cluster.raft_options import RaftOptions


class Role(Enum):
    """What a replica is at the moment. Whether it votes or learns is the membership's to say."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Elector:
    """One replica's part in elections. `Raft` adds the log to it, and is what a driver uses."""

    def __init__(
        self,
        *,
        partition: int,
        replica: ReplicaId,
        log: RaftLog,
        hard_state: HardState,
        commit: int,
        history: MembershipHistory,
        options: RaftOptions,
        pick: Pick,
        now_us: int,
    ) -> None:
        self.partition = partition
        self.replica = replica
        self.log = log
        self.role = Role.FOLLOWER
        self.leader = NOBODY
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.commit = commit
        self.quarantined = False
        self.storage_full = False
        self._history = history
        self._options = options
        self._now_us = now_us
        self._timer = ElectionTimer(options, pick, now_us)
        self._outbox = Outbox(partition, replica)
        self._leadership: Leadership | None = None
        self._votes: dict[ReplicaId, bool] = {}
        self._unconnected: set[ReplicaId] = set()
        self._touched = False
        if history.newest.voters == (replica,):
            self._timer.deadline_us = now_us  # A sole voter has nobody to wait for.

    def campaign(self, now_us: int) -> None:
        """Ask the others at once whether they would elect us."""
        if self._leadership is None:
            self._enter(now_us)
            self._pre_campaign()

    def quarantine(self) -> None:
        """Promise nothing more: no votes, no acknowledgements, not even those of this turn. A leader steps down."""
        self._touched = True
        self.quarantined = True
        self._become_follower(self.term)
        self._outbox.clear()

    def release(self) -> None:
        """End the quarantine: the log has been repaired and nothing that was acknowledged is missing."""
        self.quarantined = False
        self._timer.rearm(self._now_us)

    @property
    def membership(self) -> Membership:
        """The newest membership in the log, committed or not."""
        return self._history.newest

    @property
    def membership_index(self) -> int:
        """The index of the newest membership's entry."""
        return self._history.newest_index

    @property
    def previous_membership(self) -> Membership | None:
        """The membership to return to if the newest one is truncated."""
        return self._history.previous

    @property
    def previous_index(self) -> int:
        """The index of the previous membership's entry."""
        return self._history.previous_index

    def _on_vote(self, sender: ReplicaId, vote: Vote) -> None:
        if self.quarantined:
            return
        if vote.term < self.term or (not vote.transfer and self._leader_is_live()):
            self._outbox.send_late(sender, VoteReply(self.term, False, vote.pre))
            return
        free = self.vote == sender or (self.vote == NOBODY and self.leader == NOBODY)
        if vote.term > self.term:
            free = True
            if not vote.pre:
                self._become_follower(vote.term)
        granted = free and (vote.last_term, vote.last_index) >= (self.log.last_term, self.log.last_index)
        if granted and not vote.pre:
            self.vote = sender
            self._timer.voted(self._now_us)
        self._outbox.send_late(sender, VoteReply(vote.term if granted else self.term, granted, vote.pre))

    def _on_vote_reply(self, sender: ReplicaId, reply: VoteReply) -> None:
        if sender not in self.membership.members:
            return
        if reply.pre and reply.granted:
            if self.role is Role.PRE_CANDIDATE and reply.term == self.term + 1:
                self._votes[sender] = True
                self._count_votes()
            return
        if reply.term > self.term:
            self._become_follower(reply.term)
            return
        if self.role is Role.PRE_CANDIDATE and reply.pre:
            self._votes[sender] = False
        elif self.role is Role.CANDIDATE and not reply.pre and reply.term == self.term:
            self._votes[sender] = reply.granted
        else:
            return
        self._count_votes()

    def _on_timeout_now(self, sender: ReplicaId, message: TimeoutNow) -> None:
        if self._follow(sender, message.term) and self._may_campaign():
            self._campaign(transfer=True)

    def _follow(self, sender: ReplicaId, term: int) -> bool:
        """Take note of the leader of `term` and return whether its message is to be obeyed and answered."""
        if term < self.term:
            if not self.quarantined:
                self._outbox.send_late(sender, AppendReply(self.term, 0, True, 0, 0, self.storage_full))
            return False
        if term == self.term and self.role is Role.LEADER:
            return False  # Nobody else leads in our term.
        if term > self.term or self.role is not Role.FOLLOWER:
            self._become_follower(term)
        self.leader = sender
        if sender not in self._unconnected:
            self._timer.heard(self._now_us)
        return not self.quarantined

    def _leader_is_live(self) -> bool:
        if self.leader == NOBODY:
            return False
        return self.role is Role.LEADER or self._timer.leader_is_live(self._now_us)

    def _may_campaign(self) -> bool:
        """Return whether we may stand for election.

        A voter that a change takes away is still needed until the change is committed: the others may lack it and be
        unable to win against its log (thesis, 4.2.2). Its own vote does not count then.
        """
        if self.quarantined:
            return False
        previous = self._history.previous if self.membership_index > self.commit else None
        return self.replica in self.membership.voters or (previous is not None and self.replica in previous.voters)

    def _pre_campaign(self) -> None:
        self.leader = NOBODY
        self._timer.asked(self._now_us)
        if not self._may_campaign():
            return
        # Grants of the round before still count: on a slow network none would arrive before the next round begins.
        granted = [replica for replica, vote in self._votes.items() if vote and self.role is Role.PRE_CANDIDATE]
        self.role = Role.PRE_CANDIDATE
        self._votes = dict.fromkeys([*granted, self.replica], True)
        self._ask(self.term + 1, pre=True, transfer=False)
        self._count_votes()

    def _campaign(self, *, transfer: bool) -> None:
        self._become_follower(self.term + 1)
        self.role = Role.CANDIDATE
        self.vote = self.replica  # Counted once it is durable, see `persisted`.
        self._timer.voted(self._now_us)
        self._ask(self.term, pre=False, transfer=transfer)

    def _ask(self, term: int, *, pre: bool, transfer: bool) -> None:
        vote = Vote(term, self.log.last_index, self.log.last_term, pre, transfer)
        for replica in self.membership.voters:
            if replica != self.replica:
                self._outbox.send_late(replica, vote)

    def _count_votes(self) -> None:
        result = count_votes(self.membership.voters, self._votes)
        if result is VoteResult.LOST:
            self._become_follower(self.term)
        elif result is VoteResult.WON and self.role is Role.PRE_CANDIDATE:
            self._campaign(transfer=False)
        elif result is VoteResult.WON and self.replica in self._votes:
            self._become_leader()

    def _become_follower(self, term: int) -> None:
        if term > self.term:
            self.term, self.vote = term, NOBODY
            self._outbox.forget_answers()
        if self._leadership is not None:
            self._leadership = None
            self._timer.rearm(self._now_us)
        self.role = Role.FOLLOWER
        self.leader = NOBODY
        self._votes = {}

    def _become_leader(self) -> None:
        self.role = Role.LEADER
        self.leader = self.replica
        self._votes = {}
        self._leadership = Leadership(
            replica=self.replica,
            term=self.term,
            log=self.log,
            membership=self.membership,
            options=self._options,
            outbox=self._outbox,
        )
        self._append(EntryKind.NOOP, timestamp=self.log.last_timestamp + 1)

    def _append(
        self,
        kind: EntryKind,
        *,
        timestamp: int,
        body: bytes = b"",
        context: int = 0,
        first_position: int = 0,
        event_count: int = 0,
    ) -> Entry:
        assert timestamp > self.log.last_timestamp
        entry = Entry.build(
            kind,
            term=self.term,
            index=self.log.last_index + 1,
            timestamp=timestamp,
            previous_digest=self.log.last_digest,
            body=body,
            context=context,
            first_position=first_position,
            event_count=event_count,
        )
        append_entry(self.log, self._history, entry)
        self._touched = True
        return entry

    def _enter(self, now_us: int) -> None:
        self._now_us = now_us
        self._touched = True

    def _leading(self) -> Leadership:
        if self._leadership is None:
            raise NotLeaderError(
                f"replica {self.replica} does not lead partition {self.partition}; "
                f"ask {f'replica {self.leader}' if self.leader else 'another one'}"
            )
        return self._leadership
