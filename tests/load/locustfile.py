"""A shop under load: orders are placed, changed and looked at. Start it with Locust.

    locust -f tests/load/locustfile.py --host 127.0.0.1:7070                        # with its UI, http://localhost:8089
    locust -f tests/load/locustfile.py --host 127.0.0.1:7070 --headless -u 100 -r 20 -t 60s

Each user does ten things a second, so `-u` is the load; `README.md` beside this has more, distributed runs too. A
change expects the version that its user has seen, and an order belongs to one user, so no call may fail.
"""

import json
from random import Random
from uuid import uuid4

from locust import constant_throughput, task
from rewind_user import RewindUser

from rewind import NO_STREAM, NewEvent

ORDERS_MAX = 100  # that a user remembers; the oldest is finished and forgotten
ITEMS = ("Momo", "Die unendliche Geschichte", "Jim Knopf")


class Customer(RewindUser):
    """Somebody who orders books, changes their mind and looks."""

    wait_time = constant_throughput(10)

    def on_start(self) -> None:
        """Begin without orders."""
        self.random = Random()
        self.orders: dict[str, int] = {}

    @task(3)
    def place(self) -> None:
        """Place an order: a new stream."""
        order = f"order-{uuid4()}"
        placed = self.append("place order", order, self._event("OrderPlaced"), NO_STREAM)
        self.orders[order] = placed.version
        if len(self.orders) > ORDERS_MAX:
            del self.orders[next(iter(self.orders))]

    @task(4)
    def change(self) -> None:
        """Change an order, on the condition that it is as this user knows it."""
        if not self.orders:
            return
        order = self.random.choice(list(self.orders))
        changed = self.append("change order", order, self._event("OrderChanged"), self.orders[order])
        self.orders[order] = changed.version

    @task(3)
    def look(self) -> None:
        """Read an order back."""
        if not self.orders:
            return
        order = self.random.choice(list(self.orders))
        known = self.orders[order]
        found = self.read("look at order", order)
        if len(found) != known:
            raise AssertionError(f"{order} is known to have {known} events, and {len(found)} were read")

    def _event(self, event_type: str) -> NewEvent:
        return NewEvent(event_type, json.dumps({"book": self.random.choice(ITEMS), "note": "x" * 200}).encode())
