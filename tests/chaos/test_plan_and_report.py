"""Plans follow from their seeds; reports count what was there, and find the longest time without a write."""

from collections.abc import Sequence
from typing import Any

import pytest
from histories.history import AppendDone, EventContent, History, Outcome, Part, Place

from chaos import report
from chaos.faults import Fault, Kind, Means
from chaos.journal import Told
from chaos.nodes import hopeless_in
from chaos.plan import KINDS, available, draw, draw_each, scripted
from chaos.plants import BUGS
from chaos.verdict import Finding, Verdict

S = 1_000_000
PARTS = (Part("order-1", 0, (EventContent("ab", "digest"),)),)


def told_of(acknowledged_s: dict[int, Sequence[float]]) -> Told:
    """Return what clients were told that had appends acknowledged at these times, by partition."""
    history = History()
    for partition, times in acknowledged_s.items():
        for number, at_s in enumerate(times):
            begun, ended = int(at_s * S) - 1000, int(at_s * S)
            history.add(AppendDone(1, number, 1, partition, begun, ended, PARTS, Outcome.OK, (Place(1, 1, 1),)))
    return Told(history)


def fault(begun_s: float, healed_s: float, kind: Kind = KINDS[0]) -> Fault:
    return Fault(1, kind, 0, 0, "", int(begun_s * S), int(healed_s * S))


def as_plain(faults: Sequence[Fault]) -> list[dict[str, Any]]:
    return [each.as_json() | {"seed": each.seed} for each in faults]


def test_a_seed_is_always_the_same_plan_and_another_seed_is_another() -> None:
    first, again, other = (as_plain(draw(seed, 300, KINDS)) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_a_long_plan_has_every_kind_and_a_short_one_has_each_once() -> None:
    long, short = draw(1, 600, KINDS), draw_each(1, KINDS)

    assert {each.kind.name for each in long} == {kind.name for kind in KINDS}
    assert sorted(each.kind.name for each in short) == sorted(kind.name for kind in KINDS)


def test_what_a_machine_lacks_leaves_out_the_faults_that_need_it_and_no_others() -> None:
    kinds = available(KINDS, {Means.NAMESPACES: "not root"})

    left_out = {kind.name for kind in KINDS} - {kind.name for kind in kinds}
    assert left_out == {kind.name for kind in KINDS if kind.needs is Means.NAMESPACES}
    assert "isolation" in left_out
    assert "kill -9 of all" not in left_out


def test_every_bug_has_a_course_of_faults_that_there_are() -> None:
    for bug in BUGS:
        assert [each.kind.name for each in scripted(bug.seed, bug.course)] == [name for _, name, _ in bug.course]


def test_the_write_gap_is_that_of_the_partition_that_waited_longest() -> None:
    told = told_of({1: [9.9, 10.5, 11, 12, 13, 14, 15, 16, 17, 18], 2: [9.9, 13.5, 14, 15, 16, 17, 18]})

    rows = report.rows_of([fault(10, 12)], told, [], partitions=2)

    assert rows[KINDS[0].name].gap_s == 3.5
    assert rows[KINDS[0].name].operations == 3  # those that begun while it lasted


def test_a_gap_that_nothing_ends_lasts_to_the_end_of_what_is_looked_at() -> None:
    told = told_of({1: [9.9, 10.5]})

    rows = report.rows_of([fault(10, 12)], told, [], partitions=1)

    assert rows[KINDS[0].name].gap_s == 12 + 1 - 10.5


def test_a_finding_counts_for_the_faults_of_its_time_by_the_promise_that_it_breaks() -> None:
    early, late = fault(10, 12, KINDS[0]), fault(60, 62, KINDS[1])
    finding = Finding("lost acknowledgement", "", from_us=13 * S, until_us=14 * S)

    rows = report.rows_of([early, late], told_of({1: [11]}), [finding], partitions=1)

    assert rows[KINDS[0].name].found == {"1 durable": 1}
    assert rows[KINDS[1].name].found == {}


def test_runs_add_up() -> None:
    told = told_of({1: [9.9, 13.5, 20]})
    verdict = Verdict([Finding("gap", "somewhere")], told, 0.5, 2.0)
    rows = report.rows_of([fault(10, 12)], told, verdict.findings, partitions=1)
    run = report.run_as_json(1, [fault(10, 12)], verdict, rows, 60.0)

    summary = report.summary([run, run | {"seed": 2, "served_after_s": 0.75}], {Means.STRACE: "not installed"})
    lines = list(report.table(summary))

    assert (summary["runs"], summary["seeds"], summary["faults"], summary["findings"]) == (2, [1, 2], 2, 2)
    assert summary["served_after_s_max"] == 0.75
    assert summary["rows"][KINDS[0].name]["worst_write_gap_s"] == 3.5
    assert "7 no gap: 2" in lines[4]
    assert lines[-1].endswith("strace: not installed")


@pytest.mark.parametrize(
    "why",
    [
        "the state of partition 1 is damaged; its vote is lost",
        "what is stored cannot be mended: a page is damaged",
        "the pages of its log do not hang together at entry 7",
    ],
)
def test_a_replica_that_must_be_replaced_is_known_by_its_nodes_complaint(why: str) -> None:
    under_repair = "partition 0: the replica here is under quarantine: entry 3 is lost; it is repaired from its leader"
    given_up = f"partition 1: the replica here is under quarantine: {why}, so it must be replaced under a new ID"
    leaderless = "partition 2 has no leader that this node knows of"

    assert hopeless_in(f"appends are refused; free some; {under_repair}; {given_up}; {leaderless}") == {1}
    assert hopeless_in(under_repair) == set()
    assert hopeless_in("") == set()
