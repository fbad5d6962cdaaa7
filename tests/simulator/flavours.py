"""Flavours: which kind of trouble prevails in a run, by its seed's number, so that rare circumstances come up often.

A flavour weighs the kinds of faults, and decides some of the shape. The kinds that it prefers make up about three
quarters of its faults, all others the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from simulator.faults import FAULT_KINDS, draw_faults
from simulator.group_operations import draw_group_operations
from simulator.network import CALM, NetworkProfile
from simulator.operations import draw_operations
from simulator.plan import Plan, Shape
from simulator.randomness import source

PREFERRED_SHARE = 0.75
DURATION_US = (18_000_000, 32_000_000)
EARLY_US = 2_500_000  # founding takes a second or so
KEPT_CUT_CHANCE = 0.2
DELAYS_US = ((100, 1_500), (200, 5_000), (500, 20_000))  # one machine room, one town, two towns


@dataclass(frozen=True, slots=True)
class Flavour:
    """What makes runs of a flavour special. `late_chance`: of a node that is not among the seeds and starts later."""

    name: str
    prefers: tuple[str, ...] = ()
    nodes: tuple[int, ...] = (3, 3, 3, 5)
    late_chance: float = 0.15
    memberships_chance: float = 0.1
    worst: float = 0.02  # loss, duplication and reordering are drawn up to this, and to five times it for the last
    early: float = 0.0  # share of the faults that come while the cluster is being founded


FLAVOURS = (
    Flavour("everything"),
    Flavour(
        "crashes",
        ("crash", "crash-at-step", "crash-majority", "crash-all", "stop", "roll", "drop-connections", "hound"),
    ),
    Flavour("cuts", ("cut", "cut-one-way", "cut-off", "cut-in-two", "cut-ring", "cut-client", "pause", "hound")),
    Flavour(
        "disks", ("slow-disk", "stuck-disk", "failing-disk", "full-disk", "flip-record", "flip-header", "flip-row")
    ),
    Flavour("clocks", ("clock-fast", "clock-jump", "pause", "crash", "transfer")),
    Flavour("founding", ("crash", "wipe", "cut", "cut-off", "crash-at-step", "pause"), late_chance=0.6, early=0.5),
    Flavour("five nodes", nodes=(5,), late_chance=0.3),
    Flavour(
        "memberships",
        ("crash", "cut-off", "transfer", "hound", "swing", "duel"),
        nodes=(3, 3, 5, 5),
        late_chance=0.6,
        memberships_chance=1.0,
    ),
    Flavour("lossy", ("bad-network", "slow-network", "drop-connections", "cut-one-way", "transfer"), worst=0.1),
    Flavour("elections", ("hound", "swing", "figure-8", "transfer"), nodes=(3, 5), memberships_chance=0.3),
    Flavour("stragglers", ("late-requests", "late-answers", "roll", "drop-connections")),
    Flavour("calm", ("transfer", "drop-connections", "pause")),
)


def flavour_of(seed: int) -> Flavour:
    """Return a seed's flavour."""
    return FLAVOURS[seed % len(FLAVOURS)]


def draw_plan(seed: int) -> Plan:
    """Return a seed's plan."""
    flavour = flavour_of(seed)
    shape = _draw_shape(source(seed, "shape"), flavour)
    random = source(seed, "faults")
    faults = draw_faults(random, shape, _weights(flavour))
    if flavour.early:
        early = [fault.at_us * EARLY_US // shape.duration_us for fault in faults]
        hurried = random.sample(range(len(faults)), int(len(faults) * flavour.early))
        faults = [replace(fault, at_us=early[i]) if i in hurried else fault for i, fault in enumerate(faults)]
        faults.sort(key=lambda fault: fault.at_us)
    operations = draw_operations(source(seed, "operations"), shape)
    operations += draw_group_operations(source(seed, "groups"), shape, len(operations))
    operations.sort(key=lambda operation: operation.at_us)
    sender, receiver = random.sample(range(shape.nodes), 2)
    cut = (sender, receiver) if random.random() < KEPT_CUT_CHANCE else None
    return Plan(seed, shape, tuple(faults), tuple(operations), cut)


def _draw_shape(random: Random, flavour: Flavour) -> Shape:
    nodes = random.choice(flavour.nodes)
    return Shape(
        flavour=flavour.name,
        nodes=nodes,
        late_nodes=int(random.random() < flavour.late_chance),
        partitions=random.choice((2, 2, 3, 4)),
        replication_factor=random.choice((3, 3, 5)) if nodes >= 5 else 3,
        clients=random.randint(2, 4),
        duration_us=random.randint(*DURATION_US),
        memberships=random.random() < flavour.memberships_chance,
        network=_draw_network(random, flavour),
    )


def _draw_network(random: Random, flavour: Flavour) -> NetworkProfile:
    if random.random() < 0.3 and flavour.worst < 0.1:
        return CALM
    worst = flavour.worst
    delay_us = random.choice(DELAYS_US)
    return NetworkProfile(delay_us, random.uniform(0, worst), random.uniform(0, worst), random.uniform(0, 5 * worst))


def _weights(flavour: Flavour) -> Mapping[str, float]:
    """Return the weights of all kinds: those that the flavour prefers get their share by their usual weights."""
    if not flavour.prefers:
        return FAULT_KINDS
    preferred = sum(FAULT_KINDS[kind] for kind in flavour.prefers)
    others = sum(FAULT_KINDS.values()) - preferred
    return {
        kind: weight / preferred * PREFERRED_SHARE
        if kind in flavour.prefers
        else weight / others * (1 - PREFERRED_SHARE)
        for kind, weight in FAULT_KINDS.items()
    }
