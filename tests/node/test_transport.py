"""The sockets of a node: a link lives as long as its first connection."""

import time
from collections.abc import Callable, Iterator

import pytest
from coming_and_going import PATIENCE_MS, ComingAndGoing

from rewind_node.transport import Transport

PATIENCE_S = 20.0


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
def peer() -> Iterator[ComingAndGoing]:
    made = ComingAndGoing()
    yield made
    made.stop()


@pytest.fixture
def linked(peer: ComingAndGoing) -> Iterator[Linked]:
    made = Linked(peer.address)
    made.until(lambda: made.told == ["up"])
    yield made
    made.transport.close()


def test_a_link_that_dropped_is_dialled_anew_and_nothing_stale_is_sent(peer: ComingAndGoing, linked: Linked) -> None:
    peer.stop()
    linked.send(b"stale")  # nobody knows of the drop yet

    linked.until(lambda: linked.told == ["up", "down"])
    linked.send(b"stale, too")
    peer.start()
    linked.until(lambda: linked.told == ["up", "down", "up"])
    linked.send(b"fresh")

    assert peer.next()[1:] == [b"fresh"]


def test_what_came_before_a_drop_is_handed_over_before_it(peer: ComingAndGoing, linked: Linked) -> None:
    linked.send(b"hello")
    route, _ = peer.next()

    peer.router.send_multipart([route, b"last", b"words"])
    peer.router.close(PATIENCE_MS)
    assert linked.transport._dialled[peer.address].monitor.poll(PATIENCE_MS), "both are there"
    linked.until(lambda: "down" in linked.told)

    assert linked.told == ["up", "last words", "down"]
