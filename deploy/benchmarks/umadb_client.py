"""Appends and reads through UmaDB's Python client, whose calls block: so they are made in threads."""

import asyncio
from asyncio import Future
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import umadb
from system import Client
from umadb_servers import THREADS_MAX

EVENT_TYPE = "Happened"


class UmadbClient(Client):
    """A client of the server."""

    def __init__(self, url: str, threads: int) -> None:
        self._client = umadb.Client(url)
        self._threads = ThreadPoolExecutor(threads, "umadb")

    @classmethod
    async def connect(cls, address: Mapping[str, Any], in_flight: int) -> Self:
        """Connect."""
        return cls(str(address["url"]), min(in_flight, THREADS_MAX))

    async def append(self, stream: str, events: Sequence[bytes]) -> "Future[Any]":
        """Have a thread append."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self._append, stream, events)

    def _append(self, stream: str, events: Sequence[bytes]) -> int:
        none_yet = umadb.AppendCondition(umadb.Query([umadb.QueryItem(tags=[stream])]))
        return self._client.append([umadb.Event(EVENT_TYPE, data, [stream]) for data in events], none_yet)

    async def read(self, events: int) -> int:
        """Read everything, batch by batch as it arrives."""
        count = 0
        response = self._client.read(limit=events)
        while batch := response.next_batch():
            for found in batch:
                event = found.event
                count += bool(event.tags and event.data and found.position)
        return count

    async def close(self) -> None:
        """Disconnect."""
        self._threads.shutdown()
        self._client.close()
