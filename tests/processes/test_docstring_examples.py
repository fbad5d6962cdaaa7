"""The examples in the public docstrings against a real cluster: each does what it shows.

Each docstring has a context of its own, as `store`: a blocking one, or in an `Async…` class an asyncio one. `await`
stands by itself there, as `python -m asyncio` takes it.
"""

import ast
import doctest
import inspect
import traceback
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from itertools import count
from typing import Any

import pytest
from real_cluster import RealCluster

import rewind
from rewind_node.demo import free_port_base

pytestmark = pytest.mark.processes

WRITTEN_ADDRESS = "127.0.0.1:7070"  # stands for the cluster's own
_numbers = count(1)


def docstrings() -> dict[str, str]:
    """Return the public docstrings that hold examples, by name."""
    found: dict[str, str] = {}
    for name in rewind.__all__:
        value = getattr(rewind, name)
        if not callable(value):
            continue  # a constant's docstring is that of its class
        members = {f"{name}.{key}": member for key, member in vars(value).items()} if inspect.isclass(value) else {}
        for key, member in {name: value, **members}.items():
            if not key.rpartition(".")[2].startswith("_") and ">>>" in (inspect.getdoc(member) or ""):
                found[key] = inspect.getdoc(member) or ""
    return found


DOCSTRINGS = docstrings()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    directory = tmp_path_factory.mktemp("docstrings")
    with RealCluster(directory, nodes=3, partitions=3, port_base=free_port_base(3)) as cluster:
        yield cluster.serve()


@pytest.fixture
def names(served: RealCluster) -> dict[str, Any]:
    """Return what an example may use beside its store."""
    with rewind.connect(served.url) as store:
        context = store.create_context(f"examples-{next(_numbers)}")
    return {"rewind": rewind, "context": context.name} | {name: getattr(rewind, name) for name in rewind.__all__}


async def outcome(source: str, names: dict[str, Any]) -> str:
    """Execute one example as an interactive session does, and return what it prints."""
    code = compile(source, "<example>", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with redirect_stdout(StringIO()) as printed:
        try:
            waiting = eval(code, names)  # noqa: S307 - our own docstrings
            if code.co_flags & inspect.CO_COROUTINE:
                await waiting
        except Exception as error:  # noqa: BLE001 - it may be what the example shows
            return "".join(traceback.format_exception_only(error))
    return printed.getvalue()


async def check(text: str, names: dict[str, Any]) -> None:
    """Execute a docstring's examples one after the other, and hold what each prints against what it shows."""
    checker = doctest.OutputChecker()
    for example in doctest.DocTestParser().get_examples(text):
        got = await outcome(example.source, names)
        want = example.exc_msg or example.want
        assert checker.check_output(want, got, doctest.ELLIPSIS), f"{example.source}shows\n{want}but gave\n{got}"


@pytest.mark.parametrize("name", DOCSTRINGS)
@pytest.mark.asyncio
async def test_an_example_does_what_it_shows(name: str, served: RealCluster, names: dict[str, Any]) -> None:
    text = DOCSTRINGS[name].replace(WRITTEN_ADDRESS, served.nodes[0].address)
    context = names["context"]

    if "sync" in name:
        async with rewind.connect_async(served.url, context=context) as store:
            await check(text, names | {"store": store})
    else:
        with rewind.connect(served.url, context=context) as blocking:
            await check(text, names | {"store": blocking})


def test_both_stores_show_how_to_make_every_call() -> None:
    calls = [name for name in vars(rewind.Store) if not name.startswith("_") and name not in ("open_context", "close")]

    missing = [f"{store}.{name}" for store in ("Store", "AsyncStore") for name in calls]

    assert [name for name in missing if name not in DOCSTRINGS] == []
