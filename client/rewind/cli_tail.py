"""`rewind tail`: the events of the context as they come."""

import click

from rewind.beginning import NOW, Now
from rewind.cli_options import Options, pass_options, print_json
from rewind.cli_shown import event_fields, iso, notes, shown
from rewind.events import Event
from rewind.subscription import Subscription


@click.command()
@click.option(
    "--after",
    default="now",
    show_default=True,
    metavar="now|start|CHECKPOINT",
    help="Where to begin; a checkpoint stands on each line of --json.",
)
@click.option("--types", metavar="T,…", help="Only events of these types.")
@click.option("--prefix", default="", metavar="TEXT", help="Only streams whose names begin with TEXT.")
@pass_options
def tail(options: Options, after: str, types: str | None, prefix: str) -> None:
    """Print events as they are appended, until interrupted."""
    wanted = None if types is None else types.split(",")
    with options.store() as store, store.subscribe(after=_after(after), types=wanted, prefix=prefix) as subscription:
        try:
            for event in subscription:
                _print(options, event, subscription)
        except KeyboardInterrupt:
            click.echo(f"rewind: to go on from here: --after {subscription.checkpoint}", err=True)
            raise


def _after(given: str) -> str | Now | None:
    return {"now": NOW, "start": None}.get(given, given)


def _print(options: Options, event: Event, subscription: Subscription) -> None:
    if options.as_json:
        print_json({**event_fields(event), "checkpoint": subscription.checkpoint})
    else:
        click.echo(f"{iso(event)}  {event.stream} {event.version}  {event.type}  {shown(event.data)}{notes(event)}")
