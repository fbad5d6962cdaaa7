"""Repeated leader loss: how long clients cannot write, by partition, and whether anything acknowledged is lost with it.

A round signals a node that leads and measures, for every partition that it led, the longest time without an
acknowledged append from the signal on. Whoever runs the nodes starts a killed one again (`rewind-node dev` does, and so
does systemd); a stopped one is continued here, whatever happens. Once every replica is level the next round begins.

Appends to a partition come every partitions/rate seconds, so a gap of about that is none.
"""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import SystemRandom
from typing import Any

import psutil

from rewind.aio import AsyncStore, Connecting
from rewind.bench.figures import Findings, spreads_of, totals
from rewind.bench.fleet import BenchError
from rewind.bench.latencies import Histogram, Latencies
from rewind.bench.nodes import LocalNode, leaders_of, local_nodes
from rewind.bench.trickle import Trickle
from rewind.bench.workloads import Bench
from rewind.errors import RewindError
from rewind.urls import parse_target

SIGNALS = {"kill9": signal.SIGKILL, "sigstop": signal.SIGSTOP, "sigterm": signal.SIGTERM}
GAP = "write gap"
AFTERMATH_S = 1.5  # a gap that comes after the first append went through is one too
RETURN_PATIENCE_S = 60.0  # for a node to be started again, and for replicas to be level
LAG_MAX = 20  # entries a replica may be behind and count as level: the trickle goes on
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class FailoverPlan:
    """How often, by which signal, and how many appends a second feel it."""

    rounds: int
    signal: str
    rate: float
    event_bytes: int


@dataclass(frozen=True, slots=True)
class Round:
    """One leader's loss: who, and how long each partition that it led took no appends."""

    node: str
    gaps_s: Mapping[int, float]

    def figures(self) -> dict[str, float]:
        """Return the round's figures."""
        return {f"{GAP}, longest, ms": max(self.gaps_s.values()) * 1000, "partitions led": float(len(self.gaps_s))}

    def latencies(self) -> dict[str, Histogram]:
        """Return the gaps as a histogram."""
        latencies = Latencies()
        for gap_s in self.gaps_s.values():
            latencies.add(gap_s)
        return {GAP: latencies.histogram()}


def failover(
    bench: Bench, plan: FailoverPlan, settings: Mapping[str, Any], machine: str, warnings: Sequence[str]
) -> Findings:
    """Run all rounds."""
    if not bench.nodes:
        raise BenchError(
            "no node of the cluster runs on this machine, or none that this user may signal; run it where the nodes "
            "are, as their user or root"
        )
    rounds, trickle, verdict = asyncio.run(_failover(bench, plan))
    figures = [each.figures() for each in rounds]
    per_run = [each.latencies() for each in rounds]
    return Findings(
        workload="failover",
        settings={**settings, "acknowledged": trickle.acknowledged, **verdict},
        machine=machine,
        warnings=warnings,
        runs=figures,
        spreads=spreads_of(figures),
        latencies=totals(per_run),
        per_run=per_run,
        failures=trickle.failures + Counter(verdict),
    )


async def _failover(bench: Bench, plan: FailoverPlan) -> tuple[list[Round], Trickle, dict[str, int]]:
    client = bench.where.client()
    async with Connecting(parse_target(client.servers, client.context, client.timeout_s)) as store:
        partitions = sorted(leaders_of(await store.status()))
        trickle = Trickle(store, partitions, plan.rate, plan.event_bytes)
        running = asyncio.create_task(trickle.run())
        try:
            await _until_level(store)
            rounds = [await _strike(bench, store, trickle, plan, number) for number in range(1, plan.rounds + 1)]
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        bench.say("reading everything back")
        lost, doubled = await trickle.lost_and_doubled()
        return rounds, trickle, {"lost": lost, "doubled": doubled}


async def _strike(bench: Bench, store: AsyncStore, trickle: Trickle, plan: FailoverPlan, number: int) -> Round:
    """Signal a leader, see it come back, and return the gaps of the partitions that it led."""
    status = await store.status()
    leaders = leaders_of(status)
    local = {node.name: node for node in local_nodes(status)}
    candidates = sorted({name for partition in trickle.partitions if (name := leaders[partition]) in local})
    if not candidates:
        raise BenchError("no partition of the context is led by a node on this machine; see `rewind status`")
    victim = local[SystemRandom().choice(candidates)]
    led = [partition for partition in trickle.partitions if leaders[partition] == victim.name]
    struck_s = time.monotonic()
    victim.send(SIGNALS[plan.signal])
    try:
        await _until_felt(trickle, led, struck_s, f"{plan.signal} of {victim.name}")
        gaps_s = {partition: gap_s for partition in led if (gap_s := trickle.gap_s(partition, struck_s)) is not None}
    finally:
        if plan.signal == "sigstop":
            with suppress(psutil.Error):
                victim.send(signal.SIGCONT)
    told = ", ".join(f"{gap_s * 1000:.0f} ms" for gap_s in gaps_s.values())
    bench.say(f"round {number} of {plan.rounds}: {plan.signal} of {victim.name}, leader of {led}: {told}")
    await _until_back(store, victim, plan.signal)
    return Round(victim.name, gaps_s)


async def _until_felt(trickle: Trickle, led: Sequence[int], struck_s: float, what: str) -> None:
    """Wait until every partition takes appends again, and a while longer."""
    give_up = struck_s + RETURN_PATIENCE_S
    while (
        any(trickle.gap_s(partition, struck_s) is None for partition in led)
        or time.monotonic() < struck_s + 2 * AFTERMATH_S
    ):
        if time.monotonic() > give_up:
            raise BenchError(f"appends to partitions {led} do not go on {RETURN_PATIENCE_S:.0f} s after {what}")
        await asyncio.sleep(POLL_S)


async def _until_back(store: AsyncStore, victim: LocalNode, signal_name: str) -> None:
    """Wait until a node runs again, under another process ID if it was ended, and all replicas are level."""
    if signal_name != "sigstop":
        give_up = time.monotonic() + RETURN_PATIENCE_S
        while not await _runs_anew(store, victim):
            if time.monotonic() > give_up:
                raise BenchError(
                    f"node {victim.name} was not started again within {RETURN_PATIENCE_S:.0f} s after {signal_name}; "
                    "run nodes under something that does, as `rewind-node dev` does after a kill"
                )
            await asyncio.sleep(POLL_S)
    await _until_level(store)


async def _runs_anew(store: AsyncStore, victim: LocalNode) -> bool:
    try:
        status = await store.status()
    except RewindError:
        return False
    return any(node.name == victim.name and node.process != victim.process for node in local_nodes(status))


async def _until_level(store: AsyncStore) -> None:
    """Wait until every node serves, every partition is led and every replica is level with its leader."""
    give_up = time.monotonic() + RETURN_PATIENCE_S
    while not _is_level(status := await store.status()):
        if time.monotonic() > give_up:
            behind = [row["partition"] for row in status["partitions"] if not _is_row_level(row)]
            down = [row["name"] for row in status["nodes"] if row["state"] != "up"]
            raise BenchError(
                f"the replicas are not level after {RETURN_PATIENCE_S:.0f} s (nodes {down}, partitions {behind}); "
                "look at `rewind status`"
            )
        await asyncio.sleep(POLL_S)


def _is_level(status: Mapping[str, Any]) -> bool:
    return all(row["state"] == "up" for row in status["nodes"]) and all(map(_is_row_level, status["partitions"]))


def _is_row_level(row: Mapping[str, Any]) -> bool:
    return row["leader"] is not None and all(
        replica["match"] is not None and row["commit"] - replica["match"] <= LAG_MAX for replica in row["replicas"]
    )
