"""Tokens: plain text that holds for one context of one cluster."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind.errors import InvalidArgument
from rewind.tokens import Origin, make_token, read_checkpoint, read_token

ORIGIN = Origin("3f6c", 2)


@given(st.dictionaries(st.integers(0, 1024), st.integers(0, 2**64 - 1)))
def test_a_token_says_what_was_put_into_it(positions: dict[int, int]) -> None:
    assert read_token(make_token(ORIGIN, positions), ORIGIN) == positions


@pytest.mark.parametrize("other", [Origin("3f6d", 2), Origin("3f6c", 3)])
def test_a_token_of_another_cluster_or_context_is_refused(other: Origin) -> None:
    with pytest.raises(InvalidArgument, match="is one of"):
        read_token(make_token(other, {1: 1}), ORIGIN)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "3f6c",
        "3f6c/2",
        "3f6c/x/1:1",
        "3f6c/2/1",
        "3f6c/2/1:",
        "3f6c/2/a:1",
        "3f6c/2/1:-1",
        "3f6c/2/9999:1",
        "3f6c/2/1:18446744073709551616",
        "3f6c/2/1:" + "9" * 5000,
        "3f6c/2/²:1",
        None,
        7,
        b"3f6c/2/1:1",
    ],
)
def test_what_is_no_token_is_refused(token: object) -> None:
    with pytest.raises(InvalidArgument):
        read_token(token, ORIGIN)


def test_a_checkpoint_may_be_used_as_a_token() -> None:
    checkpoint = make_token(ORIGIN, {1: 5, 2: 0})

    assert read_checkpoint(checkpoint, ORIGIN, (1, 2)) == read_token(checkpoint, ORIGIN) == {1: 5, 2: 0}


@pytest.mark.parametrize("partitions", [(1,), (1, 2, 3), (2, 3)])
def test_a_checkpoint_names_each_partition_of_the_context(partitions: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match="each partition"):
        read_checkpoint(make_token(ORIGIN, {1: 5, 2: 0}), ORIGIN, partitions)


@pytest.mark.parametrize("checkpoint", ["", "3f6c/2", "3f6d/2/1:1", "3f6c/3/1:1", "3f6c/2/1:x"])
def test_what_is_no_checkpoint_of_this_context_is_refused(checkpoint: str) -> None:
    with pytest.raises(InvalidArgument, match="checkpoint"):
        read_checkpoint(checkpoint, ORIGIN, (1,))
