"""Refusing an append for its version, and being right about it.

A leader that finds another version than expected may have judged on a tail that will vanish, or may lead no more
without knowing it. So a refusal waits until the entry that decided it has been committed and applied, and a read-index
round begun after the request has succeeded. Then, where the events after `expected` already carry the very IDs of the
request, the first answer is given instead.

A request of which an earlier copy is unanswered could be refused here and taken there. Such a refusal is first logged
under the request's number, so that no copy of it can ever take effect. While a request is judged, copies of it join the
judgement.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rewind_cluster.records import Refusal
from rewind_node.connections import Answer
from rewind_node.overlay import Waiter
from rewind_node.sessions import wrong_version

if TYPE_CHECKING:
    from rewind_node.reading import Reader, StoredRuns


class Part(NamedTuple):
    """What an append wants of one stream. `ids` are its events', one after the other."""

    stream: str
    expected: int
    ids: bytes


class Mismatch(NamedTuple):
    """A stream that is not at the version it was expected at."""

    stream: str
    expected: int
    actual: int


@dataclass(slots=True)
class Judgement:
    """A request on its way to being refused. `round` and `after` say what it waits for once the turn is closed."""

    context: int
    session: int
    sequence: int
    low: int
    open: bool
    parts: list[Part]
    mismatch: Mismatch
    waiters: list[Waiter]
    round: int = 0
    after: int = 0

    def join(self, waiter: Waiter, *, is_open: bool) -> None:
        """Let another copy of the request wait for the same answer."""
        self.waiters.append(waiter)
        self.open = self.open or is_open

    @property
    def refusal(self) -> Refusal:
        """The record that refuses every copy of the request."""
        return Refusal(self.session, self.sequence, self.low, *self.mismatch)

    def verdict(self, reader: "Reader", runs: "StoredRuns") -> Answer:
        """Return the first answer, where the events stand already, or the refusal."""
        earlier = reader.earlier_answer(self.context, self.parts, runs)
        return [self.sequence, *(earlier or wrong_version(*self.mismatch, logged=False))]


class Judging:
    """All requests of one partition that are on their way to being refused."""

    def __init__(self) -> None:
        self._judgements: dict[tuple[int, int], Judgement] = {}
        self._fresh: list[Judgement] = []
        self._highest: dict[int, int] = {}  # the highest number of each session that may be judged
        self.round = 0  # the newest read-index round that has succeeded

    def __len__(self) -> int:
        return len(self._judgements)

    def highest(self, session: int) -> int:
        """Return a number beyond which no append of a session is judged."""
        return self._highest.get(session, 0)

    def find(self, session: int, sequence: int) -> Judgement | None:
        """Return the judgement that a request is in, if it is in one."""
        return self._judgements.get((session, sequence))

    def add(self, judgement: Judgement) -> None:
        """Begin a judgement."""
        self._judgements[judgement.session, judgement.sequence] = judgement
        self._highest[judgement.session] = max(judgement.sequence, self.highest(judgement.session))
        self._fresh.append(judgement)

    @property
    def wants_round(self) -> bool:
        """Whether a judgement was begun since the last `close_turn`."""
        return bool(self._fresh)

    def close_turn(self, number: int, last_index: int) -> None:
        """Let the fresh judgements wait for read-index round `number` and for the log up to `last_index`."""
        for judgement in self._fresh:
            judgement.round, judgement.after = number, last_index
        self._fresh = []

    def ready(self, applied: int) -> list[Judgement]:
        """Return the judgements that have waited long enough."""
        return [j for j in self._judgements.values() if 0 < j.round <= self.round and j.after <= applied]

    def end(self, judgement: Judgement) -> None:
        """End a judgement: its verdict is known."""
        del self._judgements[judgement.session, judgement.sequence]
        if not self._judgements:
            self._highest.clear()

    def resign(self) -> list[Waiter]:
        """Return all who wait, now that this replica leads no more."""
        return [waiter for judgement in self._judgements.values() for waiter in judgement.waiters]
