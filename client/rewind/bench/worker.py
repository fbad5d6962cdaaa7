"""`python -m rewind.bench.worker`: one client process of a benchmark.

It is told and tells line by line, see `rewind.bench.tasks`, on standard input and output. It ends when its standard
input does: so when whoever started it is gone, however that went.
"""

import asyncio
import json
import os
import selectors
import signal
import sys
import time
from dataclasses import asdict

from rewind.aio import AsyncStore, Connecting
from rewind.bench.appending import append
from rewind.bench.driver import Driver
from rewind.bench.machine import anonymous_bytes
from rewind.bench.mixing import mix
from rewind.bench.reading import read
from rewind.bench.subscribing import Heads, Listener, subscribe, subscribe_blocking
from rewind.bench.tasks import AppendTask, Client, MixedTask, Outcome, ReadTask, SubscribeTask, Task, parse_task
from rewind.errors import RewindError
from rewind.urls import Target, parse_target

READY = "ready"
LINE_BYTES_MAX = 1 << 20  # of what it is told: a few hundred in fact


def main() -> None:
    """Run until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started this, who then ends it
    client = Client(**json.loads(sys.stdin.readline()))
    with asyncio.Runner(loop_factory=_paced_loop if client.paced else None) as runner:
        runner.run(_serve(parse_target(client.servers, client.context, client.timeout_s)))


def _paced_loop() -> asyncio.AbstractEventLoop:
    # epoll sleeps whole milliseconds, select microseconds: with epoll a steady rate would come in bursts.
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _serve(target: Target) -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()
    working = asyncio.create_task(_work(target, lines))
    async for line in await _standard_input():
        await lines.put(line.decode())
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    # A copy: closing the transport closes its file, and Python wants to close its standard input itself.
    pipe = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def _work(target: Target, lines: "asyncio.Queue[str]") -> None:
    try:
        async with Connecting(target) as store:
            _tell({"said": READY})
            while True:
                outcome = await _do(parse_task(await lines.get()), store, target, lines)
                _tell({"outcome": asdict(outcome)})
    except (RewindError, OSError) as error:
        _tell({"error": f"{type(error).__name__}: {error}"})


def _tell(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def _do(task: Task, store: AsyncStore, target: Target, lines: "asyncio.Queue[str]") -> Outcome:
    cpu_s = time.process_time()
    match task:
        case AppendTask():
            driver, appends, sightings = await append(store, task)
            return _outcome(driver, cpu_s, appends.heads, sightings.encoded())
        case MixedTask():
            driver, appends = await mix(store, task)
            return _outcome(driver, cpu_s, appends.heads, {})
        case ReadTask():
            return read(target, task)
        case SubscribeTask():
            return await _listen(task, store, target, lines)


async def _listen(task: SubscribeTask, store: AsyncStore, target: Target, lines: "asyncio.Queue[str]") -> Outcome:
    began_s, cpu_s = time.monotonic(), time.process_time()

    def ready() -> None:
        _tell({"said": READY})

    async def told() -> Heads:
        return {int(partition): head for partition, head in json.loads(await lines.get()).items()}

    if task.shell == "asyncio":
        listener: Listener = await subscribe(store, ready, told)
    else:
        listener = await subscribe_blocking(target, ready, told)
    held = anonymous_bytes()
    return Outcome(
        began_s=began_s,
        ended_s=time.monotonic(),
        cpu_s=time.process_time() - cpu_s,
        early_bytes=held,
        most_bytes=held,
        done={},
        events={"delivery": listener.count},
        latencies={},
        sightings=listener.sightings.encoded(),
    )


def _outcome(driver: Driver, cpu_s: float, heads: Heads, sightings: dict[str, list[str]]) -> Outcome:
    held = anonymous_bytes()
    return Outcome(
        began_s=driver.began_s,
        ended_s=driver.ended_s,
        cpu_s=time.process_time() - cpu_s,
        early_bytes=held,
        most_bytes=held,
        done=dict(driver.done),
        events=dict(driver.events),
        latencies={kind: latencies.histogram().encoded() for kind, latencies in driver.latencies.items()},
        failures=dict(driver.failures),
        not_begun=driver.not_begun,
        heads={str(partition): head for partition, head in heads.items()},
        sightings=sightings,
    )


if __name__ == "__main__":
    main()
