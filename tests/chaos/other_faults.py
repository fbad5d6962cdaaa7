"""Clocks that are wrong, and clients that are paused, cut off, killed."""

from random import Random

from chaos.clocks import RIGHT
from chaos.faults import Course, Kind, Means, World

DAY_S = 86_400
FAST = 3 * RIGHT


def jump(world: World, random: Random, seconds: float) -> Course:
    """Set a node's wall clock a day ahead or back, and right again."""
    (node,) = world.pick(random)
    assert node.clock is not None
    ahead_s = random.choice((-DAY_S, DAY_S))
    world.note(f"the wall clock of {node.name} jumps by {ahead_s // DAY_S:+} day")
    node.clock.set_wall(ahead_s)
    yield seconds
    node.clock.set_wall(0)
    world.note(f"the wall clock of {node.name} is right again")


def hurry(world: World, random: Random, seconds: float) -> Course:
    """Let a node's monotonic clock go three times too fast."""
    (node,) = world.pick(random)
    assert node.clock is not None
    world.steady = False
    world.note(f"the monotonic clock of {node.name} goes three times too fast")
    node.clock.set_speed(FAST)
    yield seconds
    node.clock.set_speed(RIGHT)
    world.note(f"the monotonic clock of {node.name} goes right again")


def pause(world: World, random: Random, seconds: float) -> Course:
    """Stop a client process, and let it go on."""
    client = random.choice(world.fleet.clients)
    world.note(f"SIGSTOP to client {client.name}")
    world.fleet.pause(client)
    yield seconds
    world.fleet.resume(client)
    world.note(f"SIGCONT to client {client.name}")


def cut_off(world: World, random: Random, seconds: float) -> Course:
    """Let a client process reach no node, in one direction or both."""
    client = random.choice(world.fleet.clients)
    nodes = [node.name for node in world.cluster.nodes]
    world.note(f"client {client.name} cut off")
    cuts = [(client.name, world.links.dropped(nodes))]
    if random.random() < 0.7:
        cuts += [(node, world.links.dropped([client.name])) for node in nodes]
    for machine, rules in cuts:
        world.links.add(machine, rules)
    yield seconds
    for machine, rules in cuts:
        world.links.take(machine, rules)
    world.note(f"client {client.name} reaches the nodes again")


def replace(world: World, random: Random, seconds: float) -> Course:
    """Kill a client process; another takes its place, with the same checkpoints."""
    client = random.choice(world.fleet.clients)
    world.note(f"kill -9 of client {client.name}")
    world.fleet.hold(client)
    yield seconds
    world.fleet.release(client)
    world.note(f"another process takes the place of client {client.name}")


KINDS = (
    Kind("wall clock jumps", "clock", (3, 8), jump, Means.SHIM),
    Kind("clock three times too fast", "clock", (3, 8), hurry, Means.SHIM),
    Kind("client paused", "client", (2, 8), pause),
    Kind("client cut off", "client", (2, 8), cut_off, Means.NAMESPACES),
    Kind("client killed", "client", (0.1, 2), replace),
)
