"""The node's sockets: ZeroMQ in, frames out. It decides nothing.

Two ROUTERs are bound, for clients and for peers; a DEALER is connected to each address that the core wants, with a
monitor that tells when the connection comes and goes. `ROUTER_MANDATORY` makes a full queue and a vanished peer errors:
a client to whom something could not be sent is forgotten, so that it asks again, and never left waiting for what was
dropped.

A DEALER lives as long as its first connection: once that has dropped it is closed with what it still had to send, and
another dials. So nothing stale is sent after a cut, for the core gives messages to a link only while it is up. ZeroMQ's
`IMMEDIATE` promises the same and must not be used: with it, a socket that learns of a dropped connection between two
frames of a message ends the process (libzmq 4.3.5, `Assertion failed: !_more (src/fq.cpp)`).
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog
import zmq
from zmq.utils.monitor import parse_monitor_message

from rewind_cluster.names import MESSAGE_BYTES_MAX
from rewind_node.connections import Frames
from rewind_node.exits import AddressInUseError

DRAIN_MESSAGES_MAX = 256  # taken from one socket in one turn: what arrives meanwhile forms the next
CLIENT_QUEUE_MESSAGES = 16  # in ZeroMQ's hands for one client: with the largest answers that is 16 MiB
CLIENT_BACKLOG_BYTES = 8 * 1024 * 1024  # kept here for a client that reads slowly; past it the client is forgotten
BACKLOG_POLL_US = 5000
PEER_QUEUE_MESSAGES = 10_000
RECEIVE_QUEUE_MESSAGES = 1000  # from one client or node: beyond it TCP holds the sender back
HANDSHAKE_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
CONNECT_TIMEOUT_MS = 2000
HEARTBEAT_IVL_MS = 500
HEARTBEAT_TIMEOUT_MS = 1500
RECONNECT_IVL_MS = 50
RECONNECT_IVL_MAX_MS = 500


@dataclass(frozen=True, slots=True)
class Dialled:
    """One outgoing connection."""

    address: str
    socket: zmq.Socket[bytes]
    monitor: zmq.Socket[bytes]


class Backlog:
    """Messages that wait for one slow client, in order."""

    __slots__ = ("bytes", "messages")

    def __init__(self) -> None:
        self.messages: deque[Frames] = deque()
        self.bytes = 0

    def add(self, frames: Frames) -> None:
        """Put a message at the end."""
        self.messages.append(frames)
        self.bytes += sum(map(len, frames))

    def take(self) -> None:
        """Take the first message off: it has been sent."""
        self.bytes -= sum(map(len, self.messages.popleft()))


class Transport:
    """All sockets of one node."""

    def __init__(self, listen: str, peer_listen: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._dialled: dict[str, Dialled] = {}
        self._reached: set[Dialled] = set()  # those that have had their connection
        self._undiallable: set[str] = set()
        self._backlogs: dict[bytes, Backlog] = {}
        self._clients = self._bind(listen, CLIENT_QUEUE_MESSAGES)
        self._peers = self._bind(peer_listen, PEER_QUEUE_MESSAGES)

    def _bind(self, address: str, send_messages: int) -> "zmq.Socket[bytes]":
        socket = self._context.socket(zmq.ROUTER)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.ROUTER_MANDATORY, 1)
        socket.set(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        socket.set(zmq.SNDHWM, send_messages)
        socket.set(zmq.RCVHWM, RECEIVE_QUEUE_MESSAGES)
        socket.set(zmq.IPV6, 1 if address.startswith("[") else 0)
        try:
            socket.bind(f"tcp://{address}")
        except zmq.ZMQError as error:
            self.close()
            if error.errno == zmq.EADDRINUSE:
                raise AddressInUseError(f"{address} is in use by another program; choose another address") from None
            raise AddressInUseError(f"cannot listen on {address}: {error.strerror}; choose another address") from None
        self._poller.register(socket, zmq.POLLIN)
        return socket

    # Connections.

    def dial(self, wanted: set[str]) -> None:
        """Connect to these addresses and to no others."""
        self._undiallable &= wanted
        for address in wanted - self._dialled.keys() - self._undiallable:
            try:
                self._dialled[address] = self._connect(address)
            except zmq.ZMQError as error:  # an address of another node, which ends no node but is told once
                self._undiallable.add(address)
                structlog.get_logger().warning("cannot dial an address", address=address, reason=str(error))
        for address in self._dialled.keys() - wanted:
            self._disconnect(self._dialled.pop(address))

    def _connect(self, address: str) -> Dialled:
        socket = self._context.socket(zmq.DEALER)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX),
            (zmq.SNDHWM, PEER_QUEUE_MESSAGES),
            (zmq.RCVHWM, PEER_QUEUE_MESSAGES),
            (zmq.HEARTBEAT_IVL, HEARTBEAT_IVL_MS),
            (zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS),
            (zmq.RECONNECT_IVL, RECONNECT_IVL_MS),
            (zmq.RECONNECT_IVL_MAX, RECONNECT_IVL_MAX_MS),
            (zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS),
            (zmq.IPV6, 1 if address.startswith("[") else 0),
        ):
            socket.set(option, value)
        monitor = socket.get_monitor_socket(HANDSHAKE_EVENTS)
        try:
            socket.connect(f"tcp://{address}")
        except zmq.ZMQError:
            _close(socket, monitor)
            raise
        self._poller.register(socket, zmq.POLLIN)
        self._poller.register(monitor, zmq.POLLIN)
        return Dialled(address, socket, monitor)

    def _disconnect(self, dialled: Dialled) -> None:
        self._reached.discard(dialled)
        self._poller.unregister(dialled.socket)
        self._poller.unregister(dialled.monitor)
        _close(dialled.socket, dialled.monitor)

    # A turn.

    def poll(self, timeout_us: int) -> set[object]:
        """Wait until something arrives, at most `timeout_us`; return the sockets that have something."""
        if self._backlogs:
            timeout_us = min(timeout_us, BACKLOG_POLL_US)
        # Rounded up: rounding down would spin through the last millisecond before every deadline.
        return {socket for socket, _ in self._poller.poll(-(-max(0, timeout_us) // 1000))}

    def receive_links(
        self,
        ready: set[object],
        on_up: Callable[[str], None],
        on_down: Callable[[str], None],
        on_message: Callable[[str, Frames], None],
    ) -> None:
        """Hand over what happened on the connections that this node dialled: up, what arrived, down."""
        for dialled in list(self._dialled.values()):
            dropped = dialled.monitor in ready and self._has_dropped(dialled, on_up)
            if dropped or dialled.socket in ready:
                for _ in range(DRAIN_MESSAGES_MAX):
                    frames = _receive(dialled.socket)
                    if frames is None:
                        break
                    on_message(dialled.address, frames)
            if dropped:
                self._disconnect(self._dialled.pop(dialled.address))  # `dial` makes another
                on_down(dialled.address)

    def _has_dropped(self, dialled: Dialled, on_up: Callable[[str], None]) -> bool:
        """Look at what a monitor tells; return whether the connection is gone."""
        for _ in range(DRAIN_MESSAGES_MAX):
            event = _receive(dialled.monitor)
            if event is None:
                return False
            if parse_monitor_message(event)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._reached.add(dialled)
                on_up(dialled.address)
            elif dialled in self._reached:
                return True
        return False

    def receive_peers(self, ready: set[object], on_message: Callable[[bytes, Frames], None]) -> None:
        """Hand over messages of nodes that dialled this one."""
        if self._peers in ready:
            self._drain(self._peers, on_message)

    def receive_clients(self, ready: set[object], on_message: Callable[[bytes, Frames], None]) -> None:
        """Hand over messages of clients."""
        if self._clients in ready:
            self._drain(self._clients, on_message)

    def _drain(self, socket: "zmq.Socket[bytes]", on_message: Callable[[bytes, Frames], None]) -> None:
        for _ in range(DRAIN_MESSAGES_MAX):
            frames = _receive(socket)
            if frames is None:
                return
            if len(frames) > 1:
                on_message(frames[0], frames[1:])

    def send_links(self, messages: Iterable[tuple[str, Frames]]) -> None:
        """Send to nodes that this one dialled. What cannot be sent now is dropped: consensus sends it again."""
        for address, frames in messages:
            dialled = self._dialled.get(address)
            if dialled is not None:
                _try_send(dialled.socket, frames)

    def send_peers(self, messages: Iterable[tuple[bytes, Frames]]) -> None:
        """Answer nodes that dialled this one."""
        for route, frames in messages:
            _try_send(self._peers, [route, *frames])

    def send_clients(self, messages: Iterable[tuple[bytes, Frames]], on_gone: Callable[[bytes], None]) -> None:
        """Send to clients; `on_gone` is told of each that has vanished, or reads too slowly for its backlog."""
        for route in list(self._backlogs):
            self._send_backlog(route, on_gone)
        for route, frames in messages:
            if route in self._backlogs:
                self._backlogs[route].add(frames)
                continue
            sent = _try_send(self._clients, [route, *frames])
            if sent == zmq.EAGAIN:
                self._backlogs[route] = Backlog()
                self._backlogs[route].add(frames)
            elif sent:
                on_gone(route)
        for route in [route for route, backlog in self._backlogs.items() if backlog.bytes > CLIENT_BACKLOG_BYTES]:
            del self._backlogs[route]
            on_gone(route)

    def _send_backlog(self, route: bytes, on_gone: Callable[[bytes], None]) -> None:
        backlog = self._backlogs[route]
        while backlog.messages:
            sent = _try_send(self._clients, [route, *backlog.messages[0]])
            if sent == zmq.EAGAIN:
                return
            if sent:
                on_gone(route)
                break
            backlog.take()
        del self._backlogs[route]

    def close(self) -> None:
        """Close everything; what is queued is dropped."""
        for dialled in self._dialled.values():
            self._disconnect(dialled)
        self._dialled.clear()
        self._context.destroy(0)


def _close(socket: "zmq.Socket[bytes]", monitor: "zmq.Socket[bytes]") -> None:
    socket.disable_monitor()
    monitor.close(0)
    socket.close(0)


def _receive(socket: "zmq.Socket[bytes]") -> Frames | None:
    try:
        return socket.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return None


def _try_send(socket: "zmq.Socket[bytes]", frames: Frames) -> int:
    """Return 0 if the message was taken, EAGAIN if the queue is full, EHOSTUNREACH if nobody is there any more."""
    try:
        socket.send_multipart(frames, zmq.NOBLOCK)
    except zmq.ZMQError as error:
        if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
            return int(error.errno)
        raise
    return 0
