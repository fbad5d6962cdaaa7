"""Believable events for the demo: bank accounts and orders of a small bookshop, interleaved as life interleaves them.

The same seed gives the same events. Times are part of the events, in order over all streams.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

ACCOUNTS = 600
ORDERS = 900
TRANSACTIONS_PER_ACCOUNT = (14, 32)
SEED = 1979
OPENING = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
DAYS = 30
NAMES = ("Ada", "Barbara", "Edsger", "Frances", "Grace", "Jim", "Leslie", "Nancy", "Pat", "Radia", "Tony", "Zohar")
BOOKS = (
    ("Momo", 1299),
    ("The Dispossessed", 1150),
    ("Gödel, Escher, Bach", 2890),
    ("The Left Hand of Darkness", 1090),
    ("Invisible Cities", 980),
    ("A Wizard of Earthsea", 899),
    ("The Glass Bead Game", 1390),
    ("Solaris", 1050),
)

Happening = tuple[datetime, str, str, dict[str, Any]]  # when, stream, type, data


def write_events(path: Path, seed: int = SEED) -> int:
    """Write about 20,000 events of 1,500 streams as JSON lines; return how many."""
    random = Random(seed)  # noqa: S311 - these are no secrets
    happenings = [happening for number in range(ACCOUNTS) for happening in _account(number, random)]
    happenings += [happening for number in range(ORDERS) for happening in _order(number, random)]
    # The sort is stable and the times of one stream ascend, so that each stream keeps its order.
    happenings.sort(key=lambda happening: happening[0])
    with path.open("w", encoding="utf-8") as file:
        for when, stream, kind, data in happenings:
            event = {"stream": stream, "type": kind, "data": data, "time": when.isoformat()}
            file.write(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n")
    return len(happenings)


def _times(random: Random, count: int) -> list[datetime]:
    return sorted(OPENING + timedelta(seconds=random.uniform(0, DAYS * 86_400)) for _ in range(count))


def _account(number: int, random: Random) -> Iterator[Happening]:
    stream, balance = f"account-{number + 1:04}", 0
    opened, *times = _times(random, random.randint(*TRANSACTIONS_PER_ACCOUNT))
    yield opened, stream, "AccountOpened", {"owner": random.choice(NAMES), "currency": "EUR"}
    for when in times:
        amount = random.randint(500, 90_000)
        if balance >= amount and random.random() < 0.45:  # noqa: PLR2004 - a little less goes out than comes in
            balance -= amount
            yield when, stream, "MoneyWithdrawn", {"cents": amount, "balance": balance}
        else:
            balance += amount
            yield when, stream, "MoneyDeposited", {"cents": amount, "balance": balance}


def _order(number: int, random: Random) -> Iterator[Happening]:
    stream, cart = f"order-{number + 1:04}", random.sample(BOOKS, random.randint(1, 4))
    times = iter(_times(random, len(cart) + 4))
    yield next(times), stream, "OrderStarted", {"customer": random.choice(NAMES)}
    for title, cents in cart:
        yield next(times), stream, "BookAdded", {"title": title, "cents": cents}
    total = sum(cents for _, cents in cart)
    if random.random() < 0.1:  # noqa: PLR2004 - some change their minds
        yield next(times), stream, "OrderCancelled", {"reason": "changed my mind"}
        return
    yield next(times), stream, "OrderPaid", {"cents": total}
    yield next(times), stream, "OrderShipped", {"parcel": f"RW{random.randrange(10**9):09}"}
    yield next(times), stream, "OrderDelivered", {"signed_by": random.choice(NAMES)}
