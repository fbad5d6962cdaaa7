"""What a cluster of many machines could do, computed from what an event costs on one: no measurement, a bound.

A node is one loop in one thread, and beside it ZeroMQ's threads. Of every event in a partition, the node that leads
it pays a leader's cost, those that follow a follower's. So a node that holds `leads` + `follows` replicas of P
partitions, over which events are spread evenly, pays for each event of the whole cluster

    (leads x leader + follows x follower) / P

of its loop's time, and the busiest node bounds the cluster: at one second of loop a second; or, on a machine with few
cores, at as many seconds a second as it has cores for all of a node's threads.

A loop does not work while it waits for its disk: a turn of length t ends in a commit of length c, so 1 - c/t of the
time is left for events. Longer turns leave more and take longer to answer. An append waits for the rest of the leader's
turn, half of one on the average, for the rest of the follower's and its own there, and for the rest of the leader's
once more, and for a round trip to the leader and one on to a follower: 2.5 turns and 2 round trips. The leader's own
commit runs beside the follower's (`node/README.md`, "A turn").
"""

from dataclasses import dataclass
from math import ceil

US = 1_000_000
TURNS_AN_APPEND = 2.5
ROUND_TRIPS_AN_APPEND = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of processor time for an event at one replica: of the node's loop, and of all its threads."""

    loop_us: float
    all_us: float

    def times(self, factor: float) -> "Cost":
        """Return the cost so many times."""
        return Cost(self.loop_us * factor, self.all_us * factor)

    def plus(self, other: "Cost") -> "Cost":
        """Return the sum of both."""
        return Cost(self.loop_us + other.loop_us, self.all_us + other.all_us)


@dataclass(frozen=True, slots=True)
class Costs:
    """What an event costs where it is led, at each follower, and at the client that appends it."""

    leader: Cost
    follower: Cost
    client_us: float

    def fitted(self, replicas: int, measured: Cost) -> "Costs":
        """Return costs in the same proportion that add up to what all replicas of an event were measured to cost.

        Leader and follower can be told apart where there is one partition; with more of them every node is both.
        """
        told_apart = self.leader.plus(self.follower.times(replicas - 1))
        loop, everything = measured.loop_us / told_apart.loop_us, measured.all_us / told_apart.all_us
        return Costs(
            Cost(self.leader.loop_us * loop, self.leader.all_us * everything),
            Cost(self.follower.loop_us * loop, self.follower.all_us * everything),
            self.client_us,
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """A cluster: nodes of so many cores each, partitions, and how many replicas each has."""

    nodes: int
    cores: int
    partitions: int
    replicas: int = 3

    def __post_init__(self) -> None:
        if min(self.nodes, self.cores, self.partitions, self.replicas) < 1 or self.replicas > self.nodes:
            raise ValueError(f"{self} is no cluster: each at least 1, and a node holds one replica of a partition")

    @property
    def leads(self) -> int:
        """How many partitions the busiest node leads where they are spread as evenly as they can be."""
        return ceil(self.partitions / self.nodes)

    @property
    def follows(self) -> int:
        """How many partitions that node follows: replicas are spread evenly, too."""
        return ceil(self.partitions * self.replicas / self.nodes) - self.leads

    @property
    def data_in(self) -> float:
        """The share of all events that comes to the busiest node."""
        return (self.leads + self.follows) / self.partitions

    @property
    def data_out(self) -> float:
        """How often each event of the cluster leaves that node for followers, on the average."""
        return self.leads * (self.replicas - 1) / self.partitions


@dataclass(frozen=True, slots=True)
class Bound:
    """Events a second that no cluster of this kind exceeds.

    `ceiling`: of the processors alone. `events`: where loops wait for their disks for a share of their time.
    `is_loop`: the loop's thread is what bounds it, and more cores would not help. `client_cores`: what clients need,
    on machines of their own. `append_ms`: how long an append then takes.
    """

    ceiling: float
    events: float
    is_loop: bool
    client_cores: float
    append_ms: float


def bound(costs: Costs, shape: Shape, *, commit_ms: float, commit_share: float, round_trip_ms: float) -> Bound:
    """Return the bound. `commit_share`: for which share of a turn the loop waits for its commit, 0 to 1."""
    if not 0 < commit_share < 1:
        raise ValueError(f"a share of {commit_share} of a turn leaves nothing for the rest, or for the commit")
    node = costs.leader.times(shape.leads).plus(costs.follower.times(shape.follows)).times(1 / shape.partitions)
    by_loop = US / node.loop_us
    by_cores = shape.cores * US / node.all_us
    ceiling = min(by_loop, by_cores)
    events = min(by_loop * (1 - commit_share), by_cores)  # while a loop waits, a core is free for other threads
    turn_ms = commit_ms / commit_share
    return Bound(
        ceiling=ceiling,
        events=events,
        is_loop=by_loop * (1 - commit_share) <= by_cores,
        client_cores=events * costs.client_us / US,
        append_ms=TURNS_AN_APPEND * turn_ms + ROUND_TRIPS_AN_APPEND * round_trip_ms,
    )
