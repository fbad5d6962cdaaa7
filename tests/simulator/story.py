"""A run as a person reads it: the plan, what was found, and what happened around it, in order."""

from collections.abc import Iterator

from histories.violations import describe

from simulator.plan import Fault, Plan, Shape
from simulator.run import Outcome

# Lines of the trace that are told only where a finding names their operation, and those that are never told: the
# trace itself has them.
OF_OPERATIONS = frozenset(("begin", "end", "pinned"))
UNTOLD = frozenset(("down", "log", "up"))


def story(outcome: Outcome, replay: str) -> Iterator[str]:
    """Yield the lines of a run's story. `replay`: the command that runs it again."""
    plan = outcome.plan
    yield f"seed {plan.seed}, flavour {plan.shape.flavour!r}: {_shape(plan.shape)}"
    yield f"{counted(plan)}, {outcome.simulated_us / 1e6:.1f} simulated s"
    if plan.kept_cut is not None:
        yield f"from host n{plan.kept_cut[0] + 1} nothing reaches n{plan.kept_cut[1] + 1} at the end, and is not healed"
    yield ""
    yield "Faults:"
    yield from (f"  {_fault(fault)}" for fault in plan.faults)
    yield ""
    yield from _findings(outcome)
    yield ""
    yield "What happened:"
    yield from _course(outcome)
    yield ""
    yield f"trace {outcome.trace_hash}"
    yield f"again: {replay}"


def _shape(shape: Shape) -> str:
    late = f" and {shape.late_nodes} late" if shape.late_nodes else ""
    return (
        f"{shape.nodes}{late} nodes, {shape.partitions} partitions of {shape.replication_factor} replicas, "
        f"{shape.clients} clients{', changing memberships' if shape.memberships else ''}; {shape.network}"
    )


def _fault(fault: Fault) -> str:
    nodes = ", ".join(f"n{number + 1}" for number in fault.nodes)
    lasting = f" for {fault.for_us / 1e6:.3f} s" if fault.for_us else ""
    return f"{fault.at_us / 1e6:12.6f} {fault.kind} {nodes}{lasting} (choice {fault.choice})"


def _findings(outcome: Outcome) -> Iterator[str]:
    if not outcome.findings:
        yield "Nothing was found."
        return
    yield f"Found: {len(outcome.findings)}"
    for finding in outcome.findings:
        first, *rest = finding.text.splitlines()
        yield f"  {finding.kind}: {first}"
        yield from (f"    {line}" for line in rest)
        for operation in finding.operations:
            yield f"    {describe(operation)}"
            planned = outcome.records.operations.get((operation.client, operation.number))
            if planned is not None:
                yield f"      planned as {planned.kind} {planned.number}: {planned.arguments}"


def _course(outcome: Outcome) -> Iterator[str]:
    tags = {(operation.client, operation.number) for finding in outcome.findings for operation in finding.operations}
    named = [f" client={client} number={number} " for client, number in tags]
    named += [
        f" operation={outcome.records.operations[tag].number} " for tag in tags if tag in outcome.records.operations
    ]
    for line in outcome.story:
        kind = line.split(maxsplit=2)[1]
        if kind in UNTOLD or (kind in OF_OPERATIONS and not any(name in f"{line} " for name in named)):
            continue
        yield f"  {line}"


def counted(plan: Plan) -> str:
    """Return a plan's size in words."""
    return f"{_plural(len(plan.faults), 'fault')} and {_plural(len(plan.operations), 'operation')}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
