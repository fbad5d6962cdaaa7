"""Redis Streams: a primary that fsyncs each write, two replicas, and clients that wait for one of them."""

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from server_processes import HOST, free_ports, output_of, program
from system import PARTITIONS, Facts, Servers

REPLICAS = 2
KEY = "events:{}"  # numbered


class RedisServers(Servers):
    """A primary and two replicas."""

    name = "redis"
    facts = Facts(
        title="Redis Streams, WAIT 1",
        settings=f"a primary and {REPLICAS} replicas, `appendonly yes`, `appendfsync always`, {PARTITIONS} streams; "
        "redis-py with hiredis: what waits goes out as one pipeline of XADDs with one WAIT 1 behind them",
        promises="fsynced by the primary, received by one of two replicas",
        not_promised="fsync by the replica; a condition on a stream; atomic batches (no MULTI is used); a takeover "
        "without loss",
    )

    def __init__(self) -> None:
        super().__init__()
        self._ports: list[int] = []

    @staticmethod
    def missing() -> str | None:
        """Return what must be installed."""
        if program("redis-server") is None:
            return "apt-get install redis-server"
        return None if find_spec("redis") and find_spec("hiredis") else "pip install 'redis[hiredis]'"

    def versions(self) -> str:
        """Return the versions."""
        server = output_of(str(program("redis-server")), "--version").split()[2].removeprefix("v=")
        return f"Redis {server}, redis-py {version('redis')}"

    def start(self, directory: Path) -> None:
        """Start the servers and wait until both replicas follow."""
        self._ports = free_ports(1 + REPLICAS)
        for number, port in enumerate(self._ports):
            home = directory / f"r{number}"
            home.mkdir()
            flags = {"--port": str(port), "--bind": HOST, "--dir": str(home), "--save": "", "--appendonly": "yes"}
            command = [str(program("redis-server")), *(word for pair in flags.items() for word in pair)]
            command += ["--appendfsync", "always"]
            if number:
                command += ["--replicaof", HOST, str(self._ports[0])]
            self.processes.start(command, directory / f"r{number}.log")
        self.processes.wait(self._is_followed, "redis-server")

    def _is_followed(self) -> bool:
        import redis

        try:
            with redis.Redis(port=self._ports[0]) as connection:
                found: Any = connection.info("replication")
        except redis.RedisError:
            return False
        return [found.get(f"slave{number}", {}).get("state") for number in range(REPLICAS)] == ["online"] * REPLICAS

    def address(self) -> Mapping[str, Any]:
        """Return where the primary is."""
        return {"host": HOST, "port": self._ports[0]}
