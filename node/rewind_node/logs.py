"""Logging: structlog to standard error, one line each, as text for people or JSON for machines.

What is below the level costs one comparison. Results never come here, logs never go to standard output. Other
libraries' logging is left alone: nothing in the node uses any that speaks without being asked.
"""

import logging
import sys
from typing import Any, TextIO, cast

import structlog


class _StandardError:
    """Standard error as it is when a line is written. Loggers are kept for good, what `sys.stderr` names may change."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure(level: str, log_format: str, **bound: Any) -> None:
    """Set up logging for this process. `bound` is in every line, for example the node's name."""
    processors: list[structlog.typing.Processor] = [
        _binder(bound),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # No traceback shows the values of variables: they may hold an application's data.
    if log_format == "json":
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        processors += [
            structlog.processors.ExceptionRenderer(tracebacks),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        plain = structlog.dev.plain_traceback
        processors += [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _StandardError())),
        cache_logger_on_first_use=True,
    )


def _binder(bound: dict[str, Any]) -> structlog.typing.Processor:
    def bind(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**bound, **event}

    return bind
