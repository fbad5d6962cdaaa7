"""The thread behind a blocking store: it alone touches the session and its sockets.

Other threads leave calls in a queue and wake it through a pair of sockets. Futures are told their results here, with no
lock held, so a callback may call the store again, though not wait for it.

The store takes calls and closes under one lock: so whatever was taken is there when the thread looks for the last time.
"""

import logging
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import zmq

from rewind.append import Append
from rewind.callers import Callers, Consumer
from rewind.connections import Work
from rewind.errors import Closed, InvalidArgument
from rewind.forks import current_pid
from rewind.requests import Call, Request
from rewind.room import Room
from rewind.session import Session
from rewind.sockets import Link, Sockets

logger = logging.getLogger("rewind.client")


def now_us() -> int:
    """Return the time of the monotonic clock."""
    return time.monotonic_ns() // 1000


def hand_on(work: Work) -> None:
    """Give the consumers of subscriptions what is theirs."""
    for batch in work.batches:
        batch.consumer.put(batch)
    for tail in work.ended:
        assert tail.consumer is not None
        tail.consumer.end(tail.error)


class Engine:
    """Runs a session on a thread of its own."""

    def __init__(self, addresses: tuple[str, ...], program: str) -> None:
        self.session = Session(addresses, program, random.random)
        self._inbox: deque[Call | Callable[[int], None]] = deque()
        self._woken = False
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._room = Room()
        self._callers = Callers()
        self._changed = threading.Condition()  # there is room, or the store takes no more calls
        self._pid = current_pid()
        self._closed = ""  # why no calls are taken any more
        self._stop_us: int | None = None  # when to stop even if something is being written
        self._poller = zmq.Poller()
        self._poller.register(self._wake_out, zmq.POLLIN)
        self._links: dict[object, Link] = {}
        self._sockets = Sockets(self.session, self._opened, self._closing)
        self._thread = threading.Thread(target=self._run, name="rewind", daemon=True)
        self._thread.start()

    # ── from any thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def check_open(self) -> None:
        """Raise `Closed` if the store cannot be used (here)."""
        if self._closed:
            raise Closed(self._closed)
        self.check_process()

    @property
    def is_ours(self) -> bool:
        """Whether the store belongs to this process."""
        return self._pid == current_pid()

    def check_process(self) -> None:
        """Raise `Closed` if the store belongs to another process."""
        if not self.is_ours:
            raise Closed(
                f"this store belongs to process {self._pid}, which forked this one; connect again after a fork"
            )

    def start(self, call: Call) -> "Future[Any]":
        """Hand a call to the thread and return its future."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # what may have been sent cannot be called back
        call.future = future
        try:
            self.check_open()
            with self._changed:
                if type(call) is Append:
                    self._take_room(call)
                else:
                    self.check_open()
                self._inbox.append(call)
        except BaseException as error:
            call.end_trace(error)
            raise
        self._wake()
        return future

    def attend(self, consumer: Consumer, begin: Callable[[int], None]) -> None:
        """Have the thread call `begin` with the time for a consumer, who is told when the store ends."""
        with self._changed:
            self.check_open()
            self._callers.attend(consumer)
        self.tell(begin)

    def tell(self, news: Callable[[int], None]) -> None:
        """Have the thread call `news` with the time; it is passed over if the store has closed."""
        if self.is_ours and not self._closed:
            self._inbox.append(news)
            self._wake()

    def wait(self, future: "Future[Any]") -> Any:
        """Return a future's result, in any thread but the engine's own, and in no other process: nobody comes there."""
        self.check_thread()
        self.check_process()
        return future.result()

    @property
    def is_current(self) -> bool:
        """Whether this is the engine's own thread."""
        return threading.current_thread() is self._thread

    def check_thread(self) -> None:
        """Raise `InvalidArgument` in the engine's own thread, which must not wait for itself."""
        if self.is_current:
            raise InvalidArgument("a callback of a future must not wait for its store: use submit, or another thread")

    def close(self, timeout_us: int) -> None:
        """Take no more calls, wait for what is being written, and stop."""
        if not self.is_ours:
            return  # the parent's thread and sockets are not ours to close
        if not self._closed:
            self._take_no_more("the store is closed; connect again")
            self._stop_us = now_us() + timeout_us
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _take_no_more(self, why: str) -> None:
        with self._changed:
            self._closed = why
            self._changed.notify_all()

    def _take_room(self, append: Append) -> None:
        """Wait for room with the lock held, and take it. Raises `Overloaded`, and `Closed` if the store closes."""
        if not self._room.is_free():
            # The thread that makes room must not wait for it.
            patience_s = 0 if threading.current_thread() is self._thread else append.timeout_us / 1e6
            append.deadline_us = now_us() + append.timeout_us  # the wait counts
            self._changed.wait_for(lambda: self._closed or self._room.is_free(), patience_s)
        self.check_open()
        if not self._room.is_free():
            raise self._room.overloaded(append)
        self._room.enter(append)

    def _wake(self) -> None:
        # The thread takes the mark away before it empties the queue: a call left here is seen now, or by its own byte.
        if not self._woken:
            self._woken = True
            try:
                self._wake_in.send(b"\0")
            except (BlockingIOError, OSError):
                return  # it is awake already, or has gone

    # ── on the thread ───────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        try:
            while not self._finished():
                self._turn()
            self.session.abandon()
            self._deliver(self.session.take(now_us()))
        except BaseException:
            self._take_no_more("the store broke down, see the log; connect again")
            logger.exception("the client's thread broke down; its store is closed")
        finally:
            self._end_all()

    def _end_all(self) -> None:
        """Leave nobody waiting and nothing open, whatever the session is worth by now."""
        try:
            self._callers.end_all(self._closed)
            self._drop_inbox()
        finally:
            self._sockets.close()
            self._wake_in.close()
            self._wake_out.close()

    def _turn(self) -> None:
        wait_ms = max(0, self.session.wake_us - now_us() + 999) // 1000
        ready = [] if self._inbox else self._poller.poll(wait_ms)
        time_us = now_us()
        for polled, _ in ready:
            link = self._links.get(polled)
            if link is None:
                self._wake_out.recv(4096)
            elif polled is link.dealer:
                self._sockets.drain(link, time_us)
            else:
                self._sockets.drain_monitor(link, time_us)
        self._woken = False
        self._take_inbox(time_us)
        self.session.tick(time_us)
        work = self.session.take(time_us)
        self._sockets.carry_out(work)
        self._deliver(work)

    def _take_inbox(self, time_us: int) -> None:
        inbox = self._inbox
        for _ in range(len(inbox)):
            call = inbox.popleft()
            if isinstance(call, Call):
                self._callers.add(call)
            if type(call) is Append:
                self.session.append(call, time_us)
            elif isinstance(call, Request):
                self.session.request(call, time_us)
            else:
                assert not isinstance(call, Call)
                call(time_us)

    def _finished(self) -> bool:
        if self._stop_us is None or self._inbox:
            return False
        return not self.session.writing or now_us() >= self._stop_us

    def _deliver(self, work: Work) -> None:
        hand_on(work)
        if work.completed:
            with self._changed:
                if self._room.leave(work.completed):
                    self._changed.notify_all()
        for call in work.completed:
            self._callers.tell(call)

    def _drop_inbox(self) -> None:
        while self._inbox:
            call = self._inbox.popleft()
            if isinstance(call, Call):
                call.error = Closed(f"{call.what()}: {self._closed}; nothing was sent")
                self._callers.tell(call)

    def _opened(self, link: Link) -> None:
        for polled in (link.dealer, link.monitor):
            self._links[polled] = link
            self._poller.register(polled, zmq.POLLIN)

    def _closing(self, link: Link) -> None:
        for polled in (link.dealer, link.monitor):
            del self._links[polled]
            self._poller.unregister(polled)
