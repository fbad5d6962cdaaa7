"""One client process of a run: workers, subscribers and members of groups on the blocking or the asyncio client.

    python -m chaos.client SERVERS JOURNAL KEPT KIND CLIENT SEED PAUSE_MS BUG

`CLIENT` is the number of its first client of the history, `KEPT` the directory with its checkpoints, which outlive it,
`BUG` one that is planted in it, or nothing.
It is told what to do on standard input and answers on standard output, a line each:

    stop    no new appends and reads                          → stopped
    arrive  subscribe until the last events have come         → arrived
    end     leave the groups, close, end with exit code 0
"""

import asyncio
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import rewind
from chaos.consumers import Consumer, Member, Subscriber, remember_memberships
from chaos.journal import Journal
from chaos.overheard import overhear
from chaos.plants import having
from chaos.shells import AsyncioShell, BlockingShell, Job, Shell, run_asyncio, run_blocking
from chaos.wishes import CONTEXTS, GROUPS
from chaos.work import Beliefs, Worker
from rewind import RewindError

CLIENTS_MAX = 1000  # of the history in one process
WORKERS = 7
SUBSCRIBERS = 2  # in each context
CONNECT_S = 5.0
AGAIN_S = 0.2
LOOK_S = 0.05


class Process:
    """What this process runs, and what it is told."""

    def __init__(self, servers: str, journal: str, kept: str, client: str, seed: str, pause_ms: str) -> None:
        self._servers = servers.split(",")
        self._journal = Journal(Path(journal))
        self._kept = Path(kept)
        self._client = int(client)
        self._seed = seed
        self._pause_s = int(pause_ms) / 1000
        self._stopping = False
        self._working = WORKERS
        self._subscribers: list[Subscriber] = []
        self._consumers: list[Consumer] = []
        overhear(self._client, self._journal)
        remember_memberships()

    # Clients.

    def run_blocking(self) -> None:
        """Run on the blocking client."""
        shells: dict[str, Shell] = {name: BlockingShell(self._connect(name)) for name in CONTEXTS}
        run_blocking(self._jobs(shells))
        for shell in shells.values():
            asyncio.run(shell.close())

    async def run_asyncio(self) -> None:
        """Run on the asyncio client."""
        shells: dict[str, Shell] = {name: AsyncioShell(await self._connect_async(name)) for name in CONTEXTS}
        await run_asyncio(self._jobs(shells))
        for shell in shells.values():
            await shell.close()

    def _connect(self, context: str) -> rewind.Store:
        while True:
            try:
                return rewind.connect(self._servers, context=context, timeout=CONNECT_S)
            except RewindError:
                time.sleep(AGAIN_S)

    async def _connect_async(self, context: str) -> rewind.AsyncStore:
        while True:
            try:
                return await rewind.connect_async(self._servers, context=context, timeout=CONNECT_S)
            except RewindError:
                await asyncio.sleep(AGAIN_S)

    def _jobs(self, shells: dict[str, Shell]) -> Sequence[Job]:
        beliefs = {name: Beliefs() for name in CONTEXTS}
        jobs: list[Job] = []
        for number in range(WORKERS):
            client, random = self._client + number, Random(f"{self._seed}/{number}")
            stopping = lambda: self._stopping  # noqa: E731 - asked again and again
            worker = Worker(client, shells, beliefs, self._journal, random, self._pause_s, stopping)
            jobs.append(lambda worker=worker: self._work(worker))  # type: ignore[misc]
        for number in range(SUBSCRIBERS * len(CONTEXTS)):
            client, random = self._client + WORKERS + number, Random(f"{self._seed}/s{number}")
            kept = self._kept / f"{number}.checkpoint"
            wish = number // len(CONTEXTS) + int(self._seed.rpartition("/")[2]) * SUBSCRIBERS
            shell = shells[CONTEXTS[number % len(CONTEXTS)]]
            self._subscribers.append(Subscriber(client, shell, self._journal, random, wish, kept))
        members = [
            Member(
                self._client + WORKERS + len(self._subscribers) + number,
                shells[group.context],
                self._journal,
                Random(f"{self._seed}/m{number}"),
                group,
            )
            for number, group in enumerate(GROUPS)
        ]
        self._consumers = [*self._subscribers, *members]
        jobs += [consumer.run for consumer in self._consumers]
        threading.Thread(target=self._obey, daemon=True).start()
        return jobs

    async def _work(self, worker: Worker) -> None:
        await worker.run()
        self._working -= 1

    # Orders.

    def _obey(self) -> None:
        for line in sys.stdin:
            if line == "stop\n":
                self._stopping = True
                self._say_when("stopped", lambda: self._working == 0)
            elif line == "arrive\n":
                for consumer in self._consumers:
                    consumer.hurry()
                self._say_when("arrived", lambda: all(each.arrived for each in self._subscribers))
            elif line == "end\n":
                for consumer in self._consumers:
                    consumer.finish()

    @staticmethod
    def _say_when(word: str, condition: Any) -> None:
        def wait() -> None:
            while not condition():
                time.sleep(LOOK_S)
            print(word, flush=True)  # noqa: T201 - the harness reads it

        threading.Thread(target=wait, daemon=True).start()


def main(servers: str, journal: str, kept: str, kind: str, client: str, seed: str, pause_ms: str, bug: str) -> None:
    """Run until told to end."""
    with having(bug):
        process = Process(servers, journal, kept, client, seed, pause_ms)
        if kind == "blocking":
            process.run_blocking()
        else:
            asyncio.run(process.run_asyncio())


if __name__ == "__main__":
    main(*sys.argv[1:])
