"""Hunting a planted bug: ordinary seeds of the campaign are run until one shows it.

It counts as found where the checker finds a promise broken, or the cluster does not come back. That the code breaks
down on an assertion of its own does not count: the next bug of the kind may have no assertion in its way. The seed that
shows it must find nothing in the code as it is.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice

from histories.violations import Kind
from simulator.findings import CALL_NEVER_ENDS, CONSUMER_BEHIND, GROUP_BEHIND, NO_CATCH_UP, NO_SERVICE, TERMS_RISE
from simulator.flavours import draw_plan, flavour_of
from simulator.group_operations import has_groups
from simulator.run import run

from planted.plant import Plant, planted

COUNTED = frozenset(
    {*map(str, Kind), CALL_NEVER_ENDS, CONSUMER_BEHIND, GROUP_BEHIND, NO_CATCH_UP, NO_SERVICE, TERMS_RISE}
)


@dataclass(frozen=True, slots=True)
class Catch:
    """How a hunt ended. `seed` shows the bug, None if none did; on so many `crashes` the code broke down instead.

    `kinds` are those of all that the seed has found; `text` tells the first, or the last crash. `clean`: without the
    plant the seed finds nothing.
    """

    plant: str
    seeds: int
    seed: int | None
    flavour: str
    kinds: tuple[str, ...]
    text: str
    crashes: int
    clean: bool
    seconds: float

    @property
    def good(self) -> bool:
        """Whether the bug was found, and by nothing else than the bug."""
        return self.seed is not None and self.clean


def seeds_of(plant: Plant) -> Iterator[int]:
    """Yield the campaign's seeds from 1 on that are of a plant's flavours, and have groups where it is in those."""
    seeds = (seed for seed in count(1) if flavour_of(seed).name in plant.flavours)
    return (seed for seed in seeds if has_groups(draw_plan(seed).operations)) if plant.in_groups else seeds


def hunt(plant: Plant, seeds_max: int) -> Catch:
    """Look for a bug on the seeds of its flavours, so many at most."""
    return hunt_on(plant, islice(seeds_of(plant), seeds_max))


def hunt_on(plant: Plant, seeds: Iterable[int]) -> Catch:
    """Look for a bug on some seeds."""
    started = time.monotonic()
    tried = crashes = 0
    text = ""
    for seed in seeds:
        tried += 1
        with planted(plant):
            findings = run(draw_plan(seed)).findings
        shown = [finding for finding in findings if finding.kind in COUNTED]
        if shown:
            kinds = tuple(dict.fromkeys(finding.kind for finding in shown))
            clean = not run(draw_plan(seed)).findings
            seconds = round(time.monotonic() - started, 1)
            return Catch(plant.name, tried, seed, flavour_of(seed).name, kinds, shown[0].text, crashes, clean, seconds)
        if findings:
            crashes += 1
            text = findings[0].text
    return Catch(
        plant.name, tried, None, "", (), text, crashes, clean=True, seconds=round(time.monotonic() - started, 1)
    )
