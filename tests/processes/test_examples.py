"""The programs in client/examples against a real cluster: run, run twice, killed, and more than one at a time."""

import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from real_cluster import RealCluster, eventually

import rewind
from rewind_node.demo import free_port_base
from rewind_node.parent_death import dying_with_this_process

pytestmark = pytest.mark.processes

EXAMPLES = Path(__file__).parents[2] / "client" / "examples"
PAID_IN_CENTS = 400_00


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    directory = tmp_path_factory.mktemp("examples")
    with RealCluster(directory, nodes=3, partitions=2, port_base=free_port_base(3)) as cluster:
        yield cluster.serve()


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bank() -> ModuleType:
    return load("bank")


@pytest.fixture(scope="module")
def projection() -> ModuleType:
    return load("projection")


@pytest.fixture
def store(served: RealCluster, bank: ModuleType) -> Iterator[rewind.Store]:
    """Return the bank's store, with its accounts open."""
    with rewind.connect(served.url) as default:
        default.create_context(bank.CONTEXT, ordered=True)
    with rewind.connect(served.url, context=bank.CONTEXT) as store:
        for account in bank.ACCOUNTS:
            bank.open_account(store, account)
        yield store


def program(name: str, served: RealCluster, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-u", str(EXAMPLES / f"{name}.py"), "--servers", served.servers, *arguments]
    return subprocess.Popen(dying_with_this_process(command), stdout=subprocess.PIPE, text=True, env=os.environ)


def run(name: str, served: RealCluster, *arguments: str) -> str:
    with program(name, served, *arguments) as process:
        said, _ = process.communicate()
    assert process.returncode == 0
    return said


def kill(process: "subprocess.Popen[str]") -> None:
    with process:
        process.kill()


DYING = """
import os, signal, sqlite3, sys
sys.path.insert(0, {folder!r})
import projection

class Dying(sqlite3.Connection):
    left = {statements}

    def execute(self, *arguments):
        Dying.left -= 1
        if not Dying.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(*arguments)

connect = sqlite3.connect
sqlite3.connect = lambda name: connect(name, factory=Dying)
projection.TRANSACTION_EVENTS_MAX = 3
projection.main(["--servers", {servers!r}, "--once", {file!r}])
"""


def die_before(statements: int, served: RealCluster, file: Path) -> None:
    """Run the projection until it is about to execute its so many-th statement, and kill it there."""
    code = DYING.format(folder=str(EXAMPLES), statements=statements, servers=served.servers, file=str(file))
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL


def balances(bank: ModuleType, store: rewind.Store) -> dict[str, tuple[int, int]]:
    """Return each account's cents and number of events, by the streams themselves."""
    accounts = {name: bank.account_of(store.read(name)) for name in bank.ACCOUNTS}
    return {name.removeprefix("account-"): (account.cents, account.version) for name, account in accounts.items()}


def table(file: Path) -> dict[str, tuple[int, int]]:
    with closing(sqlite3.connect(file)) as database:
        return {name: (cents, events) for name, cents, events in database.execute("SELECT * FROM accounts")}


class Meddler:
    """A store in whose `append_many` something happens the first time."""

    def __init__(self, store: rewind.Store, meddle: Any) -> None:
        self.read = store.read
        self._store = store
        self._meddle = meddle

    def append_many(self, appends: Any) -> Any:
        meddle, self._meddle = self._meddle, None
        if meddle is not None:
            meddle(appends)
        return self._store.append_many(appends)


def test_the_bank_keeps_all_its_money_each_time_it_is_run(served: RealCluster) -> None:
    first = run("bank", served, "--transfers", "10")
    second = run("bank", served, "--transfers", "10")

    assert "0 accounts opened, 4 were open" in second
    for said in (first, second):
        assert f"{PAID_IN_CENTS} cents in all accounts, {PAID_IN_CENTS} were paid in" in said


def test_the_bank_keeps_all_its_money_when_it_is_killed(
    served: RealCluster, bank: ModuleType, store: rewind.Store
) -> None:
    before = sum(events for _, events in balances(bank, store).values())
    process = program("bank", served, "--transfers", "100000")

    eventually(lambda: sum(map(store.version, bank.ACCOUNTS)) > before + 50, "the bank makes transfers")
    kill(process)

    assert sum(cents for cents, _ in balances(bank, store).values()) == PAID_IN_CENTS


def test_a_transfer_made_twice_moves_the_money_once(bank: ModuleType, store: rewind.Store) -> None:
    name, transfer_id = f"account-{uuid4()}", uuid4()
    store.append(name, bank.happened("Opened", 10))

    decisions = [bank.transfer(store, name, f"{name}-other", 4, transfer_id) for _ in range(2)]

    assert decisions == [1, 0]
    assert bank.account_of(store.read(name)).cents == 6
    assert bank.account_of(store.read(f"{name}-other")).cents == 4


def test_a_transfer_is_decided_again_if_somebody_was_faster(bank: ModuleType, store: rewind.Store) -> None:
    name = f"account-{uuid4()}"
    store.append(name, bank.happened("Opened", 10))
    faster = Meddler(store, lambda _: store.append(name, bank.happened("Withdrawn", 4)))

    with pytest.raises(bank.InsufficientFundsError, match="holds 6 cents, not 10"):
        bank.transfer(faster, name, "account-other", 10, uuid4())

    assert bank.account_of(store.read(name)).cents == 6
    assert store.version("account-other") == 0


def test_a_transfer_whose_answer_was_lost_is_not_made_again(bank: ModuleType, store: rewind.Store) -> None:
    name = f"account-{uuid4()}"
    store.append(name, bank.happened("Opened", 10))

    def lose_the_answer(appends: Any) -> None:
        store.append_many(appends)
        raise rewind.OutcomeUnknown("the answer was lost")

    bank.transfer(Meddler(store, lose_the_answer), name, f"{name}-other", 10, uuid4())

    assert bank.account_of(store.read(name)).cents == 0
    assert [event.type for event in store.read(f"{name}-other")] == ["Deposited"]


def test_the_projection_has_each_event_once_wherever_it_is_killed(
    served: RealCluster, bank: ModuleType, store: rewind.Store, tmp_path: Path
) -> None:
    file = tmp_path / "accounts.sqlite"
    for _ in range(40):
        store.append("account-ada", [bank.happened("Deposited", 1), bank.happened("Withdrawn", 1)])

    for statements in range(2, 11):  # two transactions are four statements each, after one that reads the checkpoint
        die_before(statements, served, file)
    run("projection", served, str(file), "--once")

    kept = table(file)
    assert {name: kept[name] for name in balances(bank, store)} == balances(bank, store)


def test_the_projection_follows_what_comes_and_goes_on_after_a_kill(
    served: RealCluster, bank: ModuleType, store: rewind.Store, tmp_path: Path
) -> None:
    file = tmp_path / "accounts.sqlite"
    work = program("bank", served, "--transfers", "100000")
    for _ in range(2):
        process = program("projection", served, str(file))
        assert process.stdout is not None
        heard = [process.stdout.readline() for _ in range(20)]
        kill(process)
        assert "taken in" in heard[0]
        assert "version" in heard[-1]
    kill(work)

    run("projection", served, str(file), "--once")

    kept = table(file)
    assert {name: kept[name] for name in balances(bank, store)} == balances(bank, store)


def test_the_projection_run_again_takes_in_nothing_twice(
    served: RealCluster, store: rewind.Store, tmp_path: Path
) -> None:
    file = tmp_path / "accounts.sqlite"
    assert store.version("account-ada") > 0

    run("projection", served, str(file), "--once")
    kept = table(file)
    said = run("projection", served, str(file), "--once")

    assert said == "0 events taken in\n"
    assert table(file) == kept


def test_a_second_projection_into_the_same_table_is_told(
    projection: ModuleType, store: rewind.Store, tmp_path: Path
) -> None:
    assert store.version("account-ada") > 0
    with (
        closing(sqlite3.connect(tmp_path / "accounts.sqlite")) as one,
        closing(sqlite3.connect(tmp_path / "accounts.sqlite")) as other,
    ):
        first, second = projection.Accounts(one), projection.Accounts(other)
        projection.catch_up(first, store)
        kept = table(tmp_path / "accounts.sqlite")

        with pytest.raises(projection.AnotherProjectionError):
            projection.catch_up(second, store)

    assert table(tmp_path / "accounts.sqlite") == kept
