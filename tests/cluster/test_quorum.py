"""Majorities: Raft paper, section 5; Ongaro's thesis, section 4.1."""

from itertools import combinations, product

import pytest

from rewind_cluster.quorum import VoteResult, agreed_index, count_votes, majority


@pytest.mark.parametrize("voters", range(1, 10))
def test_any_two_majorities_share_a_voter_also_when_one_voter_is_added(voters: int) -> None:
    now = list(combinations(range(voters), majority(voters)))
    later = list(combinations(range(voters + 1), majority(voters + 1)))

    assert all(set(one) & set(other) for one in now for other in [*now, *later])


@pytest.mark.parametrize("voters", range(1, 6))
def test_an_index_is_agreed_if_and_only_if_a_majority_has_reached_it(voters: int) -> None:
    for indexes in product(range(4), repeat=voters):
        agreed = agreed_index(indexes)

        assert sum(index >= agreed for index in indexes) >= majority(voters)
        assert sum(index > agreed for index in indexes) < majority(voters)


def test_nobody_agrees_on_anything_without_voters() -> None:
    assert agreed_index([]) == 0


@pytest.mark.parametrize("voters", range(1, 6))
def test_an_election_is_decided_as_soon_as_no_vote_can_change_it(voters: int) -> None:
    for cast in product([True, False, None], repeat=voters):
        votes = {voter: vote for voter, vote in enumerate(cast) if vote is not None}

        result = count_votes(range(voters), votes)

        open_votes = cast.count(None)
        can_win = cast.count(True) + open_votes >= majority(voters)
        has_won = cast.count(True) >= majority(voters)
        expected = VoteResult.WON if has_won else VoteResult.PENDING if can_win else VoteResult.LOST
        assert result is expected


def test_votes_of_strangers_do_not_count() -> None:
    assert count_votes([1, 2, 3], {7: True, 8: True, 1: True}) is VoteResult.PENDING
    assert count_votes([1, 2, 3], {7: False, 8: False, 1: False}) is VoteResult.PENDING
