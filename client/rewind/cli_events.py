"""`rewind append`, `read`, `streams` and `context`: one event, one stream, one name at a time."""

import json
from typing import Any
from uuid import UUID

import click

from rewind.arguments import Consistency
from rewind.cli_options import Options, pass_options, print_json
from rewind.cli_shown import event_fields, iso, notes, shown
from rewind.events import ANY, NO_STREAM, Context, NewEvent
from rewind_cluster.wire import UINT_MAX


class ExpectedType(click.ParamType[Any]):
    """A version, `any` or `none`."""

    name = "expected"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the version that an append expects."""
        named = {"any": ANY, "none": NO_STREAM}.get(str(value))
        if named is not None:
            return named
        if not (str(value).isascii() and str(value).isdigit() and len(str(value)) <= len(str(UINT_MAX))):
            self.fail(f"{value!r} is neither a version nor any nor none", param, ctx)
        return int(value)


class MetadataType(click.ParamType[Any]):
    """A JSON object."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Return the metadata."""
        try:
            metadata = json.loads(value)
        except (ValueError, RecursionError) as error:
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)
        if not isinstance(metadata, dict):
            self.fail(f"{value!r} is not a JSON object", param, ctx)
        return metadata


@click.command()
@click.argument("stream")
@click.option("--type", "event_type", required=True, metavar="T", help="The event's type.")
@click.option("--data", required=True, metavar="TEXT", help="The event's data, stored as UTF-8.")
@click.option("--expected", type=ExpectedType(), default="any", metavar="N|any|none", help="The stream's version now.")
@click.option("--id", "event_id", type=click.UUID, metavar="UUID", help="The event's ID; random if left out.")
@click.option("--metadata", type=MetadataType(), metavar="JSON", help="The event's metadata, a JSON object.")
@pass_options
def append(
    options: Options,
    stream: str,
    event_type: str,
    data: str,
    expected: int,
    event_id: UUID | None,
    metadata: dict[str, Any] | None,
) -> None:
    """Append one event to STREAM."""
    event = NewEvent(event_type, data.encode("utf-8", "surrogateescape"), event_id, metadata)
    with options.store() as store:
        result = store.append(stream, event, expected)
    if options.as_json:
        print_json(
            {
                "version": result.version,
                "position": result.position,
                "partition": result.partition,
                "timestamp": str(result.timestamp),
                "time": iso(result),
            }
        )
    else:
        click.echo(
            f"{stream} is at version {result.version} (partition {result.partition}, position {result.position}, "
            f"{iso(result)})"
        )


@click.command()
@click.argument("stream")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="N", help="Only versions above N.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="N events at most.")
@click.option("--reverse", is_flag=True, help="Newest first.")
@click.option(
    "--consistency",
    type=click.Choice(["linearizable", "any"]),
    default="linearizable",
    show_default=True,
    help="Where to read: at the leader, or at any replica, which may lag.",
)
@click.option("--at-least", metavar="TOKEN", help="Wait until this token's position is reached.")
@pass_options
def read(
    options: Options,
    stream: str,
    after: int,
    limit: int | None,
    reverse: bool,
    consistency: Consistency,
    at_least: str | None,
) -> None:
    """Print the events of STREAM."""
    with options.store() as store:
        for event in store.read(
            stream, after=after, limit=limit, reverse=reverse, consistency=consistency, at_least=at_least
        ):
            if options.as_json:
                print_json(event_fields(event))
            else:
                click.echo(f"{event.version:>6}  {iso(event)}  {event.type}  {shown(event.data)}{notes(event)}")


@click.command()
@click.option("--prefix", default="", metavar="TEXT", help="Only names that begin with TEXT.")
@pass_options
def streams(options: Options, prefix: str) -> None:
    """Print the names of the context's streams, in order."""
    with options.store() as store:
        for name in store.streams(prefix):
            if options.as_json:
                print_json({"stream": name})
            else:
                click.echo(name)


@click.group()
def context() -> None:
    """Create and list contexts."""


@context.command("create")
@click.argument("name")
@click.option("--ordered", is_flag=True, help="Keep all of it in one partition: one order, atomic appends anywhere.")
@pass_options
def create_context(options: Options, name: str, ordered: bool) -> None:
    """Create the context NAME, or find it where it is there already."""
    with options.cluster() as store:
        _print_context(options, store.create_context(name, ordered))


@context.command("list")
@pass_options
def list_contexts(options: Options) -> None:
    """List the cluster's contexts."""
    with options.cluster() as store:
        for found in sorted(store.contexts(), key=lambda found: found.name):
            _print_context(options, found)


def _print_context(options: Options, found: Context) -> None:
    if options.as_json:
        print_json({"name": found.name, "number": found.number, "ordered": found.ordered, "partition": found.partition})
    elif found.ordered:
        click.echo(f"{found.name}  ordered, in partition {found.partition}")
    else:
        click.echo(f"{found.name}  partitioned")
