"""Bugs of consensus: elections, replication, counting, memberships."""

from planted.plant import Change, Plant
from rewind_cluster.acceptance import _unknown, accept
from rewind_cluster.elections import Elector
from rewind_cluster.leadership import Leadership
from rewind_cluster.raft import Raft

PLANTS = (
    Plant(
        "older term committed by counting",
        "a leader commits an entry of an older term by counting, and logs its own first one a heartbeat late",
        "another leader's entry of a term in between may still replace it (Raft paper, figure 8)",
        1,
        ("elections",),
        (
            Change(
                Raft._advance_commit,
                """
                - if agreed <= self.commit or self.log.term_at(agreed) != self.term:
                + if agreed <= self.commit:
                """,
            ),
            Change(
                Elector._become_leader,
                """
                - self._append(EntryKind.NOOP, timestamp=self.log.last_timestamp + 1)
                """,
            ),
            Change(
                Raft.tick,
                """
                + if self._leadership._since_us is not None and self.log.last_term != self.term:
                +     self._append(EntryKind.NOOP, timestamp=self.log.last_timestamp + 1)
                  self._leadership.tick(now_us)
                """,
            ),
        ),
    ),
    Plant(
        "acknowledged by index alone",
        "an entry counts as held where another one has its index",
        "what was truncated and replaced is taken for what is there now (ABA)",
        1,
        ("elections", "cuts"),
        (
            Change(
                _unknown,
                """
                - if log.term_at(entry.index) != entry.term:
                + if entry.index > log.last_index:
                """,
            ),
        ),
    ),
    Plant(
        "acknowledged without the consistency check",
        "a follower acknowledges what it was sent though the entry before it is not in its log",
        "what is counted as held there is not",
        1,
        ("elections", "crashes", "cuts"),
        (
            Change(
                accept,
                """
                  if log.term_at(append.prev_index) != append.prev_term:
                +     sent = append.prev_index + len(append.entries)
                +     return AppendReply(append.term, sent, False, 0, 0, full)
                """,
            ),
            Change(
                Raft._on_append,
                """
                - self._commit_to(min(append.commit, reply.index))
                + self._commit_to(min(append.commit, reply.index, self.log.last_index))
                """,
            ),
        ),
    ),
    Plant(
        "membership changed before the first commit",
        "a new leader changes the membership before it has committed anything in its term",
        "another leader's change may be committed as well, and majorities of the two need share no voter",
        1,
        ("memberships",),
        (
            Change(
                Raft.propose_membership,
                """
                - if not leadership.committed_in_term:
                + if False:
                """,
            ),
        ),
    ),
    Plant(
        "leader counts itself twice",
        "the leader counts its own copy in the place of the slowest follower's as well",
        "what is acknowledged stands on fewer replicas than a majority",
        1,
        ("elections", "crashes", "cuts"),
        (
            Change(
                Leadership.agreed,
                """
                  indexes.append(self._log.persisted)
                + indexes.append(self._log.persisted)
                + indexes.remove(min(indexes))
                """,
            ),
        ),
    ),
    Plant(
        "vote for a log behind",
        "a voter does not compare the candidate's log with its own",
        "a leader that lacks what was acknowledged takes it away from all others",
        1,
        ("elections", "crashes", "cuts"),
        (
            Change(
                Elector._on_vote,
                """
                - granted = free and (vote.last_term, vote.last_index) >= (self.log.last_term, self.log.last_index)
                + granted = free
                """,
            ),
        ),
    ),
    Plant(
        "two votes in a term",
        "a voter votes for whoever asks, whomever it has voted for",
        "two leaders of one term commit different entries",
        1,
        ("elections",),
        (
            Change(
                Elector._on_vote,
                """
                - free = self.vote == sender or (self.vote == NOBODY and self.leader == NOBODY)
                + free = True
                """,
            ),
        ),
    ),
    Plant(
        "commit taken over unmatched",
        "a heartbeat tells a follower the commit index whatever is known of its log",
        "it applies entries of its own that were never committed",
        2,
        ("elections", "crashes", "cuts"),
        (
            Change(
                Leadership.messages,
                """
                - known = min(commit, progress.match)
                + known = commit
                """,
            ),
            Change(
                Raft._on_heartbeat,
                """
                - if heartbeat.commit > self.log.last_index:
                + if False:
                ...
                - self._commit_to(heartbeat.commit)
                + self._commit_to(min(heartbeat.commit, self.log.last_index))
                """,
            ),
        ),
    ),
    Plant(
        "no pre-vote",
        "a candidate raises the term without asking first",
        "a replica that hears nobody deposes the leader again and again",
        0,
        ("cuts",),
        (
            Change(
                Elector._pre_campaign,
                """
                - self.role = Role.PRE_CANDIDATE
                + self._campaign(transfer=False)
                + return
                """,
            ),
        ),
    ),
)
