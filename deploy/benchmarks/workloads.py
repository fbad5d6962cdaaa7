"""What every store is measured by, and how: the same client processes, the same pace, the same counting."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from system import Servers

from rewind.bench.figures import Run, figures_of
from rewind.bench.fleet import BenchError, Fleet, soon
from rewind.bench.machine import anonymous_bytes, cpu_seconds
from rewind.bench.nodes import Usage
from rewind.bench.plan import ENDLESS, ENDLESS_S, new_tag
from rewind.bench.tasks import AppendTask, Events, Outcome, Pace, ReadTask, Task

CLIENT_PROGRAM = (sys.executable, str(Path(__file__).with_name("client_process.py")))
SETTLE_S = 0.5  # between workloads: what servers do behind an acknowledgement is not the next workload's

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much: seconds of each append workload, of its warm-up before, and events that are read."""

    seconds: float
    warm_up_s: float
    events: int
    event_bytes: int


@dataclass(frozen=True, slots=True)
class Workload:
    """Appends of so many events each, so many under way in so many processes."""

    name: str
    title: str
    clients: int
    in_flight: int
    batch: int


SINGLES = Workload("singles", "single-event appends to new streams, 2 clients with 256 in flight", 2, 256, 1)
ONE = Workload("one", "one append at a time", 1, 1, 1)
BATCHES = Workload("batches", "appends of 100 events, 2 clients with 16 in flight", 2, 16, 100)
APPENDS = (SINGLES, ONE, BATCHES)
READ = "read"
FILLING = Workload("filling", "events to be read", 1, 16, 100)


def measure(servers: Servers, sizes: Sizes, say: Say) -> dict[str, dict[str, float]]:
    """Return the figures of one store that runs, by workload."""
    found = {}
    for workload in APPENDS:
        found[workload.name] = figures_of(_append(servers, workload, sizes))
        say(f"  {workload.title}: {_told(found[workload.name])}")
        time.sleep(SETTLE_S)
    found[READ] = figures_of(_read(servers, sizes))
    say(f"  catch-up read of {sizes.events:,} events: {_told(found[READ])}")
    return found


def _told(figures: dict[str, float]) -> str:
    wanted = ("append events a second", "appends a second", "read events a second", "append p50, ms", "append p99, ms")
    return ", ".join(f"{name} {figures[name]:,.2f}" for name in wanted if name in figures)


def _append(servers: Servers, workload: Workload, sizes: Sizes) -> Run:
    with clients_of(servers.name, servers.address(), workload.in_flight, workload.clients) as fleet:
        if sizes.warm_up_s > 0:
            fleet.do(tasks_of(workload, sizes.warm_up_s, sizes.event_bytes))
        before = _usage(servers)
        outcomes = fleet.do(tasks_of(workload, sizes.seconds, sizes.event_bytes))
        return Run(outcomes, before, _usage(servers), sizes.event_bytes)


def clients_of(store: str, address: Mapping[str, Any], in_flight: int, count: int, *, paced: bool = False) -> Fleet:
    """Return client processes of a store. `paced`: for tasks that keep a rate, with finer timers than usual."""
    greeting = json.dumps({"store": store, "address": address, "in_flight": in_flight, "paced": paced})
    return Fleet(greeting, count, CLIENT_PROGRAM)


def tasks_of(
    workload: Workload, seconds: float, event_bytes: int, *, appends: int = ENDLESS, rate: float | None = None
) -> Sequence[Task]:
    """Return a task for each client. `appends`: of each at most; `rate`: a second, of all, none for all they can."""
    begin_s, tag = soon(), new_tag(workload.name)
    offset_s = 1 / rate if rate else 0.0  # so that paced clients take turns
    each_rate = rate / workload.clients if rate else None
    return [
        AppendTask(
            Pace(begin_s + number * offset_s, seconds, appends, workload.in_flight, each_rate),
            Events(f"{tag}-{number}", event_bytes, workload.batch, "none", 1),
        )
        for number in range(workload.clients)
    ]


def _read(servers: Servers, sizes: Sizes) -> Run:
    _fill(servers, sizes)
    with clients_of(servers.name, servers.address(), 1, 1) as fleet:
        before = _usage(servers)
        outcomes: list[Outcome] = fleet.do([ReadTask(soon(), sizes.events, decode=False)])
        after = _usage(servers)
    if outcomes[0].events["read"] != sizes.events:
        raise BenchError(f"{servers.name} gave {outcomes[0].events['read']:,} of {sizes.events:,} events that it holds")
    return Run(outcomes, before, after)


def _fill(servers: Servers, sizes: Sizes) -> None:
    """Append as many events as are read, whatever is there already: it is the same for all."""
    with clients_of(servers.name, servers.address(), FILLING.in_flight, FILLING.clients) as fleet:
        fleet.do(tasks_of(FILLING, ENDLESS_S, sizes.event_bytes, appends=-(-sizes.events // FILLING.batch)))


def _usage(servers: Servers) -> Usage:
    processes = []
    for pid in servers.pids():
        process = psutil.Process(pid)
        processes += [process, *process.children(recursive=True)]
    return Usage(
        cpu_s={"servers": cpu_seconds(processes)},
        anonymous_bytes={"servers": sum(_anonymous(process) for process in processes)},
    )


def _anonymous(process: psutil.Process) -> int:
    try:
        return anonymous_bytes(process.pid)
    except psutil.Error:
        return 0  # it has ended meanwhile
