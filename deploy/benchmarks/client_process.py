"""One client process of the comparison: a store's client, driven just as `rewind bench` drives its own."""

import asyncio
import json
import os
import time
from functools import partial
from importlib import import_module
from typing import Any

from system import Client

from rewind.bench.driver import Begun, Driver, paced_loop
from rewind.bench.fleet import BenchError
from rewind.bench.machine import anonymous_bytes
from rewind.bench.talking import Lines, first_line, serve, tell_outcome, tell_ready
from rewind.bench.tasks import AppendTask, Outcome, ReadTask, parse_task

LOAD_MAX_S = 3600.0  # of a load that ends with a count, or a read: a store that is stuck must not hold up the others
PATIENCE_S = 60.0  # for the last answers


def main() -> None:
    """Run until standard input ends."""
    greeting = json.loads(first_line())
    with asyncio.Runner(loop_factory=paced_loop if greeting["paced"] else None) as runner:
        runner.run(serve(partial(_work, greeting)))


async def _work(greeting: dict[str, Any], lines: Lines) -> None:
    name = greeting["store"]
    made: type[Client] = getattr(import_module(f"{name}_client"), f"{name.capitalize()}Client")
    try:
        await _use(await made.connect(greeting["address"], greeting["in_flight"]), lines)
    except TimeoutError as error:
        raise BenchError("the store did not answer in time") from error
    except Exception as error:  # whatever a library raises is told in one line and ends this store's part
        raise BenchError(f"{type(error).__name__}: {error}") from error


async def _use(client: Client, lines: Lines) -> None:
    tell_ready()
    try:
        while True:
            task = parse_task(await lines.get())
            if isinstance(task, AppendTask):
                tell_outcome(await _append(client, task))
            elif isinstance(task, ReadTask):
                tell_outcome(await _read(client, task))
    finally:
        await client.close()


async def _append(client: Client, task: AppendTask) -> Outcome:
    cpu_s = time.process_time()
    events = [os.urandom(task.events.event_bytes) for _ in range(task.events.events_per_append)]

    async def begin(number: int) -> Begun:
        return "append", len(events), await client.append(f"{task.events.tag}-{number}", events)

    async with asyncio.timeout(min(task.pace.seconds, LOAD_MAX_S) + PATIENCE_S):
        account = await Driver(task.pace).run(begin)
    return Outcome(
        began_s=account.began_s,
        ended_s=account.ended_s,
        cpu_s=time.process_time() - cpu_s,
        early_bytes=0,
        most_bytes=anonymous_bytes(),
        done=dict(account.done),
        events=dict(account.events),
        latencies={kind: latencies.histogram().encoded() for kind, latencies in account.latencies.items()},
        failures=dict(account.failures),
    )


async def _read(client: Client, task: ReadTask) -> Outcome:
    began_s, cpu_s = time.monotonic(), time.process_time()
    async with asyncio.timeout(LOAD_MAX_S):
        count = await client.read(task.events)
    return Outcome(
        began_s=began_s,
        ended_s=time.monotonic(),
        cpu_s=time.process_time() - cpu_s,
        early_bytes=0,
        most_bytes=anonymous_bytes(),
        done={},
        events={"read": count},
        latencies={},
    )


if __name__ == "__main__":
    main()
