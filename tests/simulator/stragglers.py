"""Requests and answers of clients that come late or not at all, while nothing else is wrong.

What a client sends again has then often taken effect, or has been refused, and copies of it come after their answer.
"""

from typing import TYPE_CHECKING

from simulator import changes
from simulator.connection import DIALLER, LISTENER

if TYPE_CHECKING:
    from simulator.host import Host
    from simulator.misfortunes import Misfortune

STALL_US = (200_000, 3_000_000)
GIVE_UP_US = (20_000, 900_000)
LATE_US = (5_000, 500_000)
SLOW_DISK = (20, 80)
ROLL_EVERY_US = (100_000, 900_000)
ROLL_DOWN_US = (10_000, 500_000)


def late_requests(it: "Misfortune") -> None:
    """Let a client give up all its connections, and what it has sent on them arrive after what it sends on new ones."""
    world, random = it.world, it.random
    client = random.choice(world.clients)
    give_up_us = world.now_us + random.randint(*GIVE_UP_US)
    for host in world.hosts:
        for connection in world.network.between(host, client):
            world.network.stall(connection, DIALLER, random.randint(*STALL_US))
            world.at(give_up_us, world.network.give_up, connection)


def late_answers(it: "Misfortune") -> None:
    """Let all that a leader tells clients come late, and let it hand over meanwhile, which others tell them at once.

    The others are slow, so that old answers come while what was sent again is still under way.
    """
    world, random = it.world, it.random
    partition = random.randint(1, world.shape.partitions)
    host = world.leader(partition)
    if host is None:
        it.left_out("nobody leads")
        return
    hand_over_us = random.randint(*GIVE_UP_US)
    for client in world.clients:
        for connection in world.network.between(host, client):
            world.network.stall(connection, LISTENER, hand_over_us + random.randint(*LATE_US))
    slowed = [other.engine for other in world.hosts if other is not host]
    for engine in slowed:
        engine.slowness = random.randint(*SLOW_DISK)
    healings = world.healings

    def hand_over() -> None:
        replica = world.replica(host, partition)
        if healings == world.healings and replica is not None and replica.leading:
            changes.hand_over(world, host, replica)

    def spare() -> None:
        for engine in slowed:
            engine.slowness = 1

    world.at(world.now_us + hand_over_us, hand_over)
    world.at(world.now_us + hand_over_us + LATE_US[1], spare)


def roll(it: "Misfortune") -> None:
    """Stop all nodes in good order and start them again, one after the other; clients may not hear a word meanwhile."""
    world, random = it.world, it.random
    if random.random() < 0.7:
        for host in it.hosts:
            for client in world.clients:
                for connection in world.network.between(host, client):
                    world.network.stall(connection, LISTENER, random.randint(*STALL_US))
    at_us, healings = world.now_us, world.healings
    for host in it.hosts:
        world.at(at_us, _roll_one, host, healings, random.randint(*ROLL_DOWN_US))
        at_us += random.randint(*ROLL_EVERY_US)


def _roll_one(host: "Host", healings: int, down_us: int) -> None:
    if host.up and healings == host.world.healings:
        host.stop(down_us)
