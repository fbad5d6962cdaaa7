"""What a fault is: a kind, what that needs of the machine, and what it does to a run, told in the order of time.

What a kind does is a generator. It does something, yields for how many seconds that is to last, and heals it. It is
always finished, so whatever it breaks is whole again in the end.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

from chaos.fleet import Fleet
from chaos.network import Network
from chaos.nodes import ChaosNode, Cluster

Course = Generator[float, None, None]


class Means(StrEnum):
    """What a kind of fault needs that not every machine has."""

    NAMESPACES = "network namespaces"
    LOOP_DISK = "loop-mounted ext4"
    MOUNT = "mounted tmpfs"
    SHIM = "preloaded clock"
    STRACE = "strace"


@dataclass(slots=True)
class World:
    """What faults are done to. `note`: tells the story. `damaged`: nodes whose data was damaged, one at most."""

    cluster: Cluster
    fleet: Fleet
    network: Network | None
    note: Callable[[str], None]
    damaged: list[ChaosNode] = field(default_factory=list)
    steady: bool = True  # no monotonic clock went too fast

    @property
    def links(self) -> Network:
        """The network, which there is if a fault needs it."""
        assert self.network is not None
        return self.network

    def pick(self, random: Random, count: int = 1) -> list[ChaosNode]:
        """Return so many nodes; the first is often the leader of a partition."""
        nodes = list(self.cluster.alive)
        random.shuffle(nodes)
        if random.random() < 0.6:
            partition = random.randint(0, self.cluster.partitions)
            leader = self.cluster.leaders().get(partition)
            nodes.sort(key=lambda node: node.name != leader)
        return nodes[:count]

    @property
    def majority(self) -> int:
        """How many nodes are one."""
        return len(self.cluster.nodes) // 2 + 1


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault. `area`: no two faults of one area overlap. `seconds`: how long it lasts, between these two."""

    name: str
    area: str
    seconds: tuple[float, float]
    course: Callable[[World, Random, float], Course]
    needs: Means | None = None


@dataclass(slots=True)
class Fault:
    """One fault of a plan, and when it was. Times are seconds from the begin of the run."""

    number: int
    kind: Kind
    at_s: float
    for_s: float
    seed: str
    begun_us: int = 0
    healed_us: int = 0
    story: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it for a report."""
        return {
            "number": self.number,
            "kind": self.kind.name,
            "at_s": round(self.at_s, 1),
            "for_s": round(self.for_s, 1),
            "begun_us": self.begun_us,
            "healed_us": self.healed_us,
            "took_s": round((self.healed_us - self.begun_us) / 1e6, 1),
            "story": self.story,
        }


def names(nodes: list[ChaosNode]) -> str:
    """Return nodes' names for people."""
    return ", ".join(sorted(node.name for node in nodes))
