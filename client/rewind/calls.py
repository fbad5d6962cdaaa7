"""Arguments into calls: each is checked, named and packed here, the same for the blocking and the asyncio store.

Nothing here waits. What depends on the map reads it without a lock: it is replaced as a whole.
"""

from collections.abc import Iterable
from dataclasses import replace

from rewind import arguments, inquiries
from rewind.append import Append, Part
from rewind.beginning import NOW, Beginning, Now
from rewind.errors import CrossPartition, InvalidArgument, TooLarge
from rewind.events import Context, NewEvent
from rewind.ids import RandomIds
from rewind.inquiries import View
from rewind.joining import Joining
from rewind.listing import StreamList
from rewind.packing import new_events, with_metadata
from rewind.reading import StreamRead
from rewind.requests import Request
from rewind.routing import Routing
from rewind.rows import Filter
from rewind.scanning import ContextRead
from rewind.tokens import Origin, read_checkpoint, read_token
from rewind.tracing import Tracing
from rewind_cluster.names import APPEND_BYTES_MAX, APPEND_EVENTS_MAX

METADATA_ITEM_BYTES = 6  # what msgpack adds to a key and its value, both short

EventsArgument = NewEvent | Iterable[NewEvent]
PartArgument = tuple[str, EventsArgument, int]


class Calls:
    """Makes the calls of one store. `open_context` comes before any that is about streams."""

    def __init__(self, routing: Routing, timeout_us: int, tracing: Tracing | None = None) -> None:
        self.timeout_us = timeout_us
        self._tracing = tracing
        self.origin = Origin("", 0)
        self._routing = routing
        self._context: Context | None = None
        self._ids = RandomIds()

    def open_context(self, context: Context, cluster_id: str) -> None:
        """Bind the store to its context."""
        self._context = context
        self.origin = Origin(cluster_id, context.number)

    def timeout(self, timeout: float | None) -> int:
        """Return a call's timeout in microseconds, the store's own where it has none."""
        return self.timeout_us if timeout is None else arguments.check_timeout(timeout)

    # ── appends ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def partition_of(self, stream: str) -> int:
        """Return the partition that a stream lives in."""
        if self._context is not None and self._context.partition is not None:
            return self._context.partition
        assert self._routing.slots is not None
        return self._routing.slots.partition_of(stream)

    def append(self, stream: str, events: EventsArgument, expected: int, timeout: float | None) -> Append:
        """Return an append to one stream."""
        name = arguments.check_stream(stream)
        columns, size = new_events(events, self._ids)
        size += len(name)
        part = (name, arguments.check_expected(expected), columns)
        append = Append((part,), size, self.partition_of(name), self.origin, self.timeout(timeout), many=False)
        if self._tracing is not None:
            self._trace(append, self._tracing)
        return append

    def append_many(self, appends: Iterable[PartArgument], timeout: float | None) -> Append:
        """Return an append to several streams of one partition. Raises `CrossPartition`."""
        parts: list[Part] = []
        event_count = size = 0
        for item in appends:
            try:
                stream, events, expected = item
            except (TypeError, ValueError):
                raise InvalidArgument(f"{item!r} is not (stream, events, expected); nothing was sent") from None
            columns, part_size = new_events(events, self._ids)
            parts.append((arguments.check_stream(stream), arguments.check_expected(expected), columns))
            event_count += columns.event_count
            size += part_size + len(stream)
        if not parts:
            raise InvalidArgument("append_many without a stream; give (stream, events, expected) once at least")
        partition = self._common_partition(parts)
        if event_count > APPEND_EVENTS_MAX:
            raise TooLarge(f"{event_count} events are over the limit of {APPEND_EVENTS_MAX}; nothing was sent")
        if size > APPEND_BYTES_MAX:
            raise TooLarge(f"{size} bytes are over the limit of {APPEND_BYTES_MAX}; nothing was sent")
        append = Append(tuple(parts), size, partition, self.origin, self.timeout(timeout), many=True)
        if self._tracing is not None:
            self._trace(append, self._tracing)
        return append

    def _trace(self, append: Append, tracing: Tracing) -> None:
        """Begin an append's trace, and have its events carry what it adds, unless the append is full."""
        assert self._context is not None
        streams = [stream for stream, _, _ in append.parts]
        types = [kind for _, _, events in append.parts for kind in events.types]
        append.trace = tracing.begin(self._context.name, streams, types)
        more = append.trace.metadata
        more_bytes = sum(len(key) + len(value) + METADATA_ITEM_BYTES for key, value in more.items())
        size = append.size + len(types) * more_bytes
        if more and size <= APPEND_BYTES_MAX:
            append.size = size
            append.parts = tuple(
                (stream, expected, with_metadata(events, more)) for stream, expected, events in append.parts
            )

    def _common_partition(self, parts: list[Part]) -> int:
        places = {stream: self.partition_of(stream) for stream, _, _ in parts}
        if len(set(places.values())) > 1:
            listed = ", ".join(f"{stream!r} in {partition}" for stream, partition in places.items())
            raise CrossPartition(
                f"streams of one append live in several partitions ({listed}); nothing was written: give their names a "
                "common {tag}, or use an ordered context"
            )
        return next(iter(places.values()))

    # ── reads ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _view(self, partition: int, consistency: str, at_least: str | None) -> View:
        positions = {} if at_least is None else read_token(at_least, self.origin)
        return View(arguments.check_fresh(consistency), positions.get(partition, 0))

    def read(
        self,
        stream: str,
        after: int,
        limit: int | None,
        reverse: bool,
        consistency: str,
        at_least: str | None,
        timeout: float | None,
    ) -> StreamRead:
        """Return a read of a stream."""
        name = arguments.check_stream(stream)
        partition = self.partition_of(name)
        return StreamRead(
            self.origin,
            partition,
            name,
            self._view(partition, consistency, at_least),
            self.timeout(timeout),
            after=arguments.check_after(after),
            limit=arguments.check_limit(limit),
            reverse=arguments.check_flag("reverse", reverse),
        )

    def read_all(
        self,
        after: str | None,
        limit: int | None,
        types: Iterable[str] | None,
        prefix: str,
        reverse: bool,
        consistency: str,
        at_least: str | None,
        timeout: float | None,
    ) -> ContextRead:
        """Return a read of the whole context."""
        partitions = self.partitions
        if arguments.check_flag("reverse", reverse) and len(partitions) > 1:
            raise InvalidArgument("reverse: this context has no one order to reverse; only an ordered context has")
        positions = self._positions(after)
        views = {partition: self._view(partition, consistency, at_least) for partition in partitions}
        return ContextRead(
            self.origin,
            positions,
            {
                partition: replace(view, at_least=max(view.at_least, positions[partition]))
                for partition, view in views.items()
            },
            self.timeout(timeout),
            wanted=Filter(arguments.check_types(types), arguments.check_prefix(prefix)),
            limit=arguments.check_limit(limit),
            reverse=reverse,
        )

    def subscribe(
        self, after: str | Now | None, types: Iterable[str] | None, prefix: str, timeout: float | None
    ) -> Beginning:
        """Return the beginning of a subscription."""
        wanted = Filter(arguments.check_types(types), arguments.check_prefix(prefix))
        timeout_us = self.timeout(timeout)
        if after is NOW:
            return Beginning(self.origin, dict.fromkeys(self.partitions), wanted, timeout_us)
        return Beginning(self.origin, self._positions(after), wanted, timeout_us)

    def group(
        self,
        name: str,
        max_attempts: int,
        after: str | Now | None,
        types: Iterable[str] | None,
        prefix: str,
        timeout: float | None,
    ) -> Joining:
        """Return what it takes to become a member of a group."""
        group = arguments.check_group(name)
        attempts = arguments.check_max_attempts(max_attempts)
        wanted = Filter(arguments.check_types(types), arguments.check_prefix(prefix))
        beginning = self.subscribe(after, types, prefix, timeout)
        return Joining(self.origin, group, self.partition_of(group), attempts, wanted, beginning)

    def _positions(self, after: object) -> dict[int, int]:
        if after is None:
            return dict.fromkeys(self.partitions, 0)
        if not isinstance(after, str):
            raise InvalidArgument(f"after {after!r} is no checkpoint; give None for the start, or a checkpoint's text")
        return read_checkpoint(after, self.origin, self.partitions)

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions of the context, ascending."""
        assert self._context is not None
        own = self._context.partition
        return self._routing.partitions if own is None else (own,)

    def version(self, stream: str, consistency: str, at_least: str | None, timeout: float | None) -> Request:
        """Return a request for a stream's version."""
        name = arguments.check_stream(stream)
        partition = self.partition_of(name)
        view = self._view(partition, consistency, at_least)
        return inquiries.get_version(self.origin, partition, name, view, self.timeout(timeout))

    def streams(self, prefix: str, timeout: float | None) -> StreamList:
        """Return a listing of the context's streams."""
        partitions = self.partitions
        views = dict.fromkeys(partitions, View(fresh=True, at_least=0))
        return StreamList(self.origin, partitions, arguments.check_prefix(prefix), views, self.timeout(timeout))

    # ── the cluster ─────────────────────────────────────────────────────────────────────────────────────────────────

    def create_context(self, name: str, ordered: bool, timeout: float | None) -> Request:
        """Return a request to create a context."""
        flag = arguments.check_flag("ordered", ordered)
        return inquiries.create_context(arguments.check_context(name), self.timeout(timeout), ordered=flag)

    def contexts(self, timeout: float | None) -> Request:
        """Return a request for all contexts."""
        return inquiries.list_contexts(self.timeout(timeout))

    def status(self, timeout: float | None) -> Request:
        """Return a request for what a node knows of the cluster."""
        return inquiries.get_status(self.timeout(timeout))
