"""PostgreSQL: a primary, two standbys, and commits that wait for the primary and any one of them."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from server_processes import HOST, POLL_S, START_PATIENCE_S, free_ports, output_of, program, run, succeeds
from system import Facts, Servers

from rewind.bench.fleet import BenchError

BINARIES = "/usr/lib/postgresql/15/bin"  # Debian keeps the servers of all its versions apart
OWNER = "postgres"  # PostgreSQL refuses to run as root
USER = "bench"
CONNECTIONS = 32  # of each client process: one carries one append at a time
STANDBYS = ("s1", "s2")
SYNCHRONOUS = "ANY 1 (s1, s2)"
FOLLOWERS = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'"
SCHEMA = """
CREATE TABLE events (
    position bigserial PRIMARY KEY, stream text NOT NULL, version integer NOT NULL, type text NOT NULL,
    id uuid NOT NULL, data bytea NOT NULL, UNIQUE (stream, version))
"""


class PostgresqlServers(Servers):
    """A primary and two standbys."""

    name = "postgresql"
    facts = Facts(
        title="PostgreSQL, ANY 1 (s1, s2)",
        settings=f"a primary and two standbys, `synchronous_standby_names = '{SYNCHRONOUS}'`, else default options; "
        f"asyncpg, up to {CONNECTIONS} connections a client process, prepared inserts, (stream, version) unique",
        promises="fsynced by the primary and one of two standbys; the stream's version checked; batches atomic",
        not_promised="a takeover by itself when the primary is lost; writes on more than one machine",
    )

    def __init__(self) -> None:
        super().__init__()
        self._ports: list[int] = []

    @staticmethod
    def missing() -> str | None:
        """Return what must be installed."""
        if program("postgres", BINARIES) is None:
            return "apt-get install postgresql-15"
        return None if find_spec("asyncpg") else "pip install asyncpg"

    def versions(self) -> str:
        """Return the versions."""
        server = output_of(_program("postgres"), "--version").split()[2]
        return f"PostgreSQL {server}, asyncpg {version('asyncpg')}"

    def start(self, directory: Path) -> None:
        """Found the primary, copy the standbys from it, and have commits wait for them."""
        if os.geteuid() == 0:
            shutil.chown(directory, OWNER, OWNER)
        log = directory / "setup.log"
        self._ports = free_ports(1 + len(STANDBYS))
        primary = directory / "primary"
        run([_program("initdb"), "-D", str(primary), "-U", USER, "--auth", "trust", "-E", "UTF8"], log, OWNER)
        self._start_one(directory, "primary", self._ports[0])
        for name, port in zip(STANDBYS, self._ports[1:], strict=True):
            source = f"host={HOST} port={self._ports[0]} user={USER} application_name={name}"
            run([_program("pg_basebackup"), "-R", "-D", str(directory / name), "-d", source], log, OWNER)
            self._start_one(directory, name, port)
        asyncio.run(self._prepare())

    def _start_one(self, directory: Path, name: str, port: int) -> None:
        settings = {"port": str(port), "listen_addresses": HOST, "unix_socket_directories": str(directory / name)}
        flags = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        command = [_program("postgres"), "-D", str(directory / name), *flags]
        # SIGINT is its fast shutdown; with SIGTERM it would wait for clients to leave.
        self.processes.start(command, directory / f"{name}.log", user=OWNER, stop=signal.SIGINT)
        self.processes.wait(lambda: _accepts(port), f"PostgreSQL's {name}")

    async def _prepare(self) -> None:
        import asyncpg

        give_up = time.monotonic() + START_PATIENCE_S
        connection = await asyncpg.connect(**self.address())
        await connection.execute(SCHEMA)
        await connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{SYNCHRONOUS}'")
        await connection.execute("SELECT pg_reload_conf()")
        while await connection.fetchval(FOLLOWERS) < len(STANDBYS):
            if time.monotonic() > give_up:
                raise BenchError("PostgreSQL's standbys do not follow; look at their logs with a smaller --rounds")
            await asyncio.sleep(POLL_S)
        await connection.close()

    def address(self) -> Mapping[str, Any]:
        """Return where the primary is."""
        return {"host": HOST, "port": self._ports[0], "user": USER, "database": "postgres", "ssl": False}


def _program(name: str) -> str:
    return str(program(name, BINARIES))


def _accepts(port: int) -> bool:
    return succeeds(_program("pg_isready"), "-q", "-h", HOST, "-p", str(port))
