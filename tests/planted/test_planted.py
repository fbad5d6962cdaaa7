"""The checker stays sharp: bugs planted in the code as it is shipped are found.

Here are only those that the first seeds show; `python tests/plant.py` hunts them all.
"""

import multiprocessing
from collections.abc import Iterator
from multiprocessing.pool import AsyncResult, Pool

import pytest

from planted.catalogue import PLANTS
from planted.hunt import Catch, hunt
from planted.plant import Change, Plant, PlantError, planted

SEEDS_MAX = 10  # the first three show each of them; drawing runs in another way must not break this
JOBS = 2
QUICK = (
    "acknowledged without the consistency check",
    "applied before it is committed",
    "at_least ignored",
    "attempts forgotten on takeover",
    "batch split over two entries",
    "checkpoint at the end of its range",
    "checkpoint only at events",
    "damaged record served",
    "group checkpoint before delivery",
    "groups left out of checkpoints",
    "refusal judged on a tail that vanishes",
    "release that tells nothing",
    "resumed one too early",
    "resumed one too late",
    "streams not waited for",
    "timestamps from the wall clock",
    "two members fenced wrongly",
    "versions of a cut run",
)

Pending = dict[str, "AsyncResult[Catch]"]


def hunt_one(name: str) -> Catch:
    return hunt(PLANTS[name], SEEDS_MAX)


@pytest.fixture(scope="module")
def pending() -> Iterator[Pending]:
    """Begin to hunt, in a process for each, and return how each hunt will end."""
    with multiprocessing.get_context("spawn").Pool(JOBS, maxtasksperchild=1) as pool:
        yield {name: _begin(pool, name) for name in QUICK}


def _begin(pool: Pool, name: str) -> "AsyncResult[Catch]":
    return pool.apply_async(hunt_one, (name,))


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found_and_its_seed_is_clean_without_it(name: str, pending: Pending) -> None:
    catch = pending[name].get()

    assert catch.good, catch


@pytest.mark.parametrize("name", PLANTS)
def test_every_plant_fits_the_code_and_leaves_nothing_behind(name: str) -> None:
    plant = PLANTS[name]
    functions = [change.where.fget if isinstance(change.where, property) else change.where for change in plant.changes]
    healthy = [function.__code__ for function in functions]

    with planted(plant):
        planted_code = [function.__code__ for function in functions]

    assert all(code != before for code, before in zip(planted_code, healthy, strict=True))
    assert [function.__code__ for function in functions] == healthy


def sound(number: int) -> str:
    if number > 1:
        return "many"
    if number > 0:
        return "one"
    return "none"


def patched(patch: str) -> Plant:
    """Return a plant in the function above."""
    return Plant("", "", "", 0, (), (Change(sound, patch),))


def test_a_patch_takes_out_puts_in_and_keeps_lines() -> None:
    patch = """
      if number > 1:
    -     return "many"
    +     return "several"
    ...
    + if number == 0:
    +     return "nothing"
      return "none"
    """

    with planted(patched(patch)):
        assert [sound(number) for number in (2, 1, 0, -1)] == ["several", "one", "nothing", "none"]
    assert [sound(number) for number in (2, 1, 0, -1)] == ["many", "one", "none", "none"]


def test_a_plant_whose_lines_are_gone_is_refused() -> None:
    with pytest.raises(PlantError, match="0 times"), planted(patched("- if number > 2:\n+ if False:")):
        pass


def test_a_plant_whose_lines_stand_there_twice_is_refused() -> None:
    def twice(number: int) -> int:
        number += 1
        number += 1
        return number

    plant = Plant("", "", "", 0, (), (Change(twice, "- number += 1"),))

    with pytest.raises(PlantError, match="2 times"), planted(plant):
        pass
