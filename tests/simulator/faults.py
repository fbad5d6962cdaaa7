"""Faults: what kinds there are, how they are drawn, how each is done, and how all of them end.

Whatever else a fault decides follows from its `choice`, so that it means the same when others are taken away. A fault
that cannot be done when its time comes (its host is down, the promises would not hold beyond it) is left out, which the
trace says.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING

from simulator import misfortunes, stragglers
from simulator.misfortunes import Misfortune
from simulator.world import World

if TYPE_CHECKING:
    from simulator.plan import Fault, Shape

# How often each kind is drawn, where a run does not prefer some.
FAULT_KINDS: Mapping[str, float] = {
    "crash": 9,
    "crash-at-step": 9,
    "crash-majority": 3,
    "crash-all": 2,
    "stop": 3,
    "roll": 3,
    "late-requests": 6,
    "late-answers": 6,
    "pause": 7,
    "cut": 5,
    "cut-one-way": 6,
    "cut-off": 5,
    "cut-in-two": 3,
    "cut-ring": 2,
    "cut-client": 4,
    "drop-connections": 8,
    "slow-network": 2,
    "bad-network": 4,
    "slow-disk": 4,
    "stuck-disk": 4,
    "failing-disk": 3,
    "full-disk": 4,
    "flip-record": 3,
    "flip-header": 2,
    "flip-row": 3,
    "flip-state": 0.5,
    "wipe": 1,
    "clock-fast": 3,
    "clock-jump": 4,
    "transfer": 4,
    "membership": 6,
    "duel": 2,
    "hound": 4,
    "swing": 4,
    "figure-8": 3,
}
_CHANGING = ("membership", "duel")
_ALL = (
    "crash-all",
    "roll",
    "cut-in-two",
    "cut-ring",
    "slow-network",
    "bad-network",
    "transfer",
    "membership",
    "hound",
    "swing",
    "figure-8",
)
_PAIRS = ("cut", "cut-one-way", "drop-connections")
FAULTS_MIN, FAULTS_MAX = 6, 16
LONG_US = 6_000_000
MEMBERSHIP_STEPS = 4  # more than other kinds, for a change takes several


def draw_faults(random: Random, shape: "Shape", weights: Mapping[str, float] = FAULT_KINDS) -> list["Fault"]:
    """Return a run's faults in the order of their times; `weights` says how often each kind is to come."""
    chances = {kind: weight for kind, weight in weights.items() if kind not in _CHANGING or shape.memberships}
    kinds = random.choices(list(chances), list(chances.values()), k=random.randint(FAULTS_MIN, FAULTS_MAX))
    if shape.memberships:
        kinds += ["membership"] * random.randint(MEMBERSHIP_STEPS, 3 * MEMBERSHIP_STEPS)
    faults = [_draw(random, shape, kind) for kind in kinds]
    return sorted(faults, key=lambda fault: fault.at_us)


def _draw(random: Random, shape: "Shape", kind: str) -> "Fault":
    from simulator.plan import Fault  # noqa: PLC0415 - a plan names the network's profile, and is drawn with this

    hosts = shape.nodes + shape.late_nodes
    counts = {"crash-majority": shape.nodes // 2 + 1} | dict.fromkeys(_ALL, hosts) | dict.fromkeys(_PAIRS, 2)
    nodes = random.sample(range(hosts), min(hosts, counts.get(kind, 1)))
    at_us = random.randrange(shape.duration_us)
    for_us = int(LONG_US * random.random() ** 2)
    return Fault(at_us, kind, tuple(nodes), for_us, random.getrandbits(32))


def apply(world: World, fault: "Fault") -> None:
    """Let a fault happen now."""
    world.note("fault", fault=fault.kind, nodes=fault.nodes, for_us=fault.for_us)
    _DOINGS[fault.kind](Misfortune(world, fault))


def heal_all(world: World) -> None:
    """End all faults: what is down starts, what is cut off is reached, disks and clocks do as they should."""
    world.note("heal")
    world.healings += 1
    world.network.mend_all()
    world.network.calm()
    for host in world.hosts:
        host.resume()
        host.spare()
        engine = host.engine
        engine.slowness, engine.stuck_until_us, engine.failing = 1, 0, False
        engine.give_space()
        host.start()
    for machine in (*world.hosts, *world.clients):
        machine.resume()
        machine.clock.jump_us = 0
        machine.clock.set_speed(1, world.now_us)
        machine.rearm()


_DOINGS: Mapping[str, Callable[[Misfortune], None]] = {
    "crash": misfortunes.crash,
    "crash-at-step": misfortunes.crash_at_step,
    "crash-majority": misfortunes.crash_several,
    "crash-all": misfortunes.crash_several,
    "stop": misfortunes.stop,
    "roll": stragglers.roll,
    "late-requests": stragglers.late_requests,
    "late-answers": stragglers.late_answers,
    "pause": misfortunes.pause,
    "cut": misfortunes.cut_pair,
    "cut-one-way": misfortunes.cut_one_way,
    "cut-off": misfortunes.cut_off,
    "cut-in-two": misfortunes.cut_in_two,
    "cut-ring": misfortunes.cut_ring,
    "cut-client": misfortunes.cut_client,
    "drop-connections": misfortunes.drop_connections,
    "slow-network": misfortunes.slow_network,
    "bad-network": misfortunes.bad_network,
    "slow-disk": misfortunes.slow_disk,
    "stuck-disk": misfortunes.stuck_disk,
    "failing-disk": misfortunes.failing_disk,
    "full-disk": misfortunes.full_disk,
    "flip-record": misfortunes.flip_record,
    "flip-header": misfortunes.flip_header,
    "flip-row": misfortunes.flip_row,
    "flip-state": misfortunes.flip_state,
    "wipe": misfortunes.wipe,
    "clock-fast": misfortunes.clock_fast,
    "clock-jump": misfortunes.clock_jump,
    "transfer": misfortunes.transfer,
    "membership": misfortunes.membership,
    "duel": misfortunes.duel,
    "hound": misfortunes.hound,
    "swing": misfortunes.swing,
    "figure-8": misfortunes.figure_eight,
}
