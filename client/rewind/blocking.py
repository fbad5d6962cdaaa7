"""The blocking store: a thin shell that hands calls to the engine's thread and waits. Safe to share between threads."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from rewind import inquiries
from rewind.arguments import Consistency, check_stream, check_timeout, check_tracing
from rewind.beginning import Now
from rewind.calls import Calls, EventsArgument, PartArgument
from rewind.engine import Engine, now_us
from rewind.events import ANY, AppendResult, Context
from rewind.group import Group
from rewind.readers import ContextReader, EventReader, NameReader
from rewind.requests import Request
from rewind.subscription import Subscription
from rewind.tracing import Tracing
from rewind.urls import Target, parse_target

PROGRAM = "rewind"  # as nodes' logs call this client


def connect(
    where: str | Iterable[str],
    *,
    context: str | None = None,
    timeout: float | None = None,
    tracing: Tracing | None = None,
) -> "Store":
    """Connect to a cluster and return a store for one of its contexts.

    `where`: a URL `rewind://HOST:PORT,…/CONTEXT?timeout=SECONDS`, or addresses `HOST:PORT`. One node that is up is
    enough: it tells of the others. `timeout`: seconds in total for connecting, and for each call that names none; 10
    by default. `tracing`: who traces the appends, such as a `rewind.otel.Tracing`.

    Raises `Unavailable` if no node answers in time, `ContextNotFound`, `InvalidArgument`, `AccessDenied`,
    `ProtocolError`.

    >>> with rewind.connect("rewind://127.0.0.1:7070/default?timeout=5") as store:
    ...     store.version("order-that-is-not-there")
    0
    """
    store = Store(parse_target(where, context, timeout), check_tracing(tracing))
    try:
        store.open_context()
    except BaseException:
        store.close()
        raise
    return store


class Store:
    """A context of a cluster, from `connect`. Use it as a context manager, or `close` it.

    Every call takes `timeout`, seconds in total whatever is retried meanwhile, and may be made from any thread. A store
    does not survive a fork: the child gets `Closed`, and connects for itself.
    """

    def __init__(self, target: Target, tracing: Tracing | None = None) -> None:
        self._target = target
        self._engine = Engine(target.addresses, PROGRAM)
        self._calls = Calls(self._engine.session.routing, target.timeout_us, tracing)

    def open_context(self) -> None:
        """Find the cluster and the context; `connect` has done so."""
        deadline_us = now_us() + self._target.timeout_us
        self._ask(inquiries.get_map(self._target.timeout_us))
        left_us = max(1, deadline_us - now_us())
        found: Context = self._ask(inquiries.find_context(self._target.context, left_us))
        self._calls.open_context(found, self._engine.session.cluster_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store {self._target.context!r} at {','.join(self._target.addresses)}>"

    def close(self, timeout: float | None = None) -> None:
        """Wait for what is being written, at most `timeout` seconds, and close. More than once does no harm.

        What is still being written then fails with what is known of it; reads and subscriptions end with `Closed`.
        """
        self._engine.close(self._target.timeout_us if timeout is None else check_timeout(timeout))

    # ── appends ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def append(
        self, stream: str, events: EventsArgument, expected: int = ANY, *, timeout: float | None = None
    ) -> AppendResult:
        """Append an event, or several atomically, to a stream, and return where the last one stands.

        `expected`: the version that the stream must have: a number, `NO_STREAM`, or `ANY`. When this returns, a
        majority of the partition's replicas has the events on disk.

        Raises `WrongExpectedVersion`; `Unavailable`, `Overloaded`, `StorageFull` where surely nothing was written;
        `OutcomeUnknown` where that could not be learnt in time; `InvalidArgument`, `TooLarge`, `Closed`.

        >>> placed = store.append("order-1", NewEvent("OrderPlaced", b"{}"), expected=NO_STREAM)
        >>> store.append("order-1", [NewEvent("OrderPaid", b""), NewEvent("OrderSent", b"")], placed.version).version
        3
        >>> store.append("order-1", NewEvent("OrderLost", b""), expected=1)
        Traceback (most recent call last):
        rewind.errors.WrongExpectedVersion: append to stream 'order-1' expected version 1 but it is at 3: ...
        """
        return self._engine.wait(self.submit(stream, events, expected, timeout=timeout))  # type: ignore[no-any-return]

    def submit(
        self, stream: str, events: EventsArgument, expected: int = ANY, *, timeout: float | None = None
    ) -> Future[AppendResult]:
        """Begin an append and return its future. Those to one stream take effect in the order they are submitted.

        Waits only while the store has its fill of appends under way. The future cannot be cancelled; it raises what
        `append` raises.

        >>> futures = [store.submit("meter-1", NewEvent("Measured", str(number).encode())) for number in range(100)]
        >>> [future.result().version for future in futures][-1]
        100
        """
        self._engine.check_open()
        return self._engine.start(self._calls.append(stream, events, expected, timeout))

    def append_many(self, appends: Iterable[PartArgument], *, timeout: float | None = None) -> list[AppendResult]:
        """Append to several streams of one partition atomically: `(stream, events, expected)` each.

        Returns a result for each, in order. Raises `CrossPartition` if the streams live in several partitions; for
        the rest see `append`.

        >>> added = NewEvent("Added", b"{}")
        >>> results = store.append_many([("{cart-7}items", [added, added], NO_STREAM), ("{cart-7}totals", added, ANY)])
        >>> [result.version for result in results]
        [2, 1]
        """
        self._engine.check_open()
        return self._engine.wait(self._engine.start(self._calls.append_many(appends, timeout)))  # type: ignore[no-any-return]

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
    ) -> EventReader:
        """Return an iterator over a stream's events with versions above `after`, nothing where there is no such stream.

        `reverse`: newest first. `limit`: that many at most. `consistency="any"` reads any replica, which may lag; with
        `at_least`, a token, it has caught up that far. `timeout` holds for each chunk of a thousand events or so.

        The iterator raises `DeadlineExceeded` and `ProtocolError`, and goes on if it is asked again; its `token` tells
        what it has seen.

        >>> result = store.append("order-2", [NewEvent("OrderPlaced", b"{}"), NewEvent("OrderPaid", b"")])
        >>> [(event.version, event.type) for event in store.read("order-2")]
        [(1, 'OrderPlaced'), (2, 'OrderPaid')]
        >>> [event.type for event in store.read("order-2", reverse=True, limit=1)]
        ['OrderPaid']
        >>> len(list(store.read("order-2", consistency="any", at_least=result.token)))
        2
        """
        self._engine.check_open()
        return EventReader(
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
    ) -> ContextReader:
        """Return an iterator over the context's events after a checkpoint, None for all.

        Events of one partition come in order, those of several in turn. It ends where the context ended when it began.
        `types`: only events of these; `prefix`: only of streams whose names begin so; what is left out does not travel.
        `limit`: that many at most. `reverse`, in ordered contexts only: newest first, down to `after`. `consistency`,
        `at_least` and `timeout` are those of `read`. Memory does not grow with the number of events.

        The iterator raises `DeadlineExceeded` and `ProtocolError`, and goes on if it is asked again; its `checkpoint`
        includes the event just yielded.

        >>> placed = store.append("order-3", NewEvent("OrderPlaced", b"{}"))
        >>> events = store.read_all(types=["OrderPlaced"], prefix="order-")
        >>> [event.stream for event in events]
        ['order-3']
        >>> list(store.read_all(after=events.checkpoint))
        []
        """
        self._engine.check_open()
        read = self._calls.read_all(after, limit, types, prefix, reverse, consistency, at_least, timeout)
        return ContextReader(self._engine, read)

    def subscribe(
        self,
        *,
        after: str | Now | None = None,
        types: Iterable[str] | None = None,
        prefix: str = "",
        timeout: float | None = None,
    ) -> Subscription:
        """Return an iterator over the context's events after a checkpoint, past ones first, then live, without end.

        `after`: None for the start; `NOW` for what is appended once this has returned; or a checkpoint, from a
        subscription or `read_all`. `types` and `prefix` are those of `read_all`; checkpoints move on past what they
        leave out. `timeout`: seconds to find out where to begin, if need be; after that there is none.

        Raises `InvalidArgument`, for a checkpoint beyond the newest event too, and `DeadlineExceeded`.

        >>> placed = store.append("order-4", NewEvent("OrderPlaced", b"{}"))
        >>> with store.subscribe(prefix="order-") as subscription:
        ...     event = next(subscription)
        ...     (event.stream, event.version)
        ('order-4', 1)
        >>> paid = store.append("order-4", NewEvent("OrderPaid", b""))
        >>> with store.subscribe(after=subscription.checkpoint) as subscription:
        ...     next(subscription).type
        'OrderPaid'
        """
        self._engine.check_open()
        beginning = self._calls.subscribe(after, types, prefix, timeout)
        asked = [(partition, self._engine.start(request)) for partition, request in beginning.wanted()]
        for partition, future in asked:
            beginning.take(partition, self._engine.wait(future))
        return Subscription(self._engine, beginning.tail())

    def group(
        self,
        name: str,
        *,
        max_attempts: int = 5,
        after: str | Now | None = None,
        types: Iterable[str] | None = None,
        prefix: str = "",
        timeout: float | None = None,
    ) -> Group:
        """Become a member of a consumer group and return an iterator over its deliveries, without end.

        Members of a group share the context's partitions, each partition at one of them at a time, and each event is
        delivered at least once: again where it was not acknowledged when its member failed. Those of one stream come in
        order; one that fails `max_attempts` times is parked, and its stream goes on. The cluster keeps the group's
        state. `after` says where a group begins that is new, as in `subscribe`. `types` and `prefix`, as in `read_all`,
        should be the same at all members. `timeout`: seconds to find out where to begin; after that there is none.

        Raises `InvalidArgument`, for a checkpoint beyond the newest event too, and `DeadlineExceeded`.

        >>> placed = store.append("order-1", NewEvent("OrderPlaced", b"{}"))
        >>> with store.group("mailer") as group:
        ...     delivery = next(group)
        ...     delivery.ack()
        True
        """
        self._engine.check_open()
        joining = self._calls.group(name, max_attempts, after, types, prefix, timeout)
        asked = [(partition, self._engine.start(request)) for partition, request in joining.beginning.wanted()]
        for partition, future in asked:
            joining.beginning.take(partition, self._engine.wait(future))
        return Group(self._engine, joining.membership(), self._target.timeout_us)

    def version(
        self,
        stream: str,
        *,
        consistency: Consistency = "linearizable",
        at_least: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Return a stream's version, 0 where there is no such stream. Raises `DeadlineExceeded`.

        `consistency`, `at_least` and `timeout` are those of `read`.

        >>> store.version("order-5")
        0
        """
        self._engine.check_open()
        return self._ask(self._calls.version(stream, consistency, at_least, timeout))  # type: ignore[no-any-return]

    def streams(self, prefix: str = "", *, timeout: float | None = None) -> Iterator[str]:
        """Return an iterator over the names of the context's streams, in bytewise order.

        `prefix`: only those that begin so. The iterator raises `DeadlineExceeded`; `timeout` holds for each chunk.

        >>> for name in ("order-7", "order-6", "meter-1"):
        ...     result = store.append(name, NewEvent("Begun", b""))
        >>> list(store.streams(prefix="order-"))
        ['order-6', 'order-7']
        """
        self._engine.check_open()
        return NameReader(self._engine, self._calls.streams(prefix, timeout))

    def partition_of(self, stream: str) -> int:
        """Return the partition that a stream lives in: streams of one may be appended to atomically.

        >>> store.partition_of("{cart-7}items") == store.partition_of("{cart-7}totals")
        True
        """
        self._engine.check_open()
        return self._calls.partition_of(check_stream(stream))

    # ── the cluster ─────────────────────────────────────────────────────────────────────────────────────────────────

    def create_context(self, name: str, ordered: bool = False, *, timeout: float | None = None) -> Context:
        """Create a context, or find it where it is there already and of the same kind.

        `ordered`: all of it lives in one partition, with one order and atomic appends to any of its streams. Raises
        `InvalidArgument` if it is of the other kind, `Unavailable`, `OutcomeUnknown`.

        >>> store.create_context("ledger", ordered=True).ordered
        True
        """
        return self._ask(self._calls.create_context(name, ordered, timeout))  # type: ignore[no-any-return]

    def contexts(self, *, timeout: float | None = None) -> list[Context]:
        """Return all contexts of the cluster. Raises `DeadlineExceeded`.

        >>> store.contexts()[0].name
        'default'
        """
        return self._ask(self._calls.contexts(timeout))  # type: ignore[no-any-return]

    def status(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Return what a node knows of the cluster, as `/api/status` tells it; no quorum is needed.

        Raises `DeadlineExceeded`.

        >>> sorted(node["state"] for node in store.status()["nodes"])
        ['up', 'up', 'up']
        """
        return self._ask(self._calls.status(timeout))  # type: ignore[no-any-return]

    def _ask(self, request: Request) -> Any:
        return self._engine.wait(self._engine.start(request))
