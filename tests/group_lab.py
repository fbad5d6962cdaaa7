"""Members of consumer groups in a lab: several in one session, each with an application that takes what comes."""

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

from rewind.events import ANY, Event, NewEvent
from rewind.group import Delivery
from rewind.group_desk import Desk


class Worker:
    """One member and its application. Every delivery that was taken is kept in `taken`."""

    def __init__(self, lab: Any, name: str = "mailer", max_attempts: int = 5, **options: Any) -> None:
        self.taken: list[Delivery] = []
        self._lab = lab
        session = lab.session
        joining = lab.calls.group(name, max_attempts, options.get("after"), options.get("types"), "", None)
        for partition, request in joining.beginning.wanted():
            joining.beginning.take(partition, lab.ask(request).result)
        self.who = joining.membership()
        self.desk = Desk(nullcontext(), lambda: lab.now_us, lambda: None, lambda news: news(lab.now_us), lambda: None)
        session.groups.join(self.who, self.desk, lab.now_us)

    @property
    def holds(self) -> list[int]:
        return sorted(self.desk.claims)

    @property
    def events(self) -> list[Event]:
        return [each.event for each in self.taken]

    def take(self, count: int | None = None) -> list[Delivery]:
        """Take what is handed out, all or so many, and leave it in hand."""
        taken = []
        while (count is None or len(taken) < count) and (held := self.desk.take()) is not None:
            taken.append(Delivery(self.desk, held))
        self.taken += taken
        return taken

    def work(self) -> list[Delivery]:
        """Take and acknowledge one after the other, as long as something is handed out or comes without time."""
        done = []
        while found := self.take(1):
            done += found
            assert found[0].ack()
            self._lab.settle()
        return done

    def work_for(self, us: int, step_us: int = 10_000) -> list[Delivery]:
        """Work while time passes."""
        done = []
        for _ in range(us // step_us):
            self._lab.advance(step_us)
            done += self.work()
        return done

    def leave(self) -> None:
        self.desk.end(None)
        self._lab.session.groups.leave(self.desk, self._lab.now_us)

    def die(self) -> None:
        """Vanish without a word."""
        self._lab.session.groups.forget(self.desk, self._lab.now_us)


def add(lab: Any, *streams: str, kind: str = "T", data: bytes = b"") -> None:
    """Append an event to each of these streams."""
    appends = [lab.calls.append(stream, NewEvent(kind, data), ANY, None) for stream in streams]
    for append in appends:
        lab.session.append(append, lab.now_us)
    lab.run(*appends)


def said(lab: Any, kind: type[Any]) -> list[Any]:
    """Return what nodes heard of a kind."""
    return [message for node in lab.cluster.nodes for message in node.hears if isinstance(message, kind)]


def positions(deliveries: Iterable[Any]) -> list[int]:
    return [each.event.position for each in deliveries]


def places(*workers: Any) -> list[tuple[int, int]]:
    return [(event.partition, event.position) for worker in workers for event in worker.events]
