"""All connections of a client: which addresses to dial, who is greeted and pinged, and which one leads to a node.

The rule: one connection to every node of the map, so that any can take over at once; to the seeds only while they are
the way in. Several seeds may name one node: one connection to it stays.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from rewind.connection import Connection, Phase
from rewind.feed import Batch, Tail
from rewind.requests import Call
from rewind.routing import Routing
from rewind_cluster.clock import HybridClock
from rewind_cluster.wire import Frame

logger = logging.getLogger("rewind.client")


@dataclass(slots=True)
class Work:
    """What the shell is to do, in this order.

    `sockets`: the addresses to have a socket for, each with the generation of that socket, or None for no change. One
    of another generation, or of an address that is not named, is closed. `batches` go to the consumers of
    their subscriptions; those of `ended` get no more.
    """

    sockets: dict[str, int] | None = None
    send: list[tuple[str, list[tuple[Frame, ...]]]] = field(default_factory=list)
    completed: list[Call] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    ended: list[Tail] = field(default_factory=list)


class Connections:
    """The connections by address. `lose` is called with each that lets go of what was sent on it."""

    def __init__(
        self,
        seeds: Sequence[str],
        program: str,
        routing: Routing,
        clock: HybridClock,
        random: Callable[[], float],
        lose: Callable[[Connection], None],
    ) -> None:
        self.cluster_id = ""
        self._seeds = tuple(seeds)
        self._program = program
        self._routing = routing
        self._clock = clock
        self._random = random
        self._lose = lose
        self._by_address: dict[str, Connection] = {}
        self._generations = count(1)
        self._changed = False
        self.dial_wanted()

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._by_address.values())

    def get(self, address: str) -> Connection | None:
        """Return the connection to an address, or None if it was hung up."""
        return self._by_address.get(address)

    # ── dialling ────────────────────────────────────────────────────────────────────────────────────────────────────

    def dial_wanted(self) -> None:
        """Dial and hang up so that the connections are those that are wanted."""
        wanted = set(self._routing.addresses.values())
        ready = self.ready()
        wanted.update(seed for seed in self._seeds if not ready or self._only_way(self._by_address.get(seed), ready))
        for address in sorted(self._by_address.keys() - wanted):
            self._lose(self._by_address.pop(address))
            self._changed = True
        for address in sorted(wanted - self._by_address.keys()):
            self._by_address[address] = Connection(address, next(self._generations))
            self._changed = True

    @staticmethod
    def _only_way(seed: Connection | None, ready: list[Connection]) -> bool:
        return seed in ready and not any(each is not seed and each.node_id == seed.node_id for each in ready)

    def redial(self, connection: Connection) -> None:
        """Drop a connection's socket and dial anew."""
        connection.generation = next(self._generations)
        self._changed = True
        self.dropped(connection)

    def dropped(self, connection: Connection) -> None:
        """Take in that a connection's socket has lost its node."""
        if connection.ready:
            logger.info("lost the connection to node %s at %s", connection.name, connection.address)
        connection.dropped()
        self._lose(connection)
        self.dial_wanted()

    # ── greeting and pinging ────────────────────────────────────────────────────────────────────────────────────────

    def greet(self, connection: Connection, now_us: int) -> None:
        """Begin anew on a connection: whatever was sent on it may have arrived or not."""
        self._lose(connection)
        connection.greet(now_us, self.cluster_id, self._program, self._clock.latest)

    def tick(self, now_us: int) -> None:
        """Repeat greetings, ping, and drop those that answer no pings."""
        for connection in list(self._by_address.values()):
            if connection.phase is Phase.DOWN or now_us < connection.next_ping_us:
                continue
            if not connection.ready:
                self.greet(connection, now_us)
            elif not connection.ping(now_us, self._clock.latest):
                logger.info("node %s at %s answers no pings; connecting again", connection.name, connection.address)
                self.redial(connection)

    def next_ping_us(self) -> int | None:
        """Return when `tick` is due."""
        due = [each.next_ping_us for each in self._by_address.values() if each.phase is not Phase.DOWN]
        return min(due, default=None)

    # ── finding ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def ready(self) -> list[Connection]:
        """Return the connections whose node takes requests."""
        return [connection for connection in self._by_address.values() if connection.ready]

    def to_node(self, node_id: str) -> Connection | None:
        """Return the ready connection to a node, if there is one."""
        connection = self._by_address.get(self._routing.addresses.get(node_id, ""))
        if connection is not None and connection.ready and connection.node_id == node_id:
            return connection
        return next((each for each in self.ready() if each.node_id == node_id), None) if node_id else None

    def any_ready(
        self, node_ids: Sequence[str] | None = None, avoid: str = "", unheard_us: int = 0
    ) -> Connection | None:
        """Return a ready connection at random: to one of these nodes, and not to `avoid` if there is another.

        Those that have owed an answer since before `unheard_us` come last.
        """
        fit = [each for each in self.ready() if node_ids is None or each.node_id in node_ids]
        best = [each for each in fit if each.node_id != avoid and not 0 < each.asked_us < unheard_us]
        fit = best or [each for each in fit if each.node_id != avoid] or fit
        return fit[int(self._random() * len(fit))] if fit else None

    def troubles(self) -> str:
        """Return what is wrong with the connections, for people."""
        bad = [connection.trouble for connection in self._by_address.values() if not connection.ready]
        good = [f"{each.address}: connected to node {each.name}" for each in self.ready()]
        return "; ".join(sorted(bad) + sorted(good))

    def take_work(self, work: Work) -> None:
        """Move what is to be dialled, closed and sent into `work`."""
        if self._changed:
            self._changed = False
            work.sockets = {address: each.generation for address, each in self._by_address.items()}
        for connection in self._by_address.values():
            if connection.outbox:
                work.send.append((connection.address, connection.outbox))
                connection.outbox = []
