"""The asyncio consumer group: the one of `rewind.group`, awaited, and shared by as many tasks as the application likes.

`ack`, `nack` and `park` take effect at once. They may be awaited, as the store's other methods are, and need not be.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Generator
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import Any, Self

from rewind.aio_subscription import EVENTS_IN_A_ROW
from rewind.arguments import check_reason, check_retry_after, check_timeout
from rewind.engine import now_us
from rewind.group import RETRY_AFTER_S
from rewind.group_claim import Held
from rewind.group_desk import Desk
from rewind.joining import Joining
from rewind.loop_engine import LoopEngine


class Verdict(Awaitable[bool]):
    """Whether a settlement was taken, as a truth value, or to be awaited."""

    __slots__ = ("_taken",)

    def __init__(self, taken: bool) -> None:
        self._taken = taken

    def __bool__(self) -> bool:
        return self._taken

    def __repr__(self) -> str:
        return f"<Verdict {self._taken}>"

    def __await__(self) -> Generator[Any, None, bool]:
        return _return(self._taken).__await__()


async def _return(taken: bool) -> bool:
    return taken


class AsyncDelivery:
    """An event in the application's hands: say how it went with `ack`, `nack` or `park`.

    `attempt`: 1 where it was not handed out before, as far as the cluster knows. Each of the three tells whether it was
    taken: not if another came first, or the partition has gone to another member, which delivers the event again.
    """

    __slots__ = ("_desk", "_held", "attempt", "event")

    def __init__(self, desk: Desk, held: Held) -> None:
        self.event = held.event
        self.attempt = held.attempts + 1
        self._desk = desk
        self._held = held

    def __repr__(self) -> str:
        return f"<AsyncDelivery {self.event.stream!r} {self.event.version} {self.event.type!r}, attempt {self.attempt}>"

    def ack(self) -> Verdict:
        """Say that the event was dealt with. The cluster is told within a tenth of a second."""
        return Verdict(self._desk.ack(self._held, self.attempt))

    def nack(self, retry_after: float = RETRY_AFTER_S) -> Verdict:
        """Give the event back, to be delivered again after `retry_after` seconds; its stream waits that long.

        After `max_attempts` it is parked.
        """
        return Verdict(self._desk.nack(self._held, self.attempt, check_retry_after(retry_after)))

    def park(self, reason: str) -> Verdict:
        """Give the event up: it is set aside for an operator, with the reason's first 200 characters."""
        return Verdict(self._desk.park(self._held, self.attempt, check_reason(reason)))


class AsyncGroup(AsyncIterator[AsyncDelivery]):
    """A member of a consumer group, from `AsyncStore.group`: deliveries of the events of its partitions, without end.

    Use it as an async context manager, or `close` it. It begins when it is entered, awaited, or first asked for a
    delivery. Tasks may share it: events of one stream are in one task's hands at a time, the next only once the one
    before is settled. To iterate on settles nothing: what is neither acknowledged, given back nor parked stays in hand,
    1,024 events of a partition at most.

    It goes on through anything but `ContextNotFound`, `InvalidArgument`, `TooLarge`, `AccessDenied`, and the end of its
    store (`Closed`); what does not work for long it complains of in the log.

    >>> (await store.append("order-1", NewEvent("OrderPlaced", b"{}"))).version
    1
    >>> async with store.group("mailer") as group:
    ...     async for delivery in group:
    ...         done = await delivery.ack()
    ...         break
    >>> delivery.event.type, delivery.attempt, done
    ('OrderPlaced', 1, True)
    """

    def __init__(self, engine: LoopEngine, joining: Joining, timeout_us: int) -> None:
        self._engine = engine
        self._joining = joining
        self._timeout_us = timeout_us
        self._begun = asyncio.Lock()
        self._joined = False
        self._changed = asyncio.Event()
        self._desk = Desk(nullcontext(), now_us, self._changed.set, engine.tell, engine.check_here)
        self._in_a_row = 0

    @property
    def name(self) -> str:
        """The group's name."""
        return self._joining.group

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions that this member has now, ascending."""
        return tuple(sorted(self._desk.claims))

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _begin(self) -> None:
        async with self._begun:
            if self._joined or self._desk.ended:
                return
            engine, beginning = self._engine, self._joining.beginning
            engine.check_open()
            asked = [(partition, engine.start(request)) for partition, request in beginning.wanted()]
            await asyncio.gather(*(future for _, future in asked))
            for partition, future in asked:
                beginning.take(partition, future.result())
            engine.check_open()
            if not self._desk.ended:
                self._joined = True
                engine.attend(self._desk, partial(engine.session.groups.join, self._joining.membership(), self._desk))

    async def __anext__(self) -> AsyncDelivery:
        self._engine.check_here()
        if not self._joined:
            await self._begin()
        self._in_a_row += 1
        if self._in_a_row % EVENTS_IN_A_ROW == 0:
            await asyncio.sleep(0)
        while not self._desk.ended:
            held = self._desk.take()
            if held is not None:
                return AsyncDelivery(self._desk, held)
            self._changed.clear()
            await self._changed.wait()
        if self._desk.error is not None:
            raise self._desk.error
        raise StopAsyncIteration

    async def close(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - it bounds what is told, not the task
        """End the iteration in all tasks, tell the cluster what was settled, and leave.

        Waits for the cluster's answers, at most `timeout` seconds, the store's own where it is None. It does not wait
        for what is in hand: let the tasks finish first, or it is delivered again elsewhere. More than once does no
        harm.
        """
        timeout_us = self._timeout_us if timeout is None else check_timeout(timeout)
        groups = self._engine.session.groups
        self._desk.end(None)
        if not self._joined:
            return
        self._engine.tell(partial(groups.leave, self._desk))
        try:
            async with asyncio.timeout(timeout_us / 1e6):
                while not self._desk.left:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass  # the cluster will miss this member by itself
        finally:
            self._engine.tell(partial(groups.forget, self._desk))
