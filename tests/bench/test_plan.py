"""What is asked for: shares of the processes, and what contradicts itself."""

from typing import Any

import pytest

from rewind.bench.fleet import BenchError
from rewind.bench.plan import LoadPlan
from rewind.bench.tasks import AppendTask, Events, Pace, ReadTask, SubscribeTask, Task, parse_task, task_line


def plan(**more: Any) -> LoadPlan:
    fields: dict[str, Any] = {
        "clients": 3,
        "in_flight": 10,
        "seconds": 5.0,
        "events": None,
        "rate": None,
        "event_bytes": 256,
        "events_per_append": 1,
        "expected": "none",
        "streams": 100,
    }
    return LoadPlan(**fields | more)


@pytest.mark.parametrize(("events", "batch", "appends"), [(1000, 1, 1000), (1000, 100, 10), (1001, 100, 11), (1, 1, 1)])
def test_the_processes_share_a_count_of_events_exactly(events: int, batch: int, appends: int) -> None:
    load = plan(events=events, events_per_append=batch)

    shares = [load.pace(number, 0.0).operations for number in range(load.clients)]

    assert sum(shares) == appends
    assert max(shares) - min(shares) <= 1


def test_the_processes_share_a_rate_and_take_turns() -> None:
    load = plan(rate=300.0)

    paces = [load.pace(number, 10.0) for number in range(load.clients)]

    assert [pace.rate for pace in paces] == [100.0] * 3
    assert [pace.begin_s for pace in paces] == pytest.approx([10.0, 10.0 + 1 / 300, 10.0 + 2 / 300])


def test_a_warm_up_is_timed_even_where_events_are_counted() -> None:
    pace = plan(events=10).pace(0, 0.0, seconds=2.0)

    assert pace.seconds == 2.0
    assert pace.operations > 10


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ({"expected": "exact", "streams": 29}, "raise --streams"),
        ({"event_bytes": 1 << 20, "events_per_append": 9}, "lower --batch"),
        ({"shell": "blocking"}, "add --in-flight 1"),
    ],
)
def test_what_contradicts_itself_is_refused_with_advice(wrong: dict[str, Any], advice: str) -> None:
    with pytest.raises(BenchError, match=advice):
        plan(**wrong)


@pytest.mark.parametrize(
    "task",
    [
        AppendTask(Pace(1.0, 2.0, 3, 4, 5.0), Events("tag", 1, 2, "exact", 3), sightings=True),
        ReadTask(1.0, 1000, decode=True),
        SubscribeTask("blocking"),
    ],
)
def test_a_task_survives_the_way_to_a_client_process(task: Task) -> None:
    assert parse_task(task_line(task)) == task
