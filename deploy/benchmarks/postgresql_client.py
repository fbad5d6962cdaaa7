"""Inserts and reads through asyncpg."""

import asyncio
from asyncio import Future
from collections.abc import Mapping, Sequence
from typing import Any, Self
from uuid import uuid4

import asyncpg
from postgresql_servers import CONNECTIONS
from system import Client

EVENT_TYPE = "Happened"
INSERT_ONE = "INSERT INTO events (stream, version, type, id, data) VALUES ($1, 1, $2, $3, $4)"
INSERT_MANY = (
    "INSERT INTO events (stream, version, type, id, data) "
    "SELECT $1, version, $2, id, data FROM unnest($3::uuid[], $4::bytea[]) WITH ORDINALITY AS new (id, data, version)"
)
READ = "SELECT position, stream, version, type, id, data FROM events WHERE position > $1 ORDER BY position LIMIT $2"
PAGE = 10_000


class PostgresqlClient(Client):
    """A pool of connections to the primary."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @classmethod
    async def connect(cls, address: Mapping[str, Any], in_flight: int) -> Self:
        """Connect."""
        count = min(in_flight, CONNECTIONS)
        return cls(await asyncpg.create_pool(**address, min_size=count, max_size=count))

    async def append(self, stream: str, events: Sequence[bytes]) -> "Future[Any]":
        """Begin an insert; it waits for a connection that is free."""
        return asyncio.ensure_future(self._append(stream, events))

    async def _append(self, stream: str, events: Sequence[bytes]) -> None:
        if len(events) == 1:
            await self._pool.execute(INSERT_ONE, stream, EVENT_TYPE, uuid4(), events[0])
        else:
            await self._pool.execute(INSERT_MANY, stream, EVENT_TYPE, [uuid4() for _ in events], list(events))

    async def read(self, events: int) -> int:
        """Read page by page, in order."""
        count = last = 0
        while count < events:
            rows = await self._pool.fetch(READ, last, min(PAGE, events - count))
            if not rows:
                break
            for row in rows:
                count += bool(row["stream"] and row["version"] and row["data"])
            last = rows[-1]["position"]
        return count

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()
