"""The client library of Rewind, a replicated event store. `client/README.md` is the guide; begin with `connect`.

`expected` of an append is a version, `NO_STREAM` (0) where the append must be the stream's first, or `ANY`. `after` of
a subscription is a checkpoint, None for the start, or `NOW`.
"""

from rewind.aio import AsyncStore, connect_async
from rewind.aio_group import AsyncDelivery, AsyncGroup
from rewind.aio_readers import AsyncContextReader, AsyncEventReader
from rewind.aio_subscription import AsyncSubscription
from rewind.beginning import NOW
from rewind.blocking import Store, connect
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
from rewind.group import Delivery, Group
from rewind.readers import ContextReader, EventReader
from rewind.subscription import Subscription

__all__ = [
    "ANY",
    "NOW",
    "NO_STREAM",
    "AccessDenied",
    "AppendResult",
    "AsyncContextReader",
    "AsyncDelivery",
    "AsyncEventReader",
    "AsyncGroup",
    "AsyncStore",
    "AsyncSubscription",
    "Closed",
    "Context",
    "ContextNotFound",
    "ContextReader",
    "CrossPartition",
    "DeadlineExceeded",
    "Delivery",
    "Event",
    "EventReader",
    "Group",
    "InvalidArgument",
    "NewEvent",
    "OutcomeUnknown",
    "Overloaded",
    "ProtocolError",
    "RewindError",
    "StorageFull",
    "Store",
    "Subscription",
    "TooLarge",
    "Unavailable",
    "WrongExpectedVersion",
    "connect",
    "connect_async",
]
