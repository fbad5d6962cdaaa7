"""One run: a cluster comes up, clients work, a nemesis rages, a verdict is reached."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from chaos.faults import Fault, Means, World
from chaos.harness_client import HarnessClient
from chaos.machines import Shape, machines, start_nodes
from chaos.nemesis import HEAL_S, TURN_S, Nemesis
from chaos.verdict import Verdict, reach


def play(
    seed: int,
    faults: Sequence[Fault],
    shape: Shape,
    directory: Path,
    missing: dict[Means, str],
    tell: Callable[[str], None],
    bug: str = "",
) -> tuple[Verdict, World]:
    """Play a plan in a directory that is not there yet, and return the verdict."""
    begun_s = time.monotonic()
    with machines(seed, shape, directory, missing, bug) as world:
        world.note = lambda text: tell(f"{time.monotonic() - begun_s:6.1f} s  {text}")
        client = HarnessClient(world.cluster.servers, directory / "harness.journal")
        start_nodes(world)
        client.open()
        for each in world.fleet.clients:
            world.fleet.start(each)
        world.note("the cluster serves, clients are starting")
        healed_s = _rage(world, list(faults))
        world.note("all is healed")
        verdict = reach(world, client, [directory / "harness.journal"], healed_s)
        world.note(f"the verdict is reached: {len(verdict.findings)} findings")
        return verdict, world


def _rage(world: World, faults: list[Fault]) -> float:
    """Let the nemesis rage until all is healed; return when that was."""
    nemesis = Nemesis(world, faults, time.monotonic())
    last_s = time.monotonic() + max((fault.at_s + fault.for_s for fault in faults), default=0.0)
    while not nemesis.over:
        nemesis.turn()
        world.cluster.supervise()
        world.fleet.supervise()
        if time.monotonic() > last_s + HEAL_S:
            nemesis.give_up()
            last_s += HEAL_S
        time.sleep(TURN_S)
    return time.monotonic()
