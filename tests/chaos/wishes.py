"""What clients append and listen to: names of streams, kinds of events, filters; known to clients and harness alike."""

import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple
from uuid import uuid4

from rewind import NewEvent

ORDERED_CONTEXT = "in-order"
CONTEXTS = ("default", ORDERED_CONTEXT)
EVENT_TYPES = ("Happened", "Happened", "Happened", "Noted", "Counted")
MARKER = b"an event of a chaotic run: "  # where bits are flipped on disk
LAST = "last"  # metadata of the events that end a run
HOT = 12  # streams that all clients append to, in each context: some in every partition
EPOCH_S = 10  # they are other ones so often, or reading them would take all the time there is
PADDINGS = (0, 0, 0, 0, 200, 3000)


class Filter(NamedTuple):
    """What a consumer asks for."""

    types: tuple[str, ...] | None
    prefix: str


FILTERS = (
    Filter(None, ""),
    Filter(("Happened",), ""),
    Filter(None, "account-"),
    Filter(("Noted", "Counted"), "{cart"),
)


class Group(NamedTuple):
    """A consumer group. `fates`: how many of 10,000 events are of which kind, see `simulator.fates`."""

    context: str
    name: str
    wanted: Filter
    max_attempts: int
    fates: dict[str, int]


FATES = {"flaky": 300, "hopeless": 20, "bad": 50, "slow": 5}
GROUPS = (
    Group("default", "mailer", FILTERS[0], 3, FATES),
    Group(ORDERED_CONTEXT, "billing", FILTERS[1], 4, FATES),
)


def hot_stream(number: int) -> str:
    """Return one of the streams that all clients append to at the moment."""
    return f"account-{number % HOT}-{int(time.monotonic()) // EPOCH_S}"


def together(number: int) -> tuple[str, ...]:
    """Return streams of one partition."""
    tag = f"{{cart-{number % HOT}-{int(time.monotonic()) // EPOCH_S}}}"
    return f"{tag}items", f"{tag}log", f"{tag}owner"


def new_event(number: int, padding_bytes: int = 0, **metadata: object) -> NewEvent:
    """Return an event of its own."""
    event_id = uuid4()
    data = MARKER + event_id.hex.encode() + b"." * padding_bytes
    return NewEvent(EVENT_TYPES[number % len(EVENT_TYPES)], data, event_id, metadata or None)


def last_events(partitions: tuple[int, ...], partition_of: Callable[[str], int]) -> Iterator[tuple[str, NewEvent]]:
    """Yield streams and events so that each partition has one for each filter."""
    for partition in partitions:
        for wanted in FILTERS:
            pattern = "{{cart-last-{}}}" if wanted.prefix.startswith("{") else "account-last-{}"
            stream = next(name for name in map(pattern.format, count()) if partition_of(name) == partition)
            kind = EVENT_TYPES.index(wanted.types[0]) if wanted.types else 0
            yield stream, new_event(kind, **{LAST: True})
