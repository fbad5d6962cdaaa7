"""A scripted group: the replicas of one partition on one clock, with disks that hold back and wires that lose.

Every message goes through its form on the wire. Nothing moves unless the test says so: `settle` runs all replicas and
delivers until nothing is left, `advance` lets time pass, `crash` loses what a disk had not synced.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import msgpack
import pytest

from rewind_cluster.entry import Entry, EntryKind
from rewind_cluster.errors import DamagedError
from rewind_cluster.membership import Member, Membership
from rewind_cluster.raft import HardState, Output, Raft, RaftOptions, Role
from rewind_cluster.raft_log import RaftLog
from rewind_cluster.raft_messages import NOBODY, Envelope, Message, ReplicaId, pack_envelope, unpack_envelope

PARTITION = 3

Loss = Callable[[Envelope], bool]


class MemoryStore:
    """A log store in memory."""

    def __init__(self) -> None:
        self.log: list[bytes] = []

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


@dataclass
class Disk(MemoryStore):
    """What a replica finds again after a crash."""

    membership: Membership
    membership_index: int = 0
    previous: Membership | None = None
    previous_index: int = 0
    state: HardState = field(default_factory=lambda: HardState(0, NOBODY))
    applied: int = 0
    log: list[bytes] = field(default_factory=list)

    def write(self, outputs: list[Output], raft: Raft) -> None:
        """Do what a driver does in one transaction; what is committed counts only once all else is written."""
        for output in outputs:
            self._write_one(output, raft)
        self.applied = max(self.applied, min(raft.commit, len(self.log)))

    def _write_one(self, output: Output, raft: Raft) -> None:
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
            self.membership, self.membership_index = raft.membership, raft.membership_index
            self.previous, self.previous_index = raft.previous_membership, raft.previous_index


class Node:
    """One replica and its driver. With `holds_disk` nothing becomes durable until `sync`."""

    def __init__(self, group: "Group", replica: ReplicaId, membership: Membership) -> None:
        self.group = group
        self.replica = replica
        self.disk = Disk(membership)
        self.up = True
        self.holds_disk = False
        self.owed: list[Output] = []
        self.reads: list[tuple[int, int]] = []
        self.damage: DamagedError | None = None
        self.raft = self._load()

    def _load(self) -> Raft:
        disk, group = self.disk, self.group
        return Raft(
            PARTITION,
            self.replica,
            RaftLog(disk, group.cache_bytes_max),
            disk.state,
            disk.applied,
            disk.membership,
            disk.membership_index,
            disk.previous,
            disk.previous_index,
            group.options,
            group.random.randint,
            group.now_us,
        )

    def turn(self) -> None:
        """Run one turn as a driver does, and the turns that follow from it."""
        while True:
            output = self.raft.take()
            self.reads.extend(output.reads)
            self.damage = self.damage or output.damage
            self.group.send(output.early)
            if output.writes or output.late:
                self.owed.append(output)
            if not self.owed or self.holds_disk:
                return
            self.sync()

    def sync(self) -> None:
        """Make durable what is owed, and send what waited for it."""
        owed, self.owed = self.owed, []
        self.disk.write(owed, self.raft)
        for output in owed:
            self.group.send(output.late)
            self.raft.persisted(output.mark)
            self.group.observe(self)

    def crash(self) -> None:
        self.up = False
        self.owed, self.reads = [], []

    def restart(self) -> None:
        self.up, self.holds_disk = True, False
        self.raft = self._load()

    def entries(self) -> list[Entry]:
        log = self.raft.log
        return [log.entry(index) for index in range(1, log.last_index + 1)]

    def bodies(self) -> list[bytes]:
        """Return the bodies of the events that are committed here."""
        log = self.raft.log
        entries = (log.entry(index) for index in range(1, self.raft.commit + 1))
        return [bytes(entry.body) for entry in entries if entry.kind is EntryKind.RECORDS]


class Group:
    """The replicas of one partition, numbered from 1."""

    def __init__(
        self,
        voters: int = 3,
        learners: int = 0,
        *,
        options: RaftOptions | None = None,
        seed: int = 0,
        cache_bytes_max: int = 1 << 20,
    ) -> None:
        self.options = options or RaftOptions()
        self.cache_bytes_max = cache_bytes_max
        self.random = Random(seed)
        self.now_us = 1_000_000_000
        self.wire: deque[Envelope] = deque()
        self.cuts: set[tuple[int, int]] = set()
        self.lost: Loss = lambda _: False
        self.sent: list[Envelope] = []
        self.observers: list[Callable[[Node], None]] = []
        self.timestamp = 0
        members = {
            ReplicaId(number): Member(f"node-{number}", voter=number <= voters)
            for number in range(1, voters + learners + 1)
        }
        self.membership = Membership(members)
        self.nodes = {replica: Node(self, replica, self.membership) for replica in members}

    def __getitem__(self, replica: int) -> Node:
        return self.nodes[ReplicaId(replica)]

    def raft(self, replica: int) -> Raft:
        return self[replica].raft

    def join(self, replica: int) -> Node:
        """Start a replica that knows nothing, not even its membership."""
        node = self.nodes[ReplicaId(replica)] = Node(self, ReplicaId(replica), Membership({}))
        return node

    # Messages.

    def send(self, envelopes: list[Envelope]) -> None:
        self.sent.extend(envelopes)
        self.wire.extend(envelopes)

    def put(self, sender: int, to: int, message: Message) -> None:
        """Put a message on the wire that nobody sent."""
        self.wire.append(Envelope(PARTITION, ReplicaId(sender), ReplicaId(to), message))

    def passes(self, envelope: Envelope) -> bool:
        receiver = self.nodes.get(envelope.to)
        cut = (envelope.sender, envelope.to) in self.cuts
        return receiver is not None and receiver.up and not cut and not self.lost(envelope)

    def deliver(self, envelope: Envelope) -> None:
        """Hand a message over, through its bytes."""
        if self.passes(envelope):
            packed, frames = pack_envelope(envelope)
            copy = unpack_envelope(msgpack.unpackb(msgpack.packb(packed)), iter(frames))
            self.nodes[envelope.to].raft.step(copy, self.now_us)

    def settle(self) -> None:
        """Run all replicas and deliver until nothing is left to do."""
        for _ in range(10_000):
            for node in self.nodes.values():
                if node.up:
                    node.turn()
                    self.observe(node)
            if not self.wire:
                return
            for _ in range(len(self.wire)):
                self.deliver(self.wire.popleft())
        raise AssertionError("the group never comes to rest")

    def observe(self, node: Node) -> None:
        for observer in self.observers:
            observer(node)

    def take_sent(self) -> list[Envelope]:
        """Return what was sent since the last call."""
        sent, self.sent = self.sent, []
        return sent

    def messages(self, kind: type[Message], **where: int) -> list[Message]:
        """Return the messages of one kind sent since the last call, from `sender` or `to` a replica if given."""
        return [
            envelope.message
            for envelope in self.take_sent()
            if isinstance(envelope.message, kind)
            and all(getattr(envelope, name) == value for name, value in where.items())
        ]

    def replacement(self, term: int, body: bytes) -> Entry:
        """Return an entry that follows the first one, at index 2, in another history."""
        return Entry.build(
            EntryKind.RECORDS,
            term=term,
            index=2,
            timestamp=50,
            previous_digest=self[2].entries()[0].digest,
            body=body,
            event_count=1,
        )

    # Time.

    def advance(self, milliseconds: int) -> None:
        """Let time pass, from one deadline to the next."""
        end = self.now_us + milliseconds * 1000
        self.settle()
        while True:
            up = [node for node in self.nodes.values() if node.up]
            self.now_us = max(self.now_us, min([end, *(node.raft.deadline_us for node in up)]))
            for node in up:
                node.raft.tick(self.now_us)
            self.settle()
            if self.now_us >= end:
                return

    # Faults.

    def cut(self, *pairs: tuple[int, int]) -> None:
        """Cut one direction of some links."""
        self.cuts.update(pairs)

    def isolate(self, replica: int) -> None:
        for other in self.nodes:
            self.cut((replica, other), (other, replica))

    def heal(self) -> None:
        self.cuts.clear()
        self.lost = lambda _: False

    def crash(self, replica: int, *, noticed: bool = False) -> None:
        """Stop a replica; its peers' connections drop at once if `noticed`."""
        self[replica].crash()
        for other, node in self.nodes.items():
            if noticed and other != replica:
                node.raft.peer_dropped(ReplicaId(replica), self.now_us)

    def restart(self, replica: int) -> None:
        self[replica].restart()
        for other, node in self.nodes.items():
            if other != replica:
                node.raft.peer_connected(ReplicaId(replica), self.now_us)

    def depose(self, replica: int) -> None:
        """Let a replica lead and follow nobody any more, in the same term."""
        self.raft(replica).quarantine()
        self.raft(replica).release()

    # What a script does most.

    def elect(self, replica: int) -> Raft:
        """Have a replica elected and return it."""
        self.raft(replica).campaign(self.now_us)
        self.settle()
        raft = self.raft(replica)
        assert raft.role is Role.LEADER
        raft.tick(self.now_us)
        self.settle()
        return raft

    def propose(self, replica: int, body: bytes = b"x") -> Entry:
        """Propose events at a replica, without running it."""
        raft = self.raft(replica)
        self.timestamp = max(self.timestamp, raft.log.last_timestamp) + 1
        return raft.propose(context=1, first_position=1, event_count=1, timestamp=self.timestamp, body=body)

    def leaders(self) -> list[int]:
        return [replica for replica, node in self.nodes.items() if node.up and node.raft.role is Role.LEADER]


@pytest.fixture
def make_group() -> type[Group]:
    """Make a scripted group: `make_group(voters, learners, options=…)`."""
    return Group


@pytest.fixture
def memory_store() -> MemoryStore:
    """Make an empty log store."""
    return MemoryStore()
