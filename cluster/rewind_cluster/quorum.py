"""Majorities: the arithmetic that every promise of the group rests on.

Owns nothing and keeps no state. Any two majorities of one set of voters share a voter, and so do majorities of two
sets that differ by one voter (Ongaro, "Consensus: Bridging Theory and Practice", 2014, section 4.1).
"""

from collections.abc import Collection, Mapping
from enum import Enum
from typing import TypeVar

Voter = TypeVar("Voter")


class VoteResult(Enum):
    """What the votes counted so far amount to."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def majority(voters: int) -> int:
    """Return how many of `voters` are more than half of them."""
    return voters // 2 + 1


def agreed_index(indexes: Collection[int]) -> int:
    """Return the highest index that a majority has reached, given one index per voter."""
    if not indexes:
        return 0
    return sorted(indexes, reverse=True)[len(indexes) // 2]


def count_votes(voters: Collection[Voter], votes: Mapping[Voter, bool]) -> VoteResult:
    """Return the result of an election; votes of those who are no voters do not count."""
    needed = majority(len(voters))
    granted = sum(1 for voter in voters if votes.get(voter) is True)
    refused = sum(1 for voter in voters if votes.get(voter) is False)
    if granted >= needed:
        return VoteResult.WON
    if len(voters) - refused < needed:
        return VoteResult.LOST
    return VoteResult.PENDING
