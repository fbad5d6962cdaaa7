"""The loop: one function, `turn`, that carries everything between sockets, core and disk, and one that repeats it.

A blocking fsync in the middle of a turn is the group commit: what arrives meanwhile forms the next turn. Nothing here
is busy in another thread, for the store lets go of the interpreter's lock at each access.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from rewind_node.connections import Frames
from rewind_node.data_directory import DataDirectory
from rewind_node.node import Node
from rewind_node.store import Store
from rewind_node.transport import Transport

SPACE_INTERVAL_US = 100_000
SNAPSHOT_INTERVAL_US = 500_000
DRAIN_TIME_MAX_US = 5_000_000  # a leadership that cannot be handed over by then is left to an election
DRAIN_LINGER_US = 50_000  # after the last hand-over: the answers that are still under way


class Carrier(Protocol):
    """What carries a turn's messages: the sockets of `Transport`, or a simulated network."""

    def receive_links(
        self,
        ready: set[object],
        on_up: Callable[[str], None],
        on_down: Callable[[str], None],
        on_message: Callable[[str, Frames], None],
    ) -> None:
        """Hand over what happened on the connections that this node dialled: up, what arrived, down."""
        ...

    def receive_peers(self, ready: set[object], on_message: Callable[[bytes, Frames], None]) -> None:
        """Hand over messages of nodes that dialled this one."""
        ...

    def receive_clients(self, ready: set[object], on_message: Callable[[bytes, Frames], None]) -> None:
        """Hand over messages of clients."""
        ...

    def send_links(self, messages: Iterable[tuple[str, Frames]]) -> None:
        """Send to nodes that this one dialled."""
        ...

    def send_peers(self, messages: Iterable[tuple[bytes, Frames]]) -> None:
        """Answer nodes that dialled this one."""
        ...

    def send_clients(self, messages: Iterable[tuple[bytes, Frames]], on_gone: Callable[[bytes], None]) -> None:
        """Send to clients; `on_gone` is told of each that has vanished."""
        ...


@dataclass(slots=True)
class Stopping:
    """Set from a signal handler: the loop hands over and ends."""

    requested: bool = False
    _stop_us: int | None = None

    def is_over(self, node: Node, now_us: int) -> bool:
        """Return whether the loop may end now; the first call that finds it requested begins to hand over."""
        if not self.requested:
            return False
        if self._stop_us is None:
            node.drain()
            self._stop_us = now_us + DRAIN_TIME_MAX_US
        elif node.leads == 0 or not node.handing_over:
            self._stop_us = min(self._stop_us, now_us + DRAIN_LINGER_US)
        return now_us >= self._stop_us


def monotonic_us() -> int:
    """Return this machine's monotonic clock."""
    return time.monotonic_ns() // 1000


def wall_us() -> int:
    """Return this machine's wall clock, since the epoch."""
    return time.time_ns() // 1000


def run(
    node: Node,
    transport: Transport,
    directory: DataDirectory,
    stopping: Stopping,
    publish: Callable[[], None],
) -> None:
    """Run a node until it is told to stop; `publish` hands a snapshot to the admin process."""
    space_us = snapshot_us = 0
    while True:
        transport.dial(node.peers.dialled)
        ready = transport.poll(min(node.deadline_us, snapshot_us) - monotonic_us())

        now_us = monotonic_us()
        if now_us >= space_us:
            node.set_storage_full(directory.reserve.is_breached(), directory.reserve.is_exhausted())
            space_us = now_us + SPACE_INTERVAL_US
        turn(node, transport, ready, directory.store, now_us, wall_us(), monotonic_us)

        if now_us >= snapshot_us:
            publish()
            snapshot_us = now_us + SNAPSHOT_INTERVAL_US
        if stopping.is_over(node, now_us):
            node.finish()
            return


def turn(
    node: Node,
    transport: Carrier,
    ready: set[object],
    store: Store,
    now_us: int,
    wall_us: int,
    clock: Callable[[], int],
) -> None:
    """Run one turn on what is `ready`. All of it has the same `now_us`; `clock` only measures how long it takes."""
    # Everything that has arrived, peers first; only then the timers.
    node.begin_turn(now_us, wall_us)
    transport.receive_links(ready, node.link_up, node.link_down, node.peer_protocol.link_received)
    transport.receive_peers(ready, node.peer_protocol.received)
    transport.receive_clients(ready, node.client_protocol.received)
    node.tick()

    # What may leave before the disk: a leader's entries are on their way while its own fsync runs.
    node.flush()
    _send_peers(node, transport)

    # Everything the turn owes, for all partitions, in one transaction; what is committed is answered at once.
    must_commit = node.persist()
    _send_clients(node, transport)
    if must_commit:
        started_us = clock()
        store.commit()
        node.metrics.commits += 1
        node.metrics.commit_seconds.observe((clock() - started_us) / 1e6)

    # What had to wait for the disk: votes and acknowledgements.
    node.committed()
    _send_peers(node, transport)
    _send_clients(node, transport)
    node.metrics.turn_seconds.observe((clock() - now_us) / 1e6)


def _send_peers(node: Node, transport: Carrier) -> None:
    to_links, to_routes = node.peers.take()
    transport.send_links(to_links)
    transport.send_peers(to_routes)


def _send_clients(node: Node, transport: Carrier) -> None:
    transport.send_clients(node.take_client_frames(), node.client_protocol.gone)
