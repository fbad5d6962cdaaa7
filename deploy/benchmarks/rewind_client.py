"""Appends and reads through Rewind's own clients: asyncio for appends, blocking for reads of whole contexts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from system import Client

from rewind import NO_STREAM, AsyncStore, NewEvent, connect, connect_async

if TYPE_CHECKING:
    from asyncio import Future

TIMEOUT_S = 30.0
EVENT_TYPE = "Happened"


class RewindClient(Client):
    """A client of a cluster."""

    def __init__(self, servers: str, store: AsyncStore) -> None:
        self._servers = servers
        self._store = store

    @classmethod
    async def connect(cls, address: Mapping[str, Any], in_flight: int) -> Self:  # noqa: ARG003 - it has its own limits
        """Connect."""
        servers = str(address["servers"])
        return cls(servers, await connect_async(servers, timeout=TIMEOUT_S))

    async def append(self, stream: str, events: Sequence[bytes]) -> "Future[Any]":
        """Begin an append."""
        return await self._store.submit(stream, [NewEvent(EVENT_TYPE, data) for data in events], NO_STREAM)

    async def read(self, events: int) -> int:
        """Read the context."""
        count = 0
        with connect(self._servers, timeout=TIMEOUT_S) as store:
            for event in store.read_all(limit=events):
                count += bool(event.stream and event.version and event.data)
        return count

    async def close(self) -> None:
        """Disconnect."""
        await self._store.close()
