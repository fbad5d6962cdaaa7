"""A user's program that calls everything there is, for mypy and pyright: it is checked, not run.

`assert_type` says what each call gives. A `type: ignore` marks what users must be warned of; both checkers complain of
one that is not needed, so a signature that became too wide is found as well.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from datetime import datetime
from typing import Any, assert_type
from uuid import UUID, uuid4

from opentelemetry.trace import Span

import rewind
from rewind import (
    ANY,
    NO_STREAM,
    NOW,
    AppendResult,
    AsyncContextReader,
    AsyncDelivery,
    AsyncEventReader,
    AsyncGroup,
    AsyncStore,
    AsyncSubscription,
    Context,
    ContextReader,
    Delivery,
    Event,
    EventReader,
    Group,
    NewEvent,
    Store,
    Subscription,
    connect,
    connect_async,
)
from rewind.otel import Tracing

URL = "rewind://127.0.0.1:7070/orders?timeout=10"


def make_events() -> list[NewEvent]:
    return [
        NewEvent("OrderPlaced", b"{}"),
        NewEvent("OrderPlaced", b"{}", id=uuid4(), metadata={"user": "7", "tags": ["a", 1, None]}),
        NewEvent(type="OrderPlaced", data=b"{}", id=None, metadata=None),
    ]


def look_at(event: Event) -> None:
    assert_type(event.stream, str)
    assert_type(event.version, int)
    assert_type(event.type, str)
    assert_type(event.data, bytes)
    assert_type(event.id, UUID)
    assert_type(event.metadata, dict[str, Any])
    assert_type(event.timestamp, int)
    assert_type(event.time, datetime)
    assert_type(event.position, int)
    assert_type(event.partition, int)


def look_at_result(result: AppendResult) -> None:
    assert_type(result.version, int)
    assert_type(result.position, int)
    assert_type(result.partition, int)
    assert_type(result.timestamp, int)
    assert_type(result.time, datetime)
    assert_type(result.token, str)
    assert_type(result.origin.cluster_id, str)


def look_at_context(context: Context) -> None:
    assert_type(context.name, str)
    assert_type(context.number, int)
    assert_type(context.partition, int | None)
    assert_type(context.ordered, bool)


def appending() -> None:
    with connect(["127.0.0.1:7070", "[::1]:7170"], context="orders", timeout=5) as store:
        assert_type(store, Store)
        result = store.append("order-1", make_events(), NO_STREAM, timeout=1.5)
        assert_type(result, AppendResult)
        assert_type(store.append("order-1", NewEvent("OrderPaid", b""), expected=result.version), AppendResult)
        assert_type(store.submit("order-1", NewEvent("OrderPaid", b""), ANY), Future[AppendResult])
        parts = [("{a}1", make_events(), 0), ("{a}2", make_events(), ANY)]
        assert_type(store.append_many(parts, timeout=1), list[AppendResult])
        assert_type(store.append_many((name, NewEvent("T", b""), ANY) for name in ("{a}1", "{a}2")), list[AppendResult])

        store.append("order-1", "OrderPaid")  # type: ignore[arg-type]
        store.append("order-1", NewEvent("OrderPaid", "text"))  # type: ignore[arg-type]
        store.append("order-1", NewEvent("OrderPaid", b""), expected=None)  # type: ignore[arg-type]
        store.append_many([("order-1", NewEvent("OrderPaid", b""))])  # type: ignore[list-item]
    store.close(timeout=1)


def reading(store: Store) -> None:
    events = store.read("order-1", after=3, limit=10, reverse=True, consistency="any", at_least="token", timeout=1)
    assert_type(events, EventReader)
    assert_type(events.token, str)
    for event in events:
        assert_type(event, Event)
    scan = store.read_all(
        after=None,
        limit=1,
        types=["OrderPlaced"],
        prefix="order-",
        reverse=False,
        consistency="linearizable",
        at_least=None,
        timeout=None,
    )
    assert_type(scan, ContextReader)
    assert_type(next(scan), Event)
    assert_type(scan.checkpoint, str)
    assert_type(store.version("order-1", consistency="any", at_least="token", timeout=1), int)
    assert_type(store.streams("order-", timeout=1), Iterator[str])
    assert_type(store.partition_of("order-1"), int)

    store.read("order-1", consistency="eventual")  # type: ignore[arg-type]


def subscribing(store: Store) -> None:
    with store.subscribe(after=NOW, types={"OrderPlaced"}, prefix="order-", timeout=1) as subscription:
        assert_type(subscription, Subscription)
        for event in subscription:
            assert_type(event, Event)
            assert_type(subscription.checkpoint, str)
            assert_type(subscription.caught_up, bool)
    subscription.close()
    store.subscribe(after="checkpoint")
    store.subscribe(after=None)
    store.subscribe(after=7)  # type: ignore[arg-type]


def sharing(store: Store) -> None:
    with store.group("mailer", max_attempts=3, after=NOW, types={"OrderPlaced"}, prefix="order-", timeout=1) as group:
        assert_type(group, Group)
        assert_type(group.name, str)
        assert_type(group.partitions, tuple[int, ...])
        for delivery in group:
            assert_type(delivery, Delivery)
            assert_type(delivery.event, Event)
            assert_type(delivery.attempt, int)
            assert_type(delivery.ack(), bool)
            assert_type(delivery.nack(retry_after=1.0), bool)
            assert_type(delivery.park("why"), bool)
            delivery.park()  # type: ignore[call-arg]
    group.close(timeout=1)
    store.group(7)  # type: ignore[arg-type]


def the_cluster(store: Store) -> None:
    assert_type(store.create_context("ledger", ordered=True, timeout=1), Context)
    assert_type(store.contexts(timeout=1), list[Context])
    assert_type(store.status(timeout=1), dict[str, Any])


async def appending_async() -> None:
    async with connect_async(URL) as store:
        assert_type(store, AsyncStore)
        assert_type(await store.append("order-1", make_events(), NO_STREAM, timeout=1.5), AppendResult)
        future = await store.submit("order-1", NewEvent("OrderPaid", b""), ANY)
        assert_type(future, asyncio.Future[AppendResult])
        assert_type(await future, AppendResult)
        parts = [("{a}1", make_events(), 0), ("{a}2", make_events(), ANY)]
        assert_type(await store.append_many(parts, timeout=1), list[AppendResult])

        await store.append("order-1", "OrderPaid")  # type: ignore[arg-type]
    await store.close(timeout=1)
    assert_type(await connect_async([URL], context="orders", timeout=5), AsyncStore)


async def reading_async(store: AsyncStore) -> None:
    events = store.read("order-1", after=3, limit=10, reverse=True, consistency="any", at_least="token", timeout=1)
    assert_type(events, AsyncEventReader)
    assert_type(events.token, str)
    async for event in events:
        assert_type(event, Event)
    scan = store.read_all(after=None, types=("OrderPlaced",), prefix="order-", reverse=False, consistency="any")
    assert_type(scan, AsyncContextReader)
    assert_type(await anext(scan), Event)
    assert_type(scan.checkpoint, str)
    assert_type(await store.version("order-1", consistency="any", at_least="token", timeout=1), int)
    assert_type(store.streams(prefix="order-", timeout=1), AsyncIterator[str])
    assert_type(store.partition_of("order-1"), int)


async def subscribing_async(store: AsyncStore) -> None:
    async with store.subscribe(after=NOW, types=["OrderPlaced"], prefix="order-", timeout=1) as subscription:
        assert_type(subscription, AsyncSubscription)
        async for event in subscription:
            assert_type(event, Event)
            assert_type(subscription.checkpoint, str)
            assert_type(subscription.caught_up, bool)
    await subscription.close()
    assert_type(await store.subscribe(after="checkpoint"), AsyncSubscription)


async def sharing_async(store: AsyncStore) -> None:
    async with store.group("mailer", max_attempts=3, after="checkpoint", types=["OrderPlaced"], timeout=1) as group:
        assert_type(group, AsyncGroup)
        assert_type(group.name, str)
        assert_type(group.partitions, tuple[int, ...])
        async for delivery in group:
            assert_type(delivery, AsyncDelivery)
            assert_type(delivery.event, Event)
            assert_type(delivery.attempt, int)
            assert_type(await delivery.ack(), bool)
            assert_type(await delivery.nack(2), bool)
            if not delivery.park("why"):
                return
    await group.close(timeout=1)
    assert_type(await store.group("mailer"), AsyncGroup)


async def the_cluster_async(store: AsyncStore) -> None:
    assert_type(await store.create_context("ledger", ordered=True, timeout=1), Context)
    assert_type(await store.contexts(timeout=1), list[Context])
    assert_type(await store.status(timeout=1), dict[str, Any])


async def tracing(event: Event) -> None:
    traced = Tracing()
    with connect(URL, tracing=traced) as store, traced.processing(event) as span:
        assert_type(store, Store)
        assert_type(span, Span)
    async with connect_async(URL, tracing=traced) as async_store:
        assert_type(async_store, AsyncStore)
    connect(URL, tracing=True)  # type: ignore[arg-type]


def failing(store: Store) -> str:
    try:
        store.append("order-1", make_events())
    except rewind.WrongExpectedVersion as error:
        assert_type(error.stream, str)
        assert_type(error.expected, int)
        assert_type(error.actual, int)
    except (rewind.Unavailable, rewind.Overloaded, rewind.StorageFull, rewind.DeadlineExceeded) as error:
        assert_type(error.retriable, bool)
    except (rewind.OutcomeUnknown, rewind.CrossPartition, rewind.InvalidArgument, rewind.TooLarge) as error:
        return str(error)
    except (rewind.ContextNotFound, rewind.AccessDenied, rewind.ProtocolError, rewind.Closed) as error:
        return str(error)
    except rewind.RewindError as error:
        return str(error)
    return ""
