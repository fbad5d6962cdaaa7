"""`python -m rewind.bench.worker`: one client process of a benchmark.

It is told and tells line by line, see `rewind.bench.tasks` and `rewind.bench.talking`.
"""

import asyncio
import json
import time
from functools import partial

from rewind.aio import AsyncStore, Connecting
from rewind.bench.appending import append
from rewind.bench.driver import Account, paced_loop
from rewind.bench.machine import anonymous_bytes
from rewind.bench.mixing import mix
from rewind.bench.one_by_one import append_one_by_one
from rewind.bench.reading import read
from rewind.bench.subscribing import Heads, Listener, subscribe, subscribe_blocking
from rewind.bench.talking import Lines, first_line, serve, tell_outcome, tell_ready
from rewind.bench.tasks import AppendTask, Client, MixedTask, Outcome, ReadTask, SubscribeTask, Task, parse_task
from rewind.blocking import Store
from rewind.urls import Target, parse_target


def main() -> None:
    """Run until standard input ends."""
    client = Client(**json.loads(first_line()))
    with asyncio.Runner(loop_factory=paced_loop if client.paced else None) as runner:
        runner.run(serve(partial(_work, parse_target(client.servers, client.context, client.timeout_s))))


async def _work(target: Target, lines: Lines) -> None:
    async with Connecting(target) as store:
        tell_ready()
        while True:
            tell_outcome(await _do(parse_task(await lines.get()), store, target, lines))


async def _do(task: Task, store: AsyncStore, target: Target, lines: Lines) -> Outcome:
    cpu_s = time.process_time()
    match task:
        case AppendTask():
            if task.shell == "blocking":
                with Store(target) as blocking:
                    blocking.open_context()
                    account, appends = append_one_by_one(blocking, task)
                return _outcome(account, cpu_s, appends.heads, {})
            account, appends, sightings = await append(store, task)
            return _outcome(account, cpu_s, appends.heads, sightings.encoded())
        case MixedTask():
            account, appends = await mix(store, task)
            return _outcome(account, cpu_s, appends.heads, {})
        case ReadTask():
            return read(target, task)
        case SubscribeTask():
            return await _listen(task, store, target, lines)


async def _listen(task: SubscribeTask, store: AsyncStore, target: Target, lines: Lines) -> Outcome:
    began_s, cpu_s = time.monotonic(), time.process_time()

    async def told() -> Heads:
        return {int(partition): head for partition, head in json.loads(await lines.get()).items()}

    if task.shell == "asyncio":
        listener: Listener = await subscribe(store, tell_ready, told)
    else:
        listener = await subscribe_blocking(target, tell_ready, told)
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


def _outcome(account: Account, cpu_s: float, heads: Heads, sightings: dict[str, list[str]]) -> Outcome:
    held = anonymous_bytes()
    return Outcome(
        began_s=account.began_s,
        ended_s=account.ended_s,
        cpu_s=time.process_time() - cpu_s,
        early_bytes=held,
        most_bytes=held,
        done=dict(account.done),
        events=dict(account.events),
        latencies={kind: latencies.histogram().encoded() for kind, latencies in account.latencies.items()},
        failures=dict(account.failures),
        not_begun=account.not_begun,
        heads={str(partition): head for partition, head in heads.items()},
        sightings=sightings,
    )


if __name__ == "__main__":
    main()
