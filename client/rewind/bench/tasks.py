"""What client processes are told and what they tell, as lines of JSON.

A process is first told its `Client`, connects, and says that it is ready. Then it is given one task after the other and
answers each with an `Outcome`, or with an error in one line. All times are the machine's monotonic clock in seconds,
which its processes share, so a task's `begin_s` lets all of them begin together.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Expected = Literal["none", "any", "exact"]
Shell = Literal["asyncio", "blocking"]


@dataclass(frozen=True, slots=True)
class Client:
    """Whom a client process talks to. `paced`: its tasks keep a rate, so its timers must be finer than usual."""

    servers: str
    context: str
    timeout_s: float
    paced: bool = False

    def line(self) -> str:
        """Return it as a line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Pace:
    """When operations begin, and until when: `seconds` long, `operations` at most, `in_flight` of them under way.

    With a `rate`, operation k is meant to begin k/rate seconds after `begin_s`, however slow the answers are, and its
    latency counts from there: a client that waits for a slow answer before it asks again would otherwise omit just
    what it should measure (Gil Tene's "coordinated omission").
    """

    begin_s: float
    seconds: float
    operations: int
    in_flight: int
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Events:
    """Which events are appended: their size, how many an append, what it expects, and to which streams.

    `expected`: `none`: each append begins a new stream; `any`: to `streams` in turn; `exact`: the same, each with its
    stream's version. `tag` begins the streams' names and is unlike any other's.
    """

    tag: str
    event_bytes: int
    events_per_append: int
    expected: Expected
    streams: int


@dataclass(frozen=True, slots=True)
class AppendTask:
    """Append, through either shell; the blocking one appends one after the other, whatever the pace allows.

    `sightings`: also tell when each append was acknowledged, which is for the asyncio shell only.
    """

    pace: Pace
    events: Events
    shell: Shell = "asyncio"
    sightings: bool = False


@dataclass(frozen=True, slots=True)
class MixedTask:
    """Append and read streams back, so many reads in a hundred operations."""

    pace: Pace
    events: Events
    reads_percent: float
    seed: int


@dataclass(frozen=True, slots=True)
class ReadTask:
    """Read so many events of the context from its start. `decode`: also their IDs, metadata and times."""

    begin_s: float
    events: int
    decode: bool


@dataclass(frozen=True, slots=True)
class SubscribeTask:
    """Subscribe from now on, through either shell, and note when each event comes, until told where to stop."""

    shell: Shell


Task = AppendTask | MixedTask | ReadTask | SubscribeTask
TASKS: dict[str, type[Any]] = {
    "append": AppendTask,
    "mixed": MixedTask,
    "read": ReadTask,
    "subscribe": SubscribeTask,
}
PARTS: dict[str, type[Any]] = {"pace": Pace, "events": Events}  # the fields of tasks that are objects themselves


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client process did. `done`: acknowledged appends and answered reads, by kind; `events`: theirs.

    `latencies`: histograms, encoded, by kind. `failures`: how often what went wrong. `not_begun`: operations that a
    rate asked for and that had not begun when the time was over. `heads`: by partition, the highest position that was
    acknowledged. `sightings`: when positions were acknowledged or seen. `early_bytes`, `most_bytes`: the process's own
    memory (RssAnon), early in the run and at most after that.
    """

    began_s: float
    ended_s: float
    cpu_s: float
    early_bytes: int
    most_bytes: int
    done: dict[str, int]
    events: dict[str, int]
    latencies: dict[str, str]
    failures: dict[str, int] = field(default_factory=dict)
    not_begun: int = 0
    heads: dict[str, int] = field(default_factory=dict)
    sightings: dict[str, list[str]] = field(default_factory=dict)


def task_line(task: Task) -> str:
    """Return a task as a line."""
    kind = next(kind for kind, made in TASKS.items() if type(task) is made)
    return json.dumps({"kind": kind, **asdict(task)})


def parse_task(line: str) -> Task:
    """Return the task of a line."""
    fields: dict[str, Any] = json.loads(line)
    made = TASKS[fields.pop("kind")]
    parts = {name: PARTS[name](**value) for name, value in fields.items() if isinstance(value, dict)}
    task: Task = made(**fields | parts)
    return task
