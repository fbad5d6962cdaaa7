"""Appends and reads through redis-py: what waits while a pipeline is under way makes the next one."""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Self
from zlib import crc32

import redis.asyncio
from redis_servers import KEY
from system import PARTITIONS, Client

from rewind.bench.fleet import BenchError

CONNECTIONS = 4  # pipelines under way: while one waits for fsync and replica, others gather and parse
PIPELINE_EVENTS_MAX = 1000
WAIT_MS = 30_000
PAGE = 10_000

Waiting = tuple[str, Sequence[bytes], "Future[Any]"]


class RedisClient(Client):
    """Connections to the primary."""

    def __init__(self, connections: Sequence["redis.asyncio.Redis"]) -> None:
        self._connections = connections
        self._idle = deque(connections)
        self._waiting: deque[Waiting] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def connect(cls, address: Mapping[str, Any], in_flight: int) -> Self:
        """Connect."""
        connections = [redis.asyncio.Redis(**address) for _ in range(min(in_flight, CONNECTIONS))]
        for each in connections:
            await each.ping()
        return cls(connections)

    async def append(self, stream: str, events: Sequence[bytes]) -> "Future[Any]":
        """Let the events wait for a connection that is free."""
        future: Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((stream, events, future))
        if self._idle:
            # At the end of the loop's turn, so that all that is appended in this one travels together.
            asyncio.get_running_loop().call_soon(self._send)
        return future

    def _send(self) -> None:
        if self._idle and self._waiting:
            task = asyncio.create_task(self._send_all(self._idle.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send_all(self, connection: "redis.asyncio.Redis") -> None:
        pipeline = connection.pipeline(transaction=False)
        taken: list[Future[Any]] = []
        events_taken = 0
        while self._waiting and events_taken < PIPELINE_EVENTS_MAX:
            stream, events, future = self._waiting.popleft()
            key = KEY.format(crc32(stream.encode()) % PARTITIONS)
            for data in events:
                pipeline.xadd(key, {"stream": stream, "data": data})
            taken.append(future)
            events_taken += len(events)
        pipeline.execute_command("WAIT", 1, WAIT_MS)
        try:
            replicas = (await pipeline.execute())[-1]
            if replicas < 1:
                raise BenchError(f"no replica had the events within {WAIT_MS} ms")
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            for future in taken:
                future.set_exception(error)
        else:
            for future in taken:
                future.set_result(None)
        self._idle.append(connection)
        self._send()

    async def read(self, events: int) -> int:
        """Read all streams page by page, in turn."""
        (connection, *_) = self._connections
        count = 0
        for number in range(PARTITIONS):
            after = "-"
            while count < events:
                page: Any = await connection.xrange(KEY.format(number), min=after, count=min(PAGE, events - count))
                for _, fields in page:
                    count += bool(fields[b"stream"] and fields[b"data"])
                if not page:
                    break
                after = "(" + page[-1][0].decode()
        return count

    async def close(self) -> None:
        """Disconnect."""
        for each in self._connections:
            await each.aclose()
