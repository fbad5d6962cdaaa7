"""What runs on this machine: its load before a benchmark begins, and what processes use of it.

Memory is RssAnon: mapped files, LMDB's pages above all, are the kernel's to keep or drop.
"""

import os
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import psutil

SAMPLE_S = 1.0  # long enough that a percent of a processor is ten ticks of the kernel's clock
BUSY_PERCENT = 5.0  # of one processor: below it a process is not worth naming
TROUBLE_PERCENT = 20.0  # of one processor, all others together: then figures are not to be trusted
BUSIEST_MAX = 3
NAME_CHARS_MAX = 60


@dataclass(frozen=True, slots=True)
class Busy:
    """A process that was busy, and how much of one processor it took."""

    pid: int
    name: str
    percent: float

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}) {self.percent:.0f} %"


@dataclass(frozen=True, slots=True)
class MachineLoad:
    """How busy a machine is with other things, for so long as it was looked at."""

    cores: int
    load_average: tuple[float, float, float]
    busy_percent: float
    busiest: tuple[Busy, ...]

    @property
    def is_trouble(self) -> bool:
        """Whether a benchmark would measure the others as well."""
        return self.busy_percent > TROUBLE_PERCENT

    @property
    def summary(self) -> str:
        """How busy, without by what."""
        averages = " ".join(f"{value:.2f}" for value in self.load_average)
        return (
            f"{self.cores} cores, load average {averages}, {self.busy_percent:.0f} % of a core busy with other things"
        )

    def __str__(self) -> str:
        others = ", ".join(map(str, self.busiest))
        return self.summary + (f": {others}" if others else "")


def look_at_machine(measured: Collection[psutil.Process], sample_s: float = SAMPLE_S) -> MachineLoad:
    """Watch every process for a moment. This one, those to be measured, and the children of all do not count."""
    before = _cpu_by_process()
    time.sleep(sample_s)
    ours = {process.pid for root in (psutil.Process(), *measured) for process in (root, *_children(root))}
    busy: list[Busy] = []
    for process, used_s in _cpu_by_process().items():
        percent = 100 * (used_s - before.get(process, 0.0)) / sample_s
        if percent > 0 and process.pid not in ours:
            busy.append(Busy(process.pid, _name(process), percent))
    busy.sort(key=lambda each: -each.percent)
    return MachineLoad(
        cores=os.cpu_count() or 1,
        load_average=os.getloadavg(),
        busy_percent=round(sum(each.percent for each in busy), 1),
        busiest=tuple(each for each in busy if each.percent >= BUSY_PERCENT)[:BUSIEST_MAX],
    )


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def _cpu_by_process() -> dict[psutil.Process, float]:
    found: dict[psutil.Process, float] = {}
    for process in psutil.process_iter():
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue  # it has ended, or is nobody's business
        found[process] = times.user + times.system
    return found


def _name(process: psutil.Process) -> str:
    try:
        words = process.cmdline() or [process.name()]
    except psutil.Error:
        return "?"
    words[0] = os.path.basename(words[0])  # noqa: PTH119 - a word of a command line, not a path of ours
    return " ".join(" ".join(words).split())[:NAME_CHARS_MAX]


def anonymous_bytes(pid: int | None = None) -> int:
    """Return the memory of a process, this one by default, that is no mapped file."""
    memory = psutil.Process(pid).memory_info()
    return int(memory.rss - memory.shared)


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Return the processor time that processes have used; those that ended count no more."""
    used_s = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        used_s += times.user + times.system
    return used_s
