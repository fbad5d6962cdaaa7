"""How each kind of fault is done. `simulator.faults` says which kinds there are."""

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from rewind_node.store_layout import INDEX_TABLES, LOG_PREFIX, RAFT, U16, partition_range
from simulator import changes
from simulator.connection import DIALLER, LISTENER
from simulator.contests import Hounding, Swing
from simulator.duels import Duel
from simulator.eights import FigureEight
from simulator.host import Host
from simulator.machine import Machine
from simulator.promises import may_lose, may_miss
from simulator.randomness import source
from simulator.world import World

if TYPE_CHECKING:
    from simulator.plan import Fault

DAY_US = 86_400 * 1_000_000
FAST = 3
SLOW_DISK = (5, 60)
SLOW_NETWORK = (10, 100)
STEPS_MAX = 12
STALL_US = (200_000, 3_000_000)
GIVE_UP_US = (5_000, 800_000)
TOGETHER_US = 60_000  # several hosts crash within so long of one another, or at one instant
BREACHED, EXHAUSTED, BRIMFUL = (0.26, 0.95), (0.02, 0.24), (0.0, 0.005)  # free space as shares of the reserve


class Misfortune:
    """One fault as it is done: the hosts it strikes, and a source for whatever it decides."""

    def __init__(self, world: World, fault: "Fault") -> None:
        self.world = world
        self.fault = fault
        self.random = source(fault.choice, fault.kind)
        self.hosts = [world.hosts[number] for number in fault.nodes]

    @property
    def host(self) -> Host:
        """The first host it strikes."""
        return self.hosts[0]

    def left_out(self, why: str) -> None:
        """Note that this cannot be done now."""
        self.world.note("left-out", fault=self.fault.kind, why=why)

    def finally_(self, undo: Callable[[], None]) -> None:
        """Undo this fault when its time is over, unless all faults have been ended before."""
        healings = self.world.healings

        def end() -> None:
            if healings == self.world.healings:
                undo()

        self.world.at(self.world.now_us + self.fault.for_us, end)


# Crashes.


def crash(it: Misfortune) -> None:
    """Crash a host, with or without notice, perhaps amid a commit."""
    if not it.host.up:
        it.left_out("it is down")
        return
    it.host.crash(notice=it.random.random() < 0.5, torn=it.random.random() < 0.5)
    it.host.stay_down(it.fault.for_us)


def crash_at_step(it: Misfortune) -> None:
    """Crash a host between two steps of the next turn that does something."""
    if not it.host.up:
        it.left_out("it is down")
        return
    random = it.random
    it.host.crash_at_step(
        random.randrange(STEPS_MAX),
        it.fault.for_us,
        committing=random.random() < 0.7,
        notice=random.random() < 0.5,
        torn=random.random() < 0.5,
    )


def crash_several(it: Misfortune) -> None:
    """Crash several hosts at one instant, or shortly after one another."""
    notice, spread_us = it.random.random() < 0.5, it.random.choice((0, TOGETHER_US))
    for host in it.hosts:
        at_us = it.world.now_us + it.random.randint(0, spread_us)
        it.world.at(at_us, _crash_for, host, it.fault.for_us, notice, it.random.random() < 0.5)


def _crash_for(host: Host, for_us: int, notice: bool, torn: bool) -> None:
    if host.up:
        host.crash(notice=notice, torn=torn)
        host.stay_down(for_us)


def stop(it: Misfortune) -> None:
    """Stop a host's node in good order."""
    it.host.stop(it.fault.for_us)


def pause(it: Misfortune) -> None:
    """Stop a host's process for a while."""
    it.host.pause(it.fault.for_us)


def wipe(it: Misfortune) -> None:
    """Take everything from a host."""
    if not may_lose(it.world, it.host):
        it.left_out("too much would be lost")
        return
    it.host.wipe(rename=it.random.random() < 0.3)
    it.host.stay_down(it.fault.for_us)


# The network.


def _cut(it: Misfortune, pairs: list[tuple[Machine, Machine]]) -> None:
    network = it.world.network
    for sender, receiver in pairs:
        network.cut(sender, receiver)

    def mend() -> None:
        for sender, receiver in pairs:
            network.mend(sender, receiver)

    it.finally_(mend)


def _both_ways(pairs: list[tuple[Machine, Machine]]) -> list[tuple[Machine, Machine]]:
    return [*pairs, *((receiver, sender) for sender, receiver in pairs)]


def cut_pair(it: Misfortune) -> None:
    """Cut two hosts off from one another."""
    _cut(it, _both_ways([(it.hosts[0], it.hosts[1])]))


def cut_one_way(it: Misfortune) -> None:
    """Let nothing get from one host to another; the way back stays open."""
    _cut(it, [(it.hosts[0], it.hosts[1])])


def cut_off(it: Misfortune) -> None:
    """Cut a host off from the others: in both directions or one, with or without the clients."""
    world = it.world
    others: list[Machine] = [host for host in world.hosts if host is not it.host]
    if it.random.random() < 0.4:
        others += world.clients
    way = it.random.choice(("both", "both", "in", "out"))
    out = [(it.host, other) for other in others] if way != "in" else []
    into = [(other, it.host) for other in others] if way != "out" else []
    _cut(it, [*out, *into])


def cut_in_two(it: Misfortune) -> None:
    """Cut the hosts into two halves; each client reaches one half or both."""
    half = set(it.fault.nodes[: it.random.randint(1, max(1, len(it.fault.nodes) // 2))])
    hosts, clients = it.world.hosts, it.world.clients
    pairs: list[tuple[Machine, Machine]] = [
        (one, other) for one in hosts if one.number in half for other in hosts if other.number not in half
    ]
    for client in clients:
        side = it.random.choice(("both", "one", "other"))
        away = [host for host in hosts if side != "both" and (host.number in half) == (side == "one")]
        pairs += [(client, host) for host in away]
    _cut(it, _both_ways(pairs))


def cut_ring(it: Misfortune) -> None:
    """Let each host reach its neighbours in a ring or a row alone, so that reaching is not transitive."""
    row = [*it.hosts, it.hosts[0]] if len(it.hosts) > 3 else it.hosts
    neighbours = {frozenset((one.number, other.number)) for one, other in pairwise(row)}
    pairs: list[tuple[Machine, Machine]] = [
        (one, other)
        for one in it.hosts
        for other in it.hosts
        if one is not other and frozenset((one.number, other.number)) not in neighbours
    ]
    _cut(it, pairs)


def cut_client(it: Misfortune) -> None:
    """Cut a client off from a host, in one direction or both."""
    client = it.random.choice(it.world.clients)
    out: tuple[Machine, Machine] = (client, it.host)
    into: tuple[Machine, Machine] = (it.host, client)
    _cut(it, it.random.choice(([out], [into], [out, into])))


def drop_connections(it: Misfortune) -> None:
    """Drop the connections of a host with another or with the clients; both ends, one, or neither is told.

    Or the one that dialled gives a connection up on which one way or both stood still: what it was sent there is lost,
    and what it has sent arrives after what it sends on the next one.
    """
    network = it.world.network
    others: list[Machine] = [it.hosts[1]] if it.random.random() < 0.5 else [*it.world.clients]
    for other in others:
        for connection in network.between(it.host, other):
            told = it.random.choice(("both", "both", "dialler", "listener", "neither", "late", "late", "late"))
            if told == "late":
                for end in it.random.choice(((DIALLER,), (LISTENER,), (DIALLER, LISTENER))):
                    network.stall(connection, end, it.random.randint(*STALL_US))
                it.world.at(it.world.now_us + it.random.randint(*GIVE_UP_US), network.give_up, connection)
            if told == "neither":
                network.swallow(connection)
            if told in ("both", "dialler"):
                network.close(connection, DIALLER, tell=False)
            if told in ("both", "listener"):
                network.close(connection, LISTENER, tell=False)


def slow_network(it: Misfortune) -> None:
    """Let everything take much longer."""
    network = it.world.network
    network.slowness = it.random.randint(*SLOW_NETWORK)
    it.finally_(network.restore)


def bad_network(it: Misfortune) -> None:
    """Let much get lost, come twice or out of order."""
    network, random = it.world.network, it.random
    network.disturb(loss=random.uniform(0, 0.3), duplication=random.uniform(0, 0.3), reordering=random.uniform(0, 0.5))
    it.finally_(network.restore)


# Disks.


def slow_disk(it: Misfortune) -> None:
    """Let a host's commits take much longer."""
    engine = it.host.engine
    engine.slowness = it.random.randint(*SLOW_DISK)

    def undo() -> None:
        engine.slowness = 1

    it.finally_(undo)


def stuck_disk(it: Misfortune) -> None:
    """Let a host's next commit end only when this is over."""
    it.host.engine.stuck_until_us = it.world.now_us + it.fault.for_us


def failing_disk(it: Misfortune) -> None:
    """Let a host's commits fail."""
    engine = it.host.engine
    engine.failing = True

    def undo() -> None:
        engine.failing = False

    it.finally_(undo)


def full_disk(it: Misfortune) -> None:
    """Leave a host little space: less than its reserve, than a quarter of it, or next to none."""
    host = it.host
    share = it.random.uniform(*it.random.choice((BREACHED, EXHAUSTED, BRIMFUL)))
    host.engine.free_bytes = int(host.reserve.reserve_bytes() * share)
    it.finally_(host.engine.give_space)


def _flip(it: Misfortune, rows: list[tuple[str, int, bytes]], bits: tuple[int, int | None]) -> None:
    """Flip one of these bits of one of these rows (table, partition, key) of a host, if its replica may be missing."""
    rows = [row for row in rows if may_miss(it.world, it.host, row[1])]
    if not rows:
        it.left_out("nothing is there, or too much would be lost")
        return
    table, partition, key = it.random.choice(rows)
    value = it.host.engine.get(table, key)
    assert value is not None
    first, beyond = bits
    count = len(value) * 8
    bit = it.random.randrange(min(first, count - 1), min(beyond or count, count))
    it.world.note("flip", host=it.host.name, table=table, partition=partition, key=key.hex(), bit=bit)
    it.host.engine.flip(table, key, bit)


def _partitions(it: Misfortune) -> range:
    return range(it.world.shape.partitions + 1)


def _entries(it: Misfortune) -> list[tuple[str, int, bytes]]:
    engine = it.host.engine
    tables = [f"{LOG_PREFIX}{partition}" for partition in _partitions(it)]
    return [(table, number, key) for number, table in enumerate(tables) for key in engine.rows(table)]


def flip_record(it: Misfortune) -> None:
    """Flip a bit in the body of a log's entry."""
    _flip(it, _entries(it), (changes.HEADER_BITS, None))


def flip_header(it: Misfortune) -> None:
    """Flip a bit in the header of a log's entry."""
    _flip(it, _entries(it), (0, changes.HEADER_BITS))


def flip_row(it: Misfortune) -> None:
    """Flip a bit in a row of an index."""
    engine = it.host.engine
    rows = [
        (table, number, key)
        for table in INDEX_TABLES
        for number in _partitions(it)
        for key in engine.rows(table, *partition_range(number))
    ]
    _flip(it, rows, (0, None))


def flip_state(it: Misfortune) -> None:
    """Damage a replica's term, vote or membership: it is out of service for good as soon as it is loaded."""
    engine = it.host.engine
    rows = [(RAFT, number, U16.pack(number)) for number in _partitions(it) if U16.pack(number) in engine.rows(RAFT)]
    _flip(it, rows, (0, None))


# Clocks.


def clock_fast(it: Misfortune) -> None:
    """Let a machine's monotonic clock go three times too fast."""
    machine: Machine = it.random.choice((it.host, it.host, *it.world.clients))

    def go(factor: int) -> None:
        machine.clock.set_speed(factor, it.world.now_us)
        machine.rearm()

    go(FAST)
    it.finally_(lambda: go(1))


def clock_jump(it: Misfortune) -> None:
    """Let a machine's wall clock jump by a day, forward or back."""
    clock = it.random.choice((it.host, it.host, *it.world.clients)).clock
    clock.jump_us += it.random.choice((DAY_US, -DAY_US))

    def undo() -> None:
        clock.jump_us = 0

    if it.random.random() < 0.5:
        it.finally_(undo)


# What a controller does.


def transfer(it: Misfortune) -> None:
    """Let a leader hand over."""
    changes.transfer(it.world, it.random)


def hound(it: Misfortune) -> None:
    """Let trouble follow a partition's leadership about."""
    Hounding(it).begin()


def swing(it: Misfortune) -> None:
    """Let who leads a partition hang on one voter that comes and goes."""
    Swing(it).begin()


def figure_eight(it: Misfortune) -> None:
    """Let two leaders in turn hold what nobody else does, as in figure 8 of the Raft paper."""
    FigureEight(it).begin()


def duel(it: Misfortune) -> None:
    """Let two leaders in turn change a membership, each with half of the voters."""
    Duel(it).begin()


def membership(it: Misfortune) -> None:
    """Take a step in changing a partition's membership."""
    changes.change_membership(it.world, it.random)
