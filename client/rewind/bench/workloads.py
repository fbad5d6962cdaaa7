"""The workloads, run by run: what client processes are given to do, in which order, and what is kept of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from rewind.beginning import NOW
from rewind.bench.figures import RATE, Run, figures_of
from rewind.bench.fleet import BenchError, ClientProcess, Fleet, soon
from rewind.bench.nodes import LocalNode, local_nodes, usage_of
from rewind.bench.plan import CONTEXT, LoadPlan, MixedPlan, ReadPlan, Runs, SubscribePlan, Where, new_tag
from rewind.bench.sightings import decoded, delays
from rewind.bench.tasks import AppendTask, MixedTask, Outcome, ReadTask, SubscribeTask, Task
from rewind.blocking import Store
from rewind.urls import parse_target

FILL_IN_FLIGHT = 4096
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every workload needs: the cluster, a store of our own to ask it things, its nodes here, and how to say."""

    where: Where
    store: Store
    nodes: Sequence[LocalNode]
    runs: Runs
    say: Say

    def measure(self, once: Callable[[], Run]) -> list[Run]:
        """Do it as often as asked; say how each run went."""
        found = []
        for number in range(1, self.runs.count + 1):
            run = once()
            found.append(run)
            told = ", ".join(f"{value:,.0f} {name}" for name, value in figures_of(run).items() if name.endswith(RATE))
            self.say(f"run {number} of {self.runs.count}: {told}")
        return found


@contextmanager
def opened(where: Where, runs: Runs, say: Say) -> Iterator[Bench]:
    """Connect to the cluster; create the benchmarks' context where none is given."""
    client = where.client()
    with Store(parse_target(client.servers, client.context, client.timeout_s)) as store:
        if where.context is None:
            store.create_context(CONTEXT)
        store.open_context()
        yield Bench(where, store, local_nodes(store.status()), runs, say)


def append(bench: Bench, plan: LoadPlan) -> list[Run]:
    """Append as planned."""

    def tasks(begin_s: float, seconds: float | None) -> list[Task]:
        tag = new_tag("append")
        return [
            AppendTask(plan.pace(number, begin_s, seconds), plan.events_of(f"{tag}-{number}"), plan.shell)
            for number in range(plan.clients)
        ]

    return _load(bench, plan, tasks)


def mixed(bench: Bench, plan: MixedPlan) -> list[Run]:
    """Append and read back as planned."""
    load = plan.load

    def tasks(begin_s: float, seconds: float | None) -> list[Task]:
        tag = new_tag("mixed")
        return [
            MixedTask(
                load.pace(number, begin_s, seconds), load.events_of(f"{tag}-{number}"), plan.reads_percent, number
            )
            for number in range(load.clients)
        ]

    return _load(bench, load, tasks)


def _load(bench: Bench, plan: LoadPlan, tasks: Callable[[float, float | None], list[Task]]) -> list[Run]:
    with Fleet(bench.where.client(paced=plan.rate is not None).line(), plan.clients) as fleet:
        _warm_up(bench, fleet, tasks)

        def once() -> Run:
            before = usage_of(bench.nodes)
            outcomes = fleet.do(tasks(soon(), None))
            return Run(outcomes, before, usage_of(bench.nodes), plan.event_bytes)

        return bench.measure(once)


def _warm_up(bench: Bench, fleet: Fleet, tasks: Callable[[float, float | None], list[Task]]) -> None:
    """Have sessions opened, leaders found and memory warm before anything counts."""
    if bench.runs.warm_up_s > 0:
        bench.say(f"warming up for {bench.runs.warm_up_s:g} s")
        fleet.do(tasks(soon(), bench.runs.warm_up_s))


def read(bench: Bench, plan: ReadPlan) -> list[Run]:
    """Read as planned, after the events that are missing were appended. Each run has processes of its own."""
    _fill(bench, plan)
    if bench.runs.warm_up_s > 0:
        bench.say("warming up with one read")
        _read_once(bench, plan)

    def once() -> Run:
        before = usage_of(bench.nodes)
        outcomes = _read_once(bench, plan)
        missing = sum(plan.events - each.events["read"] for each in outcomes)
        return Run(outcomes, before, usage_of(bench.nodes), notes={"events missing": missing} if missing else {})

    return bench.measure(once)


def _read_once(bench: Bench, plan: ReadPlan) -> list[Outcome]:
    with Fleet(bench.where.client().line(), plan.clients) as fleet:
        return fleet.do([ReadTask(soon(), plan.events, plan.decode)] * plan.clients)


def _fill(bench: Bench, plan: ReadPlan) -> None:
    """See to it that the context holds so many events."""
    missing = plan.events - count_events(bench.store)
    if missing <= 0:
        return
    bench.say(f"appending {missing:,} events to be read")
    load = LoadPlan(
        clients=1,
        in_flight=FILL_IN_FLIGHT,
        seconds=0.0,
        events=missing,
        rate=None,
        event_bytes=plan.fill.event_bytes,
        events_per_append=plan.fill.events_per_append,
        expected="any",
        streams=plan.fill.streams,
    )
    with Fleet(bench.where.client().line(), 1) as fleet:
        (outcome,) = fleet.do([AppendTask(load.pace(0, soon()), load.events_of(new_tag("read")))])
    if outcome.failures:
        raise BenchError(f"not all events to be read could be appended: {outcome.failures}; look at `rewind status`")


def count_events(store: Store) -> int:
    """Return how many events the context holds: positions have no holes, so they are the sum of the newest ones."""
    with store.subscribe(after=NOW) as subscription:
        places = subscription.checkpoint.rpartition("/")[2]
    return sum(int(place.partition(":")[2]) for place in places.split(",") if place)


def subscribe(bench: Bench, plan: SubscribePlan) -> list[Run]:
    """Append as planned while one more process subscribes, and hold what one was told against what the other saw."""
    load = plan.load

    def tasks(begin_s: float, seconds: float | None) -> list[Task]:
        tag = new_tag("subscribe")
        return [
            AppendTask(load.pace(number, begin_s, seconds), load.events_of(f"{tag}-{number}"), sightings=True)
            for number in range(load.clients)
        ]

    with (
        Fleet(bench.where.client(paced=load.rate is not None).line(), load.clients) as fleet,
        Fleet(bench.where.client().line(), 1) as listeners,
    ):
        (listener,) = listeners.processes
        _warm_up(bench, fleet, tasks)

        def once() -> Run:
            listener.give(SubscribeTask(plan.shell))
            listener.wait_ready()
            before = usage_of(bench.nodes)
            outcomes = fleet.do(tasks(soon(), None))
            run = Run(outcomes, before, usage_of(bench.nodes), load.event_bytes)
            return _delivered(run, _stop(listener, outcomes))

        return bench.measure(once)


def _stop(listener: ClientProcess, outcomes: Sequence[Outcome]) -> Outcome:
    """Tell a listener up to where events were acknowledged, and return what it saw up to there."""
    heads: dict[str, int] = {}
    for outcome in outcomes:
        for partition, head in outcome.heads.items():
            heads[partition] = max(head, heads.get(partition, 0))
    listener.stop_at(heads)
    return listener.outcome()


def _delivered(run: Run, heard: Outcome) -> Run:
    """Return the run with how soon the listener had what the others were told of; what it used counts, too."""
    acknowledged: dict[tuple[int, int], float] = {}
    for outcome in run.outcomes:
        acknowledged |= decoded(outcome.sightings)
    latencies, early, missing = delays(acknowledged, decoded(heard.sightings))
    beside = replace(heard, began_s=run.outcomes[0].began_s, ended_s=run.outcomes[0].ended_s, events={}, sightings={})
    return replace(
        run,
        outcomes=[*run.outcomes, beside],
        more={"delivery": latencies.histogram()},
        notes={"delivered before the acknowledgement": early} | ({"never delivered": missing} if missing else {}),
    )
