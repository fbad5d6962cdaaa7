"""Publishes and reads through nats-py."""

import asyncio
from asyncio import Future
from collections.abc import Mapping, Sequence
from typing import Any, Self
from zlib import crc32

import nats
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy
from nats_servers import STREAM
from system import PARTITIONS, Client

EXPECTED_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
NEW = {EXPECTED_SUBJECT_SEQUENCE: "0"}
PENDING_MAX = 1 << 17  # messages published and not yet acknowledged: far more than are ever under way


class NatsClient(Client):
    """A client of the cluster."""

    def __init__(self, connection: Connection, errors: list[Exception]) -> None:
        self._connection = connection
        self._errors = errors
        self._jetstream = connection.jetstream(timeout=30, publish_async_max_pending=PENDING_MAX)

    @classmethod
    async def connect(cls, address: Mapping[str, Any], in_flight: int) -> Self:  # noqa: ARG003 - it has its own limits
        """Connect."""
        errors: list[Exception] = []

        async def note(error: Exception) -> None:
            errors.append(error)

        return cls(await nats.connect(list(address["servers"]), error_cb=note), errors)

    async def append(self, stream: str, events: Sequence[bytes]) -> "Future[Any]":
        """Publish the events one by one; done when all are acknowledged."""
        if self._errors:  # a refusal reaches the library's error callback, and never the future of what was refused
            raise self._errors[0]
        subject = f"p{crc32(stream.encode()) % PARTITIONS}.{stream}"
        # Only of the first is it known in advance which sequence comes before it.
        futures = [
            await self._jetstream.publish_async(subject, data, headers=dict(NEW) if number == 0 else None)
            for number, data in enumerate(events)
        ]
        return futures[0] if len(futures) == 1 else asyncio.gather(*futures)

    async def read(self, events: int) -> int:
        """Read all streams by ordered consumers, at the same time."""
        count = 0
        enough = asyncio.Event()

        async def take(message: Msg) -> None:
            nonlocal count
            count += bool(message.subject and message.data)
            if count >= events:
                enough.set()

        for number in range(PARTITIONS):
            await self._jetstream.subscribe(
                f"p{number}.*",
                stream=STREAM.format(number),
                cb=take,
                ordered_consumer=True,
                deliver_policy=DeliverPolicy.ALL,
                pending_msgs_limit=-1,
                pending_bytes_limit=-1,
            )
        await enough.wait()
        return min(count, events)

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()
