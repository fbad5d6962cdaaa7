"""A node's link is told that its connection has dropped between the first frame of a message and the second.

ZeroMQ looks for such news at every hundredth receive that finds something, so one of a hundred messages is enough.
"""

import sys

import zmq

from rewind_node.transport import Transport

RECEIVES_TO_NEWS = 100
PATIENCE_MS = 20_000


def main() -> None:
    """Drop the connection in the worst moment, and say so if that went well."""
    server: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = server.socket(zmq.ROUTER)
    address = f"127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}"
    transport = Transport("127.0.0.1:0", "127.0.0.1:0")
    transport.dial({address})
    link = transport._dialled[address]
    link.socket.send(b"hello")
    route, _ = router.recv_multipart()
    router.send_multipart([route, b"welcome"])
    assert link.socket.recv() == b"welcome"
    while link.monitor.poll(0):
        link.monitor.recv_multipart()  # the handshake

    for _ in range(RECEIVES_TO_NEWS):
        router.send_multipart([route, b"first", b"second"])
    server.destroy(PATIENCE_MS)  # once all of that is sent
    assert link.monitor.poll(PATIENCE_MS), "the drop was not noticed"
    for _ in range(RECEIVES_TO_NEWS - 1):
        link.socket.recv(zmq.NOBLOCK)
    assert link.socket.getsockopt(zmq.RCVMORE)
    assert link.socket.recv(zmq.NOBLOCK) == b"second"

    print("alive")  # noqa: T201 - the test reads it
    transport.close()


if __name__ == "__main__":
    sys.exit(main())
