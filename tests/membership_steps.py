"""The steps of membership changes that no node takes by itself yet: what an operator's tool would propose.

Whether a step may follow is for the leader to say, see `Membership.check_change`.
"""

from dataclasses import replace

from rewind_cluster.membership import Membership
from rewind_cluster.raft_messages import ReplicaId


def learners(membership: Membership) -> tuple[ReplicaId, ...]:
    """Return the replicas that do not vote, in ascending order."""
    return tuple(replica for replica, member in membership.members.items() if not member.voter)


def promote(membership: Membership, replica: int) -> Membership:
    """Return a membership with a replica made a voter."""
    return _with_vote(membership, replica, voter=True)


def demote(membership: Membership, replica: int) -> Membership:
    """Return a membership with a replica made a learner."""
    return _with_vote(membership, replica, voter=False)


def remove(membership: Membership, replica: int) -> Membership:
    """Return a membership without a replica."""
    members = dict(membership.members)
    del members[ReplicaId(replica)]
    return Membership(members)


def _with_vote(membership: Membership, replica: int, *, voter: bool) -> Membership:
    member = membership.members[ReplicaId(replica)]
    return Membership({**membership.members, ReplicaId(replica): replace(member, voter=voter)})
