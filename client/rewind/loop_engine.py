"""The engine behind an asyncio store: the session, run by the event loop itself, without a thread.

ZeroMQ's descriptors tell of changes, not of states: once one is heard its socket must be drained, and looked at again
after sending, for sending takes the news in as well. That costs a fraction of what `zmq.asyncio` does with a future
per message.
"""

import asyncio
import logging
import random
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import zmq

from rewind.append import Append
from rewind.callers import Callers, Consumer
from rewind.connections import Work
from rewind.engine import hand_on, now_us
from rewind.errors import Closed, InvalidArgument, RewindError
from rewind.forks import current_pid
from rewind.requests import Call, Request
from rewind.room import Room
from rewind.session import Session
from rewind.sockets import DRAIN_MESSAGES_MAX, Link, Sockets

logger = logging.getLogger("rewind.client")


class LoopEngine:
    """Runs a session on the running event loop."""

    def __init__(self, addresses: tuple[str, ...], program: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        _check_watches(self._loop)
        self.session = Session(addresses, program, random.random)
        self._pid = current_pid()
        self._closed = ""  # why no calls are taken any more
        self._callers = Callers()
        self._room = Room()
        self._waiting_for_room: deque[asyncio.Future[None]] = deque()
        self._drained: asyncio.Future[None] | None = None  # told when no append is under way any more
        self._turn_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_us = 0
        self._links: dict[str, Link] = {}
        self._sockets = Sockets(self.session, self._opened, self._closing)
        self._schedule()

    def check_open(self) -> None:
        """Raise `Closed` if the store cannot be used (here)."""
        if self._closed:
            raise Closed(self._closed)
        self.check_here()

    @property
    def is_ours(self) -> bool:
        """Whether the store belongs to this process."""
        return self._pid == current_pid()

    def check_here(self) -> None:
        """Raise `Closed` in another process, and `InvalidArgument` on another event loop."""
        if not self.is_ours:
            raise Closed(
                f"this store belongs to process {self._pid}, which forked this one; connect again after a fork"
            )
        # Loops do not nest: ours runs here if it runs and this is its thread. To ask which one does is a system call.
        if threading.get_ident() != self._thread or not self._loop.is_running():
            raise InvalidArgument("this store belongs to another event loop; connect in the one that uses it")

    def start(self, call: Call) -> "asyncio.Future[Any]":
        """Begin a call and return its future; an append, once there is room for it."""
        try:
            self.check_open()
        except RewindError as error:
            call.end_trace(error)
            raise
        call.future = self._loop.create_future()
        self._callers.add(call)
        if type(call) is Append:
            self._room.enter(call)
            self.session.append(call, now_us())
        else:
            assert isinstance(call, Request)
            self.session.request(call, now_us())
        self._schedule()
        return call.future  # type: ignore[no-any-return] # a call does not know which kind of future it has

    def tell(self, news: Callable[[int], None]) -> None:
        """Call `news` with the time; it is passed over if the store has closed."""
        if not self._closed and self.is_ours:
            news(now_us())
            self._schedule()

    def attend(self, consumer: Consumer, begin: Callable[[int], None]) -> None:
        """Call `begin` with the time for a consumer, who is told when the store ends."""
        self.check_open()
        self._callers.attend(consumer)
        self.tell(begin)

    def has_room(self) -> bool:
        """Whether an append may begin."""
        return self._room.is_free()

    async def wait_for_room(self, append: Append) -> None:
        """Return once there is room for an append. Raises `Overloaded` if none comes in time."""
        append.deadline_us = now_us() + append.timeout_us  # the wait counts
        try:
            async with asyncio.timeout(append.timeout_us / 1e6):
                while not self._room.is_free():
                    self.check_open()
                    room = self._loop.create_future()
                    self._waiting_for_room.append(room)
                    await room
        except TimeoutError:
            overloaded = self._room.overloaded(append)
            append.end_trace(overloaded)
            raise overloaded from None
        except (asyncio.CancelledError, RewindError) as error:
            append.end_trace(error)
            raise

    async def close(self, timeout_us: int) -> None:
        """Take no more calls, wait for what is being written, and stop. `InvalidArgument` on another event loop."""
        if self._closed or not self.is_ours:
            return
        if self._loop.is_closed():  # nobody waits any more, and nothing is watched
            self._closed = "the store's event loop has ended; connect in the one that uses it"
            self._sockets.close()
            return
        self.check_here()
        self._closed = "the store is closed; connect again"
        self._wake_waiting()
        try:
            if self.session.writing:
                self._drained = self._loop.create_future()
                async with asyncio.timeout(timeout_us / 1e6):
                    await self._drained
        except TimeoutError:
            pass  # each append is told below what is known of it
        finally:
            if not self._sockets.closed:
                self._stop()

    def _stop(self) -> None:
        with self._closing_if_it_breaks():
            self.session.abandon()
            self._deliver(self.session.take(now_us()))
        if not self._sockets.closed:
            self._end_all()

    @contextmanager
    def _closing_if_it_breaks(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            logger.exception("the client broke down; its store is closed")
            self._closed = "the store broke down, see the log; connect again"
            if not self._sockets.closed:
                self._end_all()

    def _end_all(self) -> None:
        """Leave nobody waiting and nothing open, whatever the session is worth by now."""
        try:
            self._callers.end_all(self._closed)
            self._wake_waiting()
            if self._drained is not None and not self._drained.done():
                self._drained.set_result(None)
            if self._timer is not None:
                self._timer.cancel()
        finally:
            self._sockets.close()

    # ── on the loop ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _schedule(self) -> None:
        # At the end of the loop's turn, so that all appends of the tasks it wakes now go out together.
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        if self._sockets.closed:
            return
        with self._closing_if_it_breaks():
            self._step()

    def _step(self) -> None:
        time_us = now_us()
        self.session.tick(time_us)
        work = self.session.take(time_us)
        self._sockets.carry_out(work)
        for address, _ in work.send:
            link = self._links.get(address)
            if link is not None and int(link.dealer.get(zmq.EVENTS)) & zmq.POLLIN:
                self._readable(link)
        self._deliver(work)
        self._set_timer(time_us)
        if self._drained is not None and not self._drained.done() and not self.session.writing:
            self._drained.set_result(None)

    def _readable(self, link: Link) -> None:
        if self._links.get(link.address) is not link:
            return
        with self._closing_if_it_breaks():
            if self._sockets.drain(link, now_us()) == DRAIN_MESSAGES_MAX:
                self._loop.call_soon(self._readable, link)
        self._schedule()

    def _monitored(self, link: Link) -> None:
        if self._links.get(link.address) is not link:
            return
        with self._closing_if_it_breaks():
            self._sockets.drain_monitor(link, now_us())
        self._schedule()

    def _set_timer(self, time_us: int) -> None:
        """See to it that a turn comes when the session wants one; an earlier one does no harm."""
        wake_us = self.session.wake_us
        if self._timer is not None and self._timer_us <= wake_us:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_us = wake_us
        self._timer = self._loop.call_later(max(0, wake_us - time_us) / 1e6, self._timed)

    def _timed(self) -> None:
        self._timer = None
        self._schedule()

    def _deliver(self, work: Work) -> None:
        hand_on(work)
        self._room.leave(work.completed)
        for call in work.completed:
            self._callers.tell(call)
        if self._room.is_free():
            self._wake_waiting()

    def _wake_waiting(self) -> None:
        # All of them: each looks again, and the rest come back.
        while self._waiting_for_room:
            waiter = self._waiting_for_room.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _opened(self, link: Link) -> None:
        self._links[link.address] = link
        self._loop.add_reader(link.dealer.fileno(), self._readable, link)
        self._loop.add_reader(link.monitor.fileno(), self._monitored, link)
        # News is only signalled to those who have looked in vain before.
        self._loop.call_soon(self._monitored, link)

    def _closing(self, link: Link) -> None:
        if self._links.get(link.address) is link:
            del self._links[link.address]
        if not self._loop.is_closed():
            self._loop.remove_reader(link.dealer.fileno())
            self._loop.remove_reader(link.monitor.fileno())


def _check_watches(loop: asyncio.AbstractEventLoop) -> None:
    ends = socket.socketpair()
    try:
        loop.add_reader(ends[0], lambda: None)
        loop.remove_reader(ends[0])
    except NotImplementedError:
        raise InvalidArgument(
            f"a {type(loop).__name__} cannot watch sockets; run asyncio with an event loop that has add_reader, "
            "on Windows with asyncio.SelectorEventLoop"
        ) from None
    finally:
        for end in ends:
            end.close()
