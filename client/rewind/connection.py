"""One node's connection, without the socket: greeting, pings, and the requests that wait for an answer on it.

A connection goes from down to greeting (our `Hello` is out) to ready (its `Welcome` is here), and back whenever the
socket drops or the node no longer knows it. What was sent before such a break may or may not have arrived.
"""

from enum import Enum

from rewind.requests import Request
from rewind_cluster.client_messages import CLIENT_CODEC, PING_INTERVAL_US, PINGS_MISSED_MAX, Hello, Ping, Pong, Welcome
from rewind_cluster.wire import PROTOCOL_VERSIONS, UINT_MAX, Frame

HELLO_AGAIN_US = 1_000_000  # a greeting without an answer, or one that was refused, is repeated this often
SILENCE_US = 300_000  # owing an answer this long, a node may be stopped or cut off: others are asked who leads
PING_INTERVAL_MIN_US = 10_000  # whatever a node asks for


class Phase(Enum):
    """Where a connection stands."""

    DOWN = "not connected"
    GREETING = "connected, but the node does not answer"
    REFUSED = "refused"
    READY = "ready"


class Connection:
    """The state of the connection to one address. `generation` changes when its socket is to be replaced."""

    def __init__(self, address: str, generation: int) -> None:
        self.address = address
        self.generation = generation
        self.phase = Phase.DOWN
        self.node_id = ""
        self.name = ""
        self.refusal = ""
        self.outbox: list[tuple[Frame, ...]] = []
        self.requests: dict[int, Request] = {}
        self._next_request = 1
        self._time_ahead_us = 0  # the node's monotonic clock minus ours
        self._heard_us = 0
        self.asked_us = 0  # when the first thing was sent since it was last heard from
        self._pings_unanswered = 0
        self.next_ping_us = 0  # or, while greeting, the next `Hello`
        self._ping_interval_us = PING_INTERVAL_US

    @property
    def ready(self) -> bool:
        """Whether the node takes requests here."""
        return self.phase is Phase.READY

    @property
    def trouble(self) -> str:
        """Why the connection is not ready, for people."""
        return f"{self.address}: {self.refusal or self.phase.value}"

    def send(self, now_us: int, *frames: Frame) -> None:
        """Queue one message."""
        self.outbox.append(frames)
        if not self.asked_us:
            self.asked_us = now_us

    def tell(self, *frames: Frame) -> None:
        """Queue one message that nothing answers."""
        self.outbox.append(frames)

    def node_time_us(self, time_us: int) -> int:
        """Return what the node's clock shows at `time_us` of ours; early rather than late."""
        return min(UINT_MAX, max(0, time_us + self._time_ahead_us))

    def greet(self, now_us: int, cluster_id: str, program: str, clock: int) -> None:
        """Send the `Hello` that must come first."""
        self.phase = Phase.GREETING
        self.outbox.clear()
        self.next_ping_us = now_us + HELLO_AGAIN_US
        hello = Hello(list(PROTOCOL_VERSIONS), cluster_id, program, clock, {}, None)
        self.send(now_us, CLIENT_CODEC.encode(hello))

    def welcomed(self, welcome: Welcome, now_us: int) -> None:
        """Take in that the node took us in."""
        self.phase = Phase.READY
        self.refusal = ""
        self.node_id = welcome.node_id
        self.name = welcome.name
        self._time_ahead_us = welcome.time_us - now_us
        self._ping_interval_us = max(PING_INTERVAL_MIN_US, welcome.ping_interval_us)
        self._pings_unanswered = 0
        self.next_ping_us = now_us + self._ping_interval_us

    def refused(self, why: str, now_us: int) -> None:
        """Take in that the node will not have us; it is asked again later."""
        self.phase = Phase.REFUSED
        self.refusal = why
        self.next_ping_us = now_us + HELLO_AGAIN_US

    def dropped(self) -> None:
        """Take in that the socket has lost the node."""
        self.phase = Phase.DOWN
        self.outbox.clear()
        self.asked_us = 0
        self._pings_unanswered = 0

    def heard(self, now_us: int) -> None:
        """Take in that the node said something."""
        self._heard_us = now_us
        self.asked_us = 0
        self._pings_unanswered = 0

    def ponged(self, pong: Pong, now_us: int) -> None:
        """Take in the node's clock again."""
        self._time_ahead_us = pong.time_us - now_us

    def ping(self, now_us: int, clock: int) -> bool:
        """Ping the node, or return False if too many pings in a row have had no answer."""
        if self._pings_unanswered >= PINGS_MISSED_MAX:
            return False
        self.send(now_us, CLIENT_CODEC.encode(Ping(clock)))
        self._pings_unanswered += 1
        self.next_ping_us = now_us + self._ping_interval_us
        return True

    def silent_us(self, now_us: int) -> int:
        """Return how long the node has owed an answer, if it owes one."""
        return now_us - (self.asked_us or self._heard_us)

    def ask(self, request: Request, now_us: int, until_us: int) -> None:
        """Send a request, which the node is to refuse where it cannot serve it until then."""
        number = self.number()
        self.requests[number] = request
        request.sent(self.node_id, now_us)
        self.send(now_us, CLIENT_CODEC.encode(request.make(number, self.node_time_us(until_us))))

    def number(self) -> int:
        """Return a number for a request that was never used on this connection."""
        number = self._next_request
        self._next_request += 1
        return number
