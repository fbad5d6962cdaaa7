"""The fake cluster, with and without sockets. Helper modules are loaded here: tests are no package."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from group_lab import Worker


def _load(name: str) -> ModuleType:
    known = sys.modules.get(f"client_tests_{name}")
    if known is not None:
        return known
    spec = importlib.util.spec_from_file_location(f"client_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake_cluster() -> ModuleType:
    """Return the module of the fake cluster."""
    return _load("fake_cluster")


@pytest.fixture
def make_lab(fake_cluster: ModuleType) -> Callable[..., Any]:
    """Make a lab, not connected yet."""
    lab_class = _load("lab").Lab
    return lambda **options: lab_class(fake_cluster, **options)


@pytest.fixture
def lab(make_lab: Callable[..., Any]) -> Any:
    """Return a session that is connected to three nodes with four partitions."""
    return make_lab().connect()


@pytest.fixture
def one(make_lab: Callable[..., Any]) -> Any:
    """Return a session with three nodes and one partition."""
    return make_lab(partitions=1).connect()


@pytest.fixture
def make_worker() -> Callable[..., Any]:
    """Make a member of a consumer group in a lab, with its application."""
    return Worker


@pytest.fixture
def server(fake_cluster: ModuleType) -> Iterator[Any]:
    """Serve the fake cluster on real sockets: three nodes, four partitions."""
    made = _load("fake_server").FakeServer(fake_cluster)
    yield made
    made.close()
