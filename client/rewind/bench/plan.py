"""What a benchmark is asked for: the options of `rewind bench`, checked where they contradict each other."""

from dataclasses import dataclass
from uuid import uuid4

from rewind.bench.fleet import BenchError
from rewind.bench.tasks import Client, Events, Expected, Pace, Shell
from rewind_cluster.names import APPEND_BYTES_MAX

CONTEXT = "bench"  # where events of benchmarks go unless told otherwise: nothing of an application's stands there
TIMEOUT_DEFAULT_S = 30.0  # of a call: beyond any takeover, so that a slow answer is measured and not given up
IN_FLIGHT_MAX = 16_384  # more than this the client itself keeps waiting
CLIENTS_MAX = 64  # processes: more than any machine here has processors for
ENDLESS_S = 1e9
ENDLESS = 1 << 62


@dataclass(frozen=True, slots=True)
class Where:
    """The cluster, and what of it: `context` None for a context of benchmarks, which is created."""

    servers: str
    context: str | None
    timeout_s: float | None

    def client(self, *, paced: bool = False) -> Client:
        """Return what client processes are told."""
        return Client(self.servers, self.context or CONTEXT, self.timeout_s or TIMEOUT_DEFAULT_S, paced)


@dataclass(frozen=True, slots=True)
class Runs:
    """How often, and how long before that without measuring."""

    count: int
    warm_up_s: float


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """A load of appends, over all client processes together: `seconds` long, or so many `events` instead.

    `in_flight` is each process's. `rate`: appends (or operations) a second, None for as many as are answered.
    """

    clients: int
    in_flight: int
    seconds: float
    events: int | None
    rate: float | None
    event_bytes: int
    events_per_append: int
    expected: Expected
    streams: int
    shell: Shell = "asyncio"

    def __post_init__(self) -> None:
        if self.shell == "blocking" and self.in_flight > 1:
            raise BenchError(
                "the blocking client is measured one append after the other; add --in-flight 1, and --clients for more"
            )
        if self.expected == "exact" and self.streams // self.clients < self.in_flight:
            raise BenchError(
                f"{self.clients} clients with {self.in_flight} appends under way each, to {self.streams} streams whose "
                "versions they expect, would refuse each other; raise --streams or lower --in-flight"
            )
        if self.events_per_append * self.event_bytes > APPEND_BYTES_MAX:
            raise BenchError(
                f"an append of {self.events_per_append:,} events of {self.event_bytes:,} bytes is over the limit of "
                f"{APPEND_BYTES_MAX:,} bytes; lower --batch or --event-bytes"
            )

    def pace(self, number: int, begin_s: float, seconds: float | None = None) -> Pace:
        """Return the pace of one process. With `seconds` it is so long, whatever the plan says: a warm-up."""
        counted = seconds is None and self.events is not None
        return Pace(
            begin_s=begin_s + self._offset_s(number),
            seconds=ENDLESS_S if counted else seconds or self.seconds,
            operations=self._appends(number) if counted else ENDLESS,
            in_flight=self.in_flight,
            rate=self.rate / self.clients if self.rate else None,
        )

    def _offset_s(self, number: int) -> float:
        # So that paced processes take turns instead of all appending at the same moments.
        return number / self.rate if self.rate else 0.0

    def _appends(self, number: int) -> int:
        """Return a process's share of the appends that make the events; the first ones take what is left over."""
        appends = -(-(self.events or 0) // self.events_per_append)
        return appends // self.clients + (number < appends % self.clients)

    def events_of(self, tag: str) -> Events:
        """Return what one process appends."""
        streams = max(1, self.streams // self.clients)
        return Events(tag, self.event_bytes, self.events_per_append, self.expected, streams)


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Reads of so many events from the context's start, by so many processes at once."""

    clients: int
    events: int
    decode: bool
    fill: LoadPlan


@dataclass(frozen=True, slots=True)
class SubscribePlan:
    """Live delivery of a load to one subscriber."""

    load: LoadPlan
    shell: Shell


@dataclass(frozen=True, slots=True)
class MixedPlan:
    """A load of which so many operations in a hundred are reads."""

    load: LoadPlan
    reads_percent: float


def new_tag(word: str) -> str:
    """Return what no other stream's name begins with."""
    return f"{word}-{uuid4().hex[:10]}"
