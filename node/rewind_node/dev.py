"""`rewind-node dev`: a local cluster in the foreground, to try things out on, and to kill nodes of.

A node that a signal killed is started again after a second, as a machine's supervisor would. A node that ended by
itself had a reason, so it is reported and stays down. Ctrl-C stops everything; nothing is left but a given data
directory.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from rewind_node.local_cluster import LocalCluster, LocalNode, ended_like_by_ctrl_c

RESTART_DELAY_S = 1.0
WATCH_INTERVAL_S = 0.1
DEFAULT_PORT = 7070
SERVERS_SHOWN_MAX = 3  # a client learns of the others


def run_dev(*, nodes: int, partitions: int, data_dir: Path | None, port_base: int) -> int:
    """Run until Ctrl-C, SIGTERM, or until every node has ended by itself; return the exit code."""
    console = Console(highlight=False)
    with ended_like_by_ctrl_c(), _directory(data_dir) as directory:
        try:
            with LocalCluster(directory, nodes=nodes, partitions=partitions, port_base=port_base) as cluster:
                with console.status("Starting the nodes …"):
                    cluster.start()
                    cluster.wait_ready()
                _introduce(cluster, directory, console)
                return Watch(cluster, console).run()
        except KeyboardInterrupt:
            console.print("Stopped.")
            return 0


@contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with TemporaryDirectory(prefix="rewind-dev-") as temporary:
        yield Path(temporary)


def _introduce(cluster: LocalCluster, directory: Path, console: Console) -> None:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in ("node", "pid", "clients", "peers", "dashboard"):
        table.add_column(heading)
    for node in cluster.nodes:
        url = f"http://{node.http_address}/"
        table.add_row(f"[bold]{node.name}[/]", str(node.pid), node.address, node.peer_address, f"[link={url}]{url}[/]")
    first = cluster.nodes[0]
    servers = ",".join(node.address for node in cluster.nodes[:SERVERS_SHOWN_MAX])
    option = "" if first.port == DEFAULT_PORT else f" --servers {servers}"
    console.print("\n[bold]Rewind[/] is up.\n")
    console.print(table)
    console.print("\n  In another terminal:\n", style="dim")
    for command in (
        f"""rewind{option} append order-1 --type OrderPlaced --data '{{"book": "Momo"}}'""",
        f"rewind{option} read order-1",
        f"rewind{option} status --watch",
        f"kill -9 {first.pid}        # {first.name}; it comes back",
    ):
        console.print(f"    {command}", soft_wrap=True, markup=False)
    console.print(f"\n  Data and logs are in {directory}. Ctrl-C stops everything.\n", style="dim", soft_wrap=True)


class Watch:
    """Sees to it that killed nodes come back. `run` ends when no node is left."""

    def __init__(self, cluster: LocalCluster, console: Console, restart_delay_s: float = RESTART_DELAY_S) -> None:
        self._cluster = cluster
        self._console = console
        self._restart_delay_s = restart_delay_s
        self._restarts: dict[str, float] = {}  # when a killed node is due, by name, monotonic
        self._ended: dict[str, int] = {}  # nodes that ended by themselves, with their exit codes

    def run(self) -> int:
        """Watch until all nodes have ended by themselves; return the exit code of the last."""
        while len(self._ended) < len(self._cluster.nodes):
            for node in self._cluster.nodes:
                self._look_after(node)
            time.sleep(WATCH_INTERVAL_S)
        return list(self._ended.values())[-1]

    def _look_after(self, node: LocalNode) -> None:
        code = node.exit_code()
        if code is None or node.name in self._ended:
            return
        if code >= 0:
            self._ended[node.name] = code
            self._say(node, f"ended with exit code {code} and stays down: {node.last_words()}")
        elif node.name not in self._restarts:
            self._restarts[node.name] = time.monotonic() + self._restart_delay_s
            self._say(node, f"was killed by {signal.Signals(-code).name}")
        elif time.monotonic() >= self._restarts[node.name]:
            del self._restarts[node.name]
            self._cluster.start_node(node)
            self._say(node, f"was started again, pid {node.pid}")

    def _say(self, node: LocalNode, text: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')}  {node.name} {text}", markup=False, soft_wrap=True)
