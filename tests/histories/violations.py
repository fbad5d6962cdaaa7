"""What the checker finds: broken promises, by kind, told so that a person can see them."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from histories.group_history import GroupSaid, MemberDone
from histories.history import ANY, AppendDone, Operation, Part, ReadDone, ScanDone


class Kind(StrEnum):
    """Which promise was broken."""

    STALE_READ = "stale read"  # it misses what had been shown before it began, or what it had to wait for
    FUTURE_READ = "future read"  # it showed what was appended only after it had ended
    GAP = "gap"  # a subscription or `read_all` left out what it was asked for and its checkpoint counts as seen
    EVENT_ORDER = "event order"  # it gave a partition's events in another order than that of their positions
    WRONG_CHECKPOINT = "wrong checkpoint"  # whoever goes on from it misses events, or gets some again
    PHANTOM = "phantom"  # something stored that nobody appended, or read that is not stored
    WRONG_PLACE = "wrong place"  # an event stands elsewhere than told, expected, or than real time allows
    WRONG_RANGE = "wrong range"  # a read gave what it was not asked for
    LOST_ACKNOWLEDGEMENT = "lost acknowledgement"
    DUPLICATE = "duplicate"
    TORN_BATCH = "torn batch"
    REFUSED_THEN_APPLIED = "refused then applied"
    FALSE_REFUSAL = "false refusal"
    PIPELINED_ORDER = "pipelined order"
    VERSION_HOLE = "version hole"
    POSITION_HOLE = "position hole"
    TIMESTAMP_ORDER = "timestamp order"
    LOG_ORDER = "log order"  # indexes with a hole, or terms that go back
    DIVERGED_REPLICA = "diverged replica"
    DAMAGED_REPLICA = "damaged replica"
    MISSING_COPY = "missing copy"  # acknowledged, and on fewer replicas than it must be
    GROUP_STATE = "group state"  # a replica's state of a group is not what its log leads to
    FENCING = "fencing"  # a member acted on a claim that was not its own, or was over, or is told so of one that is not
    UNEARNED = "unearned settlement"  # settled, and no application had dealt with it
    LOST_SETTLEMENT = "lost settlement"  # told to the application as counting, and released without it
    ATTEMPTS = "attempts"  # a delivery counts otherwise than what has failed before


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise, and the operations that show it."""

    kind: Kind
    text: str
    operations: tuple[Operation, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join((f"{self.kind}: {self.text}", *map(describe, self.operations)))


def describe(operation: Operation) -> str:
    """Return an operation in one line: who, when, what, and the answer."""
    ended = "never told" if operation.ended_us is None else f"{operation.ended_us} us"
    who = f"client {operation.client}, operation {operation.number}, {operation.begun_us} us to {ended}"
    if isinstance(operation, AppendDone):
        told = _append(operation)
    elif isinstance(operation, MemberDone):
        told = f"member {operation.member} of group {operation.group}: {len(operation.handed)} deliveries"
    elif isinstance(operation, GroupSaid):
        told = f"{operation.said}: {_answer(operation)}"
    else:
        told = _read(operation) if isinstance(operation, ReadDone) else _scan(operation)
    return f"{who}, partition {operation.partition}, context {operation.context}: {told}"


def _answer(said: GroupSaid) -> str:
    if said.ended_us is None:
        return "no answer"
    if said.refused:
        return "refused"
    return "taken" if said.taken else "the claim is over"


def _append(append: AppendDone) -> str:
    told = f"append to {', '.join(map(_part, append.parts))}: {append.outcome}"
    if append.refusal is not None:
        return f"{told}, {append.refusal.stream!r} is at {append.refusal.actual}, not {append.refusal.expected}"
    places = "; ".join(f"version {version}, position {position}" for version, position, _ in append.places)
    return f"{told} at {places}" if places else told


def _part(part: Part) -> str:
    expected = "any" if part.expected == ANY else part.expected
    return f"{part.stream!r} (expected {expected}, {short(event.id for event in part.events)})"


def _read(read: ReadDone) -> str:
    how = "linearizable" if read.fresh else "of any replica"
    since = f", at least position {read.at_least}" if read.at_least else ""
    if read.version is not None:
        return f"version of {read.stream!r}, {how}{since}: {read.version}"
    limit = "" if read.limit is None else f", limit {read.limit}"
    order = ", reversed" if read.reverse else ""
    versions = [event.version for event in read.events]
    seen = f"versions {versions[0]} to {versions[-1]}" if versions else "nothing"
    return f"read of {read.stream!r} after {read.after}{limit}{order}, {how}{since}: {seen}"


def _scan(scan: ScanDone) -> str:
    wanted = "" if scan.types is None else f" of types {', '.join(scan.types)}"
    wanted += f" in {scan.prefix!r}…" if scan.prefix else ""
    limit = "" if scan.limit is None else f", limit {scan.limit}"
    how = f"{', reversed' if scan.reverse else ''}{'' if scan.fresh else ', of any replica'}"
    since = f", at least position {scan.at_least}" if scan.at_least else ""
    seen = f"positions {scan.events[0].position} to {scan.events[-1].position}" if scan.events else "nothing"
    ended = f", checkpoint {scan.marks[-1].through}" if scan.marks else ""
    return f"events{wanted} after {scan.after}{limit}{how}{since}: {seen}{ended}, newest {scan.newest}"


def short(ids: Iterable[str]) -> str:
    """Return IDs of events for people: the first one in full."""
    first, *others = ids
    return f"event {first} and {len(others)} more" if others else f"event {first}"
