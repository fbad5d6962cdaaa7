"""Whole clusters among faults, a seed each: every promise is kept, and the cluster comes back.

The seeds run on two processes from the first test on; each test waits for its own.
"""

import multiprocessing
from collections.abc import Iterator
from multiprocessing.pool import AsyncResult, Pool

import pytest
from simulator.campaign import SeedResult, run_seed

SEEDS = 200
SEEDS_PER_TEST = 10
JOBS = 2
FIRSTS = range(1, SEEDS + 1, SEEDS_PER_TEST)

Pending = dict[int, "AsyncResult[list[SeedResult]]"]


@pytest.fixture(scope="module")
def pending(request: pytest.FixtureRequest) -> Iterator[Pending]:
    """Begin to run the seeds of all tests that were chosen, and return what they will come to by first seed."""
    chosen = [item.callspec.params["first"] for item in request.session.items if item.path == request.path]
    with multiprocessing.get_context("spawn").Pool(JOBS) as pool:
        yield {first: _begin(pool, first) for first in chosen}


def _begin(pool: Pool, first: int) -> "AsyncResult[list[SeedResult]]":
    return pool.map_async(run_seed, range(first, first + SEEDS_PER_TEST), chunksize=SEEDS_PER_TEST)


@pytest.mark.parametrize("first", FIRSTS)
def test_every_promise_is_kept_and_the_cluster_comes_back(first: int, pending: Pending) -> None:
    results = pending[first].get()

    failed = [f"seed {result.seed} ({result.flavour}): {result.violations}" for result in results if result.violations]
    assert not failed, "\n".join([*failed, "tell its story with: python tests/simulate.py --seed N"])
