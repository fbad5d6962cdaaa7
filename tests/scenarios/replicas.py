"""Replicas of one partition among which nothing happens by itself.

A message stays in the network until it is delivered, a write is owed until its disk has it, and time stands still
until it is told to go on. All that one delivery hands to a replica is one turn of its driver. Messages travel as
bytes; what a crash leaves is what a disk had.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

import msgpack
from scenarios.wording import envelope_line, name_of, output_words

from rewind_cluster.entry import Entry, EntryKind
from rewind_cluster.errors import DamagedError
from rewind_cluster.membership import Membership
from rewind_cluster.outbox import HardState, Output
from rewind_cluster.raft import Raft, RaftOptions, Role
from rewind_cluster.raft_log import RaftLog
from rewind_cluster.raft_messages import NOBODY, Envelope, ReplicaId, pack_envelope, unpack_envelope

PARTITION = 1
PICK_STEPS = 10  # replica n draws its waits n tenths into the range, so that the lowest number doubts first


class Narrator(Protocol):
    """To whom replicas tell what they do."""

    def changes(self, line: str) -> None:
        """Hear that somebody's state has changed."""

    def traffic(self, line: str) -> None:
        """Hear of a write, or of a message that was lost."""

    def sends(self, envelope: Envelope) -> None:
        """Hear that a message has left."""


@dataclass(frozen=True)
class Write:
    """What one turn owes to the disk, with the memberships as they were then."""

    output: Output
    memberships: tuple[Membership, int, Membership | None, int]


@dataclass
class Disk:
    """What a replica finds again after a crash; the log store of its Raft."""

    memberships: tuple[Membership, int, Membership | None, int]
    state: HardState = field(default_factory=lambda: HardState(0, NOBODY))
    applied: int = 0
    log: list[bytes] = field(default_factory=list)

    def last_index(self) -> int:
        return len(self.log)

    def entry(self, index: int) -> bytes:
        if not 1 <= index <= len(self.log):
            raise DamagedError(f"entry {index} is missing")
        return self.log[index - 1]

    def entries(self, first: int, last: int, bytes_max: int) -> list[bytes]:
        found: list[bytes] = []
        for data in self.log[first - 1 : last]:
            if found and sum(map(len, found)) >= bytes_max:
                break
            found.append(data)
        return found

    def write(self, write: Write) -> None:
        """Make one turn's output durable."""
        output = write.output
        if output.truncate_from is not None:
            assert output.truncate_from > self.applied
            del self.log[output.truncate_from - 1 :]
        for entry in output.entries:
            assert entry.index == len(self.log) + 1
            self.log.append(entry.data)
        if output.hard_state is not None:
            assert output.hard_state.term >= self.state.term
            self.state = output.hard_state
        if output.membership_changed:
            self.memberships = write.memberships


class Replica:
    """One replica and its driver, which tells what it does."""

    def __init__(self, number: ReplicaId, disk: Disk, network: list[Envelope], narrator: Narrator) -> None:
        self.number = number
        self.disk = disk
        self.up = True
        self.stalled = False  # the disk takes nothing until it is told to
        self.owed: list[Write] = []
        self.served = 0  # the last round of reads that was served
        self._network = network
        self._narrator = narrator

    def load(self, options: RaftOptions, now_us: int) -> None:
        """Start from what the disk holds."""
        self.up, self.owed, self.served = True, [], 0
        disk = self.disk
        log = RaftLog(disk)
        self.raft = Raft(
            PARTITION, self.number, log, disk.state, disk.applied, *disk.memberships, options, self._pick, now_us
        )
        self._seen = self._state()

    def turn(self) -> None:
        """Run a turn, and those that follow from it without the disk."""
        while self.up:
            output = self.raft.take()
            self._tell_changes(output)
            self._send(output.early)
            if not output.writes and not output.late:
                return
            raft = self.raft
            memberships = raft.membership, raft.membership_index, raft.previous_membership, raft.previous_index
            self.owed.append(Write(output, memberships))
            if output.writes:
                self._narrator.traffic(f"{name_of(self.number)} writes  {output_words(output)}")
            if output.writes or len(self.owed) > 1:
                return
            self._finish()

    def persist(self) -> None:
        """Make the oldest write durable, and send what waited for it."""
        self._finish()
        if not self.owed:
            self.disk.applied = max(self.disk.applied, self.raft.commit)
        elif not self.owed[0].output.writes:
            self.persist()
        self.turn()

    def crash(self) -> None:
        """Stop, and forget what the disk did not have."""
        self.up, self.owed = False, []

    def _finish(self) -> None:
        write = self.owed.pop(0)
        self.disk.write(write)
        self._send(write.output.late)
        self.raft.persisted(write.output.mark)

    def _send(self, envelopes: Sequence[Envelope]) -> None:
        for envelope in envelopes:
            self._narrator.sends(envelope)
            self._network.append(envelope)

    def _state(self) -> tuple[Role, int, ReplicaId, int]:
        raft = self.raft
        return raft.role, raft.term, raft.leader, raft.commit

    def _tell_changes(self, output: Output) -> None:
        name = name_of(self.number)
        (role, term, leader, commit), self._seen = self._seen, self._state()
        raft = self.raft
        if (role, term) != self._seen[:2] and raft.role is not Role.FOLLOWER:
            self._narrator.changes(f"{name} becomes {raft.role.value} in term {raft.term}")
        elif (role, term, leader) != self._seen[:3] and raft.role is Role.FOLLOWER:
            self._narrator.changes(f"{name} follows {name_of(raft.leader)} in term {raft.term}")
        if commit != raft.commit:
            self._narrator.changes(f"{name} commits {raft.commit}")
        for number, index in output.reads:
            self.served = number
            self._narrator.changes(f"{name} serves reads of round {number} once it has applied {index}")
        if output.damage is not None:
            self._narrator.changes(f"{name} quarantines itself: {output.damage}")

    def _pick(self, low: int, high: int) -> int:
        return low + (high - low) * self.number // PICK_STEPS


class Group:
    """The replicas, the network between them, and the one clock of them all."""

    def __init__(self, membership: Membership, options: RaftOptions, narrator: Narrator) -> None:
        self.options = options
        self.now_us = 0
        self.network: list[Envelope] = []
        self.delayed: list[Envelope] = []
        self.cuts: set[tuple[int, int]] = set()
        self.replicas: dict[ReplicaId, Replica] = {}
        self._narrator = narrator
        for number in membership.members:
            self.add(number, membership)

    def add(self, number: ReplicaId, membership: Membership) -> Replica:
        """Start a replica that has an empty disk."""
        disk = Disk((membership, 0, None, 0))
        replica = self.replicas[number] = Replica(number, disk, self.network, self._narrator)
        replica.load(self.options, self.now_us)
        return replica

    def deliver(self, envelopes: Sequence[Envelope], to: ReplicaId | None = None) -> None:
        """Take messages out of the network and hand them over, all of one receiver in one turn."""
        for envelope in envelopes:
            self.network.remove(envelope)
        for receiver in dict.fromkeys(to or envelope.to for envelope in envelopes):
            for envelope in envelopes:
                if (to or envelope.to) == receiver:
                    self._hand_over(envelope, receiver)
            if receiver in self.replicas and self.replicas[receiver].up:
                self.replicas[receiver].turn()

    def settle(self, select: Callable[[Sequence[Envelope]], Sequence[Envelope]] = tuple) -> None:
        """Deliver what `select` picks and persist, again and again, until nothing is left to do."""
        for _ in range(1000):
            for replica in self.replicas.values():
                while replica.owed and not replica.stalled:
                    replica.persist()
            envelopes = select(self.network)
            if not envelopes:
                return
            self.deliver(envelopes)
        raise AssertionError("the group never comes to rest")

    def tick(self, replica: Replica) -> None:
        """Let a replica do what is due now."""
        replica.raft.tick(self.now_us)
        replica.turn()

    def write_log(self, replica: Replica, terms: Sequence[int]) -> None:
        """Give a replica a log of records with these terms, the same bytes wherever index and history are the same."""
        replica.disk.log.clear()
        previous: Entry | None = None
        for index, term in zip(count(1), terms, strict=False):
            previous = Entry.build(
                EntryKind.RECORDS,
                term=term,
                index=index,
                timestamp=index,
                previous_digest=previous.digest if previous else bytes(16),
                body=f"old-{index}".encode(),
                context=1,
                first_position=index,
                event_count=1,
            )
            replica.disk.log.append(previous.data)

    def _hand_over(self, envelope: Envelope, receiver: ReplicaId) -> None:
        replica = self.replicas.get(receiver)
        if replica is None or not replica.up or (envelope.sender, receiver) in self.cuts:
            self._narrator.traffic(f"lost  {envelope_line(envelope)}")
            return
        packed, frames = pack_envelope(envelope)
        copy = unpack_envelope(msgpack.unpackb(msgpack.packb(packed)), iter(frames))
        replica.raft.step(copy, self.now_us)
