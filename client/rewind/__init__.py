"""The client library of Rewind, a replicated event store. `client/README.md` is the guide; begin with `connect`."""

from rewind.aio import AsyncEventReader, AsyncStore, connect_async
from rewind.blocking import EventReader, Store, connect
from rewind.errors import (
    AccessDenied,
    Closed,
    ContextNotFound,
    CrossPartition,
    DeadlineExceeded,
    InvalidArgument,
    OutcomeUnknown,
    Overloaded,
    ProtocolError,
    RewindError,
    StorageFull,
    TooLarge,
    Unavailable,
    WrongExpectedVersion,
)
from rewind.events import ANY, NO_STREAM, AppendResult, Context, Event, NewEvent

__all__ = [
    "ANY",
    "NO_STREAM",
    "AccessDenied",
    "AppendResult",
    "AsyncEventReader",
    "AsyncStore",
    "Closed",
    "Context",
    "ContextNotFound",
    "CrossPartition",
    "DeadlineExceeded",
    "Event",
    "EventReader",
    "InvalidArgument",
    "NewEvent",
    "OutcomeUnknown",
    "Overloaded",
    "ProtocolError",
    "RewindError",
    "StorageFull",
    "Store",
    "TooLarge",
    "Unavailable",
    "WrongExpectedVersion",
    "connect",
    "connect_async",
]
