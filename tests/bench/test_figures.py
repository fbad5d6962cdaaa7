"""From what processes told to figures over runs."""

from typing import Any

import pytest

from rewind.bench.figures import Run, figures_of, findings_of, spreads_of
from rewind.bench.latencies import Latencies
from rewind.bench.nodes import Usage
from rewind.bench.tasks import Outcome


def outcome(began_s: float, ended_s: float, appends: int, **more: Any) -> Outcome:
    latencies = Latencies()
    for _ in range(appends):
        latencies.add(0.010)
    fields: dict[str, Any] = {
        "cpu_s": 0.5,
        "early_bytes": 10 << 20,
        "most_bytes": 20 << 20,
        "done": {"append": appends},
        "events": {"append": appends * 10},
        "latencies": {"append": latencies.histogram().encoded()},
    }
    return Outcome(began_s=began_s, ended_s=ended_s, **fields | more)


def run(*outcomes: Outcome, **more: Any) -> Run:
    before = Usage(cpu_s={"n1": 1.0, "n2": 2.0}, disk_bytes={"n1": 1000})
    after = Usage(
        cpu_s={"n1": 2.0, "n2": 2.5}, anonymous_bytes={"n1": 3 << 20}, disk_bytes={"n1": 1000 + 3 * 20_000 * 256}
    )
    return Run(outcomes, before, after, event_bytes=256, **more)


def test_a_rate_is_over_the_time_of_all_clients_together() -> None:
    figures = figures_of(run(outcome(100.0, 110.0, 1000), outcome(105.0, 120.0, 1000)))

    assert figures["seconds"] == 20.0
    assert figures["appends a second"] == 100.0
    assert figures["append events a second"] == 1000.0
    assert figures["append p50, ms"] == pytest.approx(10, rel=0.002)


def test_costs_are_those_of_nodes_and_clients_for_each_event() -> None:
    figures = figures_of(run(outcome(0.0, 10.0, 1000), outcome(0.0, 10.0, 1000)))

    assert figures["processor time of n1, µs/event"] == pytest.approx(50)
    assert figures["processor time of n2, µs/event"] == pytest.approx(25)
    assert figures["processor time of clients, µs/event"] == pytest.approx(50)
    assert figures["processor time of all, µs/event"] == pytest.approx(125)
    assert figures["disk of n1, bytes per byte of events"] == pytest.approx(3)
    assert figures["RssAnon of n1, MiB"] == 3
    assert figures["RssAnon of a client, most, MiB"] == 20


def test_what_is_not_known_of_nodes_elsewhere_is_left_out() -> None:
    figures = figures_of(Run([outcome(0.0, 10.0, 1000)], Usage(), Usage(), event_bytes=256))

    assert not [name for name in figures if " of n1" in name or " of all" in name]


def test_a_node_that_was_started_again_meanwhile_has_no_cost() -> None:
    before, after = Usage(cpu_s={"n1": 100.0}), Usage(cpu_s={"n1": 0.5})

    figures = figures_of(Run([outcome(0.0, 10.0, 1000)], before, after))

    assert "processor time of n1, µs/event" not in figures


def test_spreads_are_medians_with_the_extremes() -> None:
    spreads = spreads_of([{"x": 5.0, "y": 1.0}, {"x": 1.0}, {"x": 2.0, "y": 2.0}])

    assert (spreads["x"].median, spreads["x"].lowest, spreads["x"].highest) == (2.0, 1.0, 5.0)
    assert "y" not in spreads  # not every run has it


def test_runs_that_lie_far_apart_are_warned_of() -> None:
    steady = findings_of("append", {}, "quiet", [], [run(outcome(0.0, 10.0, 1000)), run(outcome(0.0, 10.1, 1000))])
    wild = findings_of("append", {}, "quiet", [], [run(outcome(0.0, 10.0, 1000)), run(outcome(0.0, 20.0, 1000))])

    assert not steady.warnings
    assert any("far apart" in warning for warning in wild.warnings)


def test_failures_are_told_and_what_was_not_begun_is_warned_of() -> None:
    found = findings_of(
        "append", {}, "quiet", [], [run(outcome(0.0, 10.0, 10, failures={"Overloaded": 3}, not_begun=4))]
    )

    assert found.failures == {"Overloaded": 3, "not begun in time": 4}
    assert any("rate was not reached" in warning for warning in found.warnings)
    assert found.is_clean


@pytest.mark.parametrize("what", ["lost", "doubled", "never delivered", "events missing"])
def test_whatever_is_lost_makes_findings_unclean(what: str) -> None:
    found = findings_of("subscribe", {}, "quiet", [], [run(outcome(0.0, 10.0, 10), notes={what: 1})])

    assert not found.is_clean
    assert found.failures[what] == 1


def test_quantiles_of_all_runs_come_from_their_sum() -> None:
    slow = Latencies()
    slow.add(1.0)
    runs = [run(outcome(0.0, 10.0, 999)), run(outcome(0.0, 10.0, 0, latencies={"append": slow.histogram().encoded()}))]

    found = findings_of("append", {}, "quiet", [], runs)

    assert found.latencies["append"].count == 1000
    assert found.latencies["append"].quantile_ms(99.5) == pytest.approx(10, rel=0.002)
    assert found.latencies["append"].quantile_ms(100) == pytest.approx(1000, rel=0.002)
