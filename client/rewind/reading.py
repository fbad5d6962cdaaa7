"""Reading a stream, without input and output: which chunk to ask for next, and which events of it were asked for.

Chunks hold whole appends, so their ends may reach beyond what is wanted; events are cut to `after`, `limit` and
`reverse` here, and checked to follow one another without a hole. Where any replica may answer, the first says how far
the others must have got to go on: so a read has all that was there when it began.
"""

from rewind.errors import ProtocolError
from rewind.events import Event
from rewind.inquiries import Chunk, StoredAppend, View, read_chunk
from rewind.requests import Request
from rewind.tokens import Origin, make_token
from rewind_cluster.columns import ID_BYTES

CHUNK_EVENTS_MAX = 1000  # one is being consumed and one is on its way: a reader holds two thousand events at most
CHUNK_BYTES_TARGET = 1024 * 1024


class StreamRead:
    """One read of a stream. `next_request` and `take` alternate until `next_request` returns None."""

    def __init__(
        self,
        origin: Origin,
        partition: int,
        stream: str,
        view: View,
        timeout_us: int,
        *,
        after: int,
        limit: int | None,
        reverse: bool,
    ) -> None:
        self._origin = origin
        self._partition = partition
        self._stream = stream
        self._view = view
        self._timeout_us = timeout_us
        self._after = after
        self._left = limit
        self._reverse = reverse
        self._last: int | None = None  # version of the event that was taken last
        self._ended = limit == 0
        self._seen = view.at_least

    @property
    def token(self) -> str:
        """A token of what this read has seen so far."""
        return make_token(self._origin, {self._partition: self._seen})

    def next_request(self) -> Request | None:
        """Return the request for the next chunk, or None at the end."""
        if self._ended:
            return None
        start: int | None
        if self._reverse:
            start = None if self._last is None else self._last - 1
        else:
            start = self._after if self._last is None else self._last
        return read_chunk(
            self._origin,
            self._partition,
            self._stream,
            self._view,
            self._timeout_us,
            after=start,
            count_max=CHUNK_EVENTS_MAX if self._left is None else min(self._left, CHUNK_EVENTS_MAX),
            bytes_max=CHUNK_BYTES_TARGET,
            reverse=self._reverse,
        )

    def take(self, chunk: Chunk) -> list[Event]:
        """Return the events of a chunk that were asked for, in order. After a `ProtocolError` it is as if none came."""
        events = [event for stored in chunk.appends for event in self._events(stored)][: self._left]
        if events:
            self._check_order(events)
        elif chunk.more and (self._last is not None or not self._reverse):
            raise ProtocolError(f"reading stream {self._stream!r}: a node said there is more and sent none; try again")
        if self._last is None:
            self._begin(chunk)
        if events:
            self._last = events[-1].version
        if self._left is not None:
            self._left -= len(events)
        self._seen = max(self._seen, chunk.position)
        first = self._after + 1 if self._reverse else None
        self._ended = not chunk.more or not events or self._left == 0 or self._last == first
        return events

    def _begin(self, chunk: Chunk) -> None:
        """Note that whoever answers from now on must have got as far: one that lags would say there is no more."""
        self._view = View(self._view.fresh, max(self._view.at_least, chunk.position))

    def _events(self, append: StoredAppend) -> list[Event]:
        ids, types, datas, metadatas = append.events
        first = append.first_version
        low, high = max(first, self._after + 1), first + len(types) - 1
        if self._last is not None:
            low, high = (low, min(high, self._last - 1)) if self._reverse else (max(low, self._last + 1), high)
        places = range(high - first, low - first - 1, -1) if self._reverse else range(low - first, high - first + 1)
        return [
            Event(
                self._stream,
                first + place,
                types[place],
                datas[place],
                append.timestamp + place,
                append.position + place,
                self._partition,
                ids[place * ID_BYTES : (place + 1) * ID_BYTES],
                None if metadatas is None else metadatas[place],
            )
            for place in places
        ]

    def _check_order(self, events: list[Event]) -> None:
        step = -1 if self._reverse else 1
        if self._last is not None:
            expected = self._last + step
        else:
            expected = events[0].version if self._reverse else self._after + 1
        for event in events:
            if event.version != expected:
                raise ProtocolError(
                    f"reading stream {self._stream!r}: version {event.version} came where {expected} belongs; try again"
                )
            expected += step
