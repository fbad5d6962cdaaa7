"""The plan of a run: which faults, when, for how long. Drawn from a seed before it begins.

Kinds are drawn from a bag that holds each of them once, and is filled again when it is empty: so all come about equally
often. Some faults begin while another still lasts, if that is of another area. Which nodes it hits a fault decides when
it begins, for it likes leaders; what it draws depends on the seed and its number alone.
"""

from collections.abc import Iterable, Sequence
from random import Random

from chaos.disk_faults import KINDS as DISK_KINDS
from chaos.faults import Fault, Kind, Means
from chaos.network_faults import KINDS as NETWORK_KINDS
from chaos.other_faults import KINDS as OTHER_KINDS
from chaos.process_faults import KINDS as PROCESS_KINDS

KINDS = (*PROCESS_KINDS, *NETWORK_KINDS, *DISK_KINDS, *OTHER_KINDS)
WARM_UP_S = 3.0
GAPS_S = (0.5, 4.0)
OVERLAP_CHANCE = 0.35
HURRIED = 0.45  # of its duration: what a fault of a short run lasts
HURRIED_GAPS_S = (0.1, 0.8)
HURRIED_OVERLAP_CHANCE = 0.6


def available(kinds: Iterable[Kind], missing: dict[Means, str]) -> list[Kind]:
    """Return the kinds of fault that need nothing that this machine lacks."""
    return [kind for kind in kinds if kind.needs not in missing]


def draw(seed: int, seconds: float, kinds: Sequence[Kind]) -> list[Fault]:
    """Return the faults of a run that last so long."""
    random = Random(f"plan/{seed}")
    bag: list[Kind] = []
    faults: list[Fault] = []
    at_s = WARM_UP_S
    while at_s < seconds:
        if not bag:
            bag = random.sample(kinds, len(kinds))
        kind = bag.pop()
        for_s = random.uniform(*kind.seconds)
        faults.append(_fault(seed, len(faults) + 1, kind, at_s, for_s))
        if random.random() < OVERLAP_CHANCE:
            at_s += for_s * random.uniform(0.2, 0.8)
        else:
            at_s += for_s + random.uniform(*GAPS_S)
    return faults


def draw_each(seed: int, kinds: Sequence[Kind]) -> list[Fault]:
    """Return a run with one short fault of each kind."""
    random = Random(f"plan/{seed}")
    faults: list[Fault] = []
    at_s = WARM_UP_S
    for kind in random.sample(kinds, len(kinds)):
        for_s = random.uniform(*kind.seconds) * HURRIED
        faults.append(_fault(seed, len(faults) + 1, kind, at_s, for_s))
        overlaps = random.random() < HURRIED_OVERLAP_CHANCE
        at_s += for_s * 0.5 if overlaps else for_s + random.uniform(*HURRIED_GAPS_S)
    return faults


def scripted(seed: int, course: Iterable[tuple[float, str, float]]) -> list[Fault]:
    """Return a run with faults of these kinds, each with its begin and its duration."""
    kinds = {kind.name: kind for kind in KINDS}
    return [
        _fault(seed, number, kinds[name], at_s, for_s) for number, (at_s, name, for_s) in enumerate(course, start=1)
    ]


def _fault(seed: int, number: int, kind: Kind, at_s: float, for_s: float) -> Fault:
    return Fault(number, kind, at_s, for_s, f"fault/{seed}/{number}")
