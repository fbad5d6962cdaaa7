"""Membership: who replicates a partition, who of them votes, and the one-at-a-time steps that change it.

Two memberships that follow one another in a log differ by one voter at most, so that any two of their majorities
share a voter (Ongaro's thesis, section 4.1). A membership counts from the moment its entry is appended, committed
or not, and stops counting when the entry is truncated; `MembershipHistory` keeps the one before it for that case.
One is enough: a leader proposes a change only after the change before it is committed, and what is committed is
never truncated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import msgpack

from rewind_cluster.errors import DamagedError, InvalidArgumentError
from rewind_cluster.raft_messages import NOBODY, NUMBER_MAX, ReplicaId

MEMBERS_MAX = 1024  # partition 0 has a learner on every node; no cluster is meant to have more of them
NODE_BYTES_MAX = 255  # a node's ID or name, as in the names of streams


@dataclass(frozen=True, slots=True)
class Member:
    """One replica's place: the node it is on, and whether it votes or only learns."""

    node: str
    voter: bool


@dataclass(frozen=True, slots=True)
class Membership:
    """The replicas of a partition. `voters` is derived, in ascending order."""

    members: Mapping[ReplicaId, Member]
    voters: tuple[ReplicaId, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        members = {replica: self.members[replica] for replica in sorted(self.members)}
        object.__setattr__(self, "members", MappingProxyType(members))
        object.__setattr__(self, "voters", tuple(replica for replica, member in members.items() if member.voter))

    def add_learner(self, replica: ReplicaId, node: str) -> Self:
        """Return this membership with a new learner."""
        if replica == NOBODY or replica in self.members:
            raise InvalidArgumentError(f"replica {replica} cannot be added: its ID is in use or 0")
        if len(self.members) >= MEMBERS_MAX:
            raise InvalidArgumentError(f"a partition has at most {MEMBERS_MAX} replicas")
        return type(self)({**self.members, replica: Member(node, voter=False)})

    def check_change(self, change: "Membership") -> None:
        """Raise `InvalidArgumentError` unless `change` may follow this membership in a log."""
        if not change.voters:
            raise InvalidArgumentError("a membership needs a voter")
        if len(set(self.voters) ^ set(change.voters)) > 1:
            raise InvalidArgumentError("a membership change may add or take away one voter, not more")
        for replica, member in change.members.items():
            known = self.members.get(replica)
            if known is not None and known.node != member.node:
                raise InvalidArgumentError(
                    f"replica {replica} is on {known.node}; a replica never moves, a new one is added"
                )

    def pack(self) -> bytes:
        """Return the body of this membership's entry."""
        packed: bytes = msgpack.packb(
            [[replica, member.node, member.voter] for replica, member in self.members.items()]
        )
        return packed

    @classmethod
    def unpack(cls, packed: bytes | memoryview) -> Self:
        """Return the membership in an entry's body, every rule verified, or raise `DamagedError`."""
        try:
            rows = msgpack.unpackb(packed)
        except Exception as error:
            raise DamagedError(f"a membership cannot be read: {error}") from error
        if type(rows) is not list or len(rows) > MEMBERS_MAX:
            raise DamagedError(f"a membership is not a list of at most {MEMBERS_MAX} replicas")
        members = dict(_unpack_member(row) for row in rows)
        if len(members) != len(rows):
            raise DamagedError("a membership names a replica twice")
        return cls(members)


def _unpack_member(row: Any) -> tuple[ReplicaId, Member]:
    if type(row) is not list or len(row) < 3:  # noqa: PLR2004 - replica, node, voter; later versions may append more
        raise DamagedError("a member is not an array of replica, node and voter")
    replica, node, voter = row[:3]
    if type(replica) is not int or not NOBODY < replica <= NUMBER_MAX:
        raise DamagedError(f"a member's replica ID {replica!r} is no positive 64-bit number")
    if type(node) is not str or not 0 < len(node) <= NODE_BYTES_MAX or type(voter) is not bool:
        raise DamagedError(f"the member {replica} has a malformed node or voter field")
    return ReplicaId(replica), Member(node, voter)


class MembershipHistory:
    """The newest membership of a log and the one before it, each with the index of its entry."""

    def __init__(
        self, newest: Membership, newest_index: int, previous: Membership | None = None, previous_index: int = 0
    ) -> None:
        self.newest = newest
        self.newest_index = newest_index
        self.previous = previous
        self.previous_index = previous_index
        self.changed = False  # since the driver last wrote it

    def adopt(self, membership: Membership, index: int) -> None:
        """Make `membership`, whose entry was just appended at `index`, the newest."""
        assert index > self.newest_index
        self.previous, self.previous_index = self.newest, self.newest_index
        self.newest, self.newest_index = membership, index
        self.changed = True

    def truncate(self, first: int) -> None:
        """Return to the previous membership if the newest one's entry is among those truncated from `first` on."""
        if self.newest_index < first:
            return
        if self.previous is None or self.previous_index >= first:
            raise DamagedError(f"the membership before index {first} is not known, yet the log is truncated there")
        self.newest, self.newest_index = self.previous, self.previous_index
        self.previous, self.previous_index = None, 0
        self.changed = True
