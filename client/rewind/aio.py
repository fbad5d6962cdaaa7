"""The asyncio store: the same names as the blocking store's, awaitable, on the event loop that connects."""

from collections.abc import AsyncIterator, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rewind import inquiries
from rewind.aio_group import AsyncGroup
from rewind.aio_readers import AsyncContextReader, AsyncEventReader, AsyncNameReader
from rewind.aio_subscription import AsyncSubscription
from rewind.arguments import Consistency, check_stream, check_timeout, check_tracing
from rewind.beginning import Now
from rewind.blocking import PROGRAM
from rewind.calls import Calls, EventsArgument, PartArgument
from rewind.engine import now_us
from rewind.events import ANY, AppendResult, Context
from rewind.loop_engine import LoopEngine
from rewind.requests import Request
from rewind.tracing import Tracing
from rewind.urls import Target, parse_target

if TYPE_CHECKING:
    import asyncio


def connect_async(
    where: str | Iterable[str],
    *,
    context: str | None = None,
    timeout: float | None = None,
    tracing: Tracing | None = None,
) -> "Connecting":
    """Connect to a cluster, as an async context manager or awaited.

    Arguments and errors are those of `rewind.connect`. The store belongs to the event loop that is running, which must
    be able to watch sockets: `InvalidArgument` if it is not, as Windows' default is not.

    >>> async with rewind.connect_async("rewind://127.0.0.1:7070/default?timeout=5") as store:
    ...     await store.version("order-that-is-not-there")
    0
    """
    return Connecting(parse_target(where, context, timeout), check_tracing(tracing))


class Connecting:
    """A connection to be made: await it, or enter it."""

    def __init__(self, target: Target, tracing: Tracing | None = None) -> None:
        self._target = target
        self._tracing = tracing
        self._store: AsyncStore | None = None

    def __await__(self) -> "Generator[Any, None, AsyncStore]":
        return self._connect().__await__()

    async def __aenter__(self) -> "AsyncStore":
        self._store = await self._connect()
        return self._store

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is not None:
            await self._store.close()

    async def _connect(self) -> "AsyncStore":
        store = AsyncStore(self._target, self._tracing)
        try:
            await store.open_context()
        except BaseException:
            await store.close()
            raise
        return store


class AsyncStore:
    """A context of a cluster, from `connect_async`. Use it as an async context manager, or `close` it.

    Every call takes `timeout`, seconds in total whatever is retried meanwhile. Cancelling a task that waits for an
    append does not call the append back: it may still take effect. Another event loop and another thread are refused
    with `InvalidArgument`, a forked child with `Closed`.
    """

    def __init__(self, target: Target, tracing: Tracing | None = None) -> None:
        self._target = target
        self._engine = LoopEngine(target.addresses, PROGRAM)
        self._calls = Calls(self._engine.session.routing, target.timeout_us, tracing)

    async def open_context(self) -> None:
        """Find the cluster and the context; `connect_async` has done so."""
        deadline_us = now_us() + self._target.timeout_us
        await self._engine.start(inquiries.get_map(self._target.timeout_us))
        left_us = max(1, deadline_us - now_us())
        found: Context = await self._engine.start(inquiries.find_context(self._target.context, left_us))
        self._calls.open_context(found, self._engine.session.cluster_id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncStore {self._target.context!r} at {','.join(self._target.addresses)}>"

    async def close(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - it bounds what is told, not the task
        """Wait for what is being written, at most `timeout` seconds, and close. More than once does no harm.

        What is still being written then fails with what is known of it; reads and subscriptions end with `Closed`.
        """
        await self._engine.close(self._target.timeout_us if timeout is None else check_timeout(timeout))

    # ── appends ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def append(
        self,
        stream: str,
        events: EventsArgument,
        expected: int = ANY,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the same
    ) -> AppendResult:
        """Append an event, or several atomically, to a stream, and return where the last one stands.

        `expected`: the version that the stream must have: a number, `NO_STREAM`, or `ANY`. When this returns, a
        majority of the partition's replicas has the events on disk.

        Raises `WrongExpectedVersion`; `Unavailable`, `Overloaded`, `StorageFull` where surely nothing was written;
        `OutcomeUnknown` where that could not be learnt in time; `InvalidArgument`, `TooLarge`, `Closed`.

        >>> placed = await store.append("order-1", NewEvent("OrderPlaced", b"{}"), expected=NO_STREAM)
        >>> result = await store.append("order-1", [NewEvent("OrderPaid", b""), NewEvent("OrderSent", b"")], 1)
        >>> result.version
        3
        >>> await store.append("order-1", NewEvent("OrderLost", b""), expected=1)
        Traceback (most recent call last):
        rewind.errors.WrongExpectedVersion: append to stream 'order-1' expected version 1 but it is at 3: ...
        """
        engine = self._engine
        engine.check_open()
        append = self._calls.append(stream, events, expected, timeout)
        if not engine.has_room():
            await engine.wait_for_room(append)
        return await engine.start(append)  # type: ignore[no-any-return] # a future of anything

    async def submit(
        self,
        stream: str,
        events: EventsArgument,
        expected: int = ANY,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the same
    ) -> "asyncio.Future[AppendResult]":
        """Begin an append and return its future. Those to one stream take effect in the order they are submitted.

        Waits only while the store has its fill of appends under way. The future raises what `append` raises.

        >>> futures = [await store.submit("meter-1", NewEvent("Measured", b"21")) for _ in range(100)]
        >>> (await futures[-1]).version
        100
        """
        engine = self._engine
        engine.check_open()
        append = self._calls.append(stream, events, expected, timeout)
        if not engine.has_room():
            await engine.wait_for_room(append)
        return engine.start(append)

    async def append_many(
        self,
        appends: Iterable[PartArgument],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the same
    ) -> list[AppendResult]:
        """Append to several streams of one partition atomically: `(stream, events, expected)` each.

        Returns a result for each, in order. Raises `CrossPartition` if the streams live in several partitions; for
        the rest see `append`.

        >>> added = NewEvent("Added", b"{}")
        >>> parts = [("{cart-7}items", [added, added], NO_STREAM), ("{cart-7}totals", added, ANY)]
        >>> [result.version for result in await store.append_many(parts)]
        [2, 1]
        """
        engine = self._engine
        engine.check_open()
        append = self._calls.append_many(appends, timeout)
        if not engine.has_room():
            await engine.wait_for_room(append)
        return await engine.start(append)  # type: ignore[no-any-return] # the same

    # ── reads ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def read(
        self,
        stream: str,
        *,
        after: int = 0,
        limit: int | None = None,
        reverse: bool = False,
        consistency: Consistency = "linearizable",
        at_least: str | None = None,
        timeout: float | None = None,
    ) -> AsyncEventReader:
        """Return an async iterator over a stream's events with versions above `after`, nothing where there is none.

        `reverse`: newest first. `limit`: that many at most. `consistency="any"` reads any replica, which may lag; with
        `at_least`, a token, it has caught up that far. `timeout` holds for each chunk of a thousand events or so.

        The iterator raises `DeadlineExceeded` and `ProtocolError`, and goes on if it is asked again; its `token` tells
        what it has seen.

        >>> result = await store.append("order-2", [NewEvent("OrderPlaced", b"{}"), NewEvent("OrderPaid", b"")])
        >>> [(event.version, event.type) async for event in store.read("order-2")]
        [(1, 'OrderPlaced'), (2, 'OrderPaid')]
        >>> [event.type async for event in store.read("order-2", reverse=True, limit=1)]
        ['OrderPaid']
        >>> len([event async for event in store.read("order-2", consistency="any", at_least=result.token)])
        2
        """
        self._engine.check_open()
        return AsyncEventReader(
            self._engine, self._calls.read(stream, after, limit, reverse, consistency, at_least, timeout)
        )

    def read_all(
        self,
        *,
        after: str | None = None,
        limit: int | None = None,
        types: Iterable[str] | None = None,
        prefix: str = "",
        reverse: bool = False,
        consistency: Consistency = "linearizable",
        at_least: str | None = None,
        timeout: float | None = None,
    ) -> AsyncContextReader:
        """Return an async iterator over the context's events after a checkpoint, None for all.

        Events of one partition come in order, those of several in turn. It ends where the context ended when it began.
        `types`: only events of these; `prefix`: only of streams whose names begin so; what is left out does not travel.
        `limit`: that many at most. `reverse`, in ordered contexts only: newest first, down to `after`. `consistency`,
        `at_least` and `timeout` are those of `read`. Memory does not grow with the number of events.

        The iterator raises `DeadlineExceeded` and `ProtocolError`, and goes on if it is asked again; its `checkpoint`
        includes the event just yielded.

        >>> placed = await store.append("order-3", NewEvent("OrderPlaced", b"{}"))
        >>> events = store.read_all(types=["OrderPlaced"], prefix="order-")
        >>> [event.stream async for event in events]
        ['order-3']
        >>> [event async for event in store.read_all(after=events.checkpoint)]
        []
        """
        self._engine.check_open()
        read = self._calls.read_all(after, limit, types, prefix, reverse, consistency, at_least, timeout)
        return AsyncContextReader(self._engine, read)

    def subscribe(
        self,
        *,
        after: str | Now | None = None,
        types: Iterable[str] | None = None,
        prefix: str = "",
        timeout: float | None = None,
    ) -> AsyncSubscription:
        """Return an async iterator over the context's events after a checkpoint, past ones first, then live.

        It begins when it is entered, awaited, or first asked for an event. `after`: None for the start; `NOW` for what
        is appended once it has begun; or a checkpoint, from a subscription or `read_all`. `types` and `prefix` are
        those of `read_all`; checkpoints move on past what they leave out. `timeout`: seconds to find out where to
        begin, if need be; after that there is none.

        Raises `InvalidArgument`, when it begins for a checkpoint beyond the newest event too, and `DeadlineExceeded`.

        >>> placed = await store.append("order-4", NewEvent("OrderPlaced", b"{}"))
        >>> async with store.subscribe(prefix="order-") as subscription:
        ...     event = await anext(subscription)
        ...     (event.stream, event.version)
        ('order-4', 1)
        >>> paid = await store.append("order-4", NewEvent("OrderPaid", b""))
        >>> async with store.subscribe(after=subscription.checkpoint) as subscription:
        ...     (await anext(subscription)).type
        'OrderPaid'
        """
        self._engine.check_open()
        return AsyncSubscription(self._engine, self._calls.subscribe(after, types, prefix, timeout))

    def group(
        self,
        name: str,
        *,
        max_attempts: int = 5,
        after: str | Now | None = None,
        types: Iterable[str] | None = None,
        prefix: str = "",
        timeout: float | None = None,
    ) -> AsyncGroup:
        """Return a member of a consumer group: an async iterator over its deliveries, without end.

        It begins when it is entered, awaited, or first asked for a delivery. Arguments are those of `Store.group`: the
        members may be of either kind. `max_attempts`: how often an event may fail before it is parked. `after`: where a
        group begins that is new. `timeout`: seconds to find out where that is; after that there is none.

        Raises `InvalidArgument`, when it begins for a checkpoint beyond the newest event too, and `DeadlineExceeded`.

        >>> placed = await store.append("order-1", NewEvent("OrderPlaced", b"{}"))
        >>> async with store.group("mailer") as group:
        ...     delivery = await anext(group)
        ...     await delivery.ack()
        True
        """
        self._engine.check_open()
        joining = self._calls.group(name, max_attempts, after, types, prefix, timeout)
        return AsyncGroup(self._engine, joining, self._target.timeout_us)

    async def version(
        self,
        stream: str,
        *,
        consistency: Consistency = "linearizable",
        at_least: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the same
    ) -> int:
        """Return a stream's version, 0 where there is no such stream. Raises `DeadlineExceeded`.

        `consistency`, `at_least` and `timeout` are those of `read`.

        >>> await store.version("order-5")
        0
        """
        self._engine.check_open()
        return await self._ask(self._calls.version(stream, consistency, at_least, timeout))  # type: ignore[no-any-return]

    def streams(self, prefix: str = "", *, timeout: float | None = None) -> AsyncIterator[str]:
        """Return an async iterator over the names of the context's streams, in bytewise order.

        `prefix`: only those that begin so. The iterator raises `DeadlineExceeded`; `timeout` holds for each chunk.

        >>> for name in ("order-7", "order-6", "meter-1"):
        ...     result = await store.append(name, NewEvent("Begun", b""))
        >>> [name async for name in store.streams(prefix="order-")]
        ['order-6', 'order-7']
        """
        self._engine.check_open()
        return AsyncNameReader(self._engine, self._calls.streams(prefix, timeout))

    def partition_of(self, stream: str) -> int:
        """Return the partition that a stream lives in: streams of one may be appended to atomically.

        >>> store.partition_of("{cart-7}items") == store.partition_of("{cart-7}totals")
        True
        """
        self._engine.check_open()
        return self._calls.partition_of(check_stream(stream))

    # ── the cluster ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def create_context(  # the contract's signature
        self,
        name: str,
        ordered: bool = False,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the same
    ) -> Context:
        """Create a context, or find it where it is there already and of the same kind.

        `ordered`: all of it lives in one partition, with one order and atomic appends to any of its streams. Raises
        `InvalidArgument` if it is of the other kind, `Unavailable`, `OutcomeUnknown`.

        >>> (await store.create_context("ledger", ordered=True)).ordered
        True
        """
        return await self._ask(self._calls.create_context(name, ordered, timeout))  # type: ignore[no-any-return]

    async def contexts(self, *, timeout: float | None = None) -> list[Context]:  # noqa: ASYNC109 - the same
        """Return all contexts of the cluster. Raises `DeadlineExceeded`.

        >>> (await store.contexts())[0].name
        'default'
        """
        return await self._ask(self._calls.contexts(timeout))  # type: ignore[no-any-return]

    async def status(self, *, timeout: float | None = None) -> dict[str, Any]:  # noqa: ASYNC109 - the same
        """Return what a node knows of the cluster, as `/api/status` tells it; no quorum is needed.

        Raises `DeadlineExceeded`.

        >>> sorted(node["state"] for node in (await store.status())["nodes"])
        ['up', 'up', 'up']
        """
        return await self._ask(self._calls.status(timeout))  # type: ignore[no-any-return]

    async def _ask(self, request: Request) -> Any:
        return await self._engine.start(request)
