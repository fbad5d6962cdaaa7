"""`rewind status`: what a node knows of the cluster, for people and for programs, and what needs attention."""

import time
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rewind.blocking import Store
from rewind.cli_options import Options, pass_options, print_json
from rewind.cli_shown import result_console, result_table
from rewind.errors import RewindError

WATCH_S = 1.0

Status = dict[str, Any]


@click.command()
@click.option("--watch", is_flag=True, help="Look again every second until interrupted.")
@pass_options
def status(options: Options, watch: bool) -> None:
    """Show nodes, partitions and what needs attention. Needs one node only."""
    with options.cluster() as store:
        if watch:
            _watch(options, store)
        elif options.as_json:
            print_json(store.status())
        else:
            console = result_console()
            console.print(render(store.status(), plain=not console.is_terminal))


def _watch(options: Options, store: Store) -> None:
    console = result_console()
    if options.as_json or not console.is_terminal:
        while True:
            found = store.status()
            if options.as_json:
                print_json(found)
            else:
                console.print(render(found, plain=True))
            time.sleep(WATCH_S)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                view = render(store.status(), plain=False)
            except RewindError as error:
                view = Text(str(error), style="red")
            live.update(view, refresh=True)
            time.sleep(WATCH_S)


def render(found: Status, *, plain: bool) -> RenderableType:
    """Return the view of a status. `plain`: for a file or a pipe."""
    lines = [Text(f"attention: {note}", style="" if plain else "bold red") for note in found.get("attention", ())]
    return Group(
        Text(f"cluster {found.get('cluster_id') or 'unknown'}"),
        Text(""),
        _nodes(found, plain=plain),
        Text(""),
        _partitions(found, plain=plain),
        Text(""),
        *(lines or [Text("all is well", style="" if plain else "green")]),
    )


def _table(plain: bool, *columns: str) -> Table:
    table = result_table(plain=plain)
    for column in columns:
        right = column in ("PARTITION", "TERM", "COMMIT", "LEADS", "PID")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _nodes(found: Status, *, plain: bool) -> Table:
    table = _table(plain, "NODE", "STATE", "ADDRESS", "LEADS", "PID")
    leads: dict[Any, int] = {}
    for partition in found.get("partitions", []):
        leads[partition.get("leader")] = leads.get(partition.get("leader"), 0) + 1
    for node in found.get("nodes", []):
        state = str(node.get("state"))
        style = "" if plain else {"up": "green", "down": "bold red"}.get(state, "yellow")
        table.add_row(
            str(node.get("name")),
            Text(state, style=style),
            str(node.get("address")),
            str(leads.get(node.get("name"), 0)),
            _known(node.get("pid")),
        )
    return table


def _partitions(found: Status, *, plain: bool) -> Table:
    table = _table(plain, "PARTITION", "LEADER", "TERM", "COMMIT", "REPLICAS")
    for partition in found.get("partitions", []):
        leader = partition.get("leader")
        table.add_row(
            _known(partition.get("partition")),
            Text(leader or "none", style="" if plain or leader else "bold red"),
            _known(partition.get("term")),
            _known(partition.get("commit")),
            ", ".join(_replica(replica, partition.get("commit")) for replica in partition.get("replicas", [])),
        )
    return table


def _replica(replica: Status, commit: Any) -> str:
    role = replica.get("role")
    match = replica.get("match")
    behind = commit - match if isinstance(commit, int) and isinstance(match, int) else 0
    notes = [] if role in ("leader", "follower") else [str(role)]
    if behind > 0:
        notes.append(f"{behind:,} behind")
    return f"{replica.get('node')}" + (f" ({', '.join(notes)})" if notes else "")


def _known(value: Any) -> str:
    return "?" if value is None else str(value)
