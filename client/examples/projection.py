"""A projection: the bank's accounts as a table in SQLite, right to the last event, whatever is killed.

The table and its checkpoint change in the same transaction. So there is no moment at which one of them has an event
and the other has not: each takes effect once, though this program may be killed at any instruction and run again.

First it catches up, many events to a transaction; then it follows what comes, one event to a transaction, so that the
table is never behind. Run it beside `bank.py`:

    python client/examples/projection.py accounts.sqlite
    sqlite3 accounts.sqlite "SELECT * FROM accounts"
"""

import argparse
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from itertools import islice

import rewind
from rewind import Event

CONTEXT = "bank"
PREFIX = "account-"
SIGNS = {"Opened": 1, "Deposited": 1, "Withdrawn": -1}
TRANSACTION_EVENTS_MAX = 1000  # while catching up: each transaction waits for the disk, whatever its size

SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, cents INTEGER NOT NULL, events INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS progress (row INTEGER PRIMARY KEY CHECK (row = 1), checkpoint TEXT);
INSERT OR IGNORE INTO progress VALUES (1, NULL);
"""
ADD = """
INSERT INTO accounts VALUES (?, ?, 1)
ON CONFLICT (name) DO UPDATE SET cents = cents + excluded.cents, events = events + 1
"""
MOVE_ON = "UPDATE progress SET checkpoint = ? WHERE checkpoint IS ?"


class AnotherProjectionError(Exception):
    """Somebody else has moved the table on."""


class Accounts:
    """The table, and the checkpoint that says how far it has got; None at the very beginning."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.executescript(SCHEMA)
        (self.checkpoint,) = database.execute("SELECT checkpoint FROM progress").fetchone()

    def take(self, events: Sequence[Event], checkpoint: str) -> None:
        """Take in events and the checkpoint that includes them: all of it or nothing."""
        with self._database:  # commits at its end, and undoes everything if it is left by an error
            for event in events:
                cents = SIGNS[event.type] * json.loads(event.data)["cents"]
                self._database.execute(ADD, (event.stream.removeprefix(PREFIX), cents))
            if self._database.execute(MOVE_ON, (checkpoint, self.checkpoint)).rowcount != 1:
                raise AnotherProjectionError("another program has moved this table on; let one of them keep it")
        self.checkpoint = checkpoint


def catch_up(accounts: Accounts, store: rewind.Store) -> int:
    """Take in all that there is by now, and return how many events that were."""
    count = 0
    events = store.read_all(after=accounts.checkpoint, types=SIGNS, prefix=PREFIX)
    while batch := list(islice(events, TRANSACTION_EVENTS_MAX)):
        accounts.take(batch, events.checkpoint)
        count += len(batch)
    return count


def follow(accounts: Accounts, store: rewind.Store) -> None:
    """Take in what comes, without end."""
    with store.subscribe(after=accounts.checkpoint, types=SIGNS, prefix=PREFIX) as subscription:
        for event in subscription:
            accounts.take([event], subscription.checkpoint)
            print(f"{event.stream} version {event.version}: {event.type}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Catch up, then follow until interrupted."""
    parser = argparse.ArgumentParser(description="Keep a table of the bank's accounts in SQLite.")
    parser.add_argument("database", help="the file; it is made if it is not there")
    parser.add_argument("--servers", default="127.0.0.1:7070", help="addresses of nodes, separated by commas")
    parser.add_argument("--once", action="store_true", help="end as soon as the table is up to date")
    options = parser.parse_args(arguments)

    with rewind.connect(options.servers) as store:
        store.create_context(CONTEXT, ordered=True)  # if the bank has not done so yet
    with rewind.connect(options.servers, context=CONTEXT) as store, closing(sqlite3.connect(options.database)) as file:
        accounts = Accounts(file)
        print(f"{catch_up(accounts, store)} events taken in", flush=True)
        if not options.once:
            follow(accounts, store)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted; run it again to go on")
