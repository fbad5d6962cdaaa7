"""UmaDB: one server. It does not replicate."""

import shutil
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from server_processes import HOST, free_ports, listens
from system import Facts, Servers

THREADS_MAX = 16  # calls under way in each client process: its client waits in threads


class UmadbServers(Servers):
    """One server."""

    name = "umadb"
    facts = Facts(
        title="UmaDB",
        settings=f"one server, default options; Python client in up to {THREADS_MAX} threads a process, each append on "
        "condition that no event has its stream's tag",
        promises="fsynced by the one server; the condition checked; batches atomic",
        not_promised="replication: the machine is the only copy",
    )

    def __init__(self) -> None:
        super().__init__()
        self._port = 0

    @staticmethod
    def missing() -> str | None:
        """Return what must be installed."""
        return None if find_spec("umadb") and _program() else "pip install umadb"

    def versions(self) -> str:
        """Return the version: server and client come in one package."""
        return f"umadb {version('umadb')}"

    def start(self, directory: Path) -> None:
        """Start the server."""
        (self._port,) = free_ports(1)
        listen = f"{HOST}:{self._port}"
        command = [str(_program()), "--listen", listen, "--db-path", str(directory / "uma.db")]
        self.processes.start(command, directory / "umadb.log")
        self.processes.wait(lambda: listens(self._port), "umadb")

    def address(self) -> Mapping[str, Any]:
        """Return where the server is."""
        return {"url": f"http://{HOST}:{self._port}"}


def _program() -> str | None:
    import sys

    return shutil.which("umadb", path=str(Path(sys.executable).parent)) or shutil.which("umadb")
