"""What the comparison asks of each store: servers that start and stop, and clients that append and read.

A store has two modules: `NAME_servers`, used by the comparison itself, and `NAME_client`, used in client processes. The
first can be imported where nothing of the store is installed, so that it can say what is missing. A client knows
nothing but what `Servers.address` says, and does what the store's own library offers to do it fast.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server_processes import Processes

if TYPE_CHECKING:
    from asyncio import Future

PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Facts:
    """What readers of the results must know of a store. `promises`: what an acknowledged append means there."""

    title: str
    settings: str
    promises: str
    not_promised: str


class Servers(ABC):
    """The servers of one store."""

    name: str
    facts: Facts

    def __init__(self) -> None:
        self.processes = Processes()

    @staticmethod
    @abstractmethod
    def missing() -> str | None:
        """Return what must be installed before this store can be compared, None if it is there."""

    @abstractmethod
    def versions(self) -> str:
        """Return the versions of server and library."""

    @abstractmethod
    def start(self, directory: Path) -> None:
        """Start the servers with their data below an empty directory, and wait until they serve."""

    @abstractmethod
    def address(self) -> Mapping[str, Any]:
        """Return what a client needs to connect."""

    def pids(self) -> Sequence[int]:
        """Return the server processes; their children count as well."""
        return self.processes.pids()

    def stop(self) -> None:
        """Stop the servers, also when not all of them have started."""
        self.processes.stop()


class Client(ABC):
    """One connected client, in a process of its own."""

    @classmethod
    @abstractmethod
    async def connect(cls, address: Mapping[str, Any], in_flight: int) -> "Client":
        """Connect. `in_flight`: how many appends will be under way at most."""

    @abstractmethod
    async def append(self, stream: str, events: Sequence[bytes]) -> "Future[Any]":
        """Begin to append events to a stream that is new, and return what ends with the acknowledgement."""

    @abstractmethod
    async def read(self, events: int) -> int:
        """Read so many events from the start into Python objects; return how many came."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""
