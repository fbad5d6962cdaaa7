"""Ranges of events for tests that speak the protocol by hand: reading by position, and subscribing."""

from typing import Any, NamedTuple

from rewind_cluster.batches import AppendRun, pack_runs
from rewind_cluster.client_messages import ANY_VERSION, AppendBatch, AppendsDone, Code, Ping
from rewind_cluster.columns import ID_BYTES, Events, pack_events, unpack_events
from rewind_cluster.ranges import (
    AllIs,
    Consumed,
    EventsAre,
    ReadAll,
    Subscribe,
    SubscriptionEnded,
    unpack_rows,
)

PING_TURNS = 500


def append_parts(client: Any, partition: int, parts: list[tuple[str, list[tuple[str, str]]]]) -> None:
    """Append to several streams as one run of one append; each part is a stream and its events as (type, data)."""
    session = client.session(partition)
    client.sequences[partition] += 1
    events = [event for _, part in parts for event in part]
    columns = Events(
        b"".join(data.encode()[-ID_BYTES:].rjust(ID_BYTES, b"\0") for _, data in events),
        [kind for kind, _ in events],
        [data.encode() for _, data in events],
        None,
    )
    run = AppendRun(
        client.sequences[partition],
        b"",
        [stream for stream, _ in parts],
        [ANY_VERSION] * len(parts),
        [len(part) for _, part in parts],
        [len(parts)],
        pack_events(columns),
    )
    leader = client.cluster.await_leader(partition)
    batch = AppendBatch(partition, 1, session, 1, 1, client.deadline_us, 0)
    client.send(leader, batch, *pack_runs([run]))
    answer, _ = client.await_message(lambda message: isinstance(message, AppendsDone))
    assert answer.answers[0][1] == Code.OK, answer


class Seen(NamedTuple):
    """One event as it arrived."""

    position: int
    timestamp: int
    stream: str
    version: int
    type: str
    data: str


def events_in(frame: bytes, first: int, last: int, *, reverse: bool = False) -> list[Seen]:
    """Return the events in the rows of a range, in the order in which they were asked for."""
    seen: list[Seen] = []
    for row in unpack_rows(frame, first, last):
        events = unpack_events(row.events)
        places = zip(zip(*row.by_event(), strict=True), events.types, events.datas, strict=True)
        made = [Seen(*place, kind, data.decode()) for place, kind, data in places]
        seen += reversed(made) if reverse else made
    return seen


def read_all(client: Any, host: Any, partition: int, *, after: int | None = None, **wanted: Any) -> list[Seen]:
    """Read to the end, range by range, and verify that they join."""
    asked = {"context": 1, "count": 4096, "size": 1 << 20, "types": None, "prefix": "", "reverse": False, "fresh": True}
    asked |= wanted
    seen: list[Seen] = []
    more = True
    while more:
        fields = [asked[name] for name in ("count", "size", "types", "prefix", "reverse", "fresh")]
        answer, frames = client.ask(host, ReadAll, partition, asked["context"], after, *fields, 0, client.deadline_us)
        if not isinstance(answer, AllIs):
            raise AssertionError(answer)
        assert after in (None, answer.after)
        low, high = sorted((answer.after, answer.through))
        assert answer.through == low if asked["reverse"] else answer.through == high
        seen += events_in(frames[0], low + 1, high, reverse=asked["reverse"])
        assert not answer.more or answer.through != answer.after, "no progress"
        after, more = answer.through, answer.more
    return seen


class Subscriber:
    """One subscription by hand: it verifies that ranges join, and consumes when it is told to."""

    def __init__(self, client: Any, number: int = 1) -> None:
        self.client = client
        self.number = number
        self.host: Any = None
        self.through = 0
        self.position = 0
        self.seen: list[Seen] = []
        self.messages: list[EventsAre] = []
        self.row_bytes: list[int] = []
        self.ended: SubscriptionEnded | None = None

    @property
    def datas(self) -> list[str]:
        """The data of all events so far."""
        return [event.data for event in self.seen]

    def subscribe(self, host: Any, partition: int, *, after: int = 0, **wanted: Any) -> "Subscriber":
        """Subscribe at a host, to which the client has said hello."""
        asked = {"context": 1, "types": None, "prefix": "", "window": 1 << 20} | wanted
        self.host, self.through, self.ended = host, after, None
        fields = (asked["context"], after, asked["types"], asked["prefix"], asked["window"])
        self.client.send(host, Subscribe(self.number, partition, *fields))
        return self

    def resume(self, host: Any, partition: int, **wanted: Any) -> "Subscriber":
        """Subscribe anew, at another host perhaps, from where this one has come to."""
        self.number += 1000
        self.client.hello(host)
        return self.subscribe(host, partition, after=self.through, **wanted)

    def take(self) -> "Subscriber":
        """Take in what has arrived."""
        left = []
        for sender, message, frames in self.client.received:
            if getattr(message, "subscription", None) != self.number or sender is not self.host:
                left.append((sender, message, frames))
            elif isinstance(message, SubscriptionEnded):
                self.ended = message
            else:
                self._take(message, frames[0])
        self.client.received[:] = left
        return self

    def _take(self, message: EventsAre, frame: bytes) -> None:
        assert self.ended is None
        assert message.after == self.through, f"{message} does not join {self.through}"
        self.seen += events_in(frame, message.after + 1, message.through)
        self.messages.append(message)
        self.row_bytes.append(len(frame))
        self.through, self.position = message.through, message.position

    def consume(self) -> None:
        """Tell the node that everything taken in has been consumed."""
        self.client.send(self.host, Consumed(self.number, self.through))

    def follow(self, count: int, turns: int = 20_000) -> list[Seen]:
        """Consume until so many events have arrived, or the subscription has ended."""
        cluster = self.client.cluster
        for turn in range(turns):
            before = len(self.seen)
            self.take()
            if len(self.seen) >= count or self.ended is not None:
                break
            if len(self.seen) > before:
                self.consume()
            if turn % PING_TURNS == 0:
                self.client.send(self.host, Ping(0))
            cluster.turns(1)
        assert len(self.seen) >= count or self.ended is not None, f"{len(self.seen)} of {count} events came"
        return self.seen
