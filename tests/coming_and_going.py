"""The other end of a connection, for tests of sockets: a ROUTER that comes and goes."""

import zmq

PATIENCE_MS = 20_000


class ComingAndGoing:
    """A ROUTER that comes and goes at one address."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        """Where it is to be found."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Come."""
        self._context = zmq.Context()
        self.router = self._context.socket(zmq.ROUTER)
        if self.port:
            self.router.bind(f"tcp://{self.address}")
        else:
            self.port = self.router.bind_to_random_port("tcp://127.0.0.1")

    def stop(self) -> None:
        """Go; whoever was connected is dropped."""
        self._context.destroy(0)

    def next(self) -> list[bytes]:
        """Return the next message, and who sent it first."""
        assert self.router.poll(PATIENCE_MS)
        return self.router.recv_multipart()
