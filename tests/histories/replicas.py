"""One partition's replicas: whether they agree, and the final log that all else is held against.

How far a replica's log is committed: as far as it has applied it, which it may only once it knows that it is. The final
log is the longest such prefix among the replicas, and each of them must hold the same up to its own mark.

Replicas that ended all at once may have been behind with that. Where the number of voters is given, and the logs are
those of voters alone, a longer prefix counts: one that a majority holds while nobody without it has a newer entry.
Whoever leads next then holds it, for whoever lacks it gets no majority (Ongaro and Ousterhout, "In Search of an
Understandable Consensus Algorithm", 5.4.1).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from histories.logs import StoredEntry, StoredLog
from histories.violations import Kind, Violation


def final_log(replicas: Sequence[StoredLog], voters: int | None = None) -> list[StoredEntry]:
    """Return the committed entries of a partition. `voters`: see above."""
    best = max(replicas, key=lambda log: min(log.committed, len(log.entries)), default=None)
    if best is None:
        return []
    committed = min(best.committed, len(best.entries))
    if voters is not None:
        best, committed = _held(replicas, voters // 2 + 1, best, committed)
    return best.entries[:committed]


def _held(replicas: Sequence[StoredLog], majority: int, best: StoredLog, committed: int) -> tuple[StoredLog, int]:
    """Return the longest prefix from `committed` on that whoever leads next holds: a log, and how much of it."""
    for log in replicas:
        for index in range(len(log.entries), committed, -1):
            entry = log.entries[index - 1]
            others = [other for other in replicas if not _holds(other, entry, index)]
            newest = max((other.entries[-1].term for other in others if other.entries), default=0)
            if len(replicas) - len(others) >= majority and newest <= entry.term:
                best, committed = log, index
                break
    return best, committed


def _holds(log: StoredLog, entry: StoredEntry, index: int) -> bool:
    return len(log.entries) >= index and log.entries[index - 1].digest == entry.digest


def check_replicas(replicas: Sequence[StoredLog], final: Sequence[StoredEntry]) -> Iterator[Violation]:
    """Yield what is wrong with single replicas, and where they contradict the final log."""
    for log in replicas:
        where = f"partition {log.partition}, node {log.node}"
        for damage in log.damage:
            yield Violation(Kind.DAMAGED_REPLICA, f"{where}: {damage}")
        yield from _check_order(where, log)
        if _hole(log) is not None:
            continue
        common = min(log.committed, len(log.entries), len(final))
        for own, agreed in zip(log.entries[:common], final, strict=False):
            if own.digest != agreed.digest:
                text = f"{where}: entry {own.index} is {own.digest} of term {own.term}"
                other = f"another replica has {agreed.digest} of term {agreed.term} there, and both have applied theirs"
                yield Violation(Kind.DIVERGED_REPLICA, f"{text}; {other}")
                break


def _check_order(where: str, log: StoredLog) -> Iterator[Violation]:
    hole = _hole(log)
    if hole is not None:
        found = log.entries[hole - 1].index
        yield Violation(Kind.LOG_ORDER, f"{where}: entry {found} stands where entry {hole} belongs")
    if log.committed > len(log.entries):
        text = f"the log ends at {len(log.entries)}, and {log.committed} have been applied"
        yield Violation(Kind.LOG_ORDER, f"{where}: {text}")
    for before, after in pairwise(log.entries):
        if after.term < before.term:
            text = f"entry {after.index} has term {after.term} after term {before.term}"
            yield Violation(Kind.LOG_ORDER, f"{where}: {text}")


def _hole(log: StoredLog) -> int | None:
    """Return the first index that another entry stands at."""
    return next((number for number, entry in enumerate(log.entries, 1) if entry.index != number), None)


def copies_of(replicas: Sequence[StoredLog], entry: StoredEntry) -> int:
    """Return how many replicas hold an entry, and thereby all before it."""
    return sum(_holds(log, entry, entry.index) for log in replicas)
