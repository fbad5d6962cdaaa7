"""Founding: how nodes that know nothing but the same list of seeds become one cluster, and never two.

The rule: the first seed in sorted order draws the founding record, but only while every seed has answered that it is
empty and was started with the same seeds, partitions and replication factor; it makes the record durable and only then
sends it. A node that stored a record never accepts another and passes it on. A node that is not named in the record it
gets joins as new: it has forgotten nothing, for it has promised nothing.

So two records need two founders. The founder is the same node as long as its data directory lives; if it is lost before
any other seed had its record, nobody had; if after, that seed is no longer empty and nothing is founded again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rewind_cluster.cluster_map import Founding, NodeInfo
from rewind_cluster.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Plan:
    """What a node was started with, that all seeds must agree on."""

    seeds: tuple[str, ...]
    partitions: int
    replication_factor: int

    @property
    def first_seed(self) -> str:
        """The seed that founds."""
        return min(self.seeds)


@dataclass(frozen=True, slots=True)
class Seed:
    """What a seed answered: who it is, its plan, and whether it belongs to a cluster."""

    node: NodeInfo
    plan: Plan
    cluster_id: str


class Founder:
    """Decides whether this node may found, from what the seeds have answered on connections that are up now."""

    def __init__(self, me: NodeInfo, plan: Plan) -> None:
        self._me = me
        self._plan = plan

    def obstacles(self, own_addresses: frozenset[str], answers: Mapping[str, Seed]) -> list[str]:
        """Return why nothing can be founded now, a line each.

        `own_addresses`: the seeds at which this node met itself. `answers`: by seed, those of the other nodes.
        """
        lines = []
        names: dict[str, str] = {self._me.name: "this node"}
        for seed in sorted(self._plan.seeds):
            answer = answers.get(seed)
            if seed in own_addresses:
                continue
            if answer is None:
                lines.append(f"seed {seed} has not answered yet")
            elif answer.cluster_id:
                lines.append(f"seed {seed} belongs to cluster {answer.cluster_id} already")
            elif _canonical(answer.plan) != _canonical(self._plan):
                lines.append(f"seed {seed} was started with {_difference(self._plan, answer.plan)}")
            elif answer.node.name in names:
                lines.append(f"seed {seed} has the same name {answer.node.name!r} as {names[answer.node.name]}")
            else:
                names[answer.node.name] = f"seed {seed}"
        return lines

    def may_found(self, own_addresses: frozenset[str], answers: Mapping[str, Seed]) -> bool:
        """Return whether this node is the first seed and nothing stands in the way."""
        return self._plan.first_seed in own_addresses and not self.obstacles(own_addresses, answers)

    def found(self, answers: Mapping[str, Seed], new_id: Callable[[], str]) -> Founding:
        """Return the founding record of a new cluster. It must be durable before anyone hears of it."""
        nodes = {self._me.id: self._me} | {answer.node.id: answer.node for answer in answers.values()}
        order = sorted(nodes.values(), key=lambda node: (node.name, node.id))
        return Founding(new_id(), self._plan.partitions, self._plan.replication_factor, tuple(order))


def _canonical(plan: Plan) -> tuple[list[str], int, int]:
    return sorted(plan.seeds), plan.partitions, plan.replication_factor


def _difference(mine: Plan, theirs: Plan) -> str:
    if sorted(mine.seeds) != sorted(theirs.seeds):
        return f"other seeds ({','.join(theirs.seeds)}, here {','.join(mine.seeds)}); start all with the same line"
    if mine.partitions != theirs.partitions:
        return f"--partitions {theirs.partitions}, here {mine.partitions}; start all with the same number"
    return f"--replication-factor {theirs.replication_factor}, here {mine.replication_factor}; start all with the same"


def check_record(packed: bytes) -> Founding:
    """Return a founding record from the network, or raise `ProtocolError`."""
    founding = Founding.unpack(packed)
    if not founding.cluster_id:
        raise ProtocolError("a founding record names no cluster")
    ids = [node.id for node in founding.nodes]
    names = [node.name for node in founding.nodes]
    if len(set(ids)) != len(ids) or len(set(names)) != len(names):
        raise ProtocolError("a founding record names a node twice")
    return founding
