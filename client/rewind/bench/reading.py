"""What a client process does that reads a whole context: an `Event` of each event, looked at, and its own memory."""

import time

from rewind.bench.machine import anonymous_bytes
from rewind.bench.tasks import Outcome, ReadTask
from rewind.blocking import Store
from rewind.events import Event
from rewind.urls import Target

KIND = "read"
LOOK_EVERY = 20_000  # events between two looks at the memory
EARLY_SHARE = 10  # the first look counts once a tenth was read: by then buffers have their size


def touch(event: Event) -> int:
    """Look at what is there without decoding."""
    return len(event.stream) + event.version + len(event.data)


def decode(event: Event) -> int:
    """Look at everything."""
    return touch(event) + event.id.int + len(event.metadata) + event.time.year


def read(target: Target, task: ReadTask) -> Outcome:
    """Do the task, through a blocking store of its own: connecting is not counted, memory is."""
    use = decode if task.decode else touch
    early = most = count = 0
    with Store(target) as store:
        store.open_context()
        time.sleep(max(0.0, task.begin_s - time.monotonic()))
        began_s, cpu_s = time.monotonic(), time.process_time()
        for event in store.read_all(limit=task.events):
            use(event)
            count += 1
            if count % LOOK_EVERY == 0:
                held = anonymous_bytes()
                if count <= max(LOOK_EVERY, task.events // EARLY_SHARE):
                    early = held
                most = max(most, held)
        ended_s, cpu_s = time.monotonic(), time.process_time() - cpu_s
    held = anonymous_bytes()
    return Outcome(
        began_s=began_s,
        ended_s=ended_s,
        cpu_s=cpu_s,
        early_bytes=early or held,
        most_bytes=max(most, held),
        done={},
        events={KIND: count},
        latencies={},
    )
