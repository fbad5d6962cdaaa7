"""The shape of the public API: both stores alike, everything described, users' programs typed, and little imported."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rewind

WHOLE_API = Path(__file__).parents[1] / "typing" / "whole_api.py"
OF_THE_SHELLS = {"open_context", "packed_id", "packed_metadata"}  # not for users
OTHERS = ("lmdb", "opentelemetry", "prometheus_client", "rewind_node", "starlette", "structlog", "uvicorn")


def public_members(value: type) -> dict[str, Any]:
    """Return what a class itself defines for users."""
    return {name: member for name, member in vars(value).items() if not name.startswith("_")}


def classes() -> list[type]:
    return [value for name in rewind.__all__ if inspect.isclass(value := getattr(rewind, name))]


@pytest.mark.parametrize(
    ("blocking", "awaited"),
    [
        (rewind.Store, rewind.AsyncStore),
        (rewind.Subscription, rewind.AsyncSubscription),
        (rewind.Group, rewind.AsyncGroup),
        (rewind.Delivery, rewind.AsyncDelivery),
        (rewind.EventReader, rewind.AsyncEventReader),
        (rewind.ContextReader, rewind.AsyncContextReader),
        (rewind.connect, rewind.connect_async),
    ],
)
def test_both_clients_have_the_same_names_and_arguments(blocking: Any, awaited: Any) -> None:
    def arguments(value: Any) -> dict[str, list[tuple[str, Any, Any]]]:
        functions = public_members(value) if inspect.isclass(value) else {"": value}
        return {
            name: [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]
            for name, function in functions.items()
            if inspect.isfunction(function)
        }

    assert arguments(blocking) == arguments(awaited)
    if inspect.isclass(blocking):
        assert public_members(blocking).keys() == public_members(awaited).keys()


def test_everything_public_is_described() -> None:
    described = {name: getattr(rewind, name) for name in rewind.__all__ if callable(getattr(rewind, name))}
    for value in classes():
        members = public_members(value).items()
        described |= {
            f"{value.__name__}.{name}": member
            for name, member in members
            if inspect.isfunction(member) or isinstance(member, property)
        }

    missing = [name for name, member in described.items() if not (member.__doc__ or "").strip()]

    assert len(described) > 60
    assert missing == []


def test_the_typed_program_uses_the_whole_api() -> None:
    tree = ast.parse(WHOLE_API.read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    offered = set(rewind.__all__).union(*map(public_members, classes())) - OF_THE_SHELLS

    assert sorted(offered - used) == []


def test_the_bare_install_imports_nothing_of_the_node() -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys({OTHERS!r}))  # importing one of these now raises ImportError
import rewind, rewind.cli
sys.exit(rewind.cli.run(["--version"]))
"""

    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert said.stdout.startswith("rewind")


def test_the_bare_install_needs_four_packages() -> None:
    from importlib.metadata import requires  # noqa: PLC0415 - of what is installed, not of this checkout

    bare = [each for each in requires("rewind-eventstore") or () if "extra ==" not in each]

    assert sorted(each.partition(">=")[0] for each in bare) == ["click", "msgpack", "pyzmq", "rich"]
