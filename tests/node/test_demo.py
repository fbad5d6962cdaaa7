import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from rewind_node import leader_loss
from rewind_node.demo import DemoError, run_demo
from rewind_node.demo_events import write_events
from rewind_node.demo_histories import Comparison, Histories
from rewind_node.exits import UsageError
from rewind_node.leader_loss import LeaderLoss, leaders_of

PROGRAMS = Path(__file__).parent / "programs"
FAKE_NODE = (sys.executable, str(PROGRAMS / "fake_node.py"))
FAKE_CLIENT = (sys.executable, str(PROGRAMS / "fake_client.py"))


def histories(*events: tuple[str, str, object]) -> Histories:
    made = Histories()
    made.add_lines(json.dumps({"stream": s, "type": t, "data": d}).encode() for s, t, d in events)
    return made


def test_the_same_events_make_the_same_histories_however_streams_are_interleaved() -> None:
    one = histories(("a", "T", 1), ("a", "T", 2), ("b", "T", 1))
    other = histories(("b", "T", 1), ("a", "T", 1), ("a", "T", 2))

    assert one.compare(other) == Comparison(0, 0, 0)
    assert one.compare(other).clean


@pytest.mark.parametrize(
    ("actual", "difference"),
    [
        ([("a", "T", 1)], Comparison(lost=1, duplicated=0, out_of_order=0)),
        ([("a", "T", 1), ("a", "T", 2), ("a", "T", 2)], Comparison(lost=0, duplicated=1, out_of_order=0)),
        ([("a", "T", 2), ("a", "T", 1)], Comparison(lost=0, duplicated=0, out_of_order=1)),
        ([("a", "T", 1), ("a", "U", 2)], Comparison(lost=1, duplicated=1, out_of_order=0)),
        ([("a", "T", 1), ("a", "T", 2), ("b", "T", 1)], Comparison(lost=0, duplicated=1, out_of_order=0)),
        ([("b", "T", 1), ("b", "T", 2)], Comparison(lost=2, duplicated=2, out_of_order=0)),
        ([], Comparison(lost=2, duplicated=0, out_of_order=0)),
    ],
)
def test_what_differs_is_counted(actual: list[tuple[str, str, object]], difference: Comparison) -> None:
    expected = histories(("a", "T", 1), ("a", "T", 2))

    found = expected.compare(histories(*actual))

    assert found == difference
    assert not found.clean


def test_data_is_the_same_as_json_and_as_base64_of_its_compact_bytes() -> None:
    as_json, as_bytes = Histories(), Histories()
    as_json.add_lines([b'{"stream": "a", "type": "T", "data": {"name": "\xc3\xa4", "n": 1.50}}'])
    as_bytes.add_lines([b'{"stream":"a","type":"T","data_base64":"eyJuYW1lIjoiw6QiLCJuIjoxLjV9"}'])

    assert as_json.compare(as_bytes).clean


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "3", '{"stream":"a"}', '{"stream":"a","type":"T"}', '{"stream":"a","type":"T","data_base64":"?"}'],
)
def test_a_line_that_is_no_event_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"stream":"a","type":"T","data":1}\n\n' + line)

    with pytest.raises(UsageError, match="line 3 is no event"):
        Histories.of_file(file)


def test_a_file_without_events_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("\n")

    with pytest.raises(UsageError, match="holds no events"):
        Histories.of_file(file)


def test_the_events_made_up_are_believable_and_the_same_each_time(tmp_path: Path) -> None:
    count = write_events(tmp_path / "one.jsonl")
    write_events(tmp_path / "other.jsonl")

    lines = (tmp_path / "one.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    first = {event["stream"]: event["type"] for event in reversed(events)}
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "other.jsonl").read_bytes()
    assert count == len(lines)
    assert 18_000 < count < 22_000
    assert len(first) == 1500
    assert Counter(first.values()) == {"AccountOpened": 600, "OrderStarted": 900}
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    assert all(event["data"].get("balance", 0) >= 0 for event in events)


def test_leaders_are_read_from_the_status() -> None:
    status = {"partitions": [{"partition": 0, "leader": "n1", "term": 1}, {"partition": 1, "leader": None, "term": 1}]}

    assert leaders_of(status) == {0: "n1", 1: None}


class Cluster:
    """Three nodes without processes; what the status says next is up to the test."""

    def __init__(self, leaders: dict[int, str | None]) -> None:
        self.leaders = leaders
        self.nodes = [SimpleNamespace(name=name, pid=number) for number, name in enumerate(("n1", "n2", "n3"), 1)]
        self.killed: list[str] = []
        self.started: list[str] = []

    def node(self, name: str) -> SimpleNamespace:
        return next(node for node in self.nodes if node.name == name)

    def status(self, *, but: SimpleNamespace | None = None) -> dict[str, object]:
        assert but is None or but.name in self.killed
        return {"partitions": [{"partition": number, "leader": leader} for number, leader in self.leaders.items()]}

    def kill(self, node: SimpleNamespace) -> None:
        self.killed.append(node.name)

    def start_node(self, node: SimpleNamespace) -> None:
        self.started.append(node.name)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(leader_loss, "LOOK_INTERVAL_S", 0)
    return Cluster({0: "n1", 1: "n2", 2: "n3", 3: "n2", 4: None})


@pytest.fixture
def loss(cluster: Cluster) -> LeaderLoss:
    return LeaderLoss(cluster, 90, lambda _: None)  # type: ignore[arg-type]


def test_the_leader_of_most_partitions_is_killed_once_a_third_is_acknowledged(
    cluster: Cluster, loss: LeaderLoss
) -> None:
    loss.advance(29)
    before = list(cluster.killed)
    loss.advance(30)
    loss.advance(31)

    assert before == []
    assert cluster.killed == ["n2"]
    assert loss.led == (1, 3)


def test_nobody_is_killed_while_nobody_leads(cluster: Cluster, loss: LeaderLoss) -> None:
    cluster.leaders = {0: "n1", 1: None, 2: None}

    loss.advance(90)

    assert loss.killed is None


@pytest.mark.parametrize("leader", ["n2", None])
def test_the_killed_node_stays_down_until_others_lead_all_it_led(
    leader: str | None, cluster: Cluster, loss: LeaderLoss
) -> None:
    loss.advance(30)

    cluster.leaders = {0: "n1", 1: "n3", 2: "n3", 3: leader}
    loss.tick()
    before = list(cluster.started)
    cluster.leaders[3] = "n1"
    loss.tick()
    loss.tick()

    assert before == []
    assert cluster.started == ["n2"]


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAKE_STORE", str(tmp_path / "store.jsonl"))
    file = tmp_path / "events.jsonl"
    file.write_text("".join(f'{{"stream":"order-1","type":"T","data":{number}}}\n' for number in range(90)))
    return file


@pytest.mark.processes
def test_the_demo_kills_a_leader_starts_it_again_and_finds_nothing_missing(
    events: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_demo(events, node=FAKE_NODE, client=FAKE_CLIENT) == 0

    told = " ".join(capsys.readouterr().out.split())
    # Of the partitions 1 to 4 the fake nodes n1, n2, n3 lead 3; 1 and 4; 2.
    assert "n2 is gone, which led partitions 1, 4." in told
    assert "took over; n2 is started again." in told
    assert "n2 has caught up and serves again." in told
    assert "write gap 87 ms" in told
    assert "events back 90 lost 0 duplicated 0 streams out of order 0" in told
    assert "Nothing was lost, and nothing happened twice." in told


@pytest.mark.processes
@pytest.mark.parametrize(
    ("behaviour", "found"),
    [
        ("lose", "lost 1 duplicated 0"),
        ("twice", "lost 0 duplicated 1"),
        ("swap", "duplicated 0 streams out of order 1"),
    ],
)
def test_the_demo_fails_where_what_comes_back_differs(
    events: Path, behaviour: str, found: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_CLIENT", behaviour)

    assert run_demo(events, node=FAKE_NODE, client=FAKE_CLIENT) == 1

    told = " ".join(capsys.readouterr().out.split())
    assert found in told
    assert "What came back is not what went in." in told


@pytest.mark.processes
def test_an_import_that_fails_ends_the_demo_with_its_last_words(events: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CLIENT", "fail")

    with pytest.raises(DemoError, match="import ended with exit code 1: rewind: order-1 holds other events"):
        run_demo(events, node=FAKE_NODE, client=FAKE_CLIENT)
