"""`rewind bench`: the door to `rewind.bench`, which is looked through only when somebody knocks.

What measures needs libraries that the bare client leaves out, so nothing of it is imported before.
"""

from importlib import import_module
from importlib.util import find_spec

import click

from rewind.errors import RewindError

EXTRA_MODULES = ("hdrh", "matplotlib", "psutil")


class ExtraMissingError(RewindError):
    """The extra `bench` is not installed."""


class BenchGroup(click.Group):
    """The workloads as subcommands."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Return the workloads' names."""
        return list(_commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Return a workload's command."""
        return _commands().get(cmd_name)


def _commands() -> dict[str, click.Command]:
    missing = [name for name in EXTRA_MODULES if find_spec(name) is None]
    if missing:
        raise ExtraMissingError(
            f"bench needs {', '.join(missing)}, which the bare client leaves out; "
            "pip install 'rewind-eventstore[bench]'"
        )
    commands: dict[str, click.Command] = import_module("rewind.bench.commands").COMMANDS
    return commands


@click.group(cls=BenchGroup)
def bench() -> None:
    """Measure a cluster.

    Throughput, latency, time to delivery, and how long writes stop when a leader is lost.

    Only what was acknowledged counts. Events go to the context "bench" unless --context names another. What nodes use
    is told of those that run on this machine as this user, of all that run here for root. Run nothing else beside it:
    how busy the machine is with other things is printed first.
    """
