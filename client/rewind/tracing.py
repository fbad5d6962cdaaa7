"""Where tracing joins in: what a store asks of whoever traces its appends. `rewind.otel` does it with OpenTelemetry.

A store knows no tracing library, and without `tracing` none of this runs. A trace is begun where the append is, so that
it finds the caller's own, and ended exactly once, where the append's fate becomes known: on the engine's thread, or
where the append could not even be begun.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Trace(Protocol):
    """The trace of one append."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the append's events are to carry in their metadata, beside their own."""

    def end(self, error: BaseException | None) -> None:
        """Take in how the append ended. Called from any thread, it must neither raise nor take long."""


class Tracing(Protocol):
    """Who traces a store's appends."""

    def begin(self, context: str, streams: Sequence[str], types: Sequence[str]) -> Trace:
        """Begin the trace of an append to streams of a context; `types` are those of its events, in order."""
