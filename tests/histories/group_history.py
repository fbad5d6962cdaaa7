"""What members of consumer groups were given and said, and what went to the cluster for them: two kinds of records.

The members' side is what applications saw, the other what was overheard on the wire. Neither knows of the other, so the
checker can hold them against each other: nothing may be told to the cluster that no application has said.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from rewind_cluster.group_records import Claim, Replay, Reset, Settle
from rewind_cluster.groups import Attempt, Park

ACK = "ack"
NACK = "nack"
PARK = "park"


class Handed(NamedTuple):
    """One delivery. `verdict`: what the application said in the end, "" for nothing, and when; `counts`: the answer."""

    epoch: int
    position: int
    id: str
    digest: str
    attempt: int
    replayed: bool
    at_us: int
    verdict: str = ""
    told_us: int = 0
    counts: bool = False


@dataclass(frozen=True, slots=True)
class MemberDone:
    """What one life of a member was handed out in one partition, in that order.

    `member` is its ID in hexadecimal digits, `start` the position after which the group would begin if it was new.
    """

    client: int
    number: int
    context: int
    partition: int
    begun_us: int
    ended_us: int
    group: str
    member: str
    start: int
    max_attempts: int
    handed: tuple[Handed, ...] = ()
    types: tuple[str, ...] | None = None
    prefix: str = ""


Said = Claim | Settle | Reset | Replay


@dataclass(frozen=True, slots=True)
class GroupSaid:
    """One message to a partition's leader, as the log would record it, and the answer.

    `ended_us` is None where no answer came, or one that leaves open what became of it. `taken`: it was said to be
    taken; `refused`: that nothing was done with this copy of it; else that the claim is over. `epoch` and `attempts`
    are what an answer to a claim told.
    """

    client: int
    number: int
    context: int
    partition: int
    begun_us: int
    ended_us: int | None
    said: Said
    taken: bool = False
    epoch: int = 0
    attempts: tuple[tuple[int, int], ...] = ()
    refused: bool = False


_SAID: dict[str, type[Any]] = {each.__name__: each for each in (Claim, Settle, Reset, Replay)}


def packed_said(said: Said) -> list[Any]:
    """Return a message as JSON holds it."""
    fields = [field.hex() if isinstance(field, bytes) else field for field in said]
    return [type(said).__name__, *fields]


def unpacked_said(packed: list[Any]) -> Said:
    """Return the message that `packed_said` made JSON of."""
    name, *fields = packed
    if name == "Claim":
        fields[2] = bytes.fromhex(fields[2])
    elif name == "Settle":
        fields[3] = [(first, last) for first, last in fields[3]]
        fields[4] = [Attempt(*row) for row in fields[4]]
        fields[5] = [Park(*row) for row in fields[5]]
    said: Said = _SAID[name](*fields)
    return said
