"""The checker: whether what clients were told and what replicas stored keep the promises. One for all histories.

What is checked, of each partition:

* replicas: indexes and terms go on, none is damaged, all hold the same as far as they have applied it (`replicas`);
* the log: versions, positions and timestamps go on without a hole or a step back (`stored`);
* each stored append is the whole of one that a client made, with its contents, once, where it was expected and told,
  and of one that was not refused (`authors`);
* each acknowledged one is there; each refusal was true; what one client submitted to one stream stands in that order
  (`answers`);
* each read saw what stands in the log, and no torn batch (`reading`);
* each subscription and each `read_all` gave the events between its checkpoints that match its filter, all, in order and
  once, whatever the cluster went through meanwhile (`scanning`);
* consumer groups: nothing is skipped, settled without a reason or by others than the owner (`grouping`);
* all of them, save reads of any replica, took effect between their beginning and their end, in the log's order, as if
  one after the other (`timeline`). That order is one for all streams of a partition, and none spans two partitions.

It takes time in proportion to what it is given, times the logarithm for sorting.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from histories.answers import (
    bounds_of_acknowledgement,
    bounds_of_refusal,
    check_acknowledgements,
    check_pipelines,
)
from histories.authors import Appends, Authors
from histories.grouping import Groups
from histories.history import AppendDone, History, Outcome, ReadDone, ScanDone
from histories.logs import StoredEntry, StoredLog
from histories.reading import Readings
from histories.replicas import check_replicas, copies_of, final_log
from histories.scanning import Scans
from histories.stored import Stored
from histories.timeline import Bounds, Timeline
from histories.violations import Kind, Violation


def check(
    history: History,
    logs: Sequence[StoredLog],
    *,
    voters: int | None = None,
    copies: int | None = None,
    steady: bool = True,
) -> list[Violation]:
    """Return every broken promise, by partition.

    `voters`: see `histories.replicas`. `copies`: on how many replicas each acknowledged append must stand, where more
    is known than that they are committed. `steady`: see `histories.grouping`.
    """
    own: defaultdict[int, History] = defaultdict(History)
    for operation in history:
        own[operation.partition].add(operation)
    violations: list[Violation] = []
    for partition in sorted({log.partition for log in logs} | own.keys()):
        replicas = [log for log in logs if log.partition == partition]
        final = final_log(replicas, voters)
        violations += check_replicas(replicas, final)
        partition_check = _Partition(partition, final, own[partition])
        violations += partition_check.violations
        violations += partition_check.group_violations(replicas, final, own[partition], steady=steady)
        if copies is not None:
            violations += partition_check.missing_copies(replicas, final, copies)
    return violations


class _Partition:
    """One partition's operations against its log."""

    def __init__(self, partition: int, final: Sequence[StoredEntry], history: History) -> None:
        appends = history.appends
        self._acknowledged = [append for append in appends if append.outcome is Outcome.OK]
        known = Appends(appends)
        self._stored = stored = Stored(partition, known.with_contents(final), known.count_parts)
        readings = Readings(stored, history.reads)
        scans = Scans(stored, history.scans)
        refusals = [bounds_of_refusal(append, stored) for append in appends if append.outcome is Outcome.REFUSED]
        refused = [bounds for bounds in refusals if isinstance(bounds, Bounds)]
        answered = [bounds_of_acknowledgement(append, stored) for append in self._acknowledged]
        timeline = Timeline((*answered, *refused, *readings.shown, *scans.shown))
        self._authors = authors = Authors(known, stored, timeline)
        written = [Bounds(author, 0, authors.groups[id(author)].place - 1) for author in authors.authors]
        self.violations = [
            *stored.violations,
            *authors.violations,
            *check_acknowledgements(self._acknowledged, authors, stored),
            *(refusal for refusal in refusals if isinstance(refusal, Violation)),
            *check_pipelines(authors),
            *readings.violations,
            *scans.violations,
            *(
                _late(late, shown, stored)
                for late, shown in timeline.late([*written, *refused, *readings.bounds, *scans.bounds])
            ),
        ]

    def group_violations(
        self, replicas: Sequence[StoredLog], final: Sequence[StoredEntry], history: History, *, steady: bool
    ) -> list[Violation]:
        """Return what is wrong with consumer groups, if there are any."""
        if not (history.members or history.said or any(entry.groups for entry in final)):
            return []
        return Groups(final, replicas, self._stored, history.members, history.said, steady=steady).violations

    def missing_copies(
        self, replicas: Sequence[StoredLog], final: Sequence[StoredEntry], copies: int
    ) -> Iterator[Violation]:
        """Yield the acknowledged appends that stand on fewer replicas than so many."""
        for append in self._acknowledged:
            group = self._authors.groups.get(id(append))
            if group is not None:
                held = copies_of(replicas, final[group.entry - 1])
                if held < copies:
                    text = f"entry {group.entry}, which was acknowledged, stands on {held} replicas, not {copies}"
                    yield Violation(Kind.MISSING_COPY, text, (append,))


def _late(late: Bounds, shown: Bounds, stored: Stored) -> Violation:
    """Return what it means that one operation took effect before what another had shown when it began."""
    operations = (shown.operation, late.operation)
    text = f"the first had shown {_place(shown.shows, stored)} before the second began"
    other = _place(late.most + 1, stored)
    if isinstance(late.operation, ReadDone | ScanDone):
        return Violation(Kind.STALE_READ, f"{text}, which misses {late.why} at {other}", operations)
    assert isinstance(late.operation, AppendDone)
    if late.operation.outcome is Outcome.REFUSED:
        return Violation(Kind.FALSE_REFUSAL, f"{text}; from {other} on it is not true that {late.why}", operations)
    text = f"{text}, which stands at {other}"
    if isinstance(shown.operation, ReadDone | ScanDone):
        return Violation(Kind.FUTURE_READ, text, operations)
    assert isinstance(shown.operation, AppendDone)
    kind = Kind.FALSE_REFUSAL if shown.operation.outcome is Outcome.REFUSED else Kind.WRONG_PLACE
    return Violation(kind, text, operations)


def _place(place: int, stored: Stored) -> str:
    return f"place {place} (entry {stored.groups[place - 1].entry} of partition {stored.partition})"
