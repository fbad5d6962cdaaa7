"""`rewind group`: the consumer groups of the context, where they stand, and what is parked."""

from collections.abc import Sequence
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from rewind.beginning import NOW, Now
from rewind.cli_options import Options, pass_options, print_json
from rewind.cli_shown import event_fields, result_console, result_table
from rewind.group_operator import GroupState, ParkedEvent
from rewind_cluster.groups import GroupRow, MemberRow
from rewind_cluster.wire import UINT_MAX

COLUMNS = ("epoch", "checkpoint", "head", "lag", "waiting", "parked", "replaying")
SHOWN = ("checkpoint", "lag", "waiting", "parked", "replaying")  # to people: what they may have to act on


class PlaceType(click.ParamType[Any]):
    """A partition and a position in it."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return partition and position."""
        partition, _, position = str(value).partition(":")
        if not all(
            each.isascii() and each.isdigit() and len(each) < len(str(UINT_MAX)) for each in (partition, position)
        ):
            self.fail(f"{value!r} is no PARTITION:POSITION", param, ctx)
        return int(partition), int(position)


@click.group()
def group() -> None:
    """Look after consumer groups."""


@group.command("list")
@pass_options
def list_groups(options: Options) -> None:
    """List the context's groups."""
    with options.operator() as operator:
        for state in operator.group_states():
            totals = _totals(state)
            if options.as_json:
                print_json({"group": state.name, **totals})
            else:
                click.echo(f"{state.name}  " + "  ".join(f"{name} {count}" for name, count in totals.items()))


def _totals(state: GroupState) -> dict[str, int]:
    held = sum(bool(row.owner) for row in state.partitions.values())
    summed = {column: state.total(column) for column in ("waiting", "parked", "replaying")}
    return {"partitions": len(state.partitions), "held": held, "lag": state.lag, **summed}


@group.command("show")
@click.argument("name")
@pass_options
def show(options: Options, name: str) -> None:
    """Show where the group NAME stands, and its members."""
    with options.operator() as operator:
        state = operator.group_state(name)
    labels = {member.member: member.label for member in state.members}
    rows = [_row_fields(partition, row, labels) for partition, row in sorted(state.partitions.items())]
    members = [_member_fields(member) for member in state.members]
    if options.as_json:
        print_json({"group": state.name, **_totals(state), "states": rows, "members": members})
        return
    console = result_console()
    console.print(_table(rows, plain=not console.is_terminal))
    for member in members:
        has = ",".join(map(str, member["holds"])) or "nothing"
        click.echo(f"member {member['label']} ({member['member']}) has {has}")


def _table(rows: Sequence[dict[str, Any]], *, plain: bool) -> Table:
    table = result_table(plain=plain)
    for column in ("partition", *SHOWN):
        table.add_column(column.upper(), justify="right")
    table.add_column("OWNER", overflow="fold")
    for row in rows:
        table.add_row(str(row["partition"]), *(f"{row[column]:,}" for column in SHOWN), Text(row["owner"]))
    return table


def _row_fields(partition: int, row: GroupRow, labels: dict[bytes, str]) -> dict[str, Any]:
    owner = labels.get(row.owner, row.owner.hex()) if row.owner else "-"
    return {"partition": partition, "owner": owner, **{column: getattr(row, column) for column in COLUMNS}}


def _member_fields(row: MemberRow) -> dict[str, Any]:
    return {
        "member": row.member.hex(),
        "label": row.label,
        "holds": list(row.holds),
        "assigned": list(row.assigned),
    }


@group.command("reset")
@click.argument("name")
@click.option("--to", "where", required=True, metavar="start|now|CHECKPOINT", help="Where the group continues.")
@pass_options
def reset(options: Options, name: str, where: str) -> None:
    """Put the checkpoint of the group NAME elsewhere.

    What is beyond it is delivered, again if need be. A group that is not there yet is made.
    """
    named: dict[str, str | Now | None] = {"now": NOW, "start": None}
    with options.operator() as operator:
        is_new = operator.reset_group(name, named.get(where, where))
    text = (
        f"there was no group {name}: it is made, and begins at {where}"
        if is_new
        else f"group {name} goes on from {where}"
    )
    _done(options, {"group": name, "reset": where, "made": is_new}, text)


@group.command("parked")
@click.argument("name")
@pass_options
def parked(options: Options, name: str) -> None:
    """Print the parked events of the group NAME."""
    with options.operator() as operator:
        for each in operator.parked_events(name):
            if options.as_json:
                fields = {"attempts": each.attempts, "reason": each.reason, "replaying": each.replaying}
                print_json({**event_fields(each.event), **fields})
            else:
                click.echo(_parked_line(each))


def _parked_line(each: ParkedEvent) -> str:
    event = each.event
    replaying = "  (replaying)" if each.replaying else ""
    place = f"{event.partition}:{event.position}"
    return (
        f"{place:>10}  {event.stream} {event.version}  {event.type}  attempts {each.attempts}  {each.reason}{replaying}"
    )


@group.command("replay")
@click.argument("name")
@click.argument("places", nargs=-1, type=PlaceType(), metavar="[PARTITION:POSITION]...")
@pass_options
def replay(options: Options, name: str, places: Sequence[tuple[int, int]]) -> None:
    """Deliver parked events of the group NAME again.

    All of them, if none is named.
    """
    with options.operator() as operator:
        count = operator.replay_parked(name, _by_partition(places) if places else None)
    _done(options, {"group": name, "replaying": count}, f"{_parked_events(count)} will be delivered once more")


@group.command("discard")
@click.argument("name")
@click.argument("places", nargs=-1, type=PlaceType(), metavar="[PARTITION:POSITION]...")
@click.option("--all", "everything", is_flag=True, help="All parked events.")
@pass_options
def discard(options: Options, name: str, places: Sequence[tuple[int, int]], everything: bool) -> None:
    """Discard parked events of the group NAME.

    The events themselves stay in their streams.
    """
    if bool(places) == everything:
        raise click.UsageError("name the events, as `rewind group parked` shows them, or give --all")
    with options.operator() as operator:
        count = operator.replay_parked(name, None if everything else _by_partition(places), discard=True)
    _done(options, {"group": name, "discarded": count}, f"{_parked_events(count)} discarded")


def _parked_events(count: int) -> str:
    return f"{count} parked event{'' if count == 1 else 's'}"


def _by_partition(places: Sequence[tuple[int, int]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for partition, position in places:
        found.setdefault(partition, []).append(position)
    return found


@group.command("delete")
@click.argument("name")
@pass_options
def delete(options: Options, name: str) -> None:
    """Delete the group NAME, which must have no members."""
    with options.operator() as operator:
        operator.delete_group(name)
    _done(options, {"group": name, "deleted": True}, f"group {name} deleted")


def _done(options: Options, fields: dict[str, Any], text: str) -> None:
    if options.as_json:
        print_json(fields)
    else:
        click.echo(text)
