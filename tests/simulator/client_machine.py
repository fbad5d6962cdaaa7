"""A client machine: drives the shipped client session as its own shells do, and asks one node by hand if told to."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rewind import inquiries
from rewind.append import Append
from rewind.calls import Calls
from rewind.engine import hand_on
from rewind.requests import Call, Request
from rewind.session import Session
from rewind_cluster.client_messages import CLIENT_CODEC, Hello, Welcome
from rewind_cluster.wire import PROTOCOL_VERSIONS
from simulator.connection import DIALLER, Dial, Frames
from simulator.host import Host
from simulator.machine import Machine
from simulator.randomness import source

if TYPE_CHECKING:
    from simulator.world import World

TURN_US = 30
CALL_TIMEOUT_US = 10_000_000
ASK_TIMEOUT_US = 5_000_000

Done = Callable[[Call], None]
Overhear = Callable[[str, bytes], None]  # a node's address, and the first frame of a message to or from it
OnAnswer = Callable[[Any, Sequence[bytes]], None]


class ClientMachine(Machine):
    """A machine with one client session at a time."""

    def __init__(self, world: "World", number: int, name: str) -> None:
        super().__init__(world, number, name)
        self.random = source(world.seed, f"client-{name}")
        self.session: Session
        self.calls: Calls | None = None
        self.overhear: Overhear | None = None  # what the session and nodes say to each other
        self._dials: dict[str, tuple[int, Dial]] = {}
        self._inbox: list[Call | Callable[[int], None]] = []
        self._under_way: dict[Call, Done | None] = {}
        self._asked: list[_Question] = []
        self._begin()

    def _begin(self) -> None:
        self.calls = None
        addresses = [host.address for host in self.world.hosts if host.is_seed]
        self.session = Session(addresses, f"simulated {self.name}", self.random.random)

    def start_machine(self) -> None:
        """Start the program on this machine."""
        self.up = True
        self.rearm()

    # Calls.

    def start(self, call: Call) -> None:
        """Hand an append or a request to the session."""
        self._under_way.setdefault(call, None)
        self._inbox.append(call)
        self.due(self.world.now_us)

    def tell(self, news: Callable[[int], None]) -> None:
        """Have `news` called with the time in the next turn, before the session works."""
        self._inbox.append(news)
        self.due(self.world.now_us)

    def on_done(self, call: Call, function: Done) -> None:
        """Let `function` be called when a call has ended, unless the program is restarted before."""
        self._under_way[call] = function

    def connect(self) -> None:
        """Look for the map and the default context, until they are found: `calls` then makes calls."""
        request = inquiries.get_map(CALL_TIMEOUT_US)
        self.on_done(request, lambda call: self._find_context() if call.error is None else self.connect())
        self.start(request)

    def _find_context(self) -> None:
        request = inquiries.find_context("default", CALL_TIMEOUT_US)
        self.on_done(request, self._found_context)
        self.start(request)

    def _found_context(self, call: Call) -> None:
        if call.error is not None:
            self._find_context()
            return
        calls = Calls(self.session.routing, CALL_TIMEOUT_US)
        calls.open_context(call.result, self.session.cluster_id)
        self.calls = calls

    def restart(self) -> list[Call]:
        """Kill the program and start it again; return the calls under way, which nobody will hear of any more."""
        abandoned = list(self._under_way)
        self.world.note("restart", client=self.name, abandoned=len(abandoned))
        for _, dial in self._dials.values():
            self.world.network.hang_up(dial)
        self._dials.clear()
        self._inbox.clear()
        self._under_way.clear()
        for question in self._asked:
            question.give_up()
        self._asked.clear()
        self._begin()
        self.wake()
        return abandoned

    def ask_node(self, host: Host, message: Any, on_answer: OnAnswer) -> None:
        """Ask one node by hand, on a connection of its own, whatever the session would do.

        `on_answer` is called once, with the message and its frames, or with None where no answer came. A deadline in
        the message is by the host's clock, `host.monotonic_us`.
        """
        question = _Question(self, host, message, on_answer)
        self._asked.append(question)
        self.world.at(self.world.now_us + ASK_TIMEOUT_US, question.give_up)

    # Turns.

    def turn(self) -> None:
        """Take in what has arrived, let the session work, and do what it wants."""
        now_us, session = self.monotonic_us, self.session
        self._receive(session, now_us)
        inbox, self._inbox = self._inbox, []
        for call in inbox:
            if isinstance(call, Append):
                session.append(call, now_us)
            elif isinstance(call, Request):
                session.request(call, now_us)
            else:
                assert not isinstance(call, Call)
                call(now_us)
        session.tick(now_us)
        work = session.take(now_us)
        if work.sockets is not None:
            self._open(work.sockets)
        for address, messages in work.send:
            self._send(address, messages)
        self.busy_us = self.world.now_us + TURN_US
        hand_on(work)
        for call in work.completed:
            self._complete(call)
        if session is self.session:  # else one of those who were told has restarted this program
            self.due(self.clock.true_us(session.wake_us))

    def _receive(self, session: Session, now_us: int) -> None:
        for address, (_, dial) in self._dials.items():
            while dial.messages:
                frames = dial.messages.popleft()
                if self.overhear is not None:
                    self.overhear(address, frames[0])
                session.received(address, frames, now_us)
            events, dial.events = dial.events, []
            for is_up in events:
                (session.connected if is_up else session.disconnected)(address, now_us)
        for question in self._asked:
            question.turn()
        self._asked = [question for question in self._asked if not question.over]

    def _open(self, wanted: dict[str, int]) -> None:
        for address, (generation, dial) in list(self._dials.items()):
            if wanted.get(address) != generation:
                self.world.network.hang_up(dial)
                del self._dials[address]
        for address, generation in wanted.items():
            if address not in self._dials:
                self._dials[address] = generation, self.world.network.dial(self, address)

    def _send(self, address: str, messages: Sequence[Sequence[bytes]]) -> None:
        found = self._dials.get(address)
        connection = found[1].connection if found is not None else None
        if connection is not None:
            for frames in messages:
                if self.overhear is not None:
                    self.overhear(address, frames[0])
                self.world.network.send(connection, DIALLER, list(frames), self.world.now_us)

    def _complete(self, call: Call) -> None:
        self.world.trace(self.number, call.error is None)
        function = self._under_way.pop(call, None)
        if function is not None:
            function(call)


class _Question:
    """One request by hand: greets the node, sends it, and waits for the answer that carries its number."""

    def __init__(self, client: ClientMachine, host: Host, message: Any, on_answer: OnAnswer) -> None:
        self.over = False
        self._client = client
        self._message = message
        self._on_answer = on_answer
        self._dial = client.world.network.dial(client, host.address)

    def turn(self) -> None:
        """Take in what has arrived."""
        dial = self._dial
        while dial.messages and not self.over:
            self._received(dial.messages.popleft())
        events, dial.events = dial.events, []
        for is_up in events:
            if not is_up:
                self.give_up()
            elif not self.over:
                self._send(Hello(list(PROTOCOL_VERSIONS), "", "by hand", 0, {}, None))

    def _received(self, frames: Frames) -> None:
        message = CLIENT_CODEC.decode(frames[0])
        if isinstance(message, Welcome):
            self._send(self._message)
        elif getattr(message, "request", None) == self._message.request:
            self._end(message, frames[1:])

    def _send(self, message: Any) -> None:
        connection = self._dial.connection
        if connection is not None:
            world = self._client.world
            world.network.send(connection, DIALLER, [CLIENT_CODEC.encode(message)], world.now_us)

    def give_up(self) -> None:
        """End without an answer."""
        if not self.over:
            self._end(None, [])

    def _end(self, message: Any, frames: Sequence[bytes]) -> None:
        self.over = True
        self._client.world.network.hang_up(self._dial)
        self._on_answer(message, frames)
