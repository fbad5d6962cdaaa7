"""Where a node's damaged replicas are repaired, and the rounds that find damage before a reader does.

Both are jobs of small slices: a damaged replica costs the sound ones a few milliseconds a second.

A replica of partition 0 that cannot be repaired leads to no map any more, and the other replicas of its node, which go
on and lead, are asked for contexts. So its node goes on reading partition 0's log, from its leader, into the map alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rewind_cluster.entry import Entry
from rewind_cluster.errors import DamagedError, ProtocolError
from rewind_cluster.names import CONTROL
from rewind_cluster.peer_messages import EntriesAre, FetchEntries
from rewind_node.applying import apply_to_map
from rewind_node.repair import FETCH_ENTRIES, LogCheck, Repair
from rewind_node.replica import Replica

if TYPE_CHECKING:
    from rewind_node.node import Node

FETCH_REPEAT_US = 500_000
REPAIRS_MAX = 5  # in succession, none of them followed by some time of service: another would end as they did
SERVED_US = 3600 * 1_000_000  # in service for as long as this, a replica has been repaired
SCRUB_BYTES = 64 * 1024  # read and verified at each call, ten times a second: a day reads some 50 GB
SCRUB_PAUSE_US = 3600 * 1_000_000  # between the end of one round over all logs and the next


@dataclass(frozen=True, slots=True)
class Scrub:
    """The round's walk along the log of one replica."""

    replica: Replica
    check: LogCheck


@dataclass(slots=True)
class History:
    """How many repairs of a replica were begun in succession, and when the last one ended."""

    repairs: int = 0
    ended_us: int = 0


class Infirmary:
    """Damaged replicas of one node, by partition, and the scrub of the others."""

    def __init__(self, node: "Node") -> None:
        self.repairs: dict[int, Repair] = {}
        self._node = node
        self._asked_us: dict[int, int] = {}
        self._given_up: set[int] = set()  # hopeless ones that the log has told of
        self._histories: dict[int, History] = {}
        self._scrub: Scrub | None = None
        self._scrubbed: set[int] = set()
        self._scrub_us = node.now_us + SCRUB_PAUSE_US

    def admit(self, partition: int, reason: str) -> None:
        """Begin to repair a replica, which is out of service by now."""
        repair = self.repairs[partition] = Repair(self._node.store, partition, reason)
        history = self._histories.setdefault(partition, History())
        if self._node.now_us - history.ended_us >= SERVED_US:
            history.repairs = 0
        history.repairs += 1
        if history.repairs > REPAIRS_MAX and not repair.hopeless:
            repair.give_up(f"{reason}, which {REPAIRS_MAX} repairs have not mended")
        self._node.log.error("a replica is damaged and under quarantine", partition=partition, reason=repair.told)

    def work(self) -> None:
        """Do one slice of each repair and of the scrub."""
        for partition, repair in list(self.repairs.items()):
            repair.work()
            if repair.hopeless and partition not in self._given_up:
                self._given_up.add(partition)
                self._node.log.error("a replica cannot be repaired", partition=partition, reason=repair.told)
            if repair.wanted is not None:
                self._ask(repair, repair.wanted)
            elif repair.hopeless and partition == CONTROL:
                assert self._node.map is not None
                self._ask(repair, self._node.map.index + 1)
            if repair.done:
                self._discharge(partition, repair)
        self._scrub_slice()

    def _ask(self, repair: Repair, first: int) -> None:
        node = self._node
        partition = repair.partition
        if node.now_us - self._asked_us.get(partition, -FETCH_REPEAT_US) < FETCH_REPEAT_US:
            return
        self._asked_us[partition] = node.now_us
        message = FetchEntries(node.cluster_id, partition, repair.replica, first, first + FETCH_ENTRIES - 1)
        for link in node.peers.carriers:  # to all: the leader may be newer than the last membership known here
            node.peers.send(link, message)

    def received(self, message: EntriesAre, frames: Sequence[bytes]) -> None:
        """Take in committed entries that were asked for. Raises `ClusterError` where they do not fit."""
        repair = self.repairs.get(message.partition)
        if repair is None or message.replica != repair.replica:
            return
        if not repair.hopeless:
            repair.received(message.first, frames)
        elif message.partition == CONTROL:
            self._read_map(message.first, frames)

    def _read_map(self, first: int, frames: Sequence[bytes]) -> None:
        cluster_map = self._node.map
        assert cluster_map is not None
        if first != cluster_map.index + 1:
            return  # it was asked of several, and another has answered
        for data in frames:
            entry = Entry.decode(data)
            if entry.index != cluster_map.index + 1:
                raise ProtocolError(f"entry {entry.index} of partition 0 came after {cluster_map.index}")
            apply_to_map(cluster_map, entry)
            self._asked_us.pop(CONTROL, None)  # there may be more: the next call asks at once

    def _discharge(self, partition: int, repair: Repair) -> None:
        node = self._node
        node.store.commit()
        del self.repairs[partition]
        self._histories[partition].ended_us = node.now_us
        self._asked_us.pop(partition, None)
        node.log.warning("a replica has been repaired", partition=partition, entries=repair.repaired)
        node.load_replica(partition)

    # Scrubbing.

    def _scrub_slice(self) -> None:
        node = self._node
        if node.now_us < self._scrub_us:
            return
        partition = next((number for number in node.replicas if number not in self._scrubbed), None)
        if partition is None:
            self._scrubbed.clear()
            self._scrub_us = node.now_us + SCRUB_PAUSE_US
            return
        replica = node.replicas[partition]
        if self._scrub is None or self._scrub.replica is not replica:  # it may have left since the last slice
            self._scrub = Scrub(replica, LogCheck(node.store, partition))
        try:
            if self._scrub.check.walk(replica.applied, SCRUB_BYTES):
                self._scrubbed.add(partition)
                self._scrub = None
        except DamagedError as error:
            self._scrub = None
            node.touch(replica)
            replica.quarantine(str(error))
