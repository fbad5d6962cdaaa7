"""A mailer: a welcome letter for every customer, written by as many of these programs as you like.

The programs are members of one consumer group, so they share the customers out among themselves; when one is killed,
the others take over what it had. An event comes at least once, hence maybe twice; each customer gets one letter all the
same, because the letter is named after the event, and what is there is not written again.

A customer whose address makes no sense is parked for an operator (`rewind --context shop group parked mailer`). While
letters cannot be written, events are given back, and come again a little later. Run several:

    python client/examples/mailer.py --register 100
    python client/examples/mailer.py outbox &
    python client/examples/mailer.py outbox
"""

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import rewind
from rewind import Delivery, Event, NewEvent

CONTEXT = "shop"
GROUP = "mailer"
REGISTERED = "CustomerRegistered"
THREADS = 4
RETRY_AFTER_S = 2.0


class NoAddressError(Exception):
    """What the event says is no address."""


def register(store: rewind.Store, count: int) -> None:
    """Register customers; every tenth gives a bad address."""
    for number in range(count):
        address = f"customer{number}@example.org" if (number + 1) % 10 else "nowhere"
        store.append(f"customer-{number}", NewEvent(REGISTERED, json.dumps({"address": address}).encode()))


def letter(event: Event) -> str:
    """Return the letter to write."""
    address = json.loads(event.data)["address"]
    if "@" not in address:
        raise NoAddressError(f"{address!r} is no address")
    return f"To: {address}\nSubject: Welcome\n\nYou are customer {event.stream}.\n"


def write(outbox: Path, event: Event) -> None:
    """Write an event's letter, whole or not at all, and only once."""
    path = outbox / f"{event.id}.txt"
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(letter(event))
        draft.rename(path)


def handle(outbox: Path, delivery: Delivery) -> None:
    """Deal with one event, and say how that went."""
    try:
        write(outbox, delivery.event)
    except NoAddressError as error:
        delivery.park(str(error))
    except OSError:
        delivery.nack(retry_after=RETRY_AFTER_S)
    else:
        delivery.ack()


def work(store: rewind.Store, outbox: Path) -> None:
    """Write letters without end, several at a time; those of one customer one after the other."""

    def run(group: rewind.Group) -> None:
        for delivery in group:
            handle(outbox, delivery)

    with (
        store.group(GROUP, types=[REGISTERED], prefix="customer-") as group,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        try:
            list(threads.map(run, [group] * THREADS))
        finally:
            group.close()  # ends the threads, too


def main(arguments: list[str] | None = None) -> None:
    """Register customers, or write to them until interrupted."""
    parser = argparse.ArgumentParser(description="Write a welcome letter to every customer.")
    parser.add_argument("outbox", nargs="?", type=Path, help="the directory for the letters; it is made if need be")
    parser.add_argument("--servers", default="127.0.0.1:7070", help="addresses of nodes, separated by commas")
    parser.add_argument("--register", type=int, default=0, metavar="N", help="register N customers first")
    options = parser.parse_args(arguments)

    with rewind.connect(options.servers) as store:
        store.create_context(CONTEXT)
    with rewind.connect(options.servers, context=CONTEXT) as store:
        register(store, options.register)
        print(f"{options.register} customers registered", flush=True)
        if options.outbox is not None:
            options.outbox.mkdir(parents=True, exist_ok=True)
            work(store, options.outbox)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted; run it again to go on")
