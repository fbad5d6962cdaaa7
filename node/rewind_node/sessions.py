"""The sessions of one partition: which numbered appends have taken effect, and what was answered.

The table is a function of the log alone: every replica that has applied the same index holds the same sessions,
low-water marks and answers, whatever its clock says. It is kept in memory and, run by run, in the store.

Theory: Ongaro, "Consensus: Bridging Theory and Practice", 6.3 (implementing linearizable semantics).
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Any

from rewind_cluster.client_messages import Code
from rewind_node.store import SessionRun

SESSIONS_MAX = 4096  # per partition; with a full window each they take some 100 MB, with a usual one a few
Answer = list[Any]  # what stands in `AppendsDone` after the sequence number
SessionKey = tuple[int, int]  # session, first sequence number of a run


class Session:
    """One session. `rows` are the stored runs' first and last numbers, oldest first."""

    __slots__ = ("answers", "low", "rows")

    def __init__(self) -> None:
        self.low = 1
        self.answers: dict[int, Answer] = {}
        self.rows: deque[tuple[int, int]] = deque()


class SessionTable:
    """The applied sessions, least recently used first, in log order."""

    def __init__(self, runs: Iterable[SessionRun] = ()) -> None:
        self._sessions: OrderedDict[int, Session] = OrderedDict()
        self._put: dict[SessionKey, SessionRun] = {}
        self._deleted: list[SessionKey] = []
        self._load(runs)

    def _load(self, runs: Iterable[SessionRun]) -> None:
        used: dict[int, tuple[int, int]] = {}
        for run in runs:
            session = self._sessions.setdefault(run.session, Session())
            session.low = max(session.low, run.low)
            for sequence, answer in enumerate(run.answers, run.first_sequence):
                session.answers[sequence] = answer
            last = run.first_sequence + max(0, len(run.answers) - 1)
            session.rows.append((run.first_sequence, last))
            used[run.session] = max(used.get(run.session, (0, 0)), (run.index, run.offset))
        for session in self._sessions.values():
            session.rows = deque(sorted(session.rows, key=lambda row: row[1]))
            session.answers = {number: answer for number, answer in session.answers.items() if number >= session.low}
        for number in sorted(used, key=used.__getitem__):
            self._sessions.move_to_end(number)

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, number: int) -> Session | None:
        """Return a session, or None if it was never opened here or has been evicted."""
        return self._sessions.get(number)

    def answer(self, number: int, sequence: int) -> Answer | None:
        """Return what was answered under a number, if it is remembered."""
        session = self._sessions.get(number)
        return None if session is None else session.answers.get(sequence)

    def opened(self, index: int) -> None:
        """Take in a record that opened a session, and evict the least recently used beyond `SESSIONS_MAX`."""
        session = Session()
        session.rows.append((0, 0))
        self._sessions[index] = session
        self._put[index, 0] = SessionRun(index, 0, index, 0, session.low, [])
        while len(self._sessions) > SESSIONS_MAX:
            evicted, gone = self._sessions.popitem(last=False)
            for first, _ in gone.rows:
                self._drop((evicted, first))

    def settled(self, number: int, first: int, low: int, answers: list[Answer], place: tuple[int, int]) -> None:
        """Take in how a run of a session's appends ended, numbered from `first` on. `place`: its index and offset.

        Appends of an evicted session keep their events and lose their answers: no number is taken again. A run
        never spans another session's append nor a change of the low-water mark, so that a table loaded from the store
        has the same order of use and the same marks as one that never stopped.
        """
        session = self._sessions.get(number)
        if session is None:
            return
        self._sessions.move_to_end(number)
        last = first + len(answers) - 1
        self._put[number, first] = SessionRun(number, first, *place, low, answers)
        session.rows.append((first, last))
        session.answers.update(zip(range(first, last + 1), answers, strict=True))
        if low > session.low:
            self._raise_low(number, session, low)

    def _raise_low(self, number: int, session: Session, low: int) -> None:
        for sequence in range(session.low, low) if low - session.low < len(session.answers) else list(session.answers):
            if sequence < low:
                session.answers.pop(sequence, None)
        session.low = low
        while len(session.rows) > 1 and session.rows[0][1] < low:
            first, _ = session.rows.popleft()
            self._drop((number, first))

    def _drop(self, key: SessionKey) -> None:
        if self._put.pop(key, None) is None:
            self._deleted.append(key)

    def take_rows(self) -> tuple[list[SessionRun], list[SessionKey]]:
        """Return the runs to put into the store and the keys of those to delete, since the last call."""
        put, deleted = list(self._put.values()), self._deleted
        self._put, self._deleted = {}, []
        return put, deleted


def done(places: list[tuple[int, int, int]]) -> Answer:
    """Return the answer of an append that took effect: version, position and timestamp of each part's last event."""
    return [0, places]


def wrong_version(stream: str, expected: int, actual: int, *, logged: bool) -> Answer:
    """Return the answer of an append that was refused. `logged`: under its number, for every copy."""
    return [int(Code.WRONG_VERSION), stream, expected, actual, logged]
