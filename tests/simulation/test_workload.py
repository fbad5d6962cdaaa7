"""What the workload asks of a cluster: enough of everything, all the time, and recorded as it was."""

from collections import Counter

import pytest
from histories.history import Outcome as Answer
from simulator.fates import fate_of
from simulator.flavours import FLAVOURS, draw_plan, flavour_of
from simulator.group_operations import GROUP_KINDS
from simulator.operations import BEGINNINGS, KINDS
from simulator.plan import Operation
from simulator.run import Outcome, run

CALM_SEED, CUTS_SEED = (
    next(seed for seed in range(len(FLAVOURS)) if flavour_of(seed).name == name) for name in ("calm", "cuts")
)

GROUPS_SEED = 14  # cuts, and two groups, one of which an operator resets


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """Return what a seed with cuts came to."""
    return run(draw_plan(CUTS_SEED))


@pytest.fixture(scope="module")
def of_groups() -> Outcome:
    """Return what a seed with consumer groups came to."""
    return run(draw_plan(GROUPS_SEED))


def is_recorded(operation: Operation) -> bool:
    """Return whether an operation must be in the history: reads that wait for an election may not come to that."""
    return operation.kind not in ("pause", "restart") and not operation.arguments.get("wait_ms")


@pytest.mark.parametrize("seed", range(2 * len(FLAVOURS)))
def test_every_plan_is_large_enough(seed):
    plan = draw_plan(seed)

    assert plan.shape.nodes >= 3
    assert plan.shape.partitions >= 2
    assert len(plan.faults) >= 5
    assert len(plan.operations) >= 300


@pytest.mark.parametrize("seed", range(len(FLAVOURS)))
def test_operations_go_on_during_the_faults_and_after_the_last(seed):
    plan = draw_plan(seed)

    times_us = [operation.at_us for operation in plan.operations]
    assert times_us[0] < 2_000_000
    assert times_us[-1] > max(fault.at_us for fault in plan.faults)
    tenth = plan.shape.duration_us // 10
    assert all(any(begin <= at_us < begin + tenth for at_us in times_us) for begin in range(tenth, 10 * tenth, tenth))


def test_every_kind_of_operation_is_drawn():
    drawn = Counter(operation.kind for seed in range(10) for operation in draw_plan(seed).operations)

    assert set(drawn) == {*KINDS, *GROUP_KINDS}


def test_all_that_was_planned_is_done_and_recorded(outcome):
    planned = {each.number: each for each in outcome.plan.operations if is_recorded(each)}

    recorded = Counter(each.number for each in outcome.records.operations.values())

    for number, operation in planned.items():
        assert recorded[number] >= operation.arguments.get("appends", 1)


def test_operations_are_done_when_they_are_due_unless_their_client_is_down(outcome):
    late = [
        append
        for append in outcome.history.appends
        if append.begun_us > outcome.records.operations[append.client, append.number].at_us + 10_000_000
    ]

    assert len(late) < len(outcome.history.appends) / 20


def test_the_history_knows_every_outcome_and_both_contexts(outcome):
    answers = Counter(append.outcome for append in outcome.history.appends)

    assert set(answers) == set(Answer)
    assert len({append.context for append in outcome.history.appends}) == 2
    assert {read.fresh for read in outcome.history.reads} == {True, False}
    assert any(read.at_least for read in outcome.history.reads)
    assert any(read.version is not None for read in outcome.history.reads)


def test_an_append_of_unknown_outcome_is_made_again_with_the_same_ids_and_expectations(outcome):
    made: dict[tuple[object, ...], list[Answer]] = {}
    for append in sorted(outcome.history.appends, key=lambda append: append.begun_us):
        made.setdefault(append.parts, []).append(append.outcome)

    again = [answers for answers in made.values() if len(answers) > 1]
    assert again
    assert all(set(answers[:-1]) == {Answer.UNKNOWN} for answers in again)


def test_some_reads_go_to_a_leader_that_was_deposed_and_get_no_answer(outcome):
    assert outcome.counts["operations"]["pinned unanswered"] > 0
    assert outcome.counts["operations"]["pinned ok"] > 0


def test_in_every_plan_somebody_subscribes_to_all_of_both_contexts_until_the_end():
    for seed in range(2 * len(FLAVOURS)):
        to_the_end = [
            operation.arguments["context"]
            for operation in draw_plan(seed).operations
            if operation.kind == "subscribe" and operation.arguments["lives"] == [None]
        ]

        assert sorted(to_the_end) == ["default", "ordered"]


def test_subscriptions_begin_everywhere_with_filters_and_without_and_go_on_from_what_was_kept(outcome):
    planned = {tag: operation.arguments for tag, operation in outcome.records.operations.items()}
    scans = [scan for scan in outcome.history.scans if planned[scan.client, scan.number].get("lives")]

    lives = Counter((outcome.records.operations[scan.client, scan.number].number, scan.partition) for scan in scans)

    assert {planned[scan.client, scan.number]["after"] for scan in scans} == set(BEGINNINGS)
    assert {scan.types is None for scan in scans} == {bool(scan.prefix) for scan in scans} == {True, False}
    assert any(scan.after and scan.events for scan in scans)
    assert max(lives.values()) > 1
    assert sum(len(scan.events) for scan in scans) > 100


def test_a_subscription_goes_on_when_its_machine_was_started_again(outcome):
    lives: dict[int, set[int]] = {}
    for scan in outcome.history.scans:
        operation = outcome.records.operations[scan.client, scan.number]
        if operation.arguments.get("lives") == [None]:
            lives.setdefault(operation.number, set()).add(scan.client)

    assert any(len(clients) > 1 for clients in lives.values())


def test_whole_contexts_are_read_in_both_directions_of_any_replica_and_linearizably(outcome):
    planned = {tag: operation.kind for tag, operation in outcome.records.operations.items()}

    scans = [scan for scan in outcome.history.scans if planned[scan.client, scan.number] == "read_all"]

    for name in ("reverse", "fresh", "whole"):
        assert {getattr(scan, name) for scan in scans} == {True, False}, name
    assert any(scan.limit for scan in scans)
    assert any(scan.at_least for scan in scans)
    assert any(scan.after and scan.events for scan in scans)


def test_a_client_that_is_started_again_is_another_one_of_the_history(outcome):
    restarts = sum(operation.kind == "restart" for operation in outcome.plan.operations)

    clients = {client for client, _ in outcome.records.operations}

    assert restarts > 0
    assert len(clients) > outcome.plan.shape.clients


def test_a_calm_run_loses_nothing_and_refuses_no_service():
    outcome = run(draw_plan(CALM_SEED))

    assert not outcome.findings
    assert outcome.counts["operations"]["append ok"] > 50


def members_of(seed: int) -> list[Operation]:
    """Return the members of consumer groups that a seed has."""
    return [operation for operation in draw_plan(seed).operations if operation.kind == "member"]


def test_every_second_or_third_seed_has_consumer_groups_of_several_members_on_several_machines():
    drawn = [members for seed in range(100) if (members := members_of(seed))]

    assert 30 <= len(drawn) <= 50
    assert all(len(members) >= 2 for members in drawn)
    assert all(len({each.client for each in members}) >= 2 for members in drawn)
    assert {each.arguments["context"] for members in drawn for each in members} == {"default", "ordered"}


def test_all_members_of_a_group_want_the_same_and_one_of_them_stays_to_the_end():
    alike = ("context", "after", "types", "prefix", "max_attempts", "fates")
    for seed in range(60):
        groups: dict[str, list[dict[str, object]]] = {}
        for member in members_of(seed):
            groups.setdefault(member.arguments["group"], []).append(member.arguments)

        for members in groups.values():
            assert all(each[name] == members[0][name] for each in members for name in alike)
            assert [None] in [each["lives"] for each in members]


def test_members_come_and_go_and_take_over_what_others_have_failed_at(of_groups):
    members = of_groups.history.members
    handed = [each for done in members for each in done.handed]

    assert not of_groups.findings
    assert len({done.member for done in members}) > 6
    assert len({each.epoch for each in handed}) > 6
    assert {each.verdict for each in handed} >= {"ack", "nack", "park"}
    assert {each.attempt for each in handed} >= {1, 2, 3}


def test_what_members_and_operators_tell_the_cluster_is_overheard(of_groups):
    said = of_groups.history.said

    assert {type(each.said).__name__ for each in said} == {"Claim", "Settle", "Reset", "Replay"}
    assert sum(each.taken for each in said) > len(said) / 2
    assert any(each.ended_us is None for each in said)


def test_what_comes_of_an_event_is_the_same_at_every_member_and_rarely_bad():
    shares = {"flaky": 500, "hopeless": 100, "bad": 100, "slow": 50, "deadly": 30}

    fates = [fate_of(f"event {number}", shares, 1, replayed=False) for number in range(5_000)]
    again = [fate_of(f"event {number}", shares, 1, replayed=False) for number in range(5_000)]

    verdicts = Counter(fate.verdict for fate in fates)
    assert fates == again
    assert 200 < verdicts["nack"] < 400
    assert 20 < verdicts["park"] < 90
    assert 5 < verdicts["deadly"] < 30
    assert 10 < sum(fate.more_us > 0 for fate in fates) < 45
