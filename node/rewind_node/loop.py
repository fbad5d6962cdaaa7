"""The loop: one function that carries everything between sockets, core and disk, top to bottom.

A blocking fsync in the middle is the group commit: what arrives meanwhile forms the next turn. Nothing here is busy in
another thread, for the store lets go of the interpreter's lock at each access.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from rewind_node.data_directory import DataDirectory
from rewind_node.node import Node
from rewind_node.transport import Transport

SPACE_INTERVAL_US = 100_000
SNAPSHOT_INTERVAL_US = 500_000
DRAIN_TIME_MAX_US = 5_000_000  # a leadership that cannot be handed over by then is left to an election
DRAIN_LINGER_US = 50_000  # after the last hand-over: the answers that are still under way


@dataclass(slots=True)
class Stopping:
    """Set from a signal handler: the loop hands over and ends."""

    requested: bool = False


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
    store, metrics = directory.store, node.metrics
    space_us = snapshot_us = 0
    stop_us: int | None = None
    while True:
        transport.dial(node.peers.dialled)
        ready = transport.poll(min(node.deadline_us, snapshot_us) - monotonic_us())

        # Everything that has arrived, peers first; only then the timers, all with one time for the turn.
        now_us = monotonic_us()
        node.begin_turn(now_us, wall_us())
        if now_us >= space_us:
            node.set_storage_full(directory.reserve.is_breached(), directory.reserve.is_exhausted())
            space_us = now_us + SPACE_INTERVAL_US
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
            started_us = monotonic_us()
            store.commit()
            metrics.commits += 1
            metrics.commit_seconds.observe((monotonic_us() - started_us) / 1e6)

        # What had to wait for the disk: votes and acknowledgements.
        node.committed()
        _send_peers(node, transport)
        _send_clients(node, transport)
        metrics.turn_seconds.observe((monotonic_us() - now_us) / 1e6)

        if now_us >= snapshot_us:
            publish()
            snapshot_us = now_us + SNAPSHOT_INTERVAL_US
        if stopping.requested:
            if stop_us is None:
                node.drain()
                stop_us = now_us + DRAIN_TIME_MAX_US
            elif node.leads == 0 or not node.handing_over:
                stop_us = min(stop_us, now_us + DRAIN_LINGER_US)
            if now_us >= stop_us:
                node.finish()
                return


def _send_peers(node: Node, transport: Transport) -> None:
    to_links, to_routes = node.peers.take()
    transport.send_links(to_links)
    transport.send_peers(to_routes)


def _send_clients(node: Node, transport: Transport) -> None:
    transport.send_clients(node.take_client_frames(), node.client_protocol.gone)
