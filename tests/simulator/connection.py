"""Connections as ZeroMQ makes them over TCP: the state of each, and of the sockets that dial.

A `Dial` is a DEALER socket: it connects again and again by itself, tells when a connection comes and goes, and sends
only on one that is up. Each connection has a route at the host that was dialled, which hears nothing when it goes; what
is sent to a route that is gone is refused, as by a ROUTER that is `MANDATORY`.
"""

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.host import Host
    from simulator.machine import Machine

Frames = list[bytes]

DIALLER, LISTENER = 0, 1


class Dial:
    """One outgoing socket: what it has received, and what has happened to it, until its machine looks."""

    __slots__ = ("address", "attempts", "closed", "connection", "events", "machine", "messages")

    def __init__(self, machine: "Machine", address: str) -> None:
        self.machine = machine
        self.address = address
        self.connection: Connection | None = None
        self.events: list[bool] = []  # connections that came, or went
        self.messages: deque[Frames] = deque()
        self.attempts = 0
        self.closed = False


class Connection:
    """One connection. What has an entry per end has the dialler's first."""

    __slots__ = (
        "black_hole",
        "clock_us",
        "dial",
        "ended_us",
        "heard_us",
        "held",
        "host",
        "is_open",
        "mute_us",
        "number",
        "perished",
        "port",
        "route",
        "stalled_us",
    )

    def __init__(self, number: int, dial: Dial, host: "Host", port: str, now_us: int) -> None:
        self.number = number
        self.route = b"\0%04d" % number
        self.dial = dial
        self.host = host
        self.port = port
        self.is_open = [True, True]
        self.ended_us = [-1, -1]  # what an end sends after it has ended never leaves
        self.perished = [False, False]  # ended with its machine, which repeats nothing
        self.clock_us = [now_us, now_us]  # when the last message of each end arrives
        self.held: tuple[list[tuple[Frames | None, int]], ...] = ([], [])  # withheld by a cut, by sending end
        self.stalled_us = [0, 0]
        self.heard_us = now_us  # by the dialler
        self.mute_us: int | None = None  # since when the dialler's heartbeats get no answer
        self.black_hole = False  # everything vanishes, and no end is told

    def machine(self, end: int) -> "Machine":
        """Return the machine at an end."""
        return self.dial.machine if end == DIALLER else self.host
