"""The `rewind` command: its options, its exit codes, and what goes where.

Results go to stdout, everything else to stderr. Exit codes: 0; 1 with one line that says what to do; 2 wrong usage;
130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version as installed_version

import click

from rewind.cli_bench import bench
from rewind.cli_events import append, context, read, streams
from rewind.cli_group import group
from rewind.cli_options import Options
from rewind.cli_status import status
from rewind.cli_tail import tail
from rewind.cli_transfer import export, import_events
from rewind.errors import InvalidArgument, RewindError
from rewind.urls import TIMEOUT_DEFAULT_S

DISTRIBUTION = "rewind-eventstore"
EXIT_ERROR = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name=DISTRIBUTION, version=installed_version(DISTRIBUTION), prog_name="rewind")
@click.option(
    "--servers",
    envvar="REWIND_SERVERS",
    default="127.0.0.1:7070",
    show_default=True,
    metavar="HOST:PORT,…",
    help="Nodes to begin with, or a rewind:// URL; one that is up is enough.",
)
@click.option(
    "--context", "context_name", envvar="REWIND_CONTEXT", metavar="NAME", help="The context.  [default: default]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
@click.option(
    "--timeout",
    type=float,
    envvar="REWIND_TIMEOUT",
    metavar="S",
    help=f"Seconds that each call may take in total.  [default: {TIMEOUT_DEFAULT_S:g}]",
)
@click.pass_context
def cli(
    click_context: click.Context, servers: str, context_name: str | None, as_json: bool, timeout: float | None
) -> None:
    """Use and operate a Rewind cluster: a replicated event store."""
    click_context.obj = options = Options(servers, context_name, as_json, timeout)
    try:
        options.target  # noqa: B018 - wrong usage is told before anything is done
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None


for command in (status, append, read, tail, streams, import_events, export, context, group, bench):
    cli.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    try:
        result = cli.main(list(arguments), prog_name="rewind", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("rewind: interrupted", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain about it once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except (RewindError, OSError) as error:
        click.echo(f"rewind: {_explained(error)}".replace("\n", " "), err=True)
        return EXIT_ERROR
    return result if isinstance(result, int) else 0


def _explained(error: RewindError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else f"cannot write: {error.strerror}"
    return str(error)


def main() -> None:
    """Run the command and exit."""
    sys.exit(run(sys.argv[1:]))
