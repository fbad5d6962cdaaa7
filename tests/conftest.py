"""What holds for every test: time limits, no skipping, and no settings that leak in from outside."""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

PROCESSES_TIMEOUT_S = 300  # nodes start, elect and stop; on a loaded machine each takes its time

# A machine that is shared by others is slow at times, which says nothing about the code under test.
settings.register_profile("rewind", deadline=None, print_blob=True)
settings.load_profile("rewind")


def pytest_configure() -> None:
    """Forget the `REWIND_` variables of whoever runs the tests: they would change the programs under test."""
    for name in [name for name in os.environ if name.startswith("REWIND_")]:
        del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests with real processes more time, unless they set their own."""
    for item in items:
        if item.get_closest_marker("processes") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(PROCESSES_TIMEOUT_S))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """See `_refuse_skip`: this is for a test that skips itself or is marked so."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """See `_refuse_skip`: this is for a whole module that skips itself."""
    report = yield
    _refuse_skip(report)
    return report


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Where `TESTS_NEVER_SKIP` is set, turn a skip or an expected failure into a failure: it proves nothing."""
    if report.skipped and os.environ.get("TESTS_NEVER_SKIP"):
        report.longrepr = f"{report.nodeid} was skipped or failed as expected: {report.longrepr}"
        report.outcome = "failed"
        report.__dict__.pop("wasxfail", None)
