"""The sockets of a node: a link lives as long as its first connection, and no drop ends the process."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from rewind_node.transport import Transport

PATIENCE_S = 20.0
BETWEEN_FRAMES = Path(__file__).with_name("programs") / "link_dropped_between_frames.py"


class Peer:
    """The other node's ROUTER, which comes and goes at one address."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._context = zmq.Context()
        self.router = self._context.socket(zmq.ROUTER)
        if self.port:
            self.router.bind(f"tcp://{self.address}")
        else:
            self.port = self.router.bind_to_random_port("tcp://127.0.0.1")

    def stop(self) -> None:
        self._context.destroy(0)

    def next(self) -> list[bytes]:
        assert self.router.poll(PATIENCE_S * 1000)
        return self.router.recv_multipart()


class Linked:
    """A transport with one link, and what it tells of that."""

    def __init__(self, address: str) -> None:
        self.transport = Transport("127.0.0.1:0", "127.0.0.1:0")
        self.told: list[str] = []
        self._address = address

    def until(self, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up, self.told
            self.transport.dial({self._address})
            self.transport.receive_links(
                self.transport.poll(10_000),
                lambda _: self.told.append("up"),
                lambda _: self.told.append("down"),
                lambda _, frames: self.told.append(b" ".join(frames).decode()),
            )

    def send(self, *frames: bytes) -> None:
        self.transport.send_links([(self._address, list(frames))])


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.stop()


@pytest.fixture
def linked(peer: Peer) -> Iterator[Linked]:
    made = Linked(peer.address)
    made.until(lambda: made.told == ["up"])
    yield made
    made.transport.close()


def test_a_link_that_dropped_is_dialled_anew_and_nothing_stale_is_sent(peer: Peer, linked: Linked) -> None:
    peer.stop()
    linked.send(b"stale")  # nobody knows of the drop yet

    linked.until(lambda: linked.told == ["up", "down"])
    linked.send(b"stale, too")
    peer.start()
    linked.until(lambda: linked.told == ["up", "down", "up"])
    linked.send(b"fresh")

    assert peer.next()[1:] == [b"fresh"]


def test_what_came_before_a_drop_is_handed_over_before_it(peer: Peer, linked: Linked) -> None:
    linked.send(b"hello")
    route, _ = peer.next()

    peer.router.send_multipart([route, b"last", b"words"])
    peer.router.close(int(PATIENCE_S * 1000))
    assert linked.transport._dialled[peer.address].monitor.poll(PATIENCE_S * 1000), "both are there"
    linked.until(lambda: "down" in linked.told)

    assert linked.told == ["up", "last words", "down"]


def test_a_drop_between_the_frames_of_a_message_does_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, str(BETWEEN_FRAMES)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
