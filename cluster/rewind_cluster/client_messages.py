"""The protocol between clients and nodes: every message, its code and fields. `cluster/README.md` tells what they mean.

Requests carry a number of their own, `request`, unique on their connection, which the answer repeats. Appends need
none: a session and a sequence number name them for good. Times are microseconds of the node's monotonic clock, which
`Welcome` and `Pong` tell. Reads by position and subscriptions have a module of their own, `rewind_cluster.ranges`, and
so have consumer groups, `rewind_cluster.groups`.
"""

from enum import IntEnum
from typing import Any

import msgpack

from rewind_cluster.errors import ProtocolError
from rewind_cluster.wire import Codec, Frame, check_shape, message, unpack_frame

CLIENT_CODEC = Codec()
ANY_VERSION = -1  # `expected` of an append that takes any version
PING_INTERVAL_US = 1_000_000
PINGS_MISSED_MAX = 3  # then the node forgets the connection
SESSION_WINDOW = 1024  # numbers from a session's low-water mark on: what a node remembers answers for


class Code(IntEnum):
    """How an append or a request ended."""

    OK = 0
    WRONG_VERSION = 1  # final: the stream has another version
    NOT_LEADER = 2  # refused: ask the leader
    OPEN = 3  # this node led and no longer does: taken or not, the next leader knows
    EPOCH = 4  # refused: an earlier append of the same burst was
    OVERLOADED = 5  # refused: a queue is full
    STORAGE_FULL = 6  # refused: disk space is below the reserve
    SESSION_UNKNOWN = 7  # refused: the session was never opened here, or was evicted
    SETTLED = 8  # refused: below the session's low-water mark
    DEADLINE_PAST = 9  # refused: arrived after its deadline
    CONTEXT_NOT_FOUND = 10
    CONTEXT_LAGGING = 11  # refused: this node has not heard of the context yet
    INVALID = 12  # final: outside the rules
    TOO_LARGE = 13  # final: over a limit
    WRONG_PARTITION = 14  # final: the stream belongs to another partition
    NOT_READY = 15  # refused: no replica of the partition here, or it cannot serve yet
    ACCESS_DENIED = 16
    CONTEXT_EXISTS = 17  # the context exists and is of the other kind
    BEYOND_HEAD = 18  # a token is beyond the newest event
    DAMAGED = 19  # this replica is under repair: ask another
    FENCED = 20  # the claim on a partition of a group is over: another epoch holds, or none; nothing was taken
    HELD = 21  # another member holds the partition and is alive: ask again later
    GROUP_NOT_FOUND = 22  # the group has no state in this partition


@message(CLIENT_CODEC, 1)
class Hello:
    """First message of a client's connection. `cluster_id` is empty until the client knows it."""

    versions: list[int]
    cluster_id: str
    program: str
    clock: int
    limits: dict[str, Any]
    credentials: bytes | None


@message(CLIENT_CODEC, 2)
class Welcome:
    """The node took the client in."""

    version: int
    cluster_id: str
    node_id: str
    name: str
    time_us: int
    ping_interval_us: int
    clock: int


@message(CLIENT_CODEC, 3)
class Refused:
    """The node ends the connection's state and says why. `code` is a short word, `text` a sentence."""

    code: str
    text: str


@message(CLIENT_CODEC, 4)
class HelloRequired:
    """The node does not know this connection. Nothing that was sent on it since has been looked at."""

    node_id: str


@message(CLIENT_CODEC, 5)
class Ping:
    """Keeps a connection's state alive."""

    clock: int


@message(CLIENT_CODEC, 6)
class Pong:
    """Answers a ping."""

    clock: int
    time_us: int


@message(CLIENT_CODEC, 10)
class GetMap:
    """Asks for the map."""

    request: int


@message(CLIENT_CODEC, 11)
class MapIs:
    """The map, as an answer or, with request 0, unasked after a change. `index` is that of partition 0 it stands at."""

    request: int
    cluster_id: str
    index: int
    slots: list[Any]  # [[first slot, partition], …] in order
    nodes: list[Any]  # [[node ID, name, client address], …]
    leaders: list[Any]  # [[partition, term, node ID or ""], …]
    replicas: list[Any]  # [[partition, [node ID, …]], …]


@message(CLIENT_CODEC, 12)
class LeaderIs:
    """Unasked: a partition has another leader, or none (""). The highest term is right."""

    partition: int
    term: int
    node_id: str


@message(CLIENT_CODEC, 13)
class FindContext:
    """Asks for a context by name."""

    request: int
    name: str
    deadline_us: int


@message(CLIENT_CODEC, 14)
class ContextIs:
    """A context. `partition` is None where its streams are spread over all partitions."""

    request: int
    number: int
    name: str
    partition: int | None


@message(CLIENT_CODEC, 15)
class CreateContext:
    """Asks partition 0's leader to create a context, or to find it where it exists and is of the same kind."""

    request: int
    name: str
    ordered: bool
    deadline_us: int


@message(CLIENT_CODEC, 16)
class ListContexts:
    """Asks partition 0's leader for all contexts."""

    request: int
    deadline_us: int


@message(CLIENT_CODEC, 17)
class ContextsAre:
    """All contexts: [[number, name, partition or nil], …]."""

    request: int
    contexts: list[Any]


@message(CLIENT_CODEC, 20)
class OpenSession:
    """Asks a partition's leader for a session."""

    request: int
    partition: int
    deadline_us: int


@message(CLIENT_CODEC, 21)
class SessionIs:
    """The session's ID."""

    request: int
    partition: int
    session: int


@message(CLIENT_CODEC, 22)
class AppendBatch:
    """Appends of one session, in order; further frames hold them, two a run, see `rewind_cluster.batches`.

    `low`: every sequence number below is settled at the client. `epoch` counts the client's bursts of (re)sends to this
    partition: after refusing one append of an epoch for routing or load a node refuses the rest of it.
    """

    partition: int
    context: int
    session: int
    epoch: int
    low: int
    deadline_us: int
    clock: int


@message(CLIENT_CODEC, 23)
class AppendsDone:
    """How appends of a session ended, in any order.

    `answers` holds `[sequence, 0, last_versions, position, timestamp, counts, parts]` for a run of appends that took
    effect, numbered from `sequence` on: the version of the last event of each part; position and timestamp of the
    first event, and each further one has the next; `counts` and `parts` as in `rewind_cluster.columns`. Where the
    events stood already, one append's, position and timestamp are arrays: of each part's last event. Or
    `[sequence, code, …]` for one that did not: after WRONG_VERSION stream, expected, actual, logged; after NOT_LEADER
    the leader's node ID or "" and the term; after any other a text. A WRONG_VERSION that is `logged` stands under the
    append's number for every copy of it; one that is not speaks for its own copy alone, so it is final only where no
    other copy is unanswered.
    """

    partition: int
    session: int
    epoch: int
    answers: list[Any]
    clock: int


@message(CLIENT_CODEC, 30)
class ReadStream:
    """Asks for a stream's events.

    Forward those after version `after`, in reverse from version `after` (None: the head) down.
    `fresh`: linearizable, at the leader; else any replica. `at_least`: a position that must have been reached.
    """

    request: int
    partition: int
    context: int
    stream: str
    after: int | None
    count_max: int
    bytes_max: int
    reverse: bool
    fresh: bool
    at_least: int
    deadline_us: int


@message(CLIENT_CODEC, 31)
class StreamIs:
    """A chunk of a stream. The second frame holds `[[first version, position, timestamp, events], …]`, packed.

    A row is a whole append to the stream: its first event's version, position and timestamp, which rise by one with
    each event, and the events as in `rewind_cluster.columns`. The first and last row may hold events beyond what was
    asked for. `more`: ask again from the last version on. `version` is the stream's, `position` the context's newest in
    this partition, when the chunk was read.
    """

    request: int
    version: int
    position: int
    more: bool


@message(CLIENT_CODEC, 32)
class GetVersion:
    """Asks for a stream's version."""

    request: int
    partition: int
    context: int
    stream: str
    fresh: bool
    at_least: int
    deadline_us: int


@message(CLIENT_CODEC, 33)
class VersionIs:
    """A stream's version, and the context's newest position in this partition."""

    request: int
    version: int
    position: int


@message(CLIENT_CODEC, 34)
class ListStreams:
    """Asks for the names of a context's streams in one partition, bytewise ordered, those after `after`."""

    request: int
    partition: int
    context: int
    prefix: str
    after: str | None
    count_max: int
    fresh: bool
    at_least: int
    deadline_us: int


@message(CLIENT_CODEC, 35)
class StreamsAre:
    """Names of streams. `more`: ask again after the last."""

    request: int
    names: list[Any]
    position: int
    more: bool


@message(CLIENT_CODEC, 40)
class GetStatus:
    """Asks for what `/api/status` tells."""

    request: int


@message(CLIENT_CODEC, 41)
class StatusIs:
    """What this node knows of the cluster."""

    request: int
    status: dict[str, Any]


@message(CLIENT_CODEC, 50)
class Failed:
    """A request was refused. `node_id` and `term`: the partition's leader as this node knows it, "" and 0 for none."""

    request: int
    code: int
    text: str
    node_id: str
    term: int


def pack_chunk(rows: list[tuple[int, int, int, bytes]]) -> Frame:
    """Return the second frame of a `StreamIs`."""
    chunk: bytes = msgpack.packb(rows)
    return chunk


def unpack_chunk(frame: Frame) -> list[Any]:
    """Return a chunk's `[first version, position, timestamp, events]` arrays, their shape verified."""
    chunk = unpack_frame(frame)
    if type(chunk) is not list:
        raise ProtocolError("a chunk of a stream is not an array")
    for row in chunk:
        check_shape("a row of a chunk", row, int, int, int, bytes)
    return chunk
