"""A socket is told that its connection has dropped between the first frame of a message and the second.

`dropped_between_frames.py client|node`: a socket as a client makes them, or a node's link. ZeroMQ looks for such news
at every hundredth receive that finds something, so one of a hundred messages is enough.
"""

import os
import sys
from typing import Any

import zmq

from rewind.connections import Work
from rewind.sockets import Link, Sockets
from rewind_node.transport import Transport

RECEIVES_TO_NEWS = 100
PATIENCE_MS = 20_000


def dial_as_client(address: str) -> tuple[Any, Any]:
    links: list[Link] = []
    sockets = Sockets(None, links.append, links.remove)  # type: ignore[arg-type] # nobody is told anything here
    sockets.carry_out(Work(sockets={address: 1}))
    return links[0].dealer, links[0].monitor


def dial_as_node(address: str) -> tuple[Any, Any]:
    transport = Transport("127.0.0.1:0", "127.0.0.1:0")
    transport.dial({address})
    link = transport._dialled[address]
    return link.socket, link.monitor


def main(kind: str) -> None:
    """Drop the connection in the worst moment, and say so if that went well."""
    server: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = server.socket(zmq.ROUTER)
    address = f"127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}"
    dealer, monitor = {"client": dial_as_client, "node": dial_as_node}[kind](address)
    dealer.send(b"hello")
    route, _ = router.recv_multipart()
    router.send_multipart([route, b"welcome"])
    assert dealer.recv() == b"welcome"
    while monitor.poll(0):
        monitor.recv_multipart()  # the handshake

    for _ in range(RECEIVES_TO_NEWS):
        router.send_multipart([route, b"first", b"second"])
    server.destroy(PATIENCE_MS)  # once all of that is sent
    assert monitor.poll(PATIENCE_MS), "the drop was not noticed"
    for _ in range(RECEIVES_TO_NEWS - 1):
        dealer.recv(zmq.NOBLOCK)
    assert dealer.getsockopt(zmq.RCVMORE)
    assert dealer.recv(zmq.NOBLOCK) == b"second"

    print("alive", flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main(sys.argv[1])
    os._exit(0)  # the sockets are left as they are: what was asked has been answered
