"""The runner: a seed takes one course anywhere, a campaign resumes, and what fails is found, shrunk and told."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from simulator import findings
from simulator.flavours import FLAVOURS, draw_plan, flavour_of
from simulator.plan import Plan, from_json
from simulator.run import Outcome, run
from simulator.shrink import shrink
from simulator.story import story

from rewind.feeds import Feeds
from rewind_cluster import leadership
from rewind_node.node import Node
from rewind_node.replica import Replica

SIMULATE = Path(__file__).parent.parent / "simulate.py"
FOUNDING_SEED, DISKS_SEED = 5, 3


def simulate(*arguments: str, hash_seed: int = 0) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SIMULATE), *arguments]
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)


def results_of(text: str) -> list[dict[str, object]]:
    """Return the lines of results without what differs from run to run."""
    return sorted(({**json.loads(line), "seconds": 0} for line in text.splitlines()), key=lambda result: result["seed"])


def small(seed: int, operations: int = 60) -> Plan:
    """Return a plan of a seed's first operations and faults."""
    plan = draw_plan(seed)
    shape = replace(plan.shape, duration_us=6_000_000)
    faults = tuple(fault for fault in plan.faults if fault.at_us < shape.duration_us)
    return replace(plan, shape=shape, faults=faults, operations=plan.operations[:operations])


def first_to_find(kind: str, flavour: str, seeds: int = 30) -> Outcome:
    """Run a flavour's seeds until one finds something of a kind: with a bug planted, which one is a matter of luck."""
    first = next(seed for seed in range(len(FLAVOURS)) if flavour_of(seed).name == flavour)
    for seed in range(first, first + seeds * len(FLAVOURS), len(FLAVOURS)):
        outcome = run(draw_plan(seed))
        if kind in {finding.kind for finding in outcome.findings}:
            return outcome
    raise AssertionError(f"none of {seeds} seeds found a {kind}")


def test_a_seed_takes_the_same_course_in_another_process_with_other_string_hashes():
    seeds = f"{DISKS_SEED}-{FOUNDING_SEED}"

    one = simulate("--seeds", seeds, "--json", "-", hash_seed=1)
    other = simulate("--seeds", seeds, "--json", "-", hash_seed=2)

    assert one.returncode == 0, one.stderr
    assert results_of(one.stdout) == results_of(other.stdout)


def test_a_plan_takes_the_same_course_again_in_the_same_process():
    plan = small(DISKS_SEED)

    assert run(plan).trace_hash == run(plan, keep_story=True).trace_hash


def test_a_plan_survives_being_written_down():
    for seed in range(len(FLAVOURS)):
        plan = draw_plan(seed)

        assert from_json(plan.to_json()) == plan


def test_a_campaign_goes_on_where_it_stopped(tmp_path):
    results = tmp_path / "results.jsonl"
    whole = simulate("--seeds", "9-10", "--json", str(results))
    assert whole.returncode == 0, whole.stderr
    lines = results.read_text().splitlines(keepends=True)
    kept = lines[0].replace(lines[0].split('"trace_hash":"')[1][:32], "kept")
    results.write_text(kept + lines[1][:40])

    again = simulate("--seeds", "9-10", "--json", str(results))

    assert again.returncode == 0, again.stderr
    resumed = results.read_text().splitlines(keepends=True)
    assert resumed[0] == kept
    assert results_of(resumed[1]) == results_of(lines[1])
    assert len(resumed) == 2


def test_two_jobs_come_to_the_same_as_one(tmp_path):
    results = tmp_path / "results.jsonl"

    parallel = simulate("--seeds", "19-20", "--jobs", "2", "--json", str(results))
    serial = simulate("--seeds", "19-20", "--json", "-")

    assert parallel.returncode == 0, parallel.stderr
    assert results_of(results.read_text()) == results_of(serial.stdout)


def test_a_seed_is_told_as_a_story_with_the_command_that_runs_it_again():
    told = simulate("--seed", "9")

    assert told.returncode == 0, told.stderr
    assert "Nothing was found." in told.stdout
    assert "again: python tests/simulate.py --seed 9" in told.stdout


def test_a_stored_plan_can_be_run(tmp_path):
    plan_file = tmp_path / "plan.json"
    plan_file.write_text(small(9, operations=10).to_json())

    told = simulate("--plan", str(plan_file))

    assert told.returncode == 0, told.stderr
    assert "10 operations" in told.stdout


def test_the_branches_that_the_core_never_took_are_listed():
    told = simulate("--seeds", "9-9", "--coverage")

    assert told.returncode == 0, told.stderr
    assert "branches of the consensus core were taken" in told.stdout
    assert "quarantined:  never went on at" in told.stdout


def test_a_core_that_answers_reads_without_a_majority_is_found_out(monkeypatch):
    add_read = Replica.add_read
    monkeypatch.setattr(Replica, "add_read", lambda *arguments, **_: add_read(*arguments, fresh=False))

    outcome = first_to_find("stale read", "cuts")

    assert any(finding.operations for finding in outcome.findings)


def test_a_core_that_acknowledges_with_a_single_copy_is_found_out_and_its_plan_shrinks(monkeypatch):
    monkeypatch.setattr(leadership, "agreed_index", max)
    plan = first_to_find("lost acknowledgement", "crashes").plan
    tries = iter(range(25))

    def fails(candidate: Plan) -> bool:
        return "lost acknowledgement" in {finding.kind for finding in run(candidate).findings}

    smaller = shrink(plan, fails, lambda: next(tries, None) is not None)

    assert len(smaller.faults) < len(plan.faults)
    outcome = run(from_json(smaller.to_json()), keep_story=True)
    assert outcome.findings
    told = "\n".join(story(outcome, "again"))
    assert "lost acknowledgement" in told
    assert " begin client=" in told


def test_an_exception_in_the_core_is_a_violation_with_its_traceback(monkeypatch):
    def broken(*_: object) -> None:
        raise KeyError("gone")

    monkeypatch.setattr(Node, "flush", broken)

    (finding,) = run(small(9)).findings

    assert finding.kind == findings.CORE_CRASH
    assert "KeyError: 'gone'" in finding.text


def test_a_cluster_that_stops_serving_is_found_out(monkeypatch):
    monkeypatch.setattr("simulator.verdict.CALLS_END_US", 3_000_000)
    monkeypatch.setattr("simulator.verdict.SERVES_US", 1_000_000)
    monkeypatch.setattr("simulator.verdict.CATCHES_UP_US", 1_000_000)
    monkeypatch.setattr("rewind_cluster.elections.Elector._count_votes", lambda _: None)

    kinds = {finding.kind for finding in run(small(9, operations=5)).findings}

    assert kinds >= {findings.CALL_NEVER_ENDS, findings.NO_SERVICE, findings.NO_CATCH_UP}


def test_a_client_that_hands_nothing_on_to_its_consumers_is_found_out(monkeypatch):
    monkeypatch.setattr(Feeds, "told", lambda *_: None)

    kinds = {finding.kind for finding in run(small(9)).findings}

    assert kinds == {findings.CONSUMER_BEHIND}


@pytest.mark.parametrize("options", [(), ("--seed", "1", "--seeds", "1-2"), ("--seeds", "5"), ("--seeds", "5-1")])
def test_a_call_of_the_runner_that_makes_no_sense_is_refused(options):
    refused = simulate(*options)

    assert refused.returncode == 2
    assert "--seeds" in refused.stderr
