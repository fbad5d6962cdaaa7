"""What a replica hands to its driver, and the messages gathered for it.

The driver's turn is: `take()`; send `early`; write what the `Output` carries in one transaction and sync it;
`persisted(mark)`; send `late`; `take()` again. What is in `late` is a promise, and a promise leaves only after the
disk can keep it.
"""

from dataclasses import dataclass, field

from rewind_cluster.entry import Entry
from rewind_cluster.errors import DamagedError
from rewind_cluster.raft_messages import NOBODY, AppendReply, Envelope, HeartbeatReply, Message, ReplicaId


@dataclass(frozen=True, slots=True)
class HardState:
    """What a replica must never forget: its term, and whom it voted for in it."""

    term: int
    vote: ReplicaId


@dataclass(frozen=True, slots=True)
class Mark:
    """What an `Output` makes durable: the term, the vote in it, and the log up to (`index`, `index_term`)."""

    term: int
    vote: ReplicaId
    index: int
    index_term: int


NO_MARK = Mark(0, NOBODY, 0, 0)


@dataclass(slots=True)
class Output:
    """One turn's output. `reads`: rounds up to this one are confirmed; serve them once this index is applied."""

    mark: Mark = NO_MARK
    early: list[Envelope] = field(default_factory=list)
    late: list[Envelope] = field(default_factory=list)
    truncate_from: int | None = None
    entries: list[Entry] = field(default_factory=list)
    hard_state: HardState | None = None
    membership_changed: bool = False
    reads: list[tuple[int, int]] = field(default_factory=list)
    damage: DamagedError | None = None  # found in this replica, which has quarantined itself

    @property
    def writes(self) -> bool:
        """Whether there is anything to make durable."""
        return bool(
            self.entries or self.hard_state is not None or self.truncate_from is not None or self.membership_changed
        )


class Outbox:
    """The messages of one turn. Of the answers to a leader, those that say less than another one are left out."""

    def __init__(self, partition: int, replica: ReplicaId) -> None:
        self._partition = partition
        self._replica = replica
        self._early: list[Envelope] = []
        self._late: list[Envelope] = []
        self._leader = NOBODY  # to whom the answers below are owed
        self._heartbeat_reply: HeartbeatReply | None = None
        self._acknowledgement: AppendReply | None = None
        self._refusal: AppendReply | None = None

    def send_early(self, to: ReplicaId, message: Message) -> None:
        """Send a message that promises nothing which is not durable yet."""
        self._early.append(Envelope(self._partition, self._replica, to, message))

    def send_late(self, to: ReplicaId, message: Message) -> None:
        """Send a message after the disk."""
        self._late.append(Envelope(self._partition, self._replica, to, message))

    def answer_heartbeat(self, to: ReplicaId, reply: HeartbeatReply) -> None:
        """Answer a round of heartbeats, before the disk: it promises nothing but that the term was known here."""
        self._leader = to
        if self._heartbeat_reply is None or self._heartbeat_reply.round < reply.round:
            self._heartbeat_reply = reply

    def answer_append(self, to: ReplicaId, reply: AppendReply) -> None:
        """Answer an append, after the disk."""
        self._leader = to
        if reply.rejected:
            self._refusal = reply
        elif self._acknowledgement is None or self._acknowledgement.index <= reply.index:
            self._acknowledgement = reply

    def forget_answers(self) -> None:
        """Drop the answers owed to a leader that is superseded: what they acknowledge may be truncated by now."""
        self._heartbeat_reply = self._acknowledgement = self._refusal = None

    def clear(self) -> None:
        """Drop everything: nothing this replica was about to say is to be relied on."""
        self._early, self._late = [], []
        self.forget_answers()

    def drain(self) -> tuple[list[Envelope], list[Envelope]]:
        """Return the early and the late messages, once."""
        if self._heartbeat_reply is not None:
            self.send_early(self._leader, self._heartbeat_reply)
        for reply in (self._acknowledgement, self._refusal):
            if reply is not None:
                self.send_late(self._leader, reply)
        early, late = self._early, self._late
        self.clear()
        return early, late
