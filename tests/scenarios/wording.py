"""How a scenario speaks: names of replicas, messages, writes and logs, each in as few words as tell them apart.

`5@2` is the entry at index 5 of term 2. A request for a vote names the last entry of the asker's log.
"""

from collections.abc import Iterable, Sequence

from membership_steps import learners

from rewind_cluster.entry import Entry, EntryKind
from rewind_cluster.membership import Membership
from rewind_cluster.outbox import Output
from rewind_cluster.raft_messages import (
    NOBODY,
    Append,
    AppendReply,
    Envelope,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReplicaId,
    TimeoutNow,
    Vote,
    VoteReply,
)

KINDS = {
    Append: "append",
    Heartbeat: "heartbeat",
    HeartbeatReply: "heartbeat-reply",
    TimeoutNow: "take-over",
}
SHOWN_ENTRIES_MAX = 7
VOTE_KINDS = ("vote", "vote-reply", "pre-vote", "pre-vote-reply")
ALL_KINDS = (*KINDS.values(), *VOTE_KINDS, "acknowledgement", "refusal")


def name_of(replica: ReplicaId) -> str:
    """Return a replica's name, as in `n3`."""
    return "nobody" if replica == NOBODY else f"n{replica}"


def names_of(replicas: Iterable[ReplicaId]) -> str:
    """Return the names of some replicas, or `none`."""
    return " ".join(map(name_of, replicas)) or "none"


def kind_of(message: Message) -> str:
    """Return the one word that a script calls a message by."""
    if isinstance(message, Vote | VoteReply):
        return ("pre-" if message.pre else "") + ("vote" if isinstance(message, Vote) else "vote-reply")
    if isinstance(message, AppendReply):
        return "refusal" if message.rejected else "acknowledgement"
    return KINDS[type(message)]


def envelope_line(envelope: Envelope) -> str:
    """Return a message on one line."""
    return f"{name_of(envelope.sender)} -> {name_of(envelope.to)}  {_message(envelope.message)}"


def entry_words(entry: Entry) -> str:
    """Return an entry: its place, and what is in it."""
    place = f"{entry.index}@{entry.term}"
    if entry.kind is EntryKind.NOOP:
        return f"{place} no-op"
    if entry.kind is EntryKind.MEMBERSHIP:
        return f"{place} {membership_words(Membership.unpack(entry.body))}"
    return f"{place} {bytes(entry.body).decode()}"


def entries_words(entries: Sequence[Entry]) -> str:
    """Return entries one by one, or only the first and the last of many."""
    if len(entries) <= SHOWN_ENTRIES_MAX:
        return ", ".join(map(entry_words, entries))
    return f"{entry_words(entries[0])} … {entry_words(entries[-1])}"


def membership_words(membership: Membership) -> str:
    """Return who votes and who learns."""
    learning = learners(membership)
    also = f", learners {names_of(learning)}" if learning else ""
    return f"[voters {names_of(membership.voters)}{also}]"


def output_words(output: Output) -> str:
    """Return what an output asks its driver to write."""
    parts: list[str] = []
    if output.hard_state is not None:
        parts.append(f"term {output.hard_state.term} vote {name_of(output.hard_state.vote)}")
    if output.truncate_from is not None:
        parts.append(f"log cut from {output.truncate_from} on")
    if output.entries:
        parts.append(entries_words(output.entries))
    return ", ".join(parts)


def _message(message: Message) -> str:
    match message:
        case Vote():
            told = ", told to by the leader" if message.transfer else ""
            last = f"{message.last_index}@{message.last_term}"
            words = f"{kind_of(message)} for term {message.term}? log ends at {last}{told}"
        case VoteReply():
            words = f"{'yes' if message.granted else 'no'} to {'pre-vote' if message.pre else 'vote'}"
        case Append():
            entries = entries_words(message.entries) or "nothing"
            words = f"append after {message.prev_index}@{message.prev_term}: {entries}; commit {message.commit}"
        case AppendReply() if message.rejected and message.index == 0:
            words = "no, your term is over"  # There is nothing before index 0 that could fail to match.
        case AppendReply() if message.rejected:
            words = f"no to append after {message.index}, try {message.hint_index}@{message.hint_term}"
        case AppendReply():
            words = f"has all up to {message.index}{', full' if message.full else ''}"
        case Heartbeat():
            words = f"heartbeat round {message.round}; commit {message.commit}"
        case HeartbeatReply():
            words = f"answers round {message.round}"
        case TimeoutNow():
            words = "take over"
    return words if isinstance(message, Vote) else f"{words}, term {message.term}"
