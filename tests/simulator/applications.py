"""One application on one client machine: what it believes, what it has under way, and what it does.

It opens the two contexts, and again after each restart, keeps what it is asked to do until they are open, and works on
the shipped session as any application would. What it believes of a stream's version comes from answers alone.
"""

from collections.abc import Callable
from typing import Any

from rewind import inquiries
from rewind.append import Append
from rewind.calls import Calls
from rewind.errors import OutcomeUnknown, WrongExpectedVersion
from rewind.events import ANY, Context
from rewind.inquiries import Chunk
from rewind.reading import StreamRead
from rewind.requests import Call, Request
from rewind.tokens import make_token
from simulator.client_machine import ClientMachine
from simulator.context_readers import ContextReader
from simulator.members import Worker
from simulator.operations import ORDERED_CONTEXT
from simulator.operators import operate
from simulator.pinning import PinnedReader
from simulator.plan import Operation
from simulator.progress import Progress
from simulator.recording import Recorder, Tag, new_events
from simulator.subscribers import Subscriber
from simulator.world import World

OPENING_TIMEOUT_US = 5_000_000
OPENING_AGAIN_US = 100_000


class Application:
    """Does operations on one `ClientMachine` and records them. `everybody` is the progress of all applications."""

    def __init__(
        self,
        world: World,
        machine: ClientMachine,
        recorder: Recorder,
        pinned: PinnedReader,
        everybody: Progress,
        seed: int,
    ) -> None:
        self.world = world
        self.machine = machine
        self.recorder = recorder
        self.calls: dict[str, Calls] = {}  # by the context's name
        self.subscribers: list[Subscriber] = []
        self.workers: list[Worker] = []
        self.everybody = everybody
        self._pinned = pinned
        self.seed = seed
        self._own = Progress()
        self._versions: dict[tuple[int, str], int] = {}
        self._waiting: list[Operation] = []
        self._paused = False
        self._life = 0  # counts restarts: what an earlier life has asked for is not listened to

    # ── opening ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def busy(self) -> bool:
        """Whether anything is under way or waits for its turn, the opening of the contexts included."""
        return bool(self.recorder.open or self._waiting or not self.ready)

    @property
    def ready(self) -> bool:
        """Whether both contexts are open."""
        return "ordered" in self.calls

    @property
    def consumers(self) -> list[Subscriber | Worker]:
        """Its subscriptions and memberships, those that have ended included."""
        return [*self.subscribers, *self.workers]

    def left(self) -> list[str]:
        """Return what is under way or waits, for people."""
        under_way = [f"operation {opened.operation.number}" for opened in self.recorder.open.values()]
        if not self.ready:
            under_way.append(f"opening the cluster from {self.machine.name}")
        return under_way + [f"operation {operation.number}, waiting for its contexts" for operation in self._waiting]

    def partition_of(self, stream: str) -> int:
        """Return the partition of a stream of the default context, 0 while it is not known."""
        return self.calls["default"].partition_of(stream) if self.ready else 0

    def open(self) -> None:
        """Find the cluster and both contexts, however long it takes."""
        self._ask(inquiries.get_map(OPENING_TIMEOUT_US), self._connected)

    def _ask(self, request: Request, done: Callable[[Any], None]) -> None:
        def ended(call: Call) -> None:
            if call.error is None:
                done(call.result)
            else:
                self.later(OPENING_AGAIN_US, self.open)

        self.start(request, ended)

    def _connected(self, _: None) -> None:
        self._ask(inquiries.find_context("default", OPENING_TIMEOUT_US), self._found)

    def _found(self, context: Context) -> None:
        self._use("default", context)
        self._ask(inquiries.create_context(ORDERED_CONTEXT, OPENING_TIMEOUT_US, ordered=True), self._created)

    def _created(self, context: Context) -> None:
        self._use("ordered", context)
        for consumer in self.consumers:
            consumer.begin()
        self._do_waiting()

    def _use(self, name: str, context: Context) -> None:
        calls = Calls(self.machine.session.routing, OPENING_TIMEOUT_US)
        calls.open_context(context, self.machine.session.cluster_id)
        self.calls[name] = calls

    def start(self, call: Call, ended: Callable[[Any], None]) -> None:
        """Hand a call to the session and listen for its end, as long as this life lasts."""
        life = self._life
        self.machine.on_done(call, lambda ended_call: ended(ended_call) if life == self._life else None)
        self.machine.start(call)

    def later(self, us: int, action: Callable[[], None]) -> None:
        """Do something after a while, if this life lasts."""
        life = self._life
        self.world.at(self.world.now_us + us, lambda: action() if life == self._life else None)

    # ── operations ──────────────────────────────────────────────────────────────────────────────────────────────────

    def do(self, operation: Operation) -> None:
        """Do an operation now, or when the machine goes on and the contexts are open."""
        if operation.kind == "restart":
            self._restart()
        elif self._paused or not self.ready:
            self._waiting.append(operation)
        elif operation.kind == "pause":
            self._pause(operation.arguments["for_ms"] * 1000)
        else:
            _DO[operation.kind](self, operation)

    def _pause(self, us: int) -> None:
        self._paused = True
        self.machine.pause(us)
        self.later(us, self.resume)

    def resume(self) -> None:
        """Go on, if the machine is paused."""
        self._paused = False
        self.machine.resume()
        self._do_waiting()

    def _do_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for operation in waiting:
            self.do(operation)

    def _restart(self) -> None:
        self._life += 1
        self._paused = False
        self.calls = {}
        for consumer in self.consumers:
            consumer.killed()
        self.recorder.abandon_all()
        self.machine.resume()
        self.machine.restart()
        self.open()

    # ── appends ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _believed(self, context: str, stream: str) -> int:
        return self._versions.get((self.calls[context].origin.context, stream), 0)

    def _expectations(self, operation: Operation) -> list[int]:
        context = operation.arguments["context"]
        ahead: dict[str, int] = {}  # by earlier parts of the same append
        expectations = []
        for stream, count, mode in operation.arguments["parts"]:
            known = self._believed(context, stream) + ahead.get(stream, 0)
            ahead[stream] = ahead.get(stream, 0) + count
            choices = {"any": ANY, "known": known, "none": 0, "behind": max(0, known - 1), "ahead": known + 1}
            expectations.append(choices[mode])
        return expectations

    def _append(self, operation: Operation) -> None:
        self._write(operation, 0, self._expectations(operation))

    def _submit(self, operation: Operation) -> None:
        """Let many appends to one stream be under way at once, each expecting what the one before leaves."""
        (first,) = self._expectations(operation)
        for place in range(operation.arguments["appends"]):
            self._write(operation, place, [first if first == ANY else first + place])

    def _write(self, operation: Operation, place: int, expectations: list[int], attempt: int = 0) -> None:
        """Make an append, the operation's one at `place`; where its outcome stays unknown, make it again."""
        arguments = operation.arguments
        parts = [
            (stream, new_events(self.seed, operation, place, number, count), expected)
            for number, ((stream, count, _), expected) in enumerate(zip(arguments["parts"], expectations, strict=True))
        ]
        calls = self.calls[arguments["context"]]
        timeout = arguments["timeout_ms"] / 1000
        append = calls.append(*parts[0], timeout) if len(parts) == 1 else calls.append_many(parts, timeout)
        tag = self.recorder.begin_append(operation, append, parts)

        def ended(call: Append) -> None:
            self.recorder.end_append(tag, call)
            self._learn(call)
            again = isinstance(call.error, OutcomeUnknown) and attempt < arguments["again"]
            if again and ANY not in expectations:  # the cluster knows an append again by what it expects and its IDs
                self._write(operation, place, expectations, attempt + 1)

        self.start(append, ended)

    def _learn(self, append: Append) -> None:
        context = append.origin.context
        if isinstance(append.error, WrongExpectedVersion):
            self._versions[context, append.error.stream] = append.error.actual
        if append.error is not None:
            return
        results = append.result if append.many else [append.result]
        for (stream, _, _), result in zip(append.parts, results, strict=True):
            self._versions[context, stream] = max(result.version, self._versions.get((context, stream), 0))
            self.saw(context, result.partition, result.position)

    def saw(self, context: int, partition: int, position: int) -> None:
        """Take in that a position was acknowledged or read."""
        self._own.saw(context, partition, position)
        self.everybody.saw(context, partition, position)

    # ── reads ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def at_least(self, operation: Operation, context: int, partition: int) -> int:
        """Return the position that a read has to wait for, 0 for none."""
        progress = {"own": self._own, "everybody": self.everybody}.get(operation.arguments["token"])
        return 0 if progress is None else progress.positions.get((context, partition), 0)

    def _version(self, operation: Operation) -> None:
        arguments = operation.arguments
        calls = self.calls[arguments["context"]]
        partition = calls.partition_of(arguments["stream"])
        at_least = self.at_least(operation, calls.origin.context, partition)
        token = make_token(calls.origin, {partition: at_least}) if at_least else None
        request = calls.version(arguments["stream"], arguments["consistency"], token, arguments["timeout_ms"] / 1000)
        tag = self.recorder.begin_read(operation, calls.origin.context, partition, at_least=at_least)

        def ended(call: Request) -> None:
            if call.error is None:
                self._versions[calls.origin.context, arguments["stream"]] = call.result
                self.recorder.end_version(tag, call.result)
            else:
                self.recorder.fail_read(tag, call.error)

        self.start(request, ended)

    def _read(self, operation: Operation) -> None:
        arguments = operation.arguments
        calls = self.calls[arguments["context"]]
        stream, after, limit, reverse = (arguments[name] for name in ("stream", "after", "limit", "reverse"))
        if after < 0:
            after = max(0, self._believed(arguments["context"], stream) + after)
        partition = calls.partition_of(stream)
        at_least = self.at_least(operation, calls.origin.context, partition)
        token = make_token(calls.origin, {partition: at_least}) if at_least else None
        timeout = arguments["timeout_ms"] / 1000
        read = calls.read(stream, after, limit, reverse, arguments["consistency"], token, timeout)
        request = read.next_request()
        assert request is not None
        tag = self.recorder.begin_read(
            operation,
            calls.origin.context,
            partition,
            after=after,
            limit=limit,
            reverse=reverse,
            at_least=at_least,
        )

        def ended(call: Request) -> None:
            if call.error is None:
                self._take(tag, read, call.result, calls.origin.context, partition, stream)
            else:
                self.recorder.fail_read(tag, call.error)

        self.start(request, ended)

    def _take(self, tag: Tag, read: StreamRead, chunk: Chunk, context: int, partition: int, stream: str) -> None:
        """Take in the first chunk of a read. Nothing here is longer than one; if it is, the reader is content."""
        events = read.take(chunk)
        self.recorder.end_read(tag, events, chunk.position, more=read.next_request() is not None)
        if events:
            newest = max(event.version for event in events)
            self._versions[context, stream] = max(newest, self._versions.get((context, stream), 0))
        self.saw(context, partition, chunk.position)

    def _pin(self, operation: Operation) -> None:
        self._pinned.read(operation, self.calls[operation.arguments["context"]])

    # ── consumers ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_all(self, operation: Operation) -> None:
        ContextReader(self, operation).begin()

    def _subscribe(self, operation: Operation) -> None:
        subscriber = Subscriber(self, operation)
        self.subscribers.append(subscriber)
        subscriber.begin()

    def _member(self, operation: Operation) -> None:
        worker = Worker(self, operation)
        self.workers.append(worker)
        worker.begin()

    def _operate(self, operation: Operation) -> None:
        operate(self, operation)


_DO: dict[str, Callable[[Application, Operation], None]] = {
    "append": Application._append,
    "batch": Application._append,
    "multi": Application._append,
    "submit": Application._submit,
    "read": Application._read,
    "version": Application._version,
    "pinned": Application._pin,
    "read_all": Application._read_all,
    "subscribe": Application._subscribe,
    "member": Application._member,
    "operate": Application._operate,
}
