"""The `rewind-node` command: run a server, or a local cluster, or watch one survive, or look into a data directory.

Whatever goes wrong, the user gets one line on standard error and an exit code (`rewind_node.exits`), never a
traceback. Each command imports what it needs when it runs, so that `--help` and mistakes are answered at once.
"""

import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import click
import structlog

from rewind_cluster.errors import ClusterError
from rewind_node import logs
from rewind_node.exits import INTERNAL_ERROR, NodeExit, StorageFailureError
from rewind_node.options import CONFIG_VARIABLE, DEFAULTS, OPTIONS, REQUIRED, resolve
from rewind_node.storage_errors import StorageError

PROGRAM = "rewind-node"
DISTRIBUTION = "rewind-eventstore"
INTERRUPTED = 130  # what a shell reports of a program that Ctrl-C ended
NODES_MAX = 9  # of a local cluster; more would only compete for the same disk


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(version(DISTRIBUTION), prog_name=PROGRAM)
@click.pass_context
def command_line(context: click.Context) -> None:
    """Run a node of Rewind, the replicated event store."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


def _node_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command a flag for each row of the table of options; which value holds is decided by `resolve`."""
    for option in reversed(OPTIONS):
        default = DEFAULTS.get(option.field)
        shown = f" [default: {default}]" if isinstance(default, str | int) and default and option.metavar else ""
        required = " [required]" if option.name in REQUIRED else ""
        command = click.option(
            option.flag,
            option.name,
            default=None,
            is_flag=not option.metavar,
            multiple=option.name == "label",
            metavar=option.metavar or None,
            help=option.help + shown + required,
        )(command)
    return command


@command_line.command(
    epilog=f"Every option is also a variable ({OPTIONS[0].variable}, …) and a key of the --config file."
)
@_node_flags
@click.option(
    "--config", metavar="FILE", help=f"A TOML file with options, its keys spelled like the flags. [{CONFIG_VARIABLE}]"
)
def run(**flags: object) -> int:
    """Run one node in the foreground.

    SIGTERM hands its leaderships over, then ends it.
    """
    options = resolve(flags, os.environ)
    logs.configure(options.log_level, options.log_format, node=options.name)
    if options.beyond_loopback:
        structlog.get_logger().warning(
            "other machines can reach this node, and nothing is encrypted or authenticated",
            listen=options.listen,
            peer_listen=options.peer_listen,
            http_listen=options.http_listen,
        )
    from rewind_node.server import serve  # noqa: PLC0415 - see the module's docstring

    return serve(options)


@command_line.command()
@click.option("--nodes", type=click.IntRange(1, NODES_MAX), default=3, show_default=True, help="How many nodes.")
@click.option("--partitions", type=click.IntRange(1, 1024), default=4, show_default=True, help="How many partitions.")
@click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Keep the data. [default: temporary]"
)
@click.option("--port-base", type=click.IntRange(1024, 64_000), default=7070, show_default=True, help="First port.")
def dev(nodes: int, partitions: int, data_dir: Path | None, port_base: int) -> int:
    """Run a local cluster of real processes in the foreground. Kill its nodes as you like: they come back."""
    from rewind_node.dev import run_dev  # noqa: PLC0415 - see the module's docstring

    return run_dev(nodes=nodes, partitions=partitions, data_dir=data_dir, port_base=port_base)


@command_line.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def demo(file: Path | None) -> int:
    """Take events in, kill a leader on the way, read all back. FILE holds JSON lines as `rewind import` takes them.

    Exits with 0 only if nothing was lost and nothing happened twice.
    """
    from rewind_node.demo import run_demo  # noqa: PLC0415 - see the module's docstring

    return run_demo(file)


@command_line.command()
@click.argument("data_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
def dump(data_dir: Path) -> None:
    """Print what a data directory holds, one JSON object per line. The node must not be running."""
    from rewind_node.dump import dump as dump_directory  # noqa: PLC0415 - see the module's docstring

    dump_directory(data_dir, _print_line)


def _print_line(line: str) -> None:
    sys.stdout.write(line)  # unlike click.echo it does not flush each of what may be millions of lines


def execute(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; say what went wrong in one line."""
    try:
        result = command_line.main(list(arguments), prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough. What is still buffered must not raise again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence against a traceback
        message, code = _explain(error)
        click.echo(f"{PROGRAM}: {' '.join(message.split())}", err=True)
        return code
    return result if isinstance(result, int) else 0


def _explain(error: Exception) -> tuple[str, int]:
    """Return what to tell the user, and the exit code."""
    match error:
        case click.ClickException():
            return f"{error.format_message()} (see {PROGRAM} --help)", error.exit_code
        case NodeExit():
            return error.message, error.code
        case StorageError():
            return str(error), error.exit_code
        case ClusterError():
            return str(error), StorageFailureError.code
        case OSError(filename=str() as path):
            return f"{path}: {error.strerror}", StorageFailureError.code
    structlog.get_logger().debug("internal error", exc_info=error)
    return f"internal error, please report it: {type(error).__name__}: {error}", INTERNAL_ERROR


def main() -> NoReturn:
    """Run as a program."""
    sys.exit(execute(sys.argv[1:]))
