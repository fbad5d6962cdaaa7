"""The comparison's results as a document, and stores that are not there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import compare
import pytest
from compare import STORES
from programs import rotated
from results import MEASURES, Results, write
from system import Facts, Servers
from workloads import Sizes

from rewind.bench.fleet import BenchError

SIZES = Sizes(seconds=1.0, warm_up_s=0.0, events=100, event_bytes=256)


def figures(scale: float) -> dict[str, dict[str, float]]:
    costs = {"processor time of servers, µs/event": scale, "processor time of clients, µs/event": scale}
    return {
        "singles": {"appends a second": 1000 * scale, **costs},
        "one": {"append p50, ms": 1 / scale, "append p99, ms": 2 / scale},
        "batches": {"append events a second": 5000 * scale, **costs},
        "read": {"read events a second": 9000 * scale},
    }


def results(**rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> Results:
    names = ["rewind", "nats", "umadb"]
    return Results(
        sizes=SIZES,
        facts={name: STORES[name].facts for name in names},
        versions=dict.fromkeys(rounds, "1.2.3"),
        rounds=rounds,
        left_out={name: "not installed; pip install it" for name in names if name not in rounds},
        machine=["before round 1: quiet"],
    )


def test_results_have_medians_ratios_and_what_is_not_promised(tmp_path: Path) -> None:
    found = results(rewind=[figures(4.0), figures(2.0), figures(3.0)], nats=[figures(1.0)] * 3)

    write(found, tmp_path / "RESULTS.md")

    text = (tmp_path / "RESULTS.md").read_text()
    rows = {line.split("|")[1].strip(): line for line in reversed(text.splitlines()) if line.startswith("|")}
    assert "**3,000** (2,000 to 4,000)" in rows["Rewind"]
    assert "| NATS JetStream, R3 | 3.00 | 0.33 | 0.33 | 3.00 | 3.00 |" in text
    assert STORES["nats"].facts.not_promised in text
    assert "- UmaDB: not installed; pip install it" in text
    assert "RESULTS.svg" in text
    assert (tmp_path / "RESULTS.svg").read_text().count("<svg") == 1


def test_results_of_rewind_alone_are_a_document_too(tmp_path: Path) -> None:
    write(results(rewind=[figures(1.0)]), tmp_path / "RESULTS.md")

    assert "Nothing to compare with." in (tmp_path / "RESULTS.md").read_text()


@pytest.mark.parametrize("store", STORES.values())
def test_every_store_says_what_it_promises_and_what_not(store: type[Servers]) -> None:
    facts = store.facts

    assert all([facts.title, facts.settings, facts.promises, facts.not_promised])


def test_every_figure_of_the_results_is_measured_by_a_workload() -> None:
    assert {measure.workload for measure in MEASURES} == {"singles", "one", "batches", "read"}


def test_each_round_begins_with_another_store() -> None:
    assert [rotated(["a", "b", "c"], number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


class Fake(Servers):
    """A store that does nothing, or fails at once."""

    name = "fake"
    facts = Facts("Fake", "none", "nothing", "anything")
    complaint: str | None = None
    fails = False

    @classmethod
    def missing(cls) -> str | None:  # type: ignore[override] # told by each class below
        return cls.complaint

    def versions(self) -> str:
        return "0"

    def start(self, directory: Path) -> None:
        assert directory.is_dir()
        if self.fails:
            raise BenchError("it does not start")

    def address(self) -> Mapping[str, Any]:
        return {}


class Absent(Fake):
    name = "absent"
    complaint = "apt-get install absent"


class Failing(Fake):
    name = "failing"
    fails = True


class Ours(Fake):
    name = "rewind"


def test_stores_that_are_missing_or_fail_are_named_and_the_others_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "STORES", {made.name: made for made in (Ours, Absent, Failing)})
    monkeypatch.setattr(compare, "measure", lambda *_: figures(1.0))

    found = compare.compare(SIZES, rounds=2, stores=["rewind", "absent", "failing"])

    assert list(found.rounds) == ["rewind"]
    assert len(found.rounds["rewind"]) == 2
    assert found.left_out == {
        "absent": "not installed; apt-get install absent",
        "failing": "failed in round 1: it does not start",
    }


def test_where_rewind_itself_fails_there_are_no_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "STORES", {"rewind": type("Broken", (Ours,), {"fails": True})})

    with pytest.raises(BenchError, match="does not start"):
        compare.compare(SIZES, rounds=1, stores=["rewind"])
