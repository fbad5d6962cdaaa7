"""One run: a plan goes in, what it came to comes out. The same plan takes the same course in any process."""

import logging
from collections import Counter
from dataclasses import dataclass

from histories.checker import check
from histories.history import History

from simulator.faults import apply
from simulator.findings import Finding, of_exception, of_violation
from simulator.leaderships import Leaderships
from simulator.plan import Plan
from simulator.recording import Records
from simulator.verdict import Verdict
from simulator.workload import Workload
from simulator.world import World


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. `story`: the lines of the trace, where they were kept. `counts`: by group, then by name."""

    plan: Plan
    history: History
    findings: tuple[Finding, ...]
    trace_hash: str
    counts: dict[str, dict[str, int]]
    records: Records
    leaderships: Leaderships
    story: tuple[str, ...]
    simulated_us: int


def run(plan: Plan, *, keep_story: bool = False) -> Outcome:
    """Run a plan to its end and judge it."""
    logging.getLogger("rewind.client").setLevel(logging.CRITICAL)  # clients among faults have a lot to tell
    world = World(plan.seed, plan.shape, keep_story=keep_story)
    leaderships = Leaderships(world)
    workload = Workload(world, plan, leaderships)
    try:
        findings = _course(world, plan, workload, leaderships)
    except Exception as error:  # noqa: BLE001 - whatever breaks down is what the run has found
        findings = [of_exception(error)]
    return Outcome(
        plan,
        workload.history,
        tuple(findings),
        world.trace_hash(),
        _counts(world, plan, workload, leaderships),
        workload.records,
        leaderships,
        tuple(world.story),
        world.now_us,
    )


def _course(world: World, plan: Plan, workload: Workload, leaderships: Leaderships) -> list[Finding]:
    world.start()
    leaderships.watch()
    workload.begin()
    for fault in plan.faults:
        world.at(fault.at_us, apply, world, fault)
    last_us = max((operation.at_us for operation in plan.operations), default=0)
    world.run_until(max(plan.shape.duration_us, last_us))
    verdict = Verdict(world, plan, workload)
    verdict.reach()
    steady = all(fault.kind != "clock-fast" for fault in plan.faults)
    violations = check(workload.history, verdict.logs(), steady=steady)
    return [*verdict.findings, *map(of_violation, violations)]


def _counts(world: World, plan: Plan, workload: Workload, leaderships: Leaderships) -> dict[str, dict[str, int]]:
    return {
        "operations": dict(sorted(workload.records.counts.items())),
        "faults": dict(sorted(Counter(fault.kind for fault in plan.faults).items())),
        "cluster": {
            "leader changes": leaderships.changes,
            "node starts": sum(host.starts for host in world.hosts),
            "simulated seconds": world.now_us // 1_000_000,
        },
    }
