"""A client's socket is told that its connection has dropped between the first frame of a message and the second.

ZeroMQ looks for such news at every hundredth receive that finds something, so one of a hundred messages is enough.
"""

import sys

import zmq

from rewind.connections import Work
from rewind.sockets import Link, Sockets

RECEIVES_TO_NEWS = 100
PATIENCE_MS = 20_000


class Session:
    """Is told, and does nothing."""

    def connected(self, address: str, now_us: int) -> None:
        """Take in nothing."""


def main() -> None:
    """Drop the connection in the worst moment, and say so if that went well."""
    server: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = server.socket(zmq.ROUTER)
    address = f"127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}"
    links: list[Link] = []
    sockets = Sockets(Session(), links.append, links.remove)  # type: ignore[arg-type]
    sockets.carry_out(Work(sockets={address: 1}))
    (link,) = links
    link.dealer.send(b"hello")
    route, _ = router.recv_multipart()
    router.send_multipart([route, b"welcome"])
    assert link.dealer.recv() == b"welcome"
    while link.monitor.poll(0):
        link.monitor.recv_multipart()  # the handshake

    for _ in range(RECEIVES_TO_NEWS):
        router.send_multipart([route, b"first", b"second"])
    server.destroy(PATIENCE_MS)  # once all of that is sent
    assert link.monitor.poll(PATIENCE_MS), "the drop was not noticed"
    for _ in range(RECEIVES_TO_NEWS - 1):
        link.dealer.recv(zmq.NOBLOCK)
    assert link.dealer.getsockopt(zmq.RCVMORE)
    assert link.dealer.recv(zmq.NOBLOCK) == b"second"

    print("alive")  # noqa: T201 - the test reads it
    sockets.close()


if __name__ == "__main__":
    sys.exit(main())
