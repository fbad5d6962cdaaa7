"""The blocking consumer group: an iterator over deliveries, shared by as many threads as the application likes."""

import threading
from collections.abc import Iterator
from functools import partial
from types import TracebackType
from typing import Self

from rewind.arguments import check_reason, check_retry_after, check_timeout
from rewind.engine import Engine, now_us
from rewind.group_claim import Held
from rewind.group_desk import Desk
from rewind.group_inquiries import Membership

RETRY_AFTER_S = 1.0


class Delivery:
    """An event in the application's hands: say how it went with `ack`, `nack` or `park`, from any thread.

    `attempt`: 1 where it was not handed out before, as far as the cluster knows. Each of the three returns whether it
    was taken: not if another came first, or the partition has gone to another member, which delivers the event again.
    """

    __slots__ = ("_desk", "_held", "attempt", "event")

    def __init__(self, desk: Desk, held: Held) -> None:
        self.event = held.event
        self.attempt = held.attempts + 1
        self._desk = desk
        self._held = held

    def __repr__(self) -> str:
        return f"<Delivery {self.event.stream!r} {self.event.version} {self.event.type!r}, attempt {self.attempt}>"

    def ack(self) -> bool:
        """Say that the event was dealt with. The cluster is told within a tenth of a second."""
        return self._desk.ack(self._held, self.attempt)

    def nack(self, retry_after: float = RETRY_AFTER_S) -> bool:
        """Give the event back, to be delivered again after `retry_after` seconds; its stream waits that long.

        After `max_attempts` it is parked.
        """
        return self._desk.nack(self._held, self.attempt, check_retry_after(retry_after))

    def park(self, reason: str) -> bool:
        """Give the event up: it is set aside for an operator, with the reason's first 200 characters."""
        return self._desk.park(self._held, self.attempt, check_reason(reason))


class Group(Iterator[Delivery]):
    """A member of a consumer group, from `Store.group`: deliveries of the events of its partitions, without end.

    Use it as a context manager, or `close` it. Threads may share it: events of one stream are in one thread's hands at
    a time, the next only once the one before is settled. To iterate on settles nothing: what is neither acknowledged,
    given back nor parked stays in hand, 1,024 events of a partition at most.

    It goes on through anything but `ContextNotFound`, `InvalidArgument`, `TooLarge`, `AccessDenied`, and the end of its
    store (`Closed`); what does not work for long it complains of in the log.

    >>> store.append("order-1", NewEvent("OrderPlaced", b"{}")).version
    1
    >>> with store.group("mailer", max_attempts=3) as group:
    ...     first = next(group)
    ...     given_back = first.nack(retry_after=0.1)
    ...     second = next(group)
    ...     done = second.ack()
    >>> first.event.type, first.attempt, second.attempt, given_back, done
    ('OrderPlaced', 1, 2, True, True)
    """

    def __init__(self, engine: Engine, who: Membership, timeout_us: int) -> None:
        self._engine = engine
        self._who = who
        self._timeout_us = timeout_us
        self._changed = threading.Condition()
        self._desk = Desk(self._changed, now_us, self._changed.notify_all, engine.tell, engine.check_process)
        engine.attend(self._desk, partial(engine.session.groups.join, who, self._desk))

    @property
    def name(self) -> str:
        """The group's name."""
        return self._who.group

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions that this member has now, ascending."""
        self._engine.check_process()
        with self._changed:
            return tuple(sorted(self._desk.claims))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Delivery:
        self._engine.check_process()
        self._engine.check_thread()
        with self._changed:
            while not self._desk.ended:
                held = self._desk.take()
                if held is not None:
                    return Delivery(self._desk, held)
                self._changed.wait()
        if self._desk.error is not None:
            raise self._desk.error
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, timeout: float | None = None) -> None:
        """End the iteration in all threads, tell the cluster what was settled, and leave.

        Waits for the cluster's answers, at most `timeout` seconds, the store's own where it is None. It does not wait
        for what is in hand: let the threads finish first, or it is delivered again elsewhere. More than once does no
        harm.
        """
        timeout_us = self._timeout_us if timeout is None else check_timeout(timeout)
        engine = self._engine
        if not engine.is_ours:
            return
        self._desk.end(None)
        engine.tell(partial(engine.session.groups.leave, self._desk))
        if not engine.is_current:
            with self._changed:
                self._changed.wait_for(lambda: self._desk.left, timeout_us / 1e6)
            engine.tell(partial(engine.session.groups.forget, self._desk))
