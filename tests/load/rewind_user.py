"""A Locust user of Rewind that does not hold up gevent's loop, and tells Locust of each call.

Locust has made all of Python cooperative by the time this is imported: threads are greenlets, and locks, futures and
plain sockets yield. ZeroMQ's sockets do not by themselves: their wait would stop every user of this process. pyzmq has
a second set that does, so the two modules of the client that wait on sockets are given that one. The client's own
thread is then one more greenlet, and the users of a process share one store, as an application's threads do: what they
append at the same time travels together.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import gevent
import gevent.monkey
import zmq.green
from locust import User, events
from locust.env import Environment

import rewind
from rewind import AppendResult, Event, NewEvent

if not gevent.monkey.is_module_patched("threading"):
    raise RuntimeError("run this with the locust command, which makes Python's threads cooperative first")
for module in (rewind.engine, rewind.sockets):
    module.zmq = zmq.green  # type: ignore[attr-defined]
# The loop's clock stood still while all this was imported: without a look at it --run-time would count from before.
gevent.get_hub().loop.update_now()

Answer = TypeVar("Answer")
TIMEOUT_S = 30.0  # beyond any takeover, so that one shows as slow answers and not as failures
MS = 1000.0

_stores: dict[tuple[str, str], rewind.Store] = {}


def shared_store(servers: str, context: str = "default") -> rewind.Store:
    """Return this process's store of a context."""
    place = (servers, context)
    if place not in _stores:
        _stores[place] = rewind.connect(servers, context=context, timeout=TIMEOUT_S)
    return _stores[place]


@events.quitting.add_listener
def close_stores(**_: Any) -> None:
    """See what is being written to its end when Locust is about to."""
    while _stores:
        _stores.popitem()[1].close()


class RewindUser(User):
    """A user of the cluster at `--host HOST:PORT,…`. Its calls are requests to Locust, failed ones too.

    `name` is what Locust counts a call under: give one name to all streams of a kind.
    """

    abstract = True
    rewind_context = "default"

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        assert self.host is not None, "tell where the cluster is: --host 127.0.0.1:7070"
        self.store = shared_store(self.host, self.rewind_context)

    def append(
        self, name: str, stream: str, new: NewEvent | Sequence[NewEvent], expected: int = rewind.ANY
    ) -> AppendResult:
        """Append to a stream."""
        batch = [new] if isinstance(new, NewEvent) else list(new)
        size = sum(len(event.data) for event in batch)
        return self._tell("append", name, lambda: self.store.append(stream, batch, expected), lambda _: size)

    def read(self, name: str, stream: str, after: int = 0) -> list[Event]:
        """Read a stream."""
        return self._tell(
            "read",
            name,
            lambda: list(self.store.read(stream, after=after)),
            lambda found: sum(len(event.data) for event in found),
        )

    def _tell(self, kind: str, name: str, call: Callable[[], Answer], size: Callable[[Answer], int]) -> Answer:
        """Make a call and tell Locust what came of it; what failed is raised again, and so ends the task."""
        began_s = time.perf_counter()
        failure: BaseException | None = None
        length = 0
        try:
            answer = call()
            length = size(answer)
        except rewind.RewindError as error:
            failure = error
            raise
        else:
            return answer
        finally:
            self.environment.events.request.fire(
                request_type=kind,
                name=name,
                response_time=(time.perf_counter() - began_s) * MS,
                response_length=length,
                exception=failure,
                context=self.context(),
            )
