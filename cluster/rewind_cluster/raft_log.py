"""A partition's log: its newest entries in memory, all of them on disk, the terms of all of them known.

The log starts at index 1 and is never compacted. It keeps three rules:

- what is not yet durable, or not yet committed since this process has it, is in memory;
- an entry joins only if index, digest chain and timestamp continue the entry before it;
- what is committed is never truncated.

Terms are kept as runs (the first index of each term), because the terms along a log never fall. Two logs that agree
on the term at an index agree on everything up to it (Raft paper, section 5.3), so runs suffice to find where two
logs part.
"""

from bisect import bisect_right
from typing import Protocol

from rewind_cluster.entry import NO_DIGEST, Entry
from rewind_cluster.errors import DamagedError

CACHE_BYTES_MAX = (
    4 * 1024 * 1024
)  # several turns of a busy leader, so that followers that keep up never cost it a disk read


class LogStore(Protocol):
    """What a log needs of the disk. It is written by the driver only, with what `Output` tells it to."""

    def last_index(self) -> int:
        """Return the index of the last stored entry, 0 for none, or raise `DamagedError` if that is not certain."""

    def entry(self, index: int) -> bytes:
        """Return the stored entry, or raise `DamagedError` if it is missing."""

    def entries(self, first: int, last: int, bytes_max: int) -> list[bytes]:
        """Return stored entries from `first` to `last`: at least one, and no more once `bytes_max` is reached."""


class RaftLog:
    """The log of one replica. `persisted` is the last index known durable, `first_cached` the first one in memory."""

    def __init__(self, store: LogStore, cache_bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._store = store
        self._cache: dict[int, Entry] = {}
        self._cache_bytes = 0
        self._cache_bytes_max = cache_bytes_max
        self._commit = 0
        self._truncated_from: int | None = None
        self.last_index = self.persisted = self._handed_out = store.last_index()
        self.first_cached = self.last_index + 1
        self._terms, self._starts = self._find_runs()
        self.last_digest, self.last_timestamp = self._tip(self.last_index)

    @property
    def last_term(self) -> int:
        """The term of the last entry, 0 for an empty log."""
        return self._terms[-1] if self._terms else 0

    def term_at(self, index: int) -> int | None:
        """Return the term of the entry at `index`, 0 for index 0, None beyond the end."""
        if index > self.last_index or index < 0:
            return None
        if index == 0:
            return 0
        if index >= self._starts[-1]:
            return self._terms[-1]
        return self._terms[bisect_right(self._starts, index) - 1]

    def last_index_of_terms_to(self, term: int, index: int) -> int:
        """Return the last index up to `index` whose term is at most `term`; 0 if there is none."""
        run = bisect_right(self._terms, term)
        end = self._starts[run] - 1 if run < len(self._starts) else self.last_index
        return min(index, end)

    def entry(self, index: int) -> Entry:
        """Return one entry, or raise `DamagedError`."""
        cached = self._cache.get(index)
        return cached if cached is not None else self._check_term(self._load(index))

    def slice(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        """Return entries from `first` to at most `last`: at least one, at most `bytes_max` unless one is larger.

        What is on disk and what is in memory never mix in one answer, so the answer may end early between them.
        """
        assert 1 <= first <= last <= self.last_index
        if first < self.first_cached:
            return self._slice_stored(first, min(last, self.first_cached - 1), bytes_max)
        entries: list[Entry] = []
        size = 0
        for index in range(first, last + 1):
            entry = self._cache[index]
            size += len(entry.data)
            if size > bytes_max and entries:
                break
            entries.append(entry)
        return entries

    def append(self, entry: Entry) -> None:
        """Add an entry to the end, or raise `DamagedError` if it does not continue the log."""
        if entry.index != self.last_index + 1 or entry.term < self.last_term:
            raise DamagedError(
                f"entry {entry.index} of term {entry.term} cannot follow "
                f"entry {self.last_index} of term {self.last_term}"
            )
        if entry.previous_digest != self.last_digest:
            raise DamagedError(f"entry {entry.index} continues another history: its predecessor's digest differs")
        if entry.timestamp <= self.last_timestamp:
            raise DamagedError(f"entry {entry.index} has timestamp {entry.timestamp}, not after {self.last_timestamp}")
        if entry.term != self.last_term:
            self._terms.append(entry.term)
            self._starts.append(entry.index)
        self._cache[entry.index] = entry
        self._cache_bytes += len(entry.data)
        self.last_index = entry.index
        self.last_digest = entry.digest
        self.last_timestamp = entry.last_timestamp

    def truncate(self, first: int) -> None:
        """Drop the entries from `first` on, or raise `DamagedError` if any of them is committed."""
        if first <= self._commit:
            raise DamagedError(f"entry {first} is committed, yet a leader's log differs there")
        assert first <= self.last_index
        self.last_digest, self.last_timestamp = self._tip(first - 1)
        for index in range(max(first, self.first_cached), self.last_index + 1):
            self._cache_bytes -= len(self._cache.pop(index).data)
        while self._starts and self._starts[-1] >= first:
            self._starts.pop()
            self._terms.pop()
        self.last_index = first - 1
        self.first_cached = min(self.first_cached, first)
        self.persisted = min(self.persisted, first - 1)
        if first <= self._handed_out:
            self._handed_out = first - 1
            self._truncated_from = first

    def take_unwritten(self) -> tuple[int | None, list[Entry]]:
        """Return from where the stored log is to be truncated, and the entries to be written after it; once."""
        truncated_from, self._truncated_from = self._truncated_from, None
        entries = [self._cache[index] for index in range(self._handed_out + 1, self.last_index + 1)]
        self._handed_out = self.last_index
        return truncated_from, entries

    def mark_persisted(self, index: int) -> None:
        """Learn that the entries up to `index` are durable as they stand."""
        assert index <= self._handed_out
        self.persisted = max(self.persisted, index)
        self._evict()

    def mark_committed(self, index: int) -> None:
        """Learn that the entries up to `index` are committed."""
        assert index <= self.last_index
        self._commit = max(self._commit, index)
        self._evict()

    def _evict(self) -> None:
        settled = min(self._commit, self.persisted)
        while self._cache_bytes > self._cache_bytes_max and self.first_cached <= settled:
            self._cache_bytes -= len(self._cache.pop(self.first_cached).data)
            self.first_cached += 1

    def _tip(self, index: int) -> tuple[bytes, int]:
        if index == 0:
            return NO_DIGEST, 0
        entry = self.entry(index)
        return entry.digest, entry.last_timestamp

    def _find_runs(self) -> tuple[list[int], list[int]]:
        terms: list[int] = []
        starts: list[int] = []
        last_term = self._load(self.last_index).term if self.last_index else 0
        start = 1
        while start <= self.last_index:
            term = self._load(start).term
            terms.append(term)
            starts.append(start)
            if term == last_term:
                break
            rest = range(start, self.last_index + 1)
            start += bisect_right(rest, term, key=lambda index: self._load(index).term)
        return terms, starts

    def _load(self, index: int) -> Entry:
        entry = Entry.decode(self._store.entry(index))
        if entry.index != index:
            raise DamagedError(f"entry {entry.index} is stored in the place of {index}")
        return entry

    def _check_term(self, entry: Entry) -> Entry:
        if entry.term != self.term_at(entry.index):
            raise DamagedError(f"entry {entry.index} has term {entry.term}, its neighbours {self.term_at(entry.index)}")
        return entry

    def _slice_stored(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        entries: list[Entry] = []
        for index, data in enumerate(self._store.entries(first, last, bytes_max), start=first):
            entry = self._check_term(Entry.decode(data))
            if entry.index != index or (entries and entry.previous_digest != entries[-1].digest):
                raise DamagedError(f"stored entry {entry.index} does not continue the log at {index}")
            entries.append(entry)
        if not entries:
            raise DamagedError(f"entry {first} is missing")
        return entries
