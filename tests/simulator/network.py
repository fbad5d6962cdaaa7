"""The network between machines: connections as ZeroMQ makes them over TCP, and what can happen to them.

Within a connection messages keep their order and none is lost: a cut withholds them, and they arrive when it heals if
TCP still repeats them by then, even from an end that has given up meanwhile. Raft's batches alone are also lost,
doubled and reordered, because consensus must bear a network worse than TCP.

Nobody but the end itself knows that it has closed until a notice arrives, and a notice may get lost: then the end that
dialled finds out by its heartbeats, the other never.
"""

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any
from zlib import crc32

from rewind_cluster.peer_messages import PEER_CODEC, RaftBatch
from rewind_node.transport import HEARTBEAT_IVL_MS, HEARTBEAT_TIMEOUT_MS, RECONNECT_IVL_MAX_MS, RECONNECT_IVL_MS
from simulator.connection import DIALLER, LISTENER, Connection, Dial, Frames

if TYPE_CHECKING:
    from simulator.host import Host
    from simulator.machine import Machine
    from simulator.world import World

RAFT_BATCH_CODE = PEER_CODEC.encode(RaftBatch("", 0, False, []))[1:2]
LATE_US_MAX = 400_000  # by how much a reordered batch comes late
RESEND_US = (200_000, 600_000)  # what TCP needs to notice that something was lost
STALL_US_MAX = 300_000  # and to try again once a cut has healed
RECONNECT_CUT_US = (100_000, 1_000_000)  # a connection request that got no answer is repeated at last


@dataclass(frozen=True, slots=True)
class NetworkProfile:
    """How a run's network is on an ordinary day. The last three are probabilities."""

    delay_us: tuple[int, int]
    loss: float
    duplication: float
    reordering: float


CALM = NetworkProfile((100, 1500), 0.0, 0.0, 0.0)


class Network:
    """All connections, and the cuts between machines."""

    def __init__(self, world: "World", profile: NetworkProfile, random: Random) -> None:
        self.profile = profile
        self.slowness = 1
        self.connections: dict[int, Connection] = {}
        self._usual = profile
        self._world = world
        self._random = random
        self._ports: dict[str, tuple[Host, str]] = {}
        self._cuts: dict[tuple[int, int], int] = {}
        self._numbers = 0

    def listen(self, host: "Host", address: str, port: str) -> None:
        """Let a host be reached at an address."""
        self._ports[address] = host, port

    # Weather.

    def disturb(self, **changes: Any) -> None:
        """Make the network worse than usual."""
        self.profile = replace(self._usual, **changes)

    def restore(self) -> None:
        """Make the network as usual again."""
        self.profile = self._usual
        self.slowness = 1

    def calm(self) -> None:
        """Make the network faultless from now on."""
        self._usual = CALM
        self.restore()

    def delay_us(self) -> int:
        """Draw how long something takes from one machine to another: mostly little."""
        low, high = self.profile.delay_us
        drawn = self._random.random()
        return (low + int((high - low) * drawn * drawn)) * self.slowness

    # Cuts.

    def is_cut(self, sender: int, receiver: int) -> bool:
        """Return whether nothing gets from one machine to another."""
        return bool(self._cuts) and (sender, receiver) in self._cuts

    def cut(self, sender: "Machine", receiver: "Machine") -> None:
        """Let nothing get from one machine to another. Cuts add up."""
        pair = sender.number, receiver.number
        self._cuts[pair] = self._cuts.get(pair, 0) + 1
        self._recheck(sender, receiver)

    def mend(self, sender: "Machine", receiver: "Machine") -> None:
        """Take one cut away."""
        pair = sender.number, receiver.number
        left = self._cuts.get(pair, 0) - 1
        if left > 0:
            self._cuts[pair] = left
        else:
            self._cuts.pop(pair, None)
        self._recheck(sender, receiver)

    def mend_all(self) -> None:
        """Take all cuts away."""
        self._cuts.clear()
        for connection in list(self.connections.values()):
            self._recheck_connection(connection)

    def between(self, one: "Machine", other: "Machine") -> list[Connection]:
        """Return the connections between two machines, whoever dialled."""
        pair = {one.number, other.number}
        return [each for each in self.connections.values() if {each.dial.machine.number, each.host.number} == pair]

    def _recheck(self, one: "Machine", other: "Machine") -> None:
        for connection in self.between(one, other):
            self._recheck_connection(connection)

    def _recheck_connection(self, connection: Connection) -> None:
        self.recheck_heartbeats(connection)
        for end in (DIALLER, LISTENER):
            if connection.held[end] and not self._is_withheld(connection, end):
                now_us = self._world.now_us
                connection.stalled_us[end] = now_us + self._random.randint(0, STALL_US_MAX)
                self._world.at(connection.stalled_us[end], self._release, connection, end)

    def _is_withheld(self, connection: Connection, end: int) -> bool:
        sender, receiver = connection.machine(end), connection.machine(1 - end)
        return self.is_cut(sender.number, receiver.number)

    def _release(self, connection: Connection, end: int) -> None:
        """Let arrive what a cut has withheld."""
        if self._is_withheld(connection, end) or self._world.now_us < connection.stalled_us[end]:
            return
        held = connection.held[end][:]
        connection.held[end].clear()
        if not connection.is_open[end] and (connection.perished[end] or self._random.random() < 0.5):
            held = [item for item in held if item[0] is None]  # its machine repeats nothing but that it has closed
        for frames, left_us in held:
            self._arrive(connection, end, frames, left_us)
        self._forget_if_closed(connection)

    def _forget_if_closed(self, connection: Connection) -> None:
        if not any(connection.is_open) and not any(connection.held):
            self.connections.pop(connection.number, None)

    # Heartbeats.

    def recheck_heartbeats(self, connection: Connection) -> None:
        """Note whether the dialler gets answers to its heartbeats from now on."""
        if not connection.is_open[DIALLER]:
            return
        mute = (
            connection.black_hole
            or not connection.is_open[LISTENER]
            or connection.host.paused
            or self._is_withheld(connection, DIALLER)
            or self._is_withheld(connection, LISTENER)
        )
        if not mute:
            connection.mute_us = None
        elif connection.mute_us is None:
            now_us = self._world.now_us
            connection.mute_us = now_us
            wait_us = HEARTBEAT_TIMEOUT_MS * 1000 + self._random.randint(0, HEARTBEAT_IVL_MS * 1000)
            self._world.at(now_us + wait_us, self._judge_silence, connection, now_us)

    def _judge_silence(self, connection: Connection, mute_us: int) -> None:
        if connection.mute_us != mute_us or not connection.is_open[DIALLER]:
            return
        silent_us = self._world.now_us - connection.heard_us
        if silent_us < HEARTBEAT_TIMEOUT_MS * 1000:
            again_us = connection.heard_us + HEARTBEAT_TIMEOUT_MS * 1000
            self._world.at(again_us, self._judge_silence, connection, mute_us)
        elif connection.dial.machine.paused:
            self._world.at(self._world.now_us + HEARTBEAT_IVL_MS * 1000, self._judge_silence, connection, mute_us)
        else:
            self.close(connection, DIALLER)

    # Dialling.

    def dial(self, machine: "Machine", address: str) -> Dial:
        """Open a socket to an address."""
        dial = Dial(machine, address)
        self._world.at(self._world.now_us + self.delay_us(), self._attempt, dial)
        return dial

    def hang_up(self, dial: Dial) -> None:
        """Close a socket."""
        dial.closed = True
        if dial.connection is not None:
            self.close(dial.connection, DIALLER)

    def _attempt(self, dial: Dial) -> None:
        if dial.closed or dial.connection is not None:
            return
        wait_us = self._obstacle_us(dial)
        if wait_us is not None:
            self._world.at(self._world.now_us + wait_us, self._attempt, dial)
            return
        shake_us = 3 * self.delay_us()
        self._world.at(self._world.now_us + shake_us, self._establish, dial, self._ports[dial.address][0].starts)

    def _obstacle_us(self, dial: Dial) -> int | None:
        """Return after how long to try again, or None where nothing is in the way."""
        found = self._ports.get(dial.address)
        if found is None or not found[0].up:
            return self._reconnect_us(dial)
        host = found[0]
        if self.is_cut(dial.machine.number, host.number) or self.is_cut(host.number, dial.machine.number):
            return self._random.randint(*RECONNECT_CUT_US)
        if host.paused or dial.machine.paused:
            return self._reconnect_us(dial)
        return None

    def _reconnect_us(self, dial: Dial) -> int:
        wait_ms = min(RECONNECT_IVL_MS << dial.attempts, RECONNECT_IVL_MAX_MS)
        dial.attempts = min(dial.attempts + 1, 8)
        return wait_ms * 1000 + self._random.randrange(RECONNECT_IVL_MS * 1000)

    def _establish(self, dial: Dial, starts: int) -> None:
        if dial.closed:
            return
        host, port = self._ports[dial.address]
        if host.starts != starts or self._obstacle_us(dial) is not None:
            self._world.at(self._world.now_us + self._reconnect_us(dial), self._attempt, dial)
            return
        self._numbers += 1
        connection = Connection(self._numbers, dial, host, port, self._world.now_us)
        self.connections[connection.number] = connection
        host.routes[connection.route] = connection
        dial.attempts = 0
        dial.connection = connection
        dial.events.append(True)
        self._world.note("up", connection=connection.number, dialler=dial.machine.name, address=dial.address)
        dial.machine.wake()

    # Closing.

    def close(self, connection: Connection, end: int, *, tell: bool = True, perished: bool = False) -> None:
        """Close one end; with `tell` the other end is told, as soon as everything sent before has arrived."""
        if not connection.is_open[end]:
            return
        now_us = self._world.now_us
        connection.is_open[end] = False
        connection.ended_us[end] = now_us
        connection.perished[end] = perished
        self._world.note("down", connection=connection.number, end=end)
        if end == DIALLER:
            self._went_down(connection)
        else:
            connection.host.routes.pop(connection.route, None)
        if tell and not connection.black_hole:
            self.transmit(connection, end, None, now_us)
        self.recheck_heartbeats(connection)
        self._forget_if_closed(connection)

    def _went_down(self, connection: Connection) -> None:
        dial = connection.dial
        dial.connection = None
        dial.events.append(False)
        if not dial.closed:
            self._world.at(self._world.now_us + self._reconnect_us(dial), self._attempt, dial)
            dial.machine.wake()

    def drop(self, one: "Machine", other: "Machine") -> None:
        """Close all connections between two machines; both ends are told."""
        for connection in self.between(one, other):
            for end in (DIALLER, LISTENER):
                self.close(connection, end, tell=False)

    def stall(self, connection: Connection, end: int, for_us: int) -> None:
        """Let what an end sends, or has sent, arrive only after a while."""
        connection.stalled_us[end] = self._world.now_us + for_us
        self._world.at(connection.stalled_us[end], self._release, connection, end)

    def give_up(self, connection: Connection) -> None:
        """Let the end that dialled close without the other being told."""
        self.close(connection, DIALLER, tell=False)

    def swallow(self, connection: Connection) -> None:
        """Let everything on a connection vanish from now on, without telling either end."""
        connection.black_hole = True
        self.recheck_heartbeats(connection)

    # Messages.

    def send(self, connection: Connection, end: int, frames: Frames, now_us: int) -> None:
        """Send a message from an end of a connection."""
        profile, random = self.profile, self._random
        if connection.port == "peer" and end == DIALLER and frames[0][1:2] == RAFT_BATCH_CODE:
            if random.random() < profile.loss:
                return
            if random.random() < profile.duplication:
                self._send_astray(connection, end, frames, now_us)
            if random.random() < profile.reordering:
                self._send_astray(connection, end, frames, now_us)
                return
            self.transmit(connection, end, frames, now_us)
        else:
            resend_us = random.randint(*RESEND_US) if random.random() < profile.loss else 0
            self.transmit(connection, end, frames, now_us, resend_us)

    def _send_astray(self, connection: Connection, end: int, frames: Frames, now_us: int) -> None:
        late_us = self.delay_us() + self._random.randint(0, LATE_US_MAX)
        self._world.at(now_us + late_us, self._arrive, connection, end, frames, now_us)

    def transmit(
        self, connection: Connection, end: int, frames: Frames | None, now_us: int, resend_us: int = 0
    ) -> None:
        """Let a message, or None for the notice that an end has closed, arrive after all those before it."""
        at_us = max(connection.clock_us[end], now_us + self.delay_us() + resend_us)
        connection.clock_us[end] = at_us
        self._world.at(at_us, self._arrive, connection, end, frames, now_us)

    def _arrive(self, connection: Connection, end: int, frames: Frames | None, left_us: int) -> None:
        """Let a message arrive that left `end`; None is the notice that this end has closed."""
        receiver = 1 - end
        if (0 <= connection.ended_us[end] < left_us) or connection.black_hole:
            return
        if connection.machine(end).freeze(connection, end, frames, left_us):
            return
        if not connection.is_open[receiver]:
            self._answer_dead_end(connection, receiver)
            return
        withheld = connection.held[end] or self._world.now_us < connection.stalled_us[end]
        if withheld or self._is_withheld(connection, end):
            connection.held[end].append((frames, left_us))
        elif frames is None:
            self.close(connection, receiver, tell=False)
        else:
            self._deliver(connection, receiver, frames)

    def _answer_dead_end(self, connection: Connection, receiver: int) -> None:
        """Let TCP say that there is no such connection, if there is a machine to say it."""
        machine = connection.machine(receiver)
        if machine.up and connection.is_open[1 - receiver] and not self._is_withheld(connection, receiver):
            self._world.at(self._world.now_us + self.delay_us(), self._reset, connection, 1 - receiver)

    def _reset(self, connection: Connection, end: int) -> None:
        stalled = self._world.now_us < connection.stalled_us[1 - end]
        if not stalled and not self._is_withheld(connection, 1 - end):
            self.close(connection, end, tell=False)

    def _deliver(self, connection: Connection, receiver: int, frames: Frames) -> None:
        self._world.trace(connection.number, receiver, crc32(frames[0]))
        if receiver == DIALLER:
            connection.heard_us = self._world.now_us
            connection.dial.messages.append(frames)
            connection.dial.machine.wake()
        else:
            connection.host.inboxes[connection.port].append((connection.route, frames))
            connection.host.wake()
