"""How a follower takes a leader's entries: the consistency check of Raft (paper, section 5.3).

An append is accepted if our log has the entry before it. Entries we have are skipped, whatever the order or number
in which messages arrive; an entry that differs from ours in term takes ours and all after it away; the rest is
added. The answer is to be sent when all of it is durable.
"""

from collections.abc import Sequence

from rewind_cluster.entry import Entry, EntryKind
from rewind_cluster.membership import Membership, MembershipHistory
from rewind_cluster.raft_log import RaftLog
from rewind_cluster.raft_messages import Append, AppendReply


def accept(log: RaftLog, history: MembershipHistory, append: Append, *, full: bool) -> AppendReply:
    """Take what can be taken of `append` and return the answer, or raise `DamagedError` if the logs contradict.

    With `full` storage entries without events are still taken: a new leader needs its first one to serve reads, and
    they are as small as the votes for which space is kept.
    """
    if log.term_at(append.prev_index) != append.prev_term:
        hint = log.last_index_of_terms_to(append.prev_term, append.prev_index)
        return AppendReply(append.term, append.prev_index, True, hint, log.term_at(hint) or 0, full)
    unknown = _unknown(log, append.entries)
    taken = _without_events(unknown) if full else unknown
    if taken and taken[0].index <= log.last_index:
        log.truncate(taken[0].index)
        history.truncate(taken[0].index)
    for entry in taken:
        append_entry(log, history, entry)
    matching = append.prev_index + len(append.entries) - len(unknown) + len(taken)
    return AppendReply(append.term, matching, False, 0, 0, full)


def append_entry(log: RaftLog, history: MembershipHistory, entry: Entry) -> None:
    """Add an entry to the log; a membership counts from here on."""
    membership = Membership.unpack(entry.body) if entry.kind is EntryKind.MEMBERSHIP else None
    log.append(entry)
    if membership is not None:
        history.adopt(membership, entry.index)


def _unknown(log: RaftLog, entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the entries from the first one that the log lacks or contradicts."""
    for place, entry in enumerate(entries):
        if log.term_at(entry.index) != entry.term:
            return entries[place:]
    return ()


def _without_events(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the entries before the first one that may hold events."""
    for place, entry in enumerate(entries):
        if entry.kind is EntryKind.RECORDS:
            return entries[:place]
    return entries
