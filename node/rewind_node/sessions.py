"""The sessions of one partition: which numbered appends have taken effect, and what was answered.

The table is a function of the log alone: every replica that has applied the same index holds the same sessions,
low-water marks and answers, whatever its clock says. It is kept in memory and, run by run, in the store.

Theory: Ongaro, "Consensus: Bridging Theory and Practice", 6.3 (implementing linearizable semantics).
"""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Any, Generic, Protocol, TypeVar

from rewind_cluster.client_messages import Code
from rewind_cluster.records import Run
from rewind_node.connections import Answer
from rewind_node.store import SessionRun

SESSIONS_MAX = 4096  # per partition; with a full window each they take some 100 MB, with a usual one a few
SessionKey = tuple[int, int]  # session, first sequence number of a run


class HasNumbers(Protocol):
    """Anything that is about a run of a session's numbers."""

    @property
    def first_sequence(self) -> int:
        """The first number."""
        ...

    @property
    def last_sequence(self) -> int:
        """The last number."""
        ...


R = TypeVar("R", bound=HasNumbers)


class Numbered(Generic[R]):
    """Runs of one session's numbers that do not overlap, to be found by any of their numbers."""

    __slots__ = ("_by_first", "_firsts", "last")

    def __init__(self) -> None:
        self.last = 0  # the highest number there ever was
        self._firsts: list[int] = []
        self._by_first: dict[int, R] = {}

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def add(self, run: R) -> None:
        """Take in a run: nearly always one beyond all others."""
        if run.first_sequence not in self._by_first:
            insort(self._firsts, run.first_sequence)
        self._by_first[run.first_sequence] = run
        self.last = max(self.last, run.last_sequence)

    def find(self, sequence: int) -> R | None:
        """Return the run that holds a number, or None."""
        place = bisect_right(self._firsts, sequence)
        run = self._by_first[self._firsts[place - 1]] if place else None
        return run if run is not None and sequence <= run.last_sequence else None

    def remove(self, run: R) -> None:
        """Forget a run, unless another one has taken its place."""
        if self._by_first.get(run.first_sequence) is run:
            del self._by_first[run.first_sequence]
            del self._firsts[bisect_left(self._firsts, run.first_sequence)]


class Session:
    """One session. `runs` are how its appends ended, in log order."""

    __slots__ = ("_numbers", "low", "runs")

    def __init__(self) -> None:
        self.low = 1
        self.runs: deque[SessionRun] = deque()
        self._numbers: Numbered[SessionRun] = Numbered()

    @property
    def last(self) -> int:
        """The highest number that has been settled."""
        return self._numbers.last

    def add(self, run: SessionRun) -> None:
        """Take in a run."""
        self.runs.append(run)
        if run.count:
            self._numbers.add(run)

    def drop_first(self) -> SessionRun:
        """Forget the run that came first in the log, and return it."""
        run = self.runs.popleft()
        if run.count:
            self._numbers.remove(run)
        return run

    def answer(self, sequence: int) -> Answer | None:
        """Return what was answered under a number, if it is remembered."""
        run = self._numbers.find(sequence) if sequence >= self.low else None
        return None if run is None else answer_of(run, sequence, sequence)


class SessionTable:
    """The applied sessions, least recently used first, in log order."""

    def __init__(self, runs: Iterable[SessionRun] = ()) -> None:
        self._sessions: OrderedDict[int, Session] = OrderedDict()
        self._put: dict[SessionKey, SessionRun] = {}
        self._deleted: list[SessionKey] = []
        for run in sorted(runs, key=lambda run: (run.index, run.offset)):
            session = self._sessions.setdefault(run.session, Session())
            session.add(run)
            session.low = max(session.low, run.low)
            self._sessions.move_to_end(run.session)

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, number: int) -> Session | None:
        """Return a session, or None if it was never opened here or has been evicted."""
        return self._sessions.get(number)

    def opened(self, index: int) -> None:
        """Take in a record that opened a session, and evict the least recently used beyond `SESSIONS_MAX`."""
        session = self._sessions[index] = Session()
        self._keep(session, SessionRun(index, 0, 0, index, 0, session.low, []))
        while len(self._sessions) > SESSIONS_MAX:
            evicted, gone = self._sessions.popitem(last=False)
            for run in gone.runs:
                self._drop((evicted, run.first_sequence))

    def settled(self, run: SessionRun) -> bool:
        """Take in how a run of a session's appends ended; return False if the session has been evicted.

        Appends of an evicted session keep their events and lose their answers: no number is taken again.
        """
        session = self._sessions.get(run.session)
        if session is None:
            return False
        self._sessions.move_to_end(run.session)
        self._keep(session, run)
        if run.low > session.low:
            session.low = run.low
            while len(session.runs) > 1 and session.runs[0].last_sequence < run.low:
                self._drop((run.session, session.drop_first().first_sequence))
        return True

    def _keep(self, session: Session, run: SessionRun) -> None:
        session.add(run)
        self._put[run.session, run.first_sequence] = run

    def _drop(self, key: SessionKey) -> None:
        if self._put.pop(key, None) is None:
            self._deleted.append(key)

    def take_rows(self) -> tuple[list[SessionRun], list[SessionKey]]:
        """Return the runs to put into the store and the keys of those to delete, since the last call."""
        put, deleted = list(self._put.values()), self._deleted
        self._put, self._deleted = {}, []
        return put, deleted


def done(run: Run, position: int, timestamp: int) -> list[Any]:
    """Return how a run of appends ended that took effect: its first event has this position and timestamp."""
    return [int(Code.OK), run.last_versions, position, timestamp, run.counts, run.parts]


def wrong_version(stream: str, expected: int, actual: int, *, logged: bool) -> list[Any]:
    """Return how an append ended that was refused. `logged`: under its number, for every copy."""
    return [int(Code.WRONG_VERSION), stream, expected, actual, logged]


def answer_of(run: SessionRun, first: int, last: int) -> Answer:
    """Return the answer to those of a run's appends that have the numbers `first` to `last`."""
    if first == run.first_sequence and last == run.last_sequence:
        return [first, *run.answer]
    code, last_versions, position, timestamp, counts, parts = run.answer
    skipped, taken = first - run.first_sequence, last - first + 1
    if parts is not None:
        parts = parts[: skipped + taken]
        skipped, parts = sum(parts[:skipped]), parts[skipped:]
        taken = sum(parts)
    start, stop = skipped, skipped + taken
    before = start if counts is None else sum(counts[:start])
    return [
        first,
        code,
        last_versions[start:stop],
        position + before,
        timestamp + before,
        None if counts is None else counts[start:stop],
        parts,
    ]
