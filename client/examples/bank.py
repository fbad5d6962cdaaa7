"""A bank: many tellers move money between few accounts, and not a cent is lost or made.

Each account is a stream. To transfer is to read both accounts, decide, and append to both at once, on the condition
that they are still at the versions the decision was made on. If another teller was faster, nothing was written: look
again and decide again. The two appends are atomic because all accounts live in one ordered context.

Run it against `rewind-node dev`, as often as you like, and kill it or nodes in the middle:

    python client/examples/bank.py --transfers 100
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import rewind
from rewind import NO_STREAM, Event, NewEvent

CONTEXT = "bank"
ACCOUNTS = ("account-ada", "account-bob", "account-cai", "account-dee")  # few, so that tellers get in each other's way
OPENING_CENTS = 100_00
TELLERS = 8


class InsufficientFundsError(Exception):
    """The account holds less than was to be taken from it."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account as its events tell it. `version`: of the last of them, 0 if it was never opened."""

    version: int = 0
    cents: int = 0
    transfers: frozenset[UUID] = frozenset()  # those that took money from it

    def after(self, event: Event) -> "Account":
        """Return the account as it is after one more event."""
        cents = json.loads(event.data)["cents"]
        if event.type == "Withdrawn":
            return replace(self, version=event.version, cents=self.cents - cents, transfers=self.transfers | {event.id})
        return replace(self, version=event.version, cents=self.cents + cents)


def account_of(events: Iterable[Event]) -> Account:
    """Return what an account's events make of it."""
    account = Account()
    for event in events:
        account = account.after(event)
    return account


def happened(kind: str, cents: int, event_id: UUID | None = None) -> NewEvent:
    """Return an event of an account."""
    return NewEvent(kind, json.dumps({"cents": cents}).encode(), id=event_id)


def open_account(store: rewind.Store, account: str) -> bool:
    """Open an account, and return whether it was not there before."""
    try:
        store.append(account, happened("Opened", OPENING_CENTS), expected=NO_STREAM)
    except rewind.WrongExpectedVersion:
        return False
    return True


def transfer(store: rewind.Store, source: str, target: str, cents: int, transfer_id: UUID) -> int:
    """Move money, once however often this is called with the same ID; return how many decisions it took."""
    decisions = 0
    while True:
        giver, taker = account_of(store.read(source)), account_of(store.read(target))
        if transfer_id in giver.transfers:
            return decisions  # an earlier append took effect, though its answer never came
        if giver.cents < cents:
            raise InsufficientFundsError(f"{source} holds {giver.cents} cents, not {cents}")
        decisions += 1
        try:
            store.append_many(
                [
                    (source, happened("Withdrawn", cents, transfer_id), giver.version),
                    (target, happened("Deposited", cents), taker.version),
                ]
            )
        except (rewind.WrongExpectedVersion, rewind.OutcomeUnknown):
            continue  # somebody was faster, or nobody knows: what the accounts hold now tells what to do
        return decisions


def work(store: rewind.Store, transfers: int) -> Counter[str]:
    """Make transfers between random accounts as one teller, and count how they went."""
    counts: Counter[str] = Counter()
    for _ in range(transfers):
        source, target = random.sample(ACCOUNTS, 2)
        try:
            decisions = transfer(store, source, target, random.randint(1, OPENING_CENTS), uuid4())
        except InsufficientFundsError:
            counts["refused"] += 1
        else:
            counts["made"] += 1
            counts["again"] += decisions - 1
    return counts


def main(arguments: list[str] | None = None) -> None:
    """Open the accounts that are not open yet, let the tellers work, and count the money."""
    parser = argparse.ArgumentParser(description="Move money between accounts, many tellers at a time.")
    parser.add_argument("--servers", default="127.0.0.1:7070", help="addresses of nodes, separated by commas")
    parser.add_argument("--transfers", type=int, default=25, help="how many by each teller")
    options = parser.parse_args(arguments)

    with rewind.connect(options.servers) as store:
        store.create_context(CONTEXT, ordered=True)
    with rewind.connect(options.servers, context=CONTEXT) as store, ThreadPoolExecutor(TELLERS) as tellers:
        opened = sum(open_account(store, account) for account in ACCOUNTS)
        print(f"{opened} accounts opened, {len(ACCOUNTS) - opened} were open")
        counts = sum(tellers.map(work, [store] * TELLERS, [options.transfers] * TELLERS), Counter[str]())
        print(f"{counts['made']} transfers, {counts['refused']} refused for want of money")
        print(f"{counts['again']} decisions made again because another teller was faster")
        total = sum(account_of(store.read(account)).cents for account in ACCOUNTS)
        print(f"{total} cents in all accounts, {len(ACCOUNTS) * OPENING_CENTS} were paid in")


if __name__ == "__main__":
    main()
