"""Takes messages of several frames whose connection breaks and comes back meanwhile; prints how many came whole.

`half_taken.py client|node`: through a client's sockets, or a node's. libzmq looks at what its own thread has to say at
each hundredth frame that is taken, which here is amid a message.
"""

import socket
import sys
from collections.abc import Callable
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from rewind.connections import Work
from rewind.sockets import Link, Sockets
from rewind_node.transport import Transport

MESSAGES, FRAMES = 40, 7
PATIENCE_MS = 10_000


class Listener:
    """What a client's sockets tell a session."""

    def __init__(self) -> None:
        self.taken: list[Any] = []

    def received(self, _address: str, frames: Any, _now_us: int) -> None:
        self.taken.append(frames)


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def await_event(monitor: Any, wanted: int) -> None:
    while True:
        if not monitor.poll(PATIENCE_MS):
            sys.exit("nothing of the kind happened")
        if parse_monitor_message(monitor.recv_multipart())["event"] == wanted:
            return


def serve(context: Any, address: str) -> Any:
    router = context.socket(zmq.ROUTER)
    router.bind(f"tcp://{address}")
    return router


def through_client(address: str) -> tuple[Any, Any, Callable[[], list[Any]]]:
    links: list[Link] = []
    listener = Listener()
    sockets = Sockets(listener, links.append, lambda _: None)  # type: ignore[arg-type] # all of a session that it needs
    sockets.carry_out(Work(sockets={address: 1}))
    (link,) = links

    def take() -> list[Any]:
        sockets.drain(link, 0)
        return listener.taken

    return link.dealer, link.monitor, take


def through_node(address: str) -> tuple[Any, Any, Callable[[], list[Any]]]:
    transport = Transport(free_address(), free_address())
    transport.dial({address})
    dialled = transport._dialled[address]
    taken: list[Any] = []

    def take() -> list[Any]:
        transport.receive_links({dialled.socket}, print, print, lambda _, frames: taken.append(frames))
        return taken

    return dialled.socket, dialled.monitor, take


def main(kind: str) -> None:
    address = free_address()
    context = zmq.Context()
    router = serve(context, address)
    dealer, monitor, take = {"client": through_client, "node": through_node}[kind](address)

    await_event(monitor, zmq.EVENT_HANDSHAKE_SUCCEEDED)
    dealer.send(b"here I am")
    route, _ = router.recv_multipart()
    for number in range(MESSAGES):
        router.send_multipart([route, *[bytes((number, frame)) for frame in range(FRAMES)]])
    router.close(PATIENCE_MS)
    await_event(monitor, zmq.EVENT_DISCONNECTED)
    router = serve(context, address)
    await_event(monitor, zmq.EVENT_HANDSHAKE_SUCCEEDED)

    taken = take()
    whole = [[bytes((number, frame)) for frame in range(FRAMES)] for number in range(MESSAGES)]
    sys.stdout.write(f"{len(taken)} messages, {'whole' if taken == whole[: len(taken)] else 'torn'}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
    import os

    os._exit(0)  # sockets are left as they are: what is asked has been answered
