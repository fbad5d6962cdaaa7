"""Small worlds for the tests of the simulator itself."""

from collections.abc import Callable
from uuid import UUID

import pytest
from simulator.machines import ClientMachine, Host, Machine
from simulator.network import CALM
from simulator.plan import Shape
from simulator.world import World

from rewind.append import Append
from rewind.events import ANY, NewEvent
from rewind.requests import Call

LIMIT_US = 60_000_000


class SmallWorld(World):
    """A world of few nodes and a calm network, with what tests do again and again."""

    def __init__(self, seed: int = 1, *, keep_story: bool = True, **changes: object) -> None:
        shape = {
            "flavour": "test",
            "nodes": 3,
            "late_nodes": 0,
            "partitions": 2,
            "replication_factor": 3,
            "clients": 1,
            "duration_us": 10_000_000,
            "memberships": False,
            "network": CALM,
        }
        super().__init__(seed, Shape(**(shape | changes)), keep_story=keep_story)  # type: ignore[arg-type]
        self.events = 0

    def found(self) -> "SmallWorld":
        """Start everything and let time pass until each partition has a leader and each client its context."""
        self.start()
        for client in self.clients:
            self.at(500_000, client.connect)
        self.until(self.serves)
        return self

    def serves(self) -> bool:
        """Return whether each partition has a leader and each client its context."""
        partitions = range(self.shape.partitions + 1)
        return all(self.leader(partition) for partition in partitions) and all(each.calls for each in self.clients)

    def until(self, condition: Callable[[], object], limit_us: int = LIMIT_US) -> None:
        """Let time pass until `condition` holds."""
        assert self.run_while(lambda: not condition(), self.now_us + limit_us), "nothing of the kind happened"

    def wait(self, us: int) -> None:
        """Let time pass."""
        self.run_until(self.now_us + us)

    def begin(self, stream: str, *, client: ClientMachine | None = None, timeout: float = 10.0) -> Append:
        """Begin to append one event to a stream."""
        client = client or self.clients[0]
        assert client.calls is not None
        self.events += 1
        event = NewEvent("Happened", b"data", id=UUID(int=self.events))
        call = client.calls.append(stream, event, ANY, timeout)
        client.start(call)
        return call

    def finish(self, *calls: Call) -> None:
        """Let time pass until calls have ended."""
        self.until(lambda: all(call.result is not None or call.error is not None for call in calls))

    def append(self, stream: str) -> Append:
        """Append one event to a stream, and see it acknowledged."""
        call = self.begin(stream)
        self.finish(call)
        assert call.error is None, call.error
        return call

    def stream_in(self, partition: int) -> str:
        """Return a stream of a partition."""
        calls = self.clients[0].calls
        assert calls is not None
        return next(name for name in map(str, range(1000)) if calls.partition_of(name) == partition)

    def leads(self, partition: int) -> Host:
        """Return the leader of a partition, which there is."""
        host = self.leader(partition)
        assert host is not None
        return host

    def told(self, *words: str) -> list[str]:
        """Return the lines of the story in which all of these words are."""
        return [line for line in self.story if all(word in line for word in words)]


class Bystander(Host):
    """A host that is up without a node: it sends and takes in what a test wants."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number, f"bystander-{number}", is_seed=False)
        self.up = True
        self.starts = 1
        self.turns = 0

    def turn(self) -> None:
        """Do nothing but count."""
        self.turns += 1

    @property
    def received(self) -> list[bytes]:
        """What has arrived from those that dialled."""
        return [frames[0] for inbox in self.inboxes.values() for _, frames in inbox]


@pytest.fixture
def make_world() -> type[SmallWorld]:
    """Return the class of small worlds."""
    return SmallWorld


@pytest.fixture
def world() -> SmallWorld:
    """Return a small world in which nothing has been started."""
    return SmallWorld()


@pytest.fixture
def founded() -> SmallWorld:
    """Return a small world with a cluster that serves."""
    return SmallWorld(keep_story=True).found()


@pytest.fixture
def bystanders(world: SmallWorld) -> list[Bystander]:
    """Return three hosts without nodes, numbered from 10 on."""
    return [Bystander(world, 10 + number) for number in range(3)]


@pytest.fixture
def machine_class() -> type[Machine]:
    """Return the base class of machines."""
    return Machine
