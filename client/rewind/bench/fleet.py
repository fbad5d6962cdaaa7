"""Client processes: started together, given tasks, and ended, whatever happens.

Real processes, because one Python process has one processor: what measures must not be what is measured.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from rewind.bench.tasks import Outcome, Task, task_line
from rewind.errors import RewindError

PROGRAM = (sys.executable, "-P", "-m", "rewind.bench.worker")
LEAD_S = 0.2  # between giving tasks out and their beginning, so that every process has read its own by then
END_PATIENCE_S = 5.0


class BenchError(RewindError):
    """A benchmark that could not be carried out, with what to do about it."""


class ClientProcess:
    """One client process."""

    def __init__(self, greeting: str, program: Sequence[str] = PROGRAM) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.tell(greeting)

    def tell(self, line: str) -> None:
        """Send it a line; if it has ended, the next answer says so."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def give(self, task: Task) -> None:
        """Give it a task; take its outcome before the next."""
        self.tell(task_line(task))

    def stop_at(self, heads: Mapping[str, int]) -> None:
        """Tell a process that subscribes up to which position of each partition it should listen."""
        self.tell(json.dumps(heads))

    def wait_ready(self) -> None:
        """Wait until it says that it is ready."""
        self._hear("said")

    def outcome(self) -> Outcome:
        """Wait for the outcome of its task."""
        return Outcome(**self._hear("outcome"))

    def _hear(self, what: str) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"a client process ended with exit code {self._process.wait()}; its reason stands above")
        answer: Mapping[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError(f"a client process gave up: {answer['error']}")
        return answer[what]

    def dismiss(self) -> None:
        """Tell it that there is nothing more to do."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def end(self, patience_s: float = END_PATIENCE_S) -> None:
        """Wait until it has ended, and end it if that takes longer than patience."""
        self.dismiss()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Fleet:
    """So many client processes that are connected. They end with the context. `greeting`: their first line."""

    def __init__(self, greeting: str, count: int, program: Sequence[str] = PROGRAM) -> None:
        self._greeting = greeting
        self._count = count
        self._program = program
        self.processes: list[ClientProcess] = []

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self.processes.append(ClientProcess(self._greeting, self._program))
            for process in self.processes:
                process.wait_ready()
        except BaseException:
            self.end(0.0)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(END_PATIENCE_S if error is None else 0.0)

    def do(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Give each process its task and wait for all outcomes."""
        assert len(tasks) == len(self.processes)
        for process, task in zip(self.processes, tasks, strict=True):
            process.give(task)
        return [process.outcome() for process in self.processes]

    def end(self, patience_s: float) -> None:
        """End all processes; they have so long to close their stores."""
        for process in self.processes:
            process.dismiss()
        for process in self.processes:
            process.end(patience_s)


def soon() -> float:
    """Return when tasks that are given out now should begin."""
    return time.monotonic() + LEAD_S
