"""Traces with OpenTelemetry, from an append to what comes of it: install `rewind-eventstore[otel]`.

An append is a span of kind *producer*, from the call to the answer, retries included. Its context goes into the
metadata of each event as `traceparent` and `tracestate`, unless the event has one already. Whoever handles an event
does so within `Tracing.processing`: a span of kind *consumer* with a link to the append's, in whatever process and
however much later. It is a link, not a parent: an event is handled by many, and again when a projection is rebuilt.

    from rewind.otel import Tracing

    tracing = Tracing()
    with rewind.connect("rewind://127.0.0.1:7070", tracing=tracing) as store:
        store.append("order-1", NewEvent("OrderPlaced", b"{}"))
        with store.subscribe() as subscription:
            for event in subscription:
                with tracing.processing(event):
                    handle(event)

Attributes are named after OpenTelemetry's semantic conventions for messaging. The metadata is that of the W3C's Trace
Context (https://www.w3.org/TR/trace-context/), whatever propagators the process has.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TracerProvider,
    get_current_span,
    get_tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rewind.events import Event

__all__ = ["Tracing"]

_PROPAGATOR = TraceContextTextMapPropagator()

logger = logging.getLogger("rewind.client")


class Tracing:
    """Traces of appends, and of what is done with events. One may serve many stores, of both kinds.

    `tracer_provider`: whose spans they are; None for the process's own.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._tracer = get_tracer("rewind", version("rewind-eventstore"), tracer_provider)

    def begin(self, context: str, streams: Sequence[str], types: Sequence[str]) -> "_AppendTrace":
        """Begin the span of an append; stores that were given this `tracing` call it."""
        span = self._tracer.start_span(
            f"append {types[0]}" if len(set(types)) == 1 else "append",
            kind=SpanKind.PRODUCER,
            attributes={
                "messaging.system": "rewind",
                "messaging.operation.name": "append",
                "messaging.operation.type": "send",
                "messaging.destination.name": ",".join(streams),
                "messaging.batch.message_count": len(types),
                "rewind.context": context,
            },
        )
        return _AppendTrace(span)

    @contextmanager
    def processing(self, event: Event) -> Iterator[Span]:
        """Run what is done with an event within a span that is linked to its append's.

        The span is the current one meanwhile, in a coroutine too. An error marks it, and goes on.
        """
        appended = _context_of(event)
        with self._tracer.start_as_current_span(
            f"process {event.type}",
            kind=SpanKind.CONSUMER,
            links=[Link(appended)] if appended.is_valid else [],
            attributes={
                "messaging.system": "rewind",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.name": event.stream,
                "messaging.destination.partition.id": str(event.partition),
                "messaging.message.id": str(event.id),
                "rewind.version": event.version,
            },
        ) as span:
            yield span


class _AppendTrace:
    """The span of one append. `metadata`: its context, empty where no provider records spans."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.metadata: dict[str, str] = {}
        _PROPAGATOR.inject(self.metadata, set_span_in_context(span))

    def end(self, error: BaseException | None) -> None:
        """End the span."""
        try:
            if error is not None:
                self._span.set_attribute("error.type", type(error).__qualname__)
                self._span.set_status(StatusCode.ERROR, str(error))
            self._span.end()
        except Exception:
            # A span processor's fault must not become that of the store, whose thread this may be.
            logger.exception("the span of an append could not be ended")


def _context_of(event: Event) -> SpanContext:
    """Return the context that an event carries; an invalid one where it carries none that can be read."""
    metadata: Mapping[str, object] = event.metadata
    carrier = {key: value for key in _PROPAGATOR.fields if isinstance(value := metadata.get(key), str)}
    return get_current_span(_PROPAGATOR.extract(carrier)).get_span_context()
