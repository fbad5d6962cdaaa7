"""What is told of a node that catches up: by phases, and whether the steady appends kept their rate."""

from io import StringIO
from pathlib import Path

import pytest
from catch_up import as_object, is_rate_kept, show
from catching_up import CaughtUp, Sizes
from own_cluster import check_room
from rich.console import Console
from steady_load import Slice, figures_between

from rewind.bench.fleet import BenchError
from rewind.bench.latencies import Latencies
from rewind.bench.machine import MachineLoad
from rewind.bench.tasks import Outcome

SIZES = Sizes(missed_bytes=2_560_000, event_bytes=256, rate=100.0, around_s=2.0)
QUIET = MachineLoad(2, (0.0, 0.0, 0.0), 0.0, ())


def slice_at(middle_s: float, done: int, ms: float, not_begun: int = 0) -> Slice:
    latencies = Latencies()
    for _ in range(done):
        latencies.add(ms / 1000)
    outcome = Outcome(
        began_s=middle_s - 0.5,
        ended_s=middle_s + 0.7,
        cpu_s=0.0,
        early_bytes=0,
        most_bytes=0,
        done={"append": done},
        events={"append": done},
        latencies={"append": latencies.histogram().encoded()},
        not_begun=not_begun,
    )
    return Slice(middle_s, outcome)


def found(meanwhile: dict[str, float]) -> CaughtUp:
    return CaughtUp(10_000, 1.0, 0.5, 4.0, {"n1": 0.5}, {"before": {}, "meanwhile": meanwhile, "after": {}})


def test_a_second_counts_for_the_phase_in_which_its_middle_lies() -> None:
    slices = [slice_at(0.5, 100, 2.0), slice_at(1.5, 100, 4.0), slice_at(2.5, 60, 90.0, not_begun=40)]

    before, meanwhile = figures_between(slices, 0.0, 1.6), figures_between(slices, 1.6, 9.0)

    assert (before["seconds"], before["appends a second"], before["slowest second"]) == (2.0, 100.0, 100.0)
    assert before["append max, ms"] == pytest.approx(4.0, rel=0.01)
    assert (meanwhile["seconds"], meanwhile["appends a second"]) == (1.0, 60.0)
    assert meanwhile["failed or not begun in time"] == 40
    assert meanwhile["append p50, ms"] == pytest.approx(90.0, rel=0.01)


def test_the_rate_is_that_of_all_seconds_and_the_slowest_one_is_told_too() -> None:
    slices = [slice_at(0.5, 100, 2.0), slice_at(1.5, 50, 2.0, not_begun=50)]

    figures = figures_between(slices, 0.0, 2.0)

    assert (figures["appends a second"], figures["slowest second"]) == (75.0, 50.0)


def test_a_phase_too_short_for_a_slice_has_no_figures() -> None:
    assert figures_between([slice_at(0.5, 100, 2.0)], 0.6, 0.9) == {}


@pytest.mark.parametrize(
    ("done", "not_begun", "kept"),
    [(100, 0, True), (99, 0, False), (60, 40, False), (100, 1, False)],
)
def test_a_rate_is_kept_only_if_every_append_that_it_asked_for_was_acknowledged(
    done: int, not_begun: int, kept: bool
) -> None:
    figures = figures_between([slice_at(0.5, done, 2.0, not_begun)], 0.0, 1.0)

    assert is_rate_kept(figures, 100.0) is kept


def test_a_catch_up_that_was_too_short_says_nothing_of_the_rate() -> None:
    assert is_rate_kept({}, 100.0) is None


def test_megabytes_a_second_are_of_the_event_data_that_was_missed() -> None:
    told = as_object(found({}), SIZES, 4, QUIET)

    assert told["catching up"]["event data missed, MB"] == pytest.approx(2.56)
    assert told["catching up"]["event data a second, MB"] == pytest.approx(0.64)
    assert told["catching up"]["events a second"] == 2500


def test_people_are_told_figures_of_each_phase_and_whether_the_rate_was_kept() -> None:
    meanwhile = figures_between([slice_at(0.5, 60, 90.0, not_begun=40)], 0.0, 1.0)
    printed = StringIO()

    show(as_object(found(meanwhile), SIZES, 4, QUIET), Console(file=printed, width=200))

    rows = {line.split("  ")[0]: line.split() for line in printed.getvalue().splitlines()}
    assert rows["appends a second"][-3:] == ["-", "60", "-"]
    assert "rate kept while the node caught up: no" in printed.getvalue()
    assert "attention" not in printed.getvalue()


def test_data_that_does_not_fit_on_the_disk_is_refused_with_what_to_do(tmp_path: Path) -> None:
    check_room(tmp_path, SIZES.disk_bytes, "lower --bytes")

    with pytest.raises(BenchError, match="lower --bytes, or set TMPDIR"):
        check_room(tmp_path, Sizes(1 << 60, 256, 100.0, 2.0).disk_bytes, "lower --bytes")
