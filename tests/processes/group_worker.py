"""A member of a consumer group as a process of its own: it notes each event in a file, then acknowledges it.

    group_worker.py URL GROUP FILE CLIENT MAX_ATTEMPTS

A line is one write to a file opened for appending, so the lines of all workers stand in the order of their work. An
event whose data is `poison` ends the process at once.
"""

import asyncio
import os
import sys
import threading
from typing import Any

import rewind

THREADS = 3
POISON = b"poison"


def note(file: int, delivery: Any) -> None:
    """Do the work."""
    event = delivery.event
    line = f"{event.stream} {event.version} {event.partition}:{event.position} {delivery.attempt} {os.getpid()}\n"
    os.write(file, line.encode())
    if event.data == POISON:
        os._exit(9)


def work(url: str, group: str, file: int, max_attempts: int) -> None:
    """Work with the blocking client, on several threads."""

    def run(members: rewind.Group) -> None:
        for delivery in members:
            note(file, delivery)
            delivery.ack()

    with rewind.connect(url, timeout=30) as store, store.group(group, max_attempts=max_attempts) as member:
        threads = [threading.Thread(target=run, args=(member,)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


async def work_async(url: str, group: str, file: int, max_attempts: int) -> None:
    """Work with the asyncio client."""
    async with (
        rewind.connect_async(url, timeout=30) as store,
        store.group(group, max_attempts=max_attempts) as member,
    ):
        async for delivery in member:
            note(file, delivery)
            await delivery.ack()


def main(url: str, group: str, path: str, client: str, max_attempts: str) -> None:
    """Work until killed."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if client == "blocking":
        work(url, group, file, int(max_attempts))
    else:
        asyncio.run(work_async(url, group, file, int(max_attempts)))


if __name__ == "__main__":
    main(*sys.argv[1:])
