"""Who leads and who led, seen from outside: what the workload aims at, what the totals count and the story tells."""

from dataclasses import dataclass

from rewind_cluster.raft import Role
from simulator.machines import Host
from simulator.world import World

LOOK_US = 20_000  # a leadership that lasts is not missed; shorter ones serve nobody


@dataclass(frozen=True, slots=True)
class Leadership:
    """From when on a host led a partition in a term."""

    at_us: int
    partition: int
    term: int
    host: int


class Leaderships:
    """Watches a world's partitions, looking again and again."""

    def __init__(self, world: World) -> None:
        self.seen: list[Leadership] = []
        self._world = world
        self._newest: dict[int, Leadership] = {}
        self._before: dict[int, list[int]] = {}  # by partition, the hosts that led, newest last

    def watch(self) -> None:
        """Look now, and again after a while, to the end of the run."""
        for host in self._world.hosts:
            if host.node is None:
                continue
            for partition, replica in host.node.replicas.items():
                if replica.raft.role is Role.LEADER:
                    self._saw(host, partition, replica.raft.term)
        self._world.at(self._world.now_us + LOOK_US, self.watch)

    def _saw(self, host: Host, partition: int, term: int) -> None:
        newest = self._newest.get(partition)
        if newest is not None and newest.term >= term:
            return
        leadership = Leadership(self._world.now_us, partition, term, host.number)
        self._newest[partition] = leadership
        self.seen.append(leadership)
        self._before.setdefault(partition, []).append(host.number)
        self._world.note("leader", partition=partition, term=term, host=host.name)

    @property
    def changes(self) -> int:
        """How often a partition's leadership went from one host to another, or to the same in a later term."""
        return len(self.seen) - len(self._newest)

    def suspect(self, partition: int, choice: int) -> Host:
        """Return a host that may wrongly think it leads a partition: one that does, else one that did, else any."""
        hosts = self._world.hosts
        newest = self._newest.get(partition)
        if newest is None:
            return hosts[choice % len(hosts)]
        deluded = [host for host in hosts if self._is_deluded(host, partition, newest.term)]
        if deluded:
            return deluded[choice % len(deluded)]
        former = [number for number in self._before[partition] if number != newest.host]
        return hosts[former[-1]] if former and choice % 3 else hosts[newest.host]

    @staticmethod
    def _is_deluded(host: Host, partition: int, newest_term: int) -> bool:
        replica = host.node.replicas.get(partition) if host.node is not None else None
        return replica is not None and replica.raft.role is Role.LEADER and replica.raft.term < newest_term
