"""A plan: everything about a run that is decided before it begins, so that it can be stored, shrunk and run again.

What a run draws beyond its plan (delays, losses, drift) comes from random sources that are derived by name from the
seed (`simulator.randomness`), so that taking a fault or an operation away reshuffles the rest no more than it must. A
run of the same plan takes the same course, event by event.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from simulator.network import NetworkProfile


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a run is and what circumstances it has.

    `flavour` names the kind of trouble that prevails (`simulator.flavours`). `clients` counts client machines.
    `late_nodes` are not among the seeds and start later. `duration_us` is the time from the start to the last fault.
    `memberships`: replicas of data partitions are added and removed meanwhile, as a controller would.
    """

    flavour: str
    nodes: int
    late_nodes: int
    partitions: int
    replication_factor: int
    clients: int
    duration_us: int
    memberships: bool
    network: NetworkProfile


@dataclass(frozen=True, slots=True)
class Fault:
    """One misfortune. `choice`: 32 random bits for whatever else its kind decides, a crash point or which bit."""

    at_us: int
    kind: str
    nodes: tuple[int, ...]
    for_us: int
    choice: int


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a client does. `arguments` are what its kind needs, all of it JSON (`simulator.operations`).

    `number` is unique in its plan and kept when others are taken away: event IDs and data follow from it.
    """

    number: int
    at_us: int
    client: int
    kind: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run. Faults and operations are in the order of their times.

    `kept_cut`: from the first of these hosts nothing reaches the second any more, and at the end of the run that is not
    healed, unlike all else.
    """

    seed: int
    shape: Shape
    faults: tuple[Fault, ...]
    operations: tuple[Operation, ...]
    kept_cut: tuple[int, int] | None = None

    def to_json(self) -> str:
        """Return the plan as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))


def from_json(text: str) -> Plan:
    """Return the plan that `Plan.to_json` wrote."""
    fields = json.loads(text)
    shape = fields["shape"]
    network = NetworkProfile(**{name: _tuples(value) for name, value in shape["network"].items()})
    return Plan(
        fields["seed"],
        Shape(**(shape | {"network": network})),
        tuple(Fault(**(fault | {"nodes": tuple(fault["nodes"])})) for fault in fields["faults"]),
        tuple(Operation(**operation) for operation in fields["operations"]),
        _tuples(fields["kept_cut"]),
    )


def _tuples(value: Any) -> Any:
    """Return a value with its arrays as tuples: JSON knows no tuples, and frozen records hold nothing else."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
