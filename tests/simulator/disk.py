"""A disk with faults, around the memory engine.

A commit takes simulated time, which a `Stopwatch` counts while the turn's code runs at once. So a commit is durable
from its end on, and a crash before that takes it back, even though the code beyond it has run. What was being written
when the power went may have become durable all the same, without anyone having been told: LMDB's transactions are all
or nothing, so that is all a torn write can do.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from rewind_node.disk_reserve import DISK_RESERVE_BYTES_MIN, DiskReserve
from rewind_node.engine import Pair
from rewind_node.memory_engine import MemoryEngine
from rewind_node.storage_errors import StorageFailedError, StorageFullError

COMMIT_US = (200, 3000)
SPACE_BYTES = 1 << 40


class Stopwatch:
    """The time within a turn: the turn's code takes none by itself, but what it does on disk and network does."""

    __slots__ = ("now_us",)

    def __init__(self) -> None:
        self.now_us = 0


class Commit(NamedTuple):
    """A commit that may be taken back yet: how many of the recorded writes it covers, and its begin and end."""

    writes: int
    begin_us: int
    end_us: int


class Flip(NamedTuple):
    """A flipped bit: where, and the damaged value. It is there as long as that value is."""

    table: str
    key: bytes
    value: bytes


class FaultyEngine(MemoryEngine):
    """The disk of one host. It outlives the host's process."""

    def __init__(self, random: Random, watch: Stopwatch) -> None:
        super().__init__()
        self.free_bytes = SPACE_BYTES
        self.slowness = 1
        self.stuck_until_us = 0
        self.failing = False  # the next commits fail
        self.flips: list[Flip] = []
        self.commits: list[Commit] = []
        self._random = random
        self._watch = watch

    @property
    def dirty(self) -> bool:
        """Whether anything was written since the last commit."""
        return len(self._undo) > self._covered

    @property
    def _covered(self) -> int:
        return self.commits[-1].writes if self.commits else 0

    def put(self, table: str, items: Sequence[Pair]) -> None:
        """Write pairs, and count what they take of the disk."""
        super().put(table, items)
        self.free_bytes -= sum(len(key) + len(value) for key, value in items)

    def commit(self) -> None:
        """Make what was written durable, in time; or fail, whereby it may have become durable."""
        if not self.dirty:
            return
        watch = self._watch
        begin_us = watch.now_us
        watch.now_us = max(begin_us + self._random.randint(*COMMIT_US) * self.slowness, self.stuck_until_us)
        if self.free_bytes < 0:
            self._roll_back()
            raise StorageFullError("the simulated disk is full")
        failed = self.failing
        if not failed or self._random.random() < 0.5:
            self._writes += 1
            self.commits.append(Commit(len(self._undo), begin_us, watch.now_us))
        else:
            self._roll_back()
        if failed:
            raise StorageFailedError("the simulated disk fails")

    def _roll_back(self) -> None:
        """Take back what was written since the last commit, as LMDB does with a transaction that fails."""
        committed, self._undo = self._undo[: self._covered], self._undo[self._covered :]
        self.crash()
        self._undo = committed

    def settle(self, now_us: int) -> None:
        """Forget how to take back what is durable by now."""
        durable = 0
        for commit in self.commits:
            if commit.end_us > now_us:
                break
            durable = commit.writes
        if durable:
            del self._undo[:durable]
            commits = (commit for commit in self.commits if commit.end_us > now_us)
            self.commits = [commit._replace(writes=commit.writes - durable) for commit in commits]

    def cut_power(self, now_us: int, *, torn: bool) -> None:
        """Lose what is not durable; with `torn`, what was just being committed is durable though unacknowledged."""
        kept = 0
        for commit in self.commits:
            if commit.end_us <= now_us or (torn and commit.begin_us <= now_us):
                kept = commit.writes
        del self._undo[:kept]
        self.commits.clear()
        self.crash()

    # Space and damage.

    def give_space(self) -> None:
        """Let there be space again."""
        self.free_bytes = SPACE_BYTES

    def rows(self, table: str, start: bytes = b"", stop: bytes = b"\xff" * 512) -> list[bytes]:
        """Return the keys of a table, `start <= key < stop`."""
        return [key for key, _ in self.scan(table, start, stop)] if table in self._tables else []

    def flip(self, table: str, key: bytes, bit: int) -> None:
        """Flip one bit of a stored value."""
        value = bytearray(self._tables[table].values[key])
        bit %= len(value) * 8
        value[bit // 8] ^= 1 << bit % 8
        damaged = bytes(value)
        self._tables[table].values[key] = damaged
        self.flips.append(Flip(table, key, damaged))

    def damaged_rows(self) -> list[Flip]:
        """Return the flips that have not been repaired; a crash may bring back one that had been."""
        return [flip for flip in self.flips if self._is_there(flip)]

    def _is_there(self, flip: Flip) -> bool:
        return flip.table in self._tables and self._tables[flip.table].values.get(flip.key) == flip.value


class SimulatedReserve(DiskReserve):
    """The shipped arithmetic of the disk reserve, on a simulated disk."""

    def __init__(self, engine: FaultyEngine) -> None:
        super().__init__(Path())
        self._engine = engine

    def free_bytes(self) -> int:
        """Return how much may still be written."""
        return self._engine.free_bytes

    def reserve_bytes(self) -> int:
        """Return the size of the reserve."""
        return DISK_RESERVE_BYTES_MIN
