"""The sockets of a client: one life each, and nothing stale after a drop."""

import time
from collections.abc import Callable, Iterator

import pytest
from coming_and_going import ComingAndGoing

from rewind.connections import Work
from rewind.sockets import Link, Sockets

PATIENCE_S = 20.0


class Notes:
    """A session that only notes what it is told, and the links that are there."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.links: list[Link] = []

    def connected(self, address: str, _: int) -> None:
        self.told.append(f"connected {address}")

    def disconnected(self, address: str, _: int) -> None:
        self.told.append(f"disconnected {address}")

    def received(self, _address: str, frames: list[bytes], _: int) -> None:
        self.told.append(b" ".join(frames).decode())

    def opened(self, link: Link) -> None:
        self.links.append(link)

    def closing(self, link: Link) -> None:
        self.links.remove(link)


class Client:
    """Sockets under way, looked after until something holds."""

    def __init__(self, address: str) -> None:
        self.notes = Notes()
        self.address = address
        self.sockets = Sockets(self.notes, self.notes.opened, self.notes.closing)  # type: ignore[arg-type]
        self.sockets.carry_out(Work(sockets={address: 1}))

    def send(self, *frames: bytes) -> None:
        self.sockets.carry_out(Work(send=[(self.address, [frames])]))

    def until(self, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up, self.notes.told
            for link in list(self.notes.links):
                self.sockets.drain(link, 0)
                self.sockets.drain_monitor(link, 0)
            self.sockets.carry_out(Work())
            time.sleep(0.005)


@pytest.fixture
def server() -> Iterator[ComingAndGoing]:
    made = ComingAndGoing()
    yield made
    made.stop()


@pytest.fixture
def client(server: ComingAndGoing) -> Iterator[Client]:
    made = Client(server.address)
    made.until(lambda: made.notes.told == [f"connected {server.address}"])
    yield made
    made.sockets.close()


def test_a_connection_that_dropped_is_replaced_and_nothing_stale_is_sent(
    server: ComingAndGoing, client: Client
) -> None:
    (first,) = client.notes.links
    server.stop()
    client.send(b"stale")  # nobody knows of the drop yet

    client.until(lambda: client.notes.told[-1] == f"disconnected {server.address}")
    server.start()
    client.until(lambda: client.notes.told[-1] == f"connected {server.address}")
    client.send(b"fresh")

    assert server.next()[1:] == [b"fresh"]
    assert client.notes.links != [first]
    assert len(client.notes.links) == 1


def test_an_address_where_nobody_is_keeps_its_socket_until_somebody_comes(server: ComingAndGoing) -> None:
    server.stop()
    client = Client(server.address)
    (first,) = client.notes.links

    begun = time.monotonic()
    client.until(lambda: time.monotonic() > begun + 0.3)
    told_before = list(client.notes.told)
    server.start()
    client.until(lambda: client.notes.told == [f"connected {server.address}"])
    client.sockets.close()

    assert told_before == []
    assert client.notes.links in ([], [first])


def test_what_is_sent_to_whom_is_not_there_harms_nobody(client: Client) -> None:
    client.sockets.carry_out(Work(send=[("127.0.0.1:1", [(b"x",)])]))

    assert len(client.notes.links) == 1
