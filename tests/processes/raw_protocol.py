"""The protocols spoken by hand: what no well-behaved client or node would send, and when none would send it."""

import time
from types import TracebackType
from typing import Any, Self

import zmq

from rewind_cluster.client_messages import CLIENT_CODEC, Hello, Welcome
from rewind_cluster.peer_messages import PEER_CODEC
from rewind_cluster.wire import PROTOCOL_VERSIONS, Codec

PATIENCE_S = 20.0


class RawDealer:
    """A DEALER connected to one address of a node."""

    def __init__(self, address: str, codec: Codec) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._codec = codec
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self._drops = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.socket.connect(f"tcp://{address}")

    def send(self, message: object, *frames: bytes) -> None:
        """Send a message as the protocol has it."""
        self.socket.send_multipart([self._codec.encode(message), *frames])

    def send_frames(self, *frames: bytes) -> None:
        """Send anything."""
        self.socket.send_multipart(frames)

    def receive(self, kind: type[Any], patience_s: float = PATIENCE_S, **fields: object) -> tuple[Any, list[bytes]]:
        """Return the next message of a kind whose fields have these values, with its frames; others are dropped."""
        give_up = time.monotonic() + patience_s
        while (left_s := give_up - time.monotonic()) > 0:
            if not self.socket.poll(left_s * 1000):
                break
            header, *frames = self.socket.recv_multipart()
            message = self._codec.decode(header)
            if isinstance(message, kind) and all(getattr(message, name) == value for name, value in fields.items()):
                return message, frames
        raise AssertionError(f"no {kind.__name__} with {fields} came within {patience_s:.0f} s")

    def wait_dropped(self) -> None:
        """Wait until the node has dropped the connection once more."""
        assert self._drops.poll(PATIENCE_S * 1000), "the node did not drop the connection"
        self._drops.recv_multipart()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.disable_monitor()
        self._context.destroy(0)


class RawClient(RawDealer):
    """A client that says no more than it is told to."""

    def __init__(self, address: str) -> None:
        super().__init__(address, CLIENT_CODEC)

    def hello(self) -> Welcome:
        """Shake hands and return the node's welcome."""
        self.send(Hello(list(PROTOCOL_VERSIONS), "", "test", 0, {}, None))
        return self.receive(Welcome)[0]  # type: ignore[no-any-return]


class RawPeer(RawDealer):
    """Something that connects where nodes do."""

    def __init__(self, address: str) -> None:
        super().__init__(address, PEER_CODEC)
