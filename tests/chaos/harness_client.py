"""The harness's own client: it has an address that no fault names, and proves that the cluster serves again."""

import threading
import time
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

from histories.recording import append_done, part_of

import rewind
from chaos.journal import Journal
from chaos.wishes import CONTEXTS, GROUPS, ORDERED_CONTEXT, last_events, new_event
from chaos.work import now_us
from rewind import ANY, NewEvent, RewindError
from rewind.group_operator import GroupOperator
from rewind.urls import parse_target

CLIENT = 1
CONNECT_S = 30.0
PROBE_S = 1.0
ASK_S = 5.0


class HarnessClient:
    """Stores of all contexts; what they append is written down like the clients' own."""

    def __init__(self, servers: str, journal: Path) -> None:
        self._servers = servers.split(",")
        self._journal = Journal(journal)
        self._lock = threading.Lock()
        self._number = 0
        self._stores: dict[str, rewind.Store] = {}

    def open(self) -> None:
        """Connect, and create the context that is not there yet."""
        self._stores["default"] = rewind.connect(self._servers, timeout=CONNECT_S)
        self._stores["default"].create_context(ORDERED_CONTEXT, ordered=True)
        self._stores[ORDERED_CONTEXT] = rewind.connect(self._servers, context=ORDERED_CONTEXT, timeout=CONNECT_S)

    def append(self, context: str, stream: str, event: NewEvent, timeout_s: float) -> bool:
        """Append an event, and return whether it was acknowledged."""
        store = self._stores[context]
        with self._lock:
            self._number += 1
            number = self._number
        parts = (part_of(stream, ANY, event),)
        begun = CLIENT, number, store._calls.origin.context, store.partition_of(stream), now_us()
        self._journal.write("append", *begun, parts)
        answer: Any
        try:
            answer = store.append(stream, event, timeout=timeout_s)
        except RewindError as error:
            answer = error
        done = append_done(*begun, now_us(), parts, answer)
        self._journal.write("appended", CLIENT, number, done.ended_us, done.outcome, done.places, done.refusal)
        return not isinstance(answer, RewindError)

    def probe(self, partitions: Iterable[int], give_up_s: float) -> dict[int, float]:
        """Write to every partition at once until each has taken it; return when that was, by partition."""
        served: dict[int, float] = {}

        def serve(partition: int) -> None:
            store = self._stores["default"]
            names = (f"probe-{number}" for number in count())
            stream = next(name for name in names if store.partition_of(name) == partition)
            while (left_s := give_up_s - time.monotonic()) > 0:
                if self.append("default", stream, new_event(0), min(PROBE_S, left_s)):
                    served[partition] = time.monotonic()
                    return
                time.sleep(0.02)

        threads = [threading.Thread(target=serve, args=(partition,)) for partition in partitions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return served

    def say_last(self, patience_s: float) -> bool:
        """Append the events that tell subscribers that nothing comes after; return whether all were taken."""
        return all(
            self.append(context, stream, event, patience_s)
            for context in CONTEXTS
            for stream, event in last_events(
                self._stores[context]._calls.partitions, self._stores[context].partition_of
            )
        )

    def groups_behind(self) -> list[str]:
        """Return which groups have events left, or cannot be asked."""
        behind = []
        for group in GROUPS:
            try:
                with GroupOperator(parse_target(self._servers, group.context, ASK_S)) as operator:
                    operator.open_context()
                    lag = operator.group_state(group.name).lag
            except RewindError as error:
                behind.append(f"group {group.name}: {error}")
            else:
                behind += [f"group {group.name} has {lag} events left"] if lag else []
        return behind

    def close(self) -> None:
        """Close all stores."""
        for store in self._stores.values():
            store.close()
