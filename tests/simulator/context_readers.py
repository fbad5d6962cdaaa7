"""Bounded reads of a whole context, `read_all`, as an application uses them: through the session, as the stores do."""

from collections import deque
from functools import partial
from typing import TYPE_CHECKING
from unittest.mock import patch

from histories.history import Mark, ScanDone, ScannedEvent
from histories.recording import scanned_event

from rewind import scanning
from rewind.errors import RewindError
from rewind.requests import Call, Request
from rewind.tokens import make_token, read_checkpoint
from simulator.plan import Operation

if TYPE_CHECKING:
    from simulator.applications import Application


class ContextReader:
    """One `read_all`, recorded when it ends."""

    def __init__(self, application: "Application", operation: Operation) -> None:
        arguments = operation.arguments
        self._application = application
        self._operation = operation
        self._calls = calls = application.calls[arguments["context"]]
        self._origin = calls.origin
        after = None
        if arguments["after"] == "kept":
            after = application.everybody.kept(self._origin.context, arguments["choice"])
        partitions = calls.subscribe(None, None, "", None).tail().positions  # whoever reads knows which there are
        self._after = dict(partitions) if after is None else read_checkpoint(after, self._origin, partitions)
        self._at_least = {each: application.at_least(operation, self._origin.context, each) for each in partitions}
        token = make_token(self._origin, self._at_least) if any(self._at_least.values()) else None
        self._read = calls.read_all(
            after,
            arguments["limit"],
            arguments["types"],
            arguments["prefix"],
            arguments["reverse"],
            arguments["consistency"],
            token,
            arguments["timeout_ms"] / 1000,
        )
        self._asked: deque[tuple[int, Request]] = deque()
        self._answered: set[Request] = set()
        self._events: dict[int, list[ScannedEvent]] = {partition: [] for partition in partitions}
        self._marks: dict[int, list[Mark]] = {partition: [] for partition in partitions}
        self._told: set[int] = set()  # partitions that have said which position is the newest
        self._over = False

    def begin(self) -> None:
        """Ask for the first chunks."""
        self._tag = self._application.recorder.begin_scan(self._operation)
        self._begun_us = self._application.world.now_us
        self._ask()

    def _ask(self) -> None:
        while (wanted := self._next_request()) is not None:
            _, request = wanted
            self._asked.append(wanted)
            self._application.start(request, partial(self._go_on, request))

    def _next_request(self) -> tuple[int, Request] | None:
        """Return the request for the next chunk, made small: with the shipped size a run's contexts fit into one."""
        with patch.object(scanning, "CHUNK_EVENTS_MAX", self._operation.arguments["chunk_events"]):
            return self._read.next_request()

    def _go_on(self, request: Request, _: Call) -> None:
        """Consume what has come, in the order it was asked for, as far as it has come."""
        self._answered.add(request)
        while not self._over:
            event = self._read.pop()
            if event is not None:
                self._events[event.partition].append(scanned_event(event))
                continue
            self._mark()
            if not self._asked or self._read.full:
                self._end(whole=not self._read.full)
                return
            partition, first = self._asked[0]
            if first not in self._answered:
                return
            self._asked.popleft()
            try:
                if first.error is not None:
                    raise first.error
                self._read.take(partition, first.result)
            except RewindError as error:
                self._application.recorder.fail_scan(self._tag, error)
                self._record(whole=False)
                return
            self._told.add(partition)
            self._ask()

    def _mark(self) -> None:
        if self._operation.arguments["reverse"]:
            return
        for partition, position in self._positions().items():
            marks = self._marks[partition]
            if position != (marks[-1].through if marks else self._after[partition]):
                marks.append(Mark(self._application.world.now_us, len(self._events[partition]), position))

    def _positions(self) -> dict[int, int]:
        return read_checkpoint(self._read.checkpoint, self._origin, self._after)

    def _end(self, *, whole: bool) -> None:
        application = self._application
        for partition, position in self._positions().items():
            application.saw(self._origin.context, partition, position)
        application.everybody.keep(self._origin.context, self._read.checkpoint)
        application.recorder.end_scan(self._tag)
        self._record(whole=whole)

    def _record(self, *, whole: bool) -> None:
        self._over = True
        arguments, positions = self._operation.arguments, self._positions()
        for partition, after in self._after.items():
            told = partition in self._told if arguments["reverse"] else whole
            self._application.recorder.scanned(
                ScanDone(
                    *self._tag,
                    self._origin.context,
                    partition,
                    self._begun_us,
                    self._application.world.now_us,
                    after,
                    tuple(self._events[partition]),
                    tuple(self._marks[partition]),
                    positions[partition] if told else None,
                    None if arguments["types"] is None else tuple(arguments["types"]),
                    arguments["prefix"],
                    arguments["limit"],
                    arguments["reverse"],
                    arguments["consistency"] == "linearizable",
                    self._at_least[partition],
                    whole,
                )
            )
