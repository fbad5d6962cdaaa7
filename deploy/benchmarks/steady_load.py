"""A steady rate of appends that goes on until it is told to end, and what it felt, second by second.

Two client processes take turns, a slice each: while one waits for the last answers of its slice, the other has begun
the next on time, so that no append waits for anything but the cluster. Each append is timed from when it was meant to
begin. A thread gives the slices out and gathers what became of them; the main thread is free for what happens
meanwhile.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rewind.bench.figures import Run, figures_of
from rewind.bench.fleet import Fleet, soon
from rewind.bench.nodes import Usage
from rewind.bench.plan import ENDLESS, Where, new_tag
from rewind.bench.tasks import AppendTask, Events, Outcome, Pace

SLICE_S = 1.0
PROCESSES = 2
IN_FLIGHT = 8192  # nearly a second at the usual rate: what is late must show as late, not keep the next from beginning
JOIN_S = 60.0  # for the last answers: beyond the timeout of every call
LATENCIES = ("append p50, ms", "append p99, ms", "append max, ms")


@dataclass(frozen=True, slots=True)
class Slice:
    """What became of the appends that were meant to begin within a slice's time. `middle_s`: of that, monotonic."""

    middle_s: float
    outcome: Outcome


class SteadyLoad:
    """So many appends a second from entering on, until `end` or leaving."""

    def __init__(self, where: Where, rate: float, event_bytes: int) -> None:
        self._fleet = Fleet(where.client(paced=True).line(), PROCESSES)
        self._rate = rate
        self._event_bytes = event_bytes
        self._tag = new_tag("steady")
        self._over = threading.Event()
        self._error: Exception | None = None
        self._slices: list[Slice] = []
        self._began_s = 0.0
        self._thread = threading.Thread(target=self._run, name="steady load", daemon=True)

    def __enter__(self) -> Self:
        self._fleet.__enter__()
        self._began_s = soon()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._fleet.__exit__(kind, error, trace)  # after an error at once: then the thread hears no more either
        self._thread.join(JOIN_S)

    def check(self) -> None:
        """Raise what has ended the load, if anything has."""
        if self._error is not None:
            raise self._error

    def end(self) -> list[Slice]:
        """Have the slice that runs be the last; return all of them."""
        self._over.set()
        self._thread.join(JOIN_S)
        self.check()
        return self._slices

    def _run(self) -> None:
        try:
            for number in range(PROCESSES):
                self._give(number)
            number = 0
            while not self._over.is_set():
                outcome = self._fleet.processes[number % PROCESSES].outcome()
                self._slices.append(Slice(self._begins_s(number) + SLICE_S / 2, outcome))
                if not self._over.is_set():
                    self._give(number + PROCESSES)
                number += 1
        except Exception as error:  # noqa: BLE001 - the main thread tells it, whatever it is
            self._error = error

    def _give(self, number: int) -> None:
        events = Events(f"{self._tag}-{number}", self._event_bytes, 1, "none", 1)
        pace = Pace(self._begins_s(number), SLICE_S, ENDLESS, IN_FLIGHT, self._rate)
        self._fleet.processes[number % PROCESSES].give(AppendTask(pace, events))

    def _begins_s(self, number: int) -> float:
        return self._began_s + number * SLICE_S


def figures_between(slices: Sequence[Slice], from_s: float, until_s: float) -> dict[str, float]:
    """Return the figures of the slices whose middle lies within a time; nothing where none does.

    The rate is what was acknowledged of what was meant to begin within it, so it is the asked one if it was kept.
    """
    outcomes = [each.outcome for each in slices if from_s <= each.middle_s < until_s]
    if not outcomes:
        return {}
    run = Run(outcomes, Usage(), Usage())
    seconds = len(outcomes) * SLICE_S
    found = {
        "seconds": seconds,
        "appends a second": run.done["append"] / seconds,
        "slowest second": min(each.done.get("append", 0) for each in outcomes) / SLICE_S,
        "failed or not begun in time": float(sum(run.failures.values())),
    }
    return found | {name: value for name, value in figures_of(run).items() if name in LATENCIES}
