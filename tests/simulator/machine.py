"""What hosts and client machines have in common: clocks, and turns that are due at times.

A machine runs a turn when something has arrived or when its program's deadline has come, by its own clock. A turn's
code runs at once, yet what it does takes time: until `busy_us` the machine runs no other turn, and what has not left by
then does not leave if it crashes, and leaves late if it is paused. So either may come between any two steps of a turn.
"""

from typing import TYPE_CHECKING

from simulator.clocks import MachineClock
from simulator.connection import DIALLER, LISTENER, Connection, Frames
from simulator.randomness import source

if TYPE_CHECKING:
    from simulator.world import World

WAKE_US = 100  # from an arrival to the turn that takes it in: what comes meanwhile is taken in with it


class Machine:
    """A machine of the world, with a number, a name, and one program that is up, paused or down."""

    def __init__(self, world: "World", number: int, name: str) -> None:
        self.world = world
        self.number = number
        self.name = name
        self.clock = MachineClock(source(world.seed, f"clock-{name}"))
        self.up = False
        self.paused = False
        self.busy_us = 0  # until when the turn that has run takes
        self.paused_us = 0
        self._due_us: int | None = None
        self._pauses = 0
        self._frozen: list[tuple[Connection, int, Frames | None]] = []  # to be sent when this machine goes on

    @property
    def monotonic_us(self) -> int:
        """What this machine's monotonic clock shows now."""
        return self.clock.monotonic_us(self.world.now_us)

    def wake(self) -> None:
        """Let a turn come soon: something has arrived."""
        self.due(self.world.now_us + WAKE_US)

    def due(self, at_us: int) -> None:
        """Let a turn come at a true time, or before."""
        if not self.up:
            return
        at_us = max(at_us, self.busy_us, self.world.now_us)
        if self._due_us is None or at_us < self._due_us:
            self._due_us = at_us
            self.world.at(at_us, self._is_due, at_us)

    def _is_due(self, at_us: int) -> None:
        if at_us != self._due_us:
            return  # what was due then has come earlier, or is off
        self._due_us = None
        if not self.paused:
            self.turn()

    def turn(self) -> None:
        """Run a turn."""
        raise NotImplementedError

    def pause(self, for_us: int) -> None:
        """Stop this machine's program for a while, as SIGSTOP does; its connections last until others give up."""
        if not self.up:
            return
        self._pauses += 1
        if not self.paused:
            self.paused, self.paused_us = True, self.world.now_us
        self._recheck_connections()
        self.world.note("pause", machine=self.name, for_us=for_us)
        self.world.at(self.world.now_us + for_us, self._end_pause, self._pauses)

    def _end_pause(self, number: int) -> None:
        if number == self._pauses:
            self.resume()

    def resume(self) -> None:
        """Let a paused machine go on."""
        if not self.paused:
            return
        self.paused = False
        self.world.note("resume", machine=self.name)
        self._recheck_connections()
        frozen, self._frozen = self._frozen, []
        for connection, end, frames in frozen:
            self.world.network.transmit(connection, end, frames, self.world.now_us)
        self.rearm()

    def rearm(self) -> None:
        """Let a turn come soon, whatever was due: this machine's clock, or whether it runs, has changed."""
        self._due_us = None
        self.wake()

    def freeze(self, connection: Connection, end: int, frames: Frames | None, left_us: int) -> bool:
        """Keep back a message that would have left after this machine was paused; return whether that was so."""
        if not self.paused or left_us <= self.paused_us:
            return False
        self._frozen.append((connection, end, frames))
        return True

    def _connections(self) -> list[Connection]:
        connections = self.world.network.connections.values()
        return [each for each in connections if self in (each.dial.machine, each.host)]

    def _recheck_connections(self) -> None:
        for connection in self._connections():
            self.world.network.recheck_heartbeats(connection)

    def _lose_connections(self, *, notice: bool, perished: bool) -> None:
        for connection in self._connections():
            for end in (DIALLER, LISTENER):
                if connection.machine(end) is self:
                    self.world.network.close(connection, end, tell=notice, perished=perished)

    def _stopped(self) -> None:
        self.up = self.paused = False
        self.busy_us = 0
        self._due_us = None
        self._frozen.clear()
