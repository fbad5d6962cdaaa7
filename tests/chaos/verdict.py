"""The end of a run: everything is healed, and then the cluster must come back, in bounded time; then what it holds.

Within five seconds of the last fault every partition takes writes. Every call ends. Every subscription is given the
last events, every group deals with all of them, every replica that is left catches up. Then the nodes are stopped, and
`histories.checker` holds what clients were told against what each of them has stored.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from histories.checker import check
from histories.logs import StoredLog

from chaos.faults import World
from chaos.harness_client import HarnessClient
from chaos.holdings import read_holding
from chaos.journal import Told, read_journals
from rewind_cluster.errors import DamagedError
from rewind_node.storage_errors import StorageError

SERVES_S = 5.0
CALLS_END_S = 45.0  # the longest timeout, 8 s, thrice; with whatever waits before it
LAST_S = 30.0
ARRIVE_S = 60.0
GROUPS_S = 60.0  # leases of dead members run out, slow events are dealt with, what failed is given again
CATCH_UP_S = 60.0
END_S = 30.0
# A data file holds its logs, their indexes, and pages that a busy moment needed and the next one will use again. In
# runs it was 1.4 times its logs; with pages that cannot be used again, 15 times after half a minute.
FILE_SHARE_MAX = 4
FILE_BYTES_MAX = 16 << 20
MEMORY_BYTES_MAX = 512 << 20  # nodes that had served some hundred thousand calls had a fifth of it
HOPELESS = 0.1  # of all that patience
LOOK_S = 0.1
FOREVER_US = 1 << 62


@dataclass(slots=True)
class Finding:
    """Something that must not be. `kind`: which promise, or that of liveness, or that something broke down.

    `from_us` and `until_us` tell when, if that is known.
    """

    kind: str
    text: str
    from_us: int = 0
    until_us: int = FOREVER_US


@dataclass(slots=True)
class Verdict:
    """What came of a run."""

    findings: list[Finding] = field(default_factory=list)
    told: Told = field(default_factory=Told)
    serves_s: float | None = None
    caught_up_s: float | None = None
    latent: list[str] = field(default_factory=list)  # damage that nobody has met
    lost: list[str] = field(default_factory=list)  # nodes that were out for good, and why
    ends: list[str] = field(default_factory=list)  # of nodes by themselves, for a reason
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)  # of each node: its data file, the logs in it
    memory: dict[str, int] = field(default_factory=dict)  # of each node in the end
    check_s: float = 0.0

    def found(self, kind: str, text: str) -> None:
        """Take in a finding."""
        self.findings.append(Finding(kind, text))


def reach(world: World, client: HarnessClient, journals: list[Path], healed_s: float) -> Verdict:
    """Return the verdict on a run whose last fault was healed at a time of the monotonic clock."""
    verdict = Verdict()
    _see_service(verdict, world, client, healed_s)
    hope = 1.0 if not verdict.findings else HOPELESS  # there is no point in waiting long for what is broken already
    _see_ends(verdict, world, client, hope)
    _see_catching_up(verdict, world, healed_s, hope)
    _see_memory(verdict, world)
    for text in world.fleet.end(END_S):
        verdict.found("call never ends", text)
    client.close()
    world.cluster.supervise()
    world.cluster.stop()
    for node in world.cluster.nodes:
        if node not in world.damaged:
            for line in world.cluster.quarantines(node):
                verdict.found("damaged replica", f"{node.name}, to whose data nothing was done: {line}")
    for text in (*world.cluster.breakdowns, *world.fleet.breakdowns):
        verdict.found("broke down", text)
    verdict.ends = world.cluster.ends
    verdict.lost = [f"{node.name}: {node.lost}" for node in world.cluster.nodes if node.lost]
    _check(verdict, world, [*journals, *world.fleet.journals])
    return verdict


def _see_service(verdict: Verdict, world: World, client: HarnessClient, healed_s: float) -> None:
    partitions = range(1, world.cluster.partitions + 1)
    world.cluster.supervise()
    served = client.probe(partitions, healed_s + SERVES_S)
    for partition in partitions:
        if partition not in served:
            verdict.found("partition does not serve", f"partition {partition}, {SERVES_S:.0f} s after the last fault")
    if served:
        verdict.serves_s = max(served.values()) - healed_s


def _see_ends(verdict: Verdict, world: World, client: HarnessClient, hope: float) -> None:
    supervise, tell = world.cluster.supervise, world.fleet.tell
    for name in tell("stop", "stopped", CALLS_END_S * hope, supervise):
        verdict.found("call never ends", f"client {name} has not ended its calls {CALLS_END_S:.0f} s after the end")
    if not client.say_last(LAST_S * hope):
        verdict.found("partition does not serve", "the last events of the run were not taken")
    for name in tell("arrive", "arrived", ARRIVE_S * hope, supervise):
        verdict.found("consumer stays behind", f"client {name}: {ARRIVE_S:.0f} s after the last event")
    give_up = time.monotonic() + GROUPS_S * hope
    while behind := client.groups_behind():
        if time.monotonic() > give_up:
            verdict.found("group stays behind", "; ".join(behind))
            return
        supervise()
        time.sleep(LOOK_S)


def _see_memory(verdict: Verdict, world: World) -> None:
    for node in world.cluster.alive:
        verdict.memory[node.name] = node.memory_bytes
        if node.memory_bytes > MEMORY_BYTES_MAX:
            verdict.found("grows without bound", f"{node.name} has {node.memory_bytes >> 20} MiB of memory")


def _see_catching_up(verdict: Verdict, world: World, healed_s: float, hope: float) -> None:
    give_up = time.monotonic() + CATCH_UP_S * hope
    asked_s = time.monotonic()
    while behind := list(_behind(world, asked_s)):
        if time.monotonic() > give_up:
            for text in behind:
                verdict.found("replica does not catch up", text)
            return
        world.cluster.supervise()
        time.sleep(LOOK_S)
    verdict.caught_up_s = time.monotonic() - healed_s


def _behind(world: World, since_s: float) -> Iterator[str]:
    """Yield what some node has not applied, going by what all of them say since a time."""
    commits: dict[int, int] = {}
    applied: list[tuple[str, int, int | None]] = []
    for node in world.cluster.alive:
        hopeless = world.cluster.hopeless(node) if node in world.damaged else set()
        asked_s = time.monotonic()
        status = world.cluster.status_of(node)
        if status is None or asked_s - status["age_ms"] / 1000 < since_s:
            yield f"{node.name} has not told how it stands"
            return
        for row in status["partitions"]:
            own = next((each["applied"] for each in row["replicas"] if each["node"] == node.name), None)
            if row["partition"] not in hopeless:
                applied.append((node.name, row["partition"], own))
            commits[row["partition"]] = max(commits.get(row["partition"], 0), row["commit"] or 0)
    for name, partition, own in applied:
        if own != commits[partition]:
            yield f"partition {partition} on {name} has applied {own} of {commits[partition]}"


def _check(verdict: Verdict, world: World, journals: list[Path]) -> None:
    verdict.told = read_journals(journals)
    for text in verdict.told.surprises:
        verdict.found("surprise", text)
    logs: list[StoredLog] = []
    for node in world.cluster.alive:
        try:
            held = read_holding(node)
        except (StorageError, DamagedError) as error:
            verdict.found("broke down", f"what {node.name} holds cannot be read: {error}")
            continue
        logs += held.logs
        verdict.sizes[node.name] = held.file_bytes, held.log_bytes
        if held.file_bytes > FILE_BYTES_MAX + FILE_SHARE_MAX * held.log_bytes:
            text = f"the data file of {node.name} has {held.file_bytes} bytes, its logs {held.log_bytes}"
            verdict.found("grows without bound", text)
        for text in held.differences:
            if node not in world.damaged:
                verdict.found("diverged replica", text)
    logs = _without_latent_damage(verdict, world, logs)
    started_s = time.monotonic()
    voters = len(world.cluster.nodes)
    violations = check(verdict.told.history, logs, voters=voters, steady=world.steady)
    for violation in violations:
        times = [(each.begun_us, each.ended_us or FOREVER_US) for each in violation.operations] or [(0, FOREVER_US)]
        when = min(begun for begun, _ in times), max(ended for _, ended in times)
        verdict.findings.append(Finding(violation.kind, str(violation), *when))
    verdict.check_s = time.monotonic() - started_s


def _without_latent_damage(verdict: Verdict, world: World, logs: list[StoredLog]) -> list[StoredLog]:
    """Leave out what was damaged on purpose and never met: the promise is that it is not served."""
    damaged = {node.name for node in world.damaged}
    latent = [log for log in logs if log.damage and log.node in damaged]
    verdict.latent += [f"partition {log.partition} on {log.node}: {log.damage[0]}" for log in latent]
    return [log for log in logs if log not in latent]
