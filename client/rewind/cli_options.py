"""What all commands share: the options before the command, and connecting as they say."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import click

from rewind.aio import Connecting
from rewind.blocking import Store
from rewind.group_operator import GroupOperator
from rewind.lines import dump
from rewind.urls import Target, parse_target


@dataclass(frozen=True, slots=True)
class Options:
    """The options before the command."""

    servers: str
    context: str | None
    as_json: bool
    timeout_s: float | None

    @property
    def target(self) -> Target:
        """What to connect to."""
        return parse_target(self.servers, self.context, self.timeout_s)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Give a store of the context."""
        with Store(self.target) as store:
            store.open_context()
            yield store

    @contextmanager
    def operator(self) -> Iterator[GroupOperator]:
        """Give a store of the context for operators of groups."""
        with GroupOperator(self.target) as store:
            store.open_context()
            yield store

    @contextmanager
    def cluster(self) -> Iterator[Store]:
        """Give a store without a context, for what is asked of the cluster: it needs no quorum."""
        with Store(self.target) as store:
            yield store

    def async_store(self) -> Connecting:
        """Return a connection for asyncio, to be entered."""
        return Connecting(self.target)


def print_json(fields: object) -> None:
    """Print one line of JSON to stdout, at once."""
    click.echo(dump(fields))


def pass_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Call a command with the options first. `--json` may stand behind the command, too."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
    @click.pass_obj
    @wraps(command)
    def with_options(options: Options, /, *given: Any, as_json: bool, **named: Any) -> Any:
        return command(replace(options, as_json=options.as_json or as_json), *given, **named)

    return with_options
