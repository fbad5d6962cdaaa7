"""What a leader knows and owes, from its election to its stepping down.

Owns the progress of every other replica, the commit arithmetic, rounds of heartbeats, and a transfer under way. It
is made anew for each term and thrown away with it, so that nothing learnt in one term is believed in another. It
decides nothing about terms and roles; that is `Raft`'s.

Everything owed is sent once a turn, by `messages`: however many proposals and answers a turn brought, each follower
gets at most a window of appends and one heartbeat. Theory: Raft paper, sections 5.3 and 5.4; Ongaro's thesis,
chapters 3, 4 and 10.
"""

from collections.abc import Iterator

from rewind_cluster.entry import EntryKind
from rewind_cluster.membership import Membership
from rewind_cluster.outbox import Outbox
from rewind_cluster.progress import Progress, ProgressState
from rewind_cluster.quorum import agreed_index, majority
from rewind_cluster.raft_log import RaftLog
from rewind_cluster.raft_messages import (
    APPEND_ENTRIES_MAX,
    NOBODY,
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    ReplicaId,
    TimeoutNow,
)
from rewind_cluster.raft_options import US_PER_MS, RaftOptions
from rewind_cluster.read_rounds import ReadRounds


class Leadership:
    """One leader's term. Its clocks start with the first tick, which is due at once."""

    def __init__(
        self,
        *,
        replica: ReplicaId,
        term: int,
        log: RaftLog,
        membership: Membership,
        options: RaftOptions,
        outbox: Outbox,
    ) -> None:
        self._replica = replica
        self._term = term
        self._log = log
        self._options = options
        self._outbox = outbox
        self._timeout_us = options.election_timeout_ms * US_PER_MS
        self._since_us: int | None = None
        self._heartbeat_due = False
        self._heartbeat_us = 0
        self._transfer_us = 0
        self._timeout_now_due = False
        self._appends: dict[tuple[int, int], tuple[Append, int]] = {}
        self.rounds = ReadRounds()
        self.transferee = NOBODY
        self.committed_in_term = False
        self.followers: dict[ReplicaId, Progress] = {}
        self.adopt(membership)

    def adopt(self, membership: Membership) -> None:
        """Follow a new membership: forget who left, probe who came."""
        kept = self.followers
        self._membership = membership
        self.followers = {}
        for replica, member in membership.members.items():
            if replica == self._replica:
                continue
            progress = kept.get(replica) or Progress(replica, member.voter, next=self._log.last_index + 1)
            progress.voter = member.voter
            self.followers[replica] = progress
        self._votes_itself = self._replica in membership.voters

    @property
    def deadline_us(self) -> int:
        """When `tick` is due."""
        return self._heartbeat_us if self.transferee == NOBODY else min(self._heartbeat_us, self._transfer_us)

    def tick(self, now_us: int) -> None:
        """Send heartbeats when they are due, look for what was lost, and give up a transfer that took too long."""
        if self._since_us is None:
            self._since_us = now_us
        if self.transferee != NOBODY and now_us >= self._transfer_us:
            self.transferee = NOBODY
        if now_us < self._heartbeat_us:
            return
        self._heartbeat_us = now_us + self._options.heartbeat_ms * US_PER_MS
        self._heartbeat_due = True
        for progress in self.followers.values():
            progress.recently_active = progress.heard_us > now_us - self._timeout_us and progress.heard_us >= 0
            progress.tick()

    def has_quorum(self, now_us: int) -> bool:
        """Return whether a majority was heard from within the last election timeout."""
        if self._since_us is None or now_us - self._since_us < self._timeout_us:
            return True
        active = sum(1 for progress in self._voting() if progress.heard_us > now_us - self._timeout_us)
        return active + self._votes_itself >= majority(len(self._membership.voters))

    def quorum_full(self, *, full: bool) -> bool:
        """Return whether so many voters' storage is full, ours being so if `full`, that no majority takes events."""
        able = sum(1 for progress in self._voting() if not progress.full)
        return able + (self._votes_itself and not full) < majority(len(self._membership.voters))

    def append_answered(self, sender: ReplicaId, reply: AppendReply, now_us: int) -> bool:
        """Take in a follower's answer in our term and return whether it has more than before."""
        progress = self.followers[sender]
        progress.heard(now_us)
        if reply.index > self._log.last_index:
            return False  # No replica of ours says so: we have never sent it.
        if reply.rejected:
            progress.refused(reply.index, self._log.last_index_of_terms_to(reply.hint_term, reply.hint_index))
            return False
        match = progress.match
        progress.accepted(reply.index, full=reply.full)
        if sender == self.transferee:
            self._timeout_now_due = progress.match == self._log.last_index
        return progress.match > match

    def heartbeat_answered(self, sender: ReplicaId, reply: HeartbeatReply, now_us: int) -> None:
        """Take in that a follower answered a round in our term."""
        progress = self.followers[sender]
        progress.heard(now_us)
        progress.round = max(progress.round, min(reply.round, self.rounds.current))
        progress.resume()
        if sender == self.transferee and progress.match == self._log.last_index:
            self._timeout_now_due = True  # Repeated, in case it was lost; it means nothing in a later term.

    def dropped(self, replica: ReplicaId) -> None:
        """Learn that the connection to a follower was lost, with whatever was on its way."""
        if progress := self.followers.get(replica):
            progress.probe()
            progress.paused = True
        if replica == self.transferee:
            self.transferee = NOBODY

    def connected(self, replica: ReplicaId) -> None:
        """Learn that a follower can be reached again: probe it, and let it know that we lead."""
        if progress := self.followers.get(replica):
            if progress.state is ProgressState.PROBE:
                progress.paused = False
            progress.greeted = True

    def agreed(self) -> int:
        """Return the highest index that is durable on a majority of the voters."""
        indexes = [progress.match for progress in self._voting()]
        if self._votes_itself:
            indexes.append(self._log.persisted)
        return agreed_index(indexes)

    def confirmed_round(self) -> int | None:
        """Return the highest round newly answered by a majority, once something is committed in our term."""
        if not self.committed_in_term or not self.rounds.pending:
            return None
        answered = [progress.round for progress in self._voting()]
        if self._votes_itself:
            answered.append(self.rounds.current)
        return self.rounds.confirm(answered)

    def transfer(self, to: ReplicaId | None, now_us: int) -> bool:
        """Begin to hand over to a voter, by default the one that has most; return False where that cannot work."""
        if self.transferee != NOBODY:
            return False
        able = [progress for progress in self._voting() if progress.recently_active and not progress.full]
        if to is not None:
            able = [progress for progress in able if progress.replica == to]
        if not able:
            return False
        heir = max(able, key=lambda progress: (progress.match, -progress.replica))
        self.transferee = heir.replica
        self._transfer_us = now_us + self._timeout_us
        self._timeout_now_due = heir.match == self._log.last_index
        return True

    def heir(self) -> ReplicaId:
        """Return a voter that has the whole log, for a leader that is no voter any more; `NOBODY` if none has it."""
        complete = (progress.replica for progress in self._voting() if progress.match == self._log.last_index)
        return next(complete, NOBODY)

    def messages(self, commit: int) -> None:
        """Send each follower what it is owed in this turn."""
        round_begun = self.rounds.begin()
        heartbeat_due, self._heartbeat_due = self._heartbeat_due, False
        for progress in self.followers.values():
            appended = self._send_appends(progress, commit)
            known = min(commit, progress.match)
            if heartbeat_due or progress.greeted or (round_begun and progress.voter):
                progress.greeted = False
                self._send_heartbeat(progress, known, self.rounds.current)
            elif not appended and progress.commit_sent < known:
                self._send_heartbeat(progress, known, 0)
        self._appends.clear()
        if self._timeout_now_due and self.transferee != NOBODY:
            self._outbox.send_late(self.transferee, TimeoutNow(self._term))
        self._timeout_now_due = False

    def _voting(self) -> Iterator[Progress]:
        return (progress for progress in self.followers.values() if progress.voter)

    def _send_heartbeat(self, progress: Progress, commit: int, number: int) -> None:
        progress.commit_sent = max(progress.commit_sent, commit)
        self._outbox.send_early(progress.replica, Heartbeat(self._term, commit, number))

    def _send_appends(self, progress: Progress, commit: int) -> bool:
        if progress.state is ProgressState.PROBE:
            return self._send_probe(progress, commit)
        sent = False
        while progress.next <= self._log.last_index and progress.window_open(self._options):
            from_disk = progress.next < self._log.first_cached
            self._send_append(progress, commit, self._options.append_bytes_max)
            sent = True
            if from_disk:
                break  # Catching up costs a turn one read per follower; its answer brings the next.
        if progress.nudged and not sent:
            self._send(progress, Append(self._term, progress.next - 1, self._term_at(progress.next - 1), commit, ()))
        progress.nudged = False
        return sent

    def _send_probe(self, progress: Progress, commit: int) -> bool:
        if progress.paused:
            return False
        if progress.full:
            self._send_without_events(progress, commit)
        else:
            self._send_append(progress, commit, self._options.probe_bytes_max)
        progress.paused = True
        return True

    def _send_append(self, progress: Progress, commit: int, bytes_max: int) -> None:
        append, size = self._append_from(progress.next, bytes_max, commit)
        self._send(progress, append)
        progress.sent(append.prev_index + len(append.entries), size)

    def _send_without_events(self, progress: Progress, commit: int) -> None:
        """Probe a full follower with what it takes even so: entries without events, as small as a vote."""
        append, _ = self._append_from(progress.next, 1, commit)
        if any(entry.kind is EntryKind.RECORDS for entry in append.entries):
            append = Append(append.term, append.prev_index, append.prev_term, commit, ())
        self._send(progress, append)

    def _send(self, progress: Progress, append: Append) -> None:
        told = min(append.commit, append.prev_index + len(append.entries))
        progress.commit_sent = max(progress.commit_sent, told)
        self._outbox.send_early(progress.replica, append)

    def _append_from(self, first: int, bytes_max: int, commit: int) -> tuple[Append, int]:
        """Return the append of the entries from `first` on; followers that are equally far share one."""
        made = self._appends.get((first, bytes_max))
        if made is None:
            last = min(self._log.last_index, first + APPEND_ENTRIES_MAX - 1)
            entries = tuple(self._log.slice(first, last, bytes_max)) if first <= last else ()
            append = Append(self._term, first - 1, self._term_at(first - 1), commit, entries)
            made = self._appends[first, bytes_max] = append, sum(len(entry.data) for entry in entries)
        return made

    def _term_at(self, index: int) -> int:
        term = self._log.term_at(index)
        assert term is not None
        return term
