"""NATS JetStream: three servers, one stream of three replicas in place of each partition."""

import asyncio
import json
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from server_processes import HOST, free_ports, output_of, program
from system import PARTITIONS, Facts, Servers

SERVERS = 3
STREAM = "events{}"  # numbered; its subjects are p{}.STREAM
HTTP_TIMEOUT_S = 2.0

_http = build_opener(ProxyHandler({}))


class NatsServers(Servers):
    """A cluster of three servers."""

    name = "nats"
    facts = Facts(
        title="NATS JetStream, R3",
        settings=f"{SERVERS} servers, {PARTITIONS} streams of three replicas on files, default options; "
        "`publish_async` of nats-py, each with the subject's last sequence expected to be 0",
        promises="taken by two of three servers; the subject's last sequence checked",
        not_promised="fsync: up to two minutes later (`sync_interval`); atomic batches: 100 events are 100 messages",
    )

    def __init__(self) -> None:
        super().__init__()
        self._clients: list[int] = []

    @staticmethod
    def missing() -> str | None:
        """Return what must be installed."""
        if program("nats-server") is None:
            return "apt-get install nats-server"
        return None if find_spec("nats") else "pip install nats-py"

    def versions(self) -> str:
        """Return the versions."""
        server = output_of(str(program("nats-server")), "--version").removeprefix("nats-server: v")
        return f"nats-server {server}, nats-py {version('nats-py')}"

    def start(self, directory: Path) -> None:
        """Start the servers and create the streams."""
        ports = free_ports(3 * SERVERS)
        self._clients, routes, monitors = (ports[part::3] for part in range(3))
        for number in range(SERVERS):
            config = directory / f"n{number + 1}.conf"
            config.write_text(_config(directory, number, self._clients[number], routes, monitors[number]))
            self.processes.start([str(program("nats-server")), "-c", str(config)], directory / f"n{number + 1}.log")
        self.processes.wait(lambda: all(map(_is_current, monitors)), "nats-server")
        asyncio.run(self._create_streams())

    async def _create_streams(self) -> None:
        import nats
        from nats.js.api import StorageType

        connection = await nats.connect(self.address()["servers"])
        jetstream = connection.jetstream(timeout=30)
        for number in range(PARTITIONS):
            await jetstream.add_stream(
                name=STREAM.format(number), subjects=[f"p{number}.*"], num_replicas=3, storage=StorageType.FILE
            )
        await connection.close()

    def address(self) -> Mapping[str, Any]:
        """Return where the servers are."""
        return {"servers": [f"nats://{HOST}:{port}" for port in self._clients]}


def _config(directory: Path, number: int, client: int, routes: list[int], monitor: int) -> str:
    others = ", ".join(f"nats-route://{HOST}:{port}" for port in routes)
    return f"""
server_name: n{number + 1}
listen: {HOST}:{client}
http: {HOST}:{monitor}
jetstream {{ store_dir: "{directory / f"n{number + 1}"}" }}
cluster {{ name: bench, listen: {HOST}:{routes[number]}, routes: [{others}] }}
"""


def _is_current(monitor: int) -> bool:
    """Return whether a server is part of a JetStream cluster that has a leader."""
    try:
        with _http.open(f"http://{HOST}:{monitor}/jsz", timeout=HTTP_TIMEOUT_S) as response:
            meta = json.load(response).get("meta_cluster", {})
    except (URLError, OSError, ValueError):
        return False
    return bool(meta.get("leader")) and meta.get("cluster_size") == SERVERS
