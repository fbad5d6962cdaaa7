"""The client processes of a run: started, told what to do, paused, killed and replaced."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGSTOP

from chaos.client import CLIENTS_MAX
from chaos.network import Network
from rewind_node.parent_death import dying_with_this_process

TESTS = Path(__file__).parents[1]
KINDS = ("asyncio", "blocking", "asyncio", "blocking")
LIVES_MAX = 100
RESTART_S = 1.0


@dataclass(slots=True)
class ClientProcess:
    """One client process and those that took its place. `journals`: what they have written down."""

    name: str
    number: int
    kind: str
    directory: Path
    lives: int = 0
    held: int = 0
    stopped: int = 0
    process: subprocess.Popen[bytes] | None = None
    journals: list[Path] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def log_file(self) -> Path:
        """What it says, and what went wrong with it."""
        return self.directory / f"{self.name}.log"

    @property
    def first_client(self) -> int:
        """The number of its first client of the history."""
        return (self.number * LIVES_MAX + self.lives) * CLIENTS_MAX

    def kill(self) -> None:
        """End the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdin is not None:
                with suppress(BrokenPipeError):  # of what it was not told any more
                    self.process.stdin.close()


class Fleet:
    """All client processes."""

    def __init__(
        self,
        count: int,
        servers: str,
        directory: Path,
        network: Network | None,
        *,
        seed: int,
        pause_ms: int,
        bug: str,
    ) -> None:
        self.clients = [
            ClientProcess(f"c{number + 1}", number + 1, KINDS[number % len(KINDS)], directory)
            for number in range(count)
        ]
        self.breakdowns: list[str] = []
        self._servers = servers
        self._network = network
        self._seed = seed
        self._pause_ms = pause_ms
        self._bug = bug

    @property
    def journals(self) -> list[Path]:
        """All that was written down."""
        return [path for client in self.clients for path in client.journals]

    def start(self, client: ClientProcess) -> None:
        """Start a client process, or one that takes the place of one that was killed, with the same checkpoints."""
        client.lives += 1
        kept = client.directory / f"{client.name}-kept"
        kept.mkdir(exist_ok=True)
        journal = client.directory / f"{client.name}-{client.lives}.journal"
        client.journals.append(journal)
        seed = f"{self._seed}/{client.lives}/{client.number - 1}"
        command = [sys.executable, "-m", "chaos.client", self._servers, str(journal), str(kept), client.kind]
        command += [str(client.first_client), seed, str(self._pause_ms), self._bug]
        if self._network is not None:
            command = [*self._network.command(client.name), *command]
        paths = [str(TESTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        with client.log_file.open("ab") as log:
            client.process = subprocess.Popen(
                dying_with_this_process(command),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONFAULTHANDLER": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))},
                start_new_session=True,
            )

    def supervise(self) -> None:
        """Take in what has ended by itself: none should."""
        for client in self.clients:
            if client.process is not None and not client.running and not client.held:
                code = client.process.returncode
                self.breakdowns.append(f"client {client.name} ended with {code}; see {client.log_file.name}")
                client.kill()
                self.start(client)

    def hold(self, client: ClientProcess) -> None:
        """Kill a client process, and start no other in its place."""
        client.held += 1
        client.kill()

    def release(self, client: ClientProcess) -> None:
        """Let another process take its place."""
        client.held -= 1
        if not client.held:
            self.start(client)

    @staticmethod
    def pause(client: ClientProcess) -> None:
        """Stop a client process where it is."""
        client.stopped += 1
        if client.running and client.process is not None:
            client.process.send_signal(SIGSTOP)

    @staticmethod
    def resume(client: ClientProcess) -> None:
        """Let it go on."""
        client.stopped -= 1
        if client.running and not client.stopped and client.process is not None:
            client.process.send_signal(SIGCONT)

    # The end of a run.

    def tell(self, order: str, answer: str, patience_s: float, meanwhile: Callable[[], None]) -> list[str]:
        """Tell all processes something, and return those that have not answered in time."""
        before = {client.name: self._said(client).count(answer) for client in self.clients}
        for client in self.clients:
            assert client.process is not None
            assert client.process.stdin is not None
            client.process.stdin.write(f"{order}\n".encode())
            client.process.stdin.flush()
        give_up = time.monotonic() + patience_s
        waiting = list(self.clients)
        while waiting and time.monotonic() < give_up:
            waiting = [each for each in waiting if self._said(each).count(answer) <= before[each.name]]
            meanwhile()
            time.sleep(0.05)
        return [client.name for client in waiting]

    @staticmethod
    def _said(client: ClientProcess) -> list[str]:
        return client.log_file.read_text(errors="replace").splitlines()

    def end(self, patience_s: float) -> list[str]:
        """Tell all processes to end, and return what is wrong with how they did."""
        wrong = []
        for client in self.clients:
            assert client.process is not None
            assert client.process.stdin is not None
            client.process.stdin.write(b"end\n")
            client.process.stdin.flush()
        give_up = time.monotonic() + patience_s
        for client in self.clients:
            assert client.process is not None
            try:
                code = client.process.wait(max(0.0, give_up - time.monotonic()))
            except subprocess.TimeoutExpired:
                wrong.append(f"client {client.name} does not end")
            else:
                if code:
                    wrong.append(f"client {client.name} ended with {code}; see {client.log_file.name}")
        return wrong

    def kill(self) -> None:
        """End all processes."""
        for client in self.clients:
            client.kill()
