"""Traces with OpenTelemetry: what spans there are, how they end, and how they find one another."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode, get_current_span

import rewind
from rewind import ANY, NewEvent
from rewind.otel import Tracing

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # the example of the W3C's recommendation


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    yield made
    made.shutdown()


@pytest.fixture
def tracing(provider: TracerProvider) -> Tracing:
    return Tracing(provider)


@pytest.fixture
def store(server: Any, tracing: Tracing) -> Iterator[rewind.Store]:
    with rewind.connect(server.addresses, tracing=tracing) as made:
        yield made


def traceparent_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"


def test_an_append_is_a_span_whose_context_its_events_carry(
    store: rewind.Store, exporter: InMemorySpanExporter
) -> None:
    store.append("order-1", [NewEvent("Placed", b"{}", metadata={"user": "7"}), NewEvent("Placed", b"{}")])

    [span] = exporter.get_finished_spans()
    assert (span.name, span.kind, span.status.status_code) == ("append Placed", SpanKind.PRODUCER, StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        "messaging.system": "rewind",
        "messaging.operation.name": "append",
        "messaging.operation.type": "send",
        "messaging.destination.name": "order-1",
        "messaging.batch.message_count": 2,
        "rewind.context": "default",
    }
    first, second = store.read("order-1")
    assert first.metadata == {"user": "7", "traceparent": traceparent_of(span)}
    assert second.metadata == {"traceparent": traceparent_of(span)}


def test_the_span_of_an_append_is_a_child_of_the_callers(
    store: rewind.Store, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    with provider.get_tracer("application").start_as_current_span("request") as request:
        store.append("order-1", NewEvent("Placed", b"{}"))

    appended, _ = exporter.get_finished_spans()
    assert appended.parent == request.get_span_context()


def test_an_append_to_several_streams_is_one_span(store: rewind.Store, exporter: InMemorySpanExporter) -> None:
    store.append_many([("{a}1", NewEvent("Placed", b""), ANY), ("{a}2", NewEvent("Paid", b""), ANY)])

    [span] = exporter.get_finished_spans()
    assert span.name == "append"
    assert span.attributes is not None
    assert span.attributes["messaging.destination.name"] == "{a}1,{a}2"
    carried = {event.metadata["traceparent"] for name in ("{a}1", "{a}2") for event in store.read(name)}
    assert carried == {traceparent_of(span)}


def test_a_context_that_an_event_carries_already_is_kept(store: rewind.Store) -> None:
    store.append("order-1", NewEvent("Placed", b"{}", metadata={"traceparent": TRACEPARENT}))

    [event] = store.read("order-1")
    assert event.metadata == {"traceparent": TRACEPARENT}


def test_an_append_that_fails_says_so_in_its_span(store: rewind.Store, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(rewind.WrongExpectedVersion):
        store.append("order-1", NewEvent("Placed", b"{}"), expected=5)

    [span] = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "WrongExpectedVersion"


def test_an_append_for_which_there_is_no_room_ends_its_span(
    store: rewind.Store, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewind.room.APPENDS_MAX", 0)

    with pytest.raises(rewind.Overloaded):
        store.append("order-1", NewEvent("Placed", b"{}"), timeout=0.01)

    [span] = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "Overloaded"


def test_metadata_that_is_full_goes_without(store: rewind.Store) -> None:
    full = {"text": "x" * ((64 << 10) - 20)}

    store.append("order-1", NewEvent("Placed", b"{}", metadata=full))

    [event] = store.read("order-1")
    assert event.metadata == full


def test_what_is_done_with_an_event_links_to_its_append(
    store: rewind.Store, tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    store.append("order-1", NewEvent("Placed", b"{}"))
    [event] = store.read("order-1")

    with tracing.processing(event) as current:
        assert get_current_span() is current

    appended, processed = exporter.get_finished_spans()
    assert (processed.name, processed.kind, processed.parent) == ("process Placed", SpanKind.CONSUMER, None)
    assert [link.context.span_id for link in processed.links] == [appended.context.span_id if appended.context else 0]
    assert [link.context.trace_id for link in processed.links] == [appended.context.trace_id if appended.context else 0]
    assert processed.attributes is not None
    assert processed.attributes["messaging.message.id"] == str(event.id)


@pytest.mark.parametrize("traceparent", [None, 7, "", "junk", TRACEPARENT.replace("00-", "ff-", 1), ["x"]])
def test_an_event_without_a_context_that_can_be_read_is_processed_without_a_link(
    server: Any, tracing: Tracing, exporter: InMemorySpanExporter, traceparent: object
) -> None:
    with rewind.connect(server.addresses) as store:
        store.append("order-1", NewEvent("Placed", b"{}", metadata={"traceparent": traceparent}))
        [event] = store.read("order-1")

    with tracing.processing(event):
        pass

    [span] = exporter.get_finished_spans()
    assert list(span.links) == []


def test_an_error_while_an_event_is_processed_is_told_and_goes_on(
    store: rewind.Store, tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    store.append("order-1", NewEvent("Placed", b"{}"))
    [event] = store.read("order-1")

    with pytest.raises(ZeroDivisionError), tracing.processing(event):
        raise ZeroDivisionError

    assert exporter.get_finished_spans()[-1].status.status_code is StatusCode.ERROR


def test_the_asyncio_store_is_traced_alike(
    server: Any, tracing: Tracing, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> list[str]:
        async with rewind.connect_async(server.addresses, tracing=tracing) as store:
            await (await store.submit("order-1", NewEvent("Placed", b"{}")))
            monkeypatch.setattr("rewind.room.APPENDS_MAX", 0)
            with pytest.raises(rewind.Overloaded):
                await store.append("order-1", NewEvent("Placed", b"{}"), timeout=0.01)
            waiting = asyncio.create_task(store.append("order-1", NewEvent("Placed", b"{}")))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            return [event.metadata["traceparent"] async for event in store.read("order-1")]

    carried = asyncio.run(run())

    spans = exporter.get_finished_spans()
    assert carried == [traceparent_of(spans[0])]
    errors = [(span.attributes or {}).get("error.type") for span in spans]
    assert errors == [None, "Overloaded", "CancelledError"]


def test_a_store_that_closes_ends_the_spans_under_way(
    server: Any, store: rewind.Store, exporter: InMemorySpanExporter
) -> None:
    store.append("s", NewEvent("T", b""))
    server.cluster.leading(store.partition_of("s")).paused = True
    store.submit("s", NewEvent("T", b""))

    store.close(timeout=0.01)

    errors = [(span.attributes or {}).get("error.type") for span in exporter.get_finished_spans()]
    assert errors == [None, "OutcomeUnknown"]


def test_a_span_processor_that_fails_does_not_hurt_the_store(
    server: Any, provider: TracerProvider, tracing: Tracing, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError(span.name)

    provider.add_span_processor(Failing())
    with rewind.connect(server.addresses, tracing=tracing) as store:
        versions = [store.append("s", NewEvent("T", b"")).version for _ in range(2)]

    assert versions == [1, 2]
    assert "could not be ended" in caplog.text


@pytest.mark.parametrize("connect", [rewind.connect, rewind.connect_async])
def test_what_traces_no_appends_is_refused(server: Any, provider: TracerProvider, connect: Callable[..., Any]) -> None:
    with pytest.raises(rewind.InvalidArgument, match=r"rewind\.otel\.Tracing"):
        connect(server.addresses, tracing=provider)


def test_without_a_provider_nothing_is_added(server: Any) -> None:
    with rewind.connect(server.addresses, tracing=Tracing(NoOpTracerProvider())) as store:
        store.append("s", NewEvent("T", b"", metadata={"user": "7"}))

        [event] = store.read("s")

    assert event.metadata == {"user": "7"}
