"""Nodes' processes: killed, stopped, ended in good order, again and again."""

from random import Random
from signal import SIGTERM

from chaos.faults import Course, Kind, World, names
from chaos.nodes import ChaosNode

LOOP_UP_S = (0.2, 1.5)  # from before it has read its data to after it serves


def _kill(world: World, nodes: list[ChaosNode], seconds: float) -> Course:
    world.note(f"kill -9 of {names(nodes)}")
    for node in nodes:
        world.cluster.hold(node)
    yield seconds
    for node in nodes:
        world.cluster.release(node)
    world.note(f"{names(nodes)} may start again")


def kill_one(world: World, random: Random, seconds: float) -> Course:
    """Kill one node."""
    yield from _kill(world, world.pick(random), seconds)


def kill_majority(world: World, random: Random, seconds: float) -> Course:
    """Kill a majority."""
    yield from _kill(world, world.pick(random, world.majority), seconds)


def kill_all(world: World, _: Random, seconds: float) -> Course:
    """Kill all nodes at once."""
    yield from _kill(world, world.cluster.alive, seconds)


def stop(world: World, random: Random, seconds: float) -> Course:
    """Stop a node past several elections, and let it go on as if nothing had been."""
    (node,) = world.pick(random)
    world.note(f"SIGSTOP to {node.name}")
    world.cluster.freeze(node)
    yield seconds
    world.cluster.thaw(node)
    world.note(f"SIGCONT to {node.name}")


def terminate(world: World, random: Random, seconds: float) -> Course:
    """End a node in good order: its leaderships are handed over before."""
    (node,) = world.pick(random)
    world.note(f"SIGTERM to {node.name}")
    world.cluster.hold(node, SIGTERM)
    yield seconds
    world.cluster.release(node)
    world.note(f"{node.name} may start again")


def restart_loop(world: World, random: Random, seconds: float) -> Course:
    """Kill a node at each of its starts, before it serves or soon after."""
    (node,) = world.pick(random)
    world.note(f"{node.name} is killed again and again")
    while seconds > 0:
        world.cluster.hold(node)
        yield 0.2
        world.cluster.release(node)
        up_s = random.uniform(*LOOP_UP_S)
        yield up_s
        seconds -= up_s + 0.2
    world.note(f"{node.name} is left alone")


KINDS = (
    Kind("kill -9 of one", "process", (1, 5), kill_one),
    Kind("kill -9 of a majority", "process", (1, 5), kill_majority),
    Kind("kill -9 of all", "process", (0.5, 4), kill_all),
    Kind("SIGSTOP", "process", (3, 8), stop),
    Kind("SIGTERM", "process", (2, 5), terminate),
    Kind("restart loop", "process", (4, 10), restart_loop),
)
