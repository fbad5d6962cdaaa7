"""A host: a machine with a disk that survives crashes, and a node's core while it is up.

The turn that it runs is the shipped one, `rewind_node.loop.turn`. What the turn does on disk and network takes time,
which the host's stopwatch counts.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewind_cluster.cluster_map import Founding, NodeInfo
from rewind_cluster.errors import DamagedError
from rewind_cluster.raft_options import RaftOptions
from rewind_node.data_directory import bring_to_format
from rewind_node.exits import NodeExit
from rewind_node.founding import Plan
from rewind_node.loop import SPACE_INTERVAL_US, Stopping, turn
from rewind_node.node import FOUNDING_KEY, Node
from rewind_node.server import NODE_ID_KEY
from rewind_node.storage_errors import StorageError
from rewind_node.store import Store
from rewind_node.store_layout import NODE, unseal
from simulator.carrier import SimulatedTransport
from simulator.disk import FaultyEngine, SimulatedReserve, Stopwatch
from simulator.machine import Machine
from simulator.randomness import source

if TYPE_CHECKING:
    from simulator.connection import Connection, Frames
    from simulator.world import World

TURN_US = 50  # a turn's time on the processor
POLL_GRAIN_US = 1000  # of waiting for a deadline, as in the shipped transport
RESTART_US = (300_000, 2_000_000)  # a supervisor starts a program anew that has ended by itself
NOTHING_READY: set[object] = set()  # the simulated transport knows by itself


@dataclass(frozen=True, slots=True)
class CrashStep:
    """A crash that is to come within a turn, see `Host.crash_at_step`."""

    step: int
    for_us: int
    committing: bool
    notice: bool
    torn: bool


class Host(Machine):
    """One machine with a disk that survives crashes, and a node's core while it is up."""

    def __init__(self, world: "World", number: int, name: str, *, is_seed: bool) -> None:
        super().__init__(world, number, name)
        self.is_seed = is_seed
        self.address = f"{name}:7070"
        self.peer_address = f"{name}:7071"
        self.random = source(world.seed, f"host-{name}")
        self.watch = Stopwatch()
        self.engine = FaultyEngine(source(world.seed, f"disk-{name}"), self.watch)
        self.reserve = SimulatedReserve(self.engine)
        self.node: Node | None = None
        self.node_id = ""
        self.starts = 0
        self.wiped = 0
        self.routes: dict[bytes, Connection] = {}
        self.inboxes: dict[str, deque[tuple[bytes, Frames]]] = {"peer": deque(), "client": deque()}
        self._transport = SimulatedTransport(self)
        self._space_us = 0
        self._crash_step: CrashStep | None = None
        self._down_until_us = 0
        self.node_name = name
        self._stopping = Stopping()
        self._stopped_for_us = 0
        world.network.listen(self, self.address, "client")
        world.network.listen(self, self.peer_address, "peer")

    @property
    def lost(self) -> bool:
        """Whether this host's replicas are gone for good: its data was lost after a cluster had been founded on it."""
        founding = self.world.founding
        return self.wiped > 0 and founding is not None and self.node_id not in {node.id for node in founding.nodes}

    @property
    def founding(self) -> Founding | None:
        """The founding record that this host has, up or down."""
        if self.node is not None:
            return self.node.founding
        sealed = self.engine.get(NODE, FOUNDING_KEY.encode()) if NODE in self.engine.tables() else None
        return None if sealed is None else Founding.unpack(unseal(NODE, FOUNDING_KEY.encode(), sealed))

    # Up and down.

    def start(self) -> None:
        """Start the node on what the disk holds."""
        if self.up:
            return
        world, self.watch.now_us = self.world, self.world.now_us
        self.starts += 1
        self._transport = SimulatedTransport(self)
        self._stopping = Stopping()
        self._space_us = 0
        self.up = True
        world.note("start", host=self.name)
        try:
            self.node = self._make_node()
        except (NodeExit, StorageError, DamagedError) as error:
            self._end_by_itself(error)
            return
        self.busy_us = self.watch.now_us
        self._transport.dial(self.node.peers.dialled)
        self.due(self.busy_us)

    def _make_node(self) -> Node:
        world, random = self.world, self.random
        bring_to_format(self.engine)
        store = Store(self.engine)
        stored = store.node_value(NODE_ID_KEY)
        if stored is None:
            stored = f"{random.getrandbits(128):032x}".encode()
            store.put_node_value(NODE_ID_KEY, stored)
            store.commit()
        self.node_id = stored.decode()
        return Node(
            NodeInfo(self.node_id, self.node_name, self.address, self.peer_address, f"{self.name}:7072"),
            Plan(world.seeds, world.shape.partitions, world.shape.replication_factor),
            store,
            RaftOptions(),
            nonce=random.randbytes(16),
            pid=self.starts,
            pick=random.randint,
            new_id=lambda: f"{random.getrandbits(128):032x}",
            log=NodeLog(self),
            now_us=self.clock.monotonic_us(self.watch.now_us),
            wall_us=self.clock.wall_us(self.watch.now_us),
        )

    def crash(self, *, notice: bool = True, torn: bool = False) -> None:
        """End the node's process at this instant.

        With `notice` only the process dies and the system closes its connections; without it the machine does, and
        nobody is told. `torn`: what is just being committed becomes durable, though nobody will be told.
        """
        if not self.up:
            return
        self.world.note("crash", host=self.name, notice=notice, torn=torn)
        self._go_down(notice=notice, torn=torn)
        if not notice:
            self.clock.reboot(self.world.now_us)

    def _go_down(self, *, notice: bool, torn: bool = False) -> None:
        for dial in self._transport.dials.values():
            dial.closed = True
        self._stopped()
        self.node = None
        self._crash_step = None
        self._lose_connections(notice=notice, perished=not notice)
        self.routes.clear()
        for inbox in self.inboxes.values():
            inbox.clear()
        self.engine.cut_power(self.world.now_us, torn=torn)

    @property
    def busy(self) -> bool:
        """Whether the turn that has run still takes its time, so that nothing may be done to the node from outside."""
        return self.busy_us > self.world.now_us

    def crash_at_step(self, step: int, for_us: int, *, committing: bool, notice: bool, torn: bool) -> None:
        """Crash within the next turn that sends or commits, with `committing` the next that commits.

        `step`: how many of the turn's steps come before: of each message and the commit.
        """
        self._crash_step = CrashStep(step, for_us, committing=committing, notice=notice, torn=torn)

    def spare(self) -> None:
        """Let this host not crash in its next turn after all."""
        self._crash_step = None

    def _end_by_itself(self, error: Exception) -> None:
        """Let the process end as its loop does after an error; a supervisor starts it again."""
        self.world.note("exit", host=self.name, error=f"{type(error).__name__}: {error}")
        self._go_down(notice=True)
        self.stay_down(self.random.randint(*RESTART_US))

    def stay_down(self, for_us: int) -> None:
        """Let this host, which is down, start again after a while; the last of several calls to come counts."""
        self._down_until_us = max(self._down_until_us, self.world.now_us + for_us)
        self.world.at(self._down_until_us, self._start_again)

    def _start_again(self) -> None:
        if self.world.now_us >= self._down_until_us:
            self.start()

    def wipe(self, *, rename: bool = False) -> None:
        """Lose everything, the node's ID included; the next node here may get a name of its own."""
        self.crash(notice=False)
        self.wiped += 1
        self.node_id = ""
        if rename:
            self.node_name = f"{self.name}-{self.wiped}"
        self.world.note("wipe", host=self.name, name=self.node_name)
        self.engine = FaultyEngine(source(self.world.seed, f"disk-{self.name}-{self.wiped}"), self.watch)
        self.reserve = SimulatedReserve(self.engine)

    def stop(self, for_us: int) -> None:
        """Ask the node to end in good order, as SIGTERM does, and start it again after a while."""
        if self.up:
            self.world.note("stop", host=self.name)
            self._stopping.requested = True
            self._stopped_for_us = for_us
            self.wake()

    def operate(self, action: Callable[[], None]) -> bool:
        """Do something to the node between two turns; what it commits takes its time. Return whether that went well."""
        assert self.up
        assert not self.busy
        self.watch.now_us = self.world.now_us
        self.engine.settle(self.world.now_us)
        try:
            action()
        except StorageError as error:
            self._end_by_itself(error)
            return False
        self.busy_us = self.watch.now_us
        self.rearm()
        return True

    # Turns.

    def turn(self) -> None:
        """Run one turn of the shipped loop."""
        node, transport = self.node, self._transport
        assert node is not None
        world, watch = self.world, self.watch
        begun_us = watch.now_us = world.now_us
        self.engine.settle(begun_us)
        transport.steps_us.clear()
        now_us, commits = self.clock.monotonic_us(begun_us), len(self.engine.commits)
        try:
            if now_us >= self._space_us:
                node.set_storage_full(self.reserve.is_breached(), self.reserve.is_exhausted())
                self._space_us = now_us + SPACE_INTERVAL_US
            turn(node, transport, NOTHING_READY, node.store, now_us, self.clock.wall_us(begun_us), self._measure_us)
            over = self._stopping.is_over(node, now_us)
            if over:
                node.finish()
        except (NodeExit, StorageError) as error:
            self.busy_us = watch.now_us
            world.at(watch.now_us, self._end_at, self.starts, error)
            return
        self.busy_us = watch.now_us = watch.now_us + TURN_US
        world.trace(self.number, len(transport.steps_us), len(self.engine.commits) - commits, self.busy_us - begun_us)
        if over:
            world.at(self.busy_us, self._end_at, self.starts, None)
        elif self._crash_step is not None:
            self._crash_within(self._crash_step, begun_us)
        transport.dial(node.peers.dialled)
        self._plan_next(node)

    def _measure_us(self) -> int:
        return self.clock.monotonic_us(self.watch.now_us)

    def _plan_next(self, node: Node) -> None:
        if self._transport.has_arrivals:
            self.due(self.busy_us)
            return
        wait_us = max(0, node.deadline_us - self.clock.monotonic_us(self.busy_us))
        grains_us = -(-wait_us // POLL_GRAIN_US) * POLL_GRAIN_US
        self.due(self.clock.true_us(self.clock.monotonic_us(self.busy_us) + grains_us) if grains_us else self.busy_us)

    def _end_at(self, starts: int, error: Exception | None) -> None:
        """End the process at the end of the turn in which it decided to, unless it has crashed before."""
        if not self.up or starts != self.starts:
            return
        if error is not None:
            self._end_by_itself(error)
            return
        self.world.note("stopped", host=self.name)
        self._go_down(notice=True)
        self.stay_down(self._stopped_for_us)

    def _crash_within(self, crash: CrashStep, begun_us: int) -> None:
        """Crash at a step of the turn that has run: right before a message leaves, amid a commit, or at its end."""
        commits_us = [(commit.begin_us + commit.end_us) // 2 for commit in self.engine.commits]
        steps_us = sorted([*(left_us - 1 for left_us in self._transport.steps_us), *commits_us])
        steps_us += [self.busy_us] if steps_us else []
        if not steps_us or (crash.committing and not commits_us):
            return
        self._crash_step = None
        at_us = max(begun_us, steps_us[crash.step % len(steps_us)])
        self.world.at(at_us, self._crash_now, self.starts, crash)

    def _crash_now(self, starts: int, crash: CrashStep) -> None:
        if self.up and starts == self.starts:
            self.crash(notice=crash.notice, torn=crash.torn)
            self.stay_down(crash.for_us)


class NodeLog:
    """What a node says, as lines of the trace."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def info(self, event: str, **facts: Any) -> None:
        """Note an event, and tell whoever listens."""
        world = self._host.world
        world.note("log", host=self._host.name, event=event, **facts)
        for listener in world.listeners:
            listener(self._host, event, facts)

    warning = error = info
