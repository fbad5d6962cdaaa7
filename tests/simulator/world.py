"""A world: simulated time, the machines in it, the network between them, and the trace of all that happens.

The rule: everything happens through one queue of events in the order of their times, and of their numbers where the
times are equal. Whatever is drawn comes from sources derived from the seed. So a seed's world takes one course, and the
hash of its trace says whether it did.
"""

from collections.abc import Callable
from hashlib import blake2b
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from rewind_cluster.cluster_map import Founding
from rewind_node.replica import Replica
from simulator.client_machine import ClientMachine
from simulator.host import Host
from simulator.network import Network
from simulator.randomness import source

if TYPE_CHECKING:
    from simulator.plan import Shape

START_US_MAX = 300_000  # the seeds are started by hand, one after the other
LATE_START_US = (1_500_000, 8_000_000)
LOOK_US = 10_000  # how often a condition is looked at
HASHED_LINES = 2000


class World:
    """One run's world. Hosts have the numbers from 0 on, the seeds first; client machines those after them."""

    def __init__(self, seed: int, shape: "Shape", *, keep_story: bool = False) -> None:
        self.seed = seed
        self.shape = shape
        self.now_us = 0
        self.keep_story = keep_story
        self.story: list[str] = []
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._hash = blake2b(digest_size=16)
        self._lines: list[tuple[Any, ...]] = []
        self._random = source(seed, "world")
        self.listeners: list[Callable[[Host, str, dict[str, Any]], None]] = []  # told what nodes say
        self.healings = 0  # how often all faults have been ended: what an earlier fault still planned is off
        self.network = Network(self, shape.network, source(seed, "network"))
        hosts = shape.nodes + shape.late_nodes
        self.hosts = [Host(self, number, f"n{number + 1}", is_seed=number < shape.nodes) for number in range(hosts)]
        self.seeds = tuple(host.peer_address for host in self.hosts if host.is_seed)
        self.clients = [ClientMachine(self, hosts + number, f"c{number + 1}") for number in range(shape.clients)]

    def start(self) -> None:
        """Start the seeds and the clients, one shortly after the other, and later the late nodes."""
        for host in self.hosts:
            start_us = (0, START_US_MAX) if host.is_seed else LATE_START_US
            self.at(self._random.randint(*start_us), host.start)
        for client in self.clients:
            self.at(self._random.randint(0, START_US_MAX), client.start_machine)

    def client(self, number: int) -> ClientMachine:
        """Return a client machine, the first being 0."""
        return self.clients[number]

    # Time.

    def at(self, us: int, callback: Callable[..., None], *arguments: Any) -> None:
        """Let `callback` be called at a time."""
        self._number += 1
        heappush(self._events, (max(us, self.now_us), self._number, callback, arguments))

    def run_until(self, us: int) -> None:
        """Let everything happen that happens up to a time."""
        events = self._events
        while events and events[0][0] <= us:
            self.now_us, _, callback, arguments = heappop(events)
            callback(*arguments)
        self.now_us = max(self.now_us, us)

    def run_while(self, condition: Callable[[], Any], limit_us: int) -> bool:
        """Let time pass as long as `condition` holds, to the time `limit_us` at most; return whether it has ended."""
        while condition():
            if self.now_us >= limit_us:
                return False
            self.run_until(min(limit_us, self.now_us + LOOK_US))
        return True

    # The trace.

    def note(self, kind: str, **facts: Any) -> None:
        """Put a line into the trace."""
        self._lines.append((self.now_us, kind, *facts.items()))
        if self.keep_story:
            self.story.append(f"{self.now_us / 1e6:12.6f} {kind} " + " ".join(f"{k}={v}" for k, v in facts.items()))
        if len(self._lines) >= HASHED_LINES:
            self._hash_lines()

    def trace(self, *numbers: int) -> None:
        """Put what happens all the time into the trace, as numbers alone."""
        self._lines.append((self.now_us, *numbers))
        if len(self._lines) >= HASHED_LINES:
            self._hash_lines()

    def _hash_lines(self) -> None:
        self._hash.update(repr(self._lines).encode())
        self._lines.clear()

    def trace_hash(self) -> str:
        """Return the hash of the trace so far."""
        self._hash_lines()
        return self._hash.hexdigest()

    # Views.

    @property
    def founding(self) -> Founding | None:
        """The record on which the cluster was founded, as soon as a host has it."""
        found = (host.founding for host in self.hosts)
        return next((founding for founding in found if founding is not None), None)

    def replica(self, host: Host, partition: int) -> Replica | None:
        """Return the replica that a host has in service, or None."""
        return host.node.replicas.get(partition) if host.node is not None else None

    def leader(self, partition: int) -> Host | None:
        """Return the host that leads a partition in the newest term and has committed in it, or None."""
        leading = []
        for host in self.hosts:
            replica = self.replica(host, partition)
            if replica is not None and not host.paused and replica.leading and replica.raft.committed_in_term:
                leading.append((replica.raft.term, host))
        return max(leading, key=lambda pair: pair[0])[1] if leading else None
