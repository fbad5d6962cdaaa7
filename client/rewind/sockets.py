"""The sockets of a client: a DEALER and its monitor per address, opened, closed and drained as the session says.

Shared by both shells. A socket lives as long as its first connection: once that has dropped, the socket is closed with
what it still had to send, and another dials. So nothing stale is sent after a cut, for the session gives messages to a
connection only from its greeting on; what a broken connection swallowed it counts as sent and unanswered.

ZeroMQ's `IMMEDIATE` promises the same and must not be used: with it, a socket that learns of a dropped connection
between two frames of a message ends the process (libzmq 4.3.5, `Assertion failed: !_more (src/fq.cpp)`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import parse_monitor_message

from rewind.connections import Work
from rewind.session import Session
from rewind_cluster.names import MESSAGE_BYTES_MAX

HEARTBEAT_INTERVAL_MS = 500
HEARTBEAT_TIMEOUT_MS = 1500  # three heartbeats: then the kernel's idea of the connection is not believed
RECONNECT_FIRST_MS = 50
RECONNECT_MAX_MS = 500
DRAIN_MESSAGES_MAX = 256  # from one socket in one turn: then others have theirs

_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


@dataclass(frozen=True, slots=True)
class Link:
    """The sockets to one address."""

    address: str
    generation: int
    dealer: "zmq.Socket[bytes]"
    monitor: "zmq.Socket[bytes]"


class Sockets:
    """All links of a client. `opened` and `closing` are called with each, for the shell to poll."""

    def __init__(self, session: Session, opened: Callable[[Link], None], closing: Callable[[Link], None]) -> None:
        self._session = session
        self._opened = opened
        self._closing = closing
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._links: dict[str, Link] = {}
        self._reached: set[Link] = set()  # links that have had their connection
        self._dropped: list[Link] = []  # links that have lost it, and are to be replaced
        self.closed = False

    def carry_out(self, work: Work) -> None:
        """Open, close and send what the session asks for."""
        if work.sockets is not None:
            for link in list(self._links.values()):
                if work.sockets.get(link.address) != link.generation:
                    self._close(self._links.pop(link.address))
            for address, generation in work.sockets.items():
                if address not in self._links:
                    self._dial(address, generation)
        self._replace_dropped()
        for address, messages in work.send:
            found = self._links.get(address)
            if found is not None:
                _send(found, messages)

    def _replace_dropped(self) -> None:
        dropped, self._dropped = self._dropped, []
        for link in dropped:
            if self._links.get(link.address) is link:
                self._close(self._links.pop(link.address))
                self._dial(link.address, link.generation)

    def drain(self, link: Link, now_us: int) -> int:
        """Tell the session which messages came on a link, and return how many; at the limit there may be more."""
        count = 0
        try:
            while count < DRAIN_MESSAGES_MAX:
                self._session.received(link.address, link.dealer.recv_multipart(zmq.NOBLOCK), now_us)
                count += 1
        except zmq.Again:
            return count
        return count

    def drain_monitor(self, link: Link, now_us: int) -> None:
        """Tell the session whether a link has reached or lost its node, after what arrived before."""
        while self.drain(link, now_us) == DRAIN_MESSAGES_MAX:
            continue
        try:
            while True:
                event = parse_monitor_message(link.monitor.recv_multipart(zmq.NOBLOCK))["event"]
                if link in self._dropped:
                    continue  # a second connection of a socket that is to be replaced
                if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    self._reached.add(link)
                    self._session.connected(link.address, now_us)
                elif link in self._reached:
                    self._dropped.append(link)
                    self._session.disconnected(link.address, now_us)
        except zmq.Again:
            return

    def close(self) -> None:
        """Close everything."""
        self.closed = True
        for link in self._links.values():
            self._close(link)
        self._links.clear()
        self._context.term()

    def _dial(self, address: str, generation: int) -> None:
        self._links[address] = link = self._open(address, generation)
        self._opened(link)

    def _open(self, address: str, generation: int) -> Link:
        dealer = self._context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.IPV6, 1)
        dealer.setsockopt(
            zmq.SNDHWM, 0
        )  # the session bounds what is under way; what is sent there must not be lost here
        dealer.setsockopt(zmq.RCVHWM, 0)
        dealer.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        dealer.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_INTERVAL_MS)
        dealer.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        dealer.setsockopt(zmq.RECONNECT_IVL, RECONNECT_FIRST_MS)
        dealer.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        monitor = dealer.get_monitor_socket(_EVENTS)
        monitor.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"tcp://{address}")
        return Link(address, generation, dealer, monitor)

    def _close(self, link: Link) -> None:
        self._closing(link)
        self._reached.discard(link)
        link.dealer.disable_monitor()
        link.monitor.close()
        link.dealer.close()


def _send(link: Link, messages: Sequence[Sequence[bytes]]) -> None:
    try:
        for frames in messages:
            link.dealer.send_multipart(frames, zmq.NOBLOCK)
    except zmq.Again:
        # The connection has just broken. The monitor will say so, and the session counts the message as unanswered.
        return
