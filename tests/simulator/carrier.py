"""The simulated counterpart of a node's sockets, `rewind_node.transport.Transport`, for one run of its process."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rewind_node.transport import DRAIN_MESSAGES_MAX
from simulator.connection import DIALLER, LISTENER, Dial, Frames

if TYPE_CHECKING:
    from simulator.host import Host

SEND_US = 1  # so that a crash may come between any two messages


class SimulatedTransport:
    """Carries a turn's messages. What is sent leaves at the stopwatch's time, some of it after the turn's commit."""

    def __init__(self, host: "Host") -> None:
        self._host = host
        self._network = host.world.network
        self.dials: dict[str, Dial] = {}
        self.steps_us: list[int] = []  # when each message of the turn left

    def dial(self, wanted: set[str]) -> None:
        """Connect to these addresses and to no others."""
        if wanted == self.dials.keys():
            return
        for address in sorted(wanted - self.dials.keys()):
            self.dials[address] = self._network.dial(self._host, address)
        for address in sorted(self.dials.keys() - wanted):
            self._network.hang_up(self.dials.pop(address))

    @property
    def has_arrivals(self) -> bool:
        """Whether something waits to be taken in."""
        if any(self._host.inboxes.values()):
            return True
        return any(dial.events or dial.messages for dial in self.dials.values())

    def receive_links(
        self,
        _ready: set[object],
        on_up: Callable[[str], None],
        on_down: Callable[[str], None],
        on_message: Callable[[str, Frames], None],
    ) -> None:
        """Hand over what happened on the connections that this node dialled, up, what arrived, down."""
        for dial in list(self.dials.values()):
            if dial.events:
                events, dial.events = dial.events, []
                for is_up in events:
                    (on_up if is_up else on_down)(dial.address)
            for _ in range(min(len(dial.messages), DRAIN_MESSAGES_MAX)):
                on_message(dial.address, dial.messages.popleft())

    def receive_peers(self, _ready: set[object], on_message: Callable[[bytes, Frames], None]) -> None:
        """Hand over messages of nodes that dialled this one."""
        _drain(self._host.inboxes["peer"], on_message)

    def receive_clients(self, _ready: set[object], on_message: Callable[[bytes, Frames], None]) -> None:
        """Hand over messages of clients."""
        _drain(self._host.inboxes["client"], on_message)

    def send_links(self, messages: Iterable[tuple[str, Frames]]) -> None:
        """Send to nodes that this one dialled, if the connection is up."""
        # Across connections there is no order. Sorted, for a core may queue in the order of a set.
        for address, frames in sorted(messages, key=lambda message: message[0]):
            dial = self.dials.get(address)
            if dial is not None and dial.connection is not None:
                self._network.send(dial.connection, DIALLER, frames, self._left_us())

    def send_peers(self, messages: Iterable[tuple[bytes, Frames]]) -> None:
        """Answer nodes that dialled this one."""
        for route, frames in messages:
            self._send(route, frames)

    def send_clients(self, messages: Iterable[tuple[bytes, Frames]], on_gone: Callable[[bytes], None]) -> None:
        """Send to clients; `on_gone` is told of each that has vanished."""
        for route, frames in messages:
            if not self._send(route, frames):
                on_gone(route)

    def _send(self, route: bytes, frames: Frames) -> bool:
        connection = self._host.routes.get(route)
        if connection is None:
            return False
        self._network.send(connection, LISTENER, frames, self._left_us())
        return True

    def _left_us(self) -> int:
        watch = self._host.watch
        watch.now_us += SEND_US
        self.steps_us.append(watch.now_us)
        return watch.now_us


def _drain(inbox: deque[tuple[bytes, Frames]], on_message: Callable[[bytes, Frames], None]) -> None:
    for _ in range(min(len(inbox), DRAIN_MESSAGES_MAX)):
        on_message(*inbox.popleft())
