"""The network between nodes, and theirs to clients: cut in all ways there are, lossy, hostile, slow."""

from collections.abc import Iterable
from random import Random

from chaos.faults import Course, Kind, Means, World, names
from chaos.nodes import ChaosNode

FLAP_S = 1.0

Cut = tuple[str, list[str]]  # a machine, and rules for what comes in there


def _hold(world: World, cuts: list[Cut], seconds: float) -> Course:
    for machine, rules in cuts:
        world.links.add(machine, rules)
    yield seconds
    for machine, rules in cuts:
        world.links.take(machine, rules)


def _between(world: World, ones: Iterable[str], others: Iterable[str]) -> list[Cut]:
    """Return the cuts that let nothing through between two groups of machines."""
    ones, others = list(ones), list(others)
    cuts = [(one, world.links.dropped(others)) for one in ones]
    return cuts + [(other, world.links.dropped(ones)) for other in others]


def _names(nodes: list[ChaosNode]) -> list[str]:
    return [node.name for node in nodes]


def _clients(world: World) -> list[str]:
    return [client.name for client in world.fleet.clients]


def _apart(world: World, random: Random, count: int) -> tuple[list[str], list[str]]:
    """Return so many nodes with some of the clients, and all others."""
    nodes = _names(world.pick(random, count))
    clients = [name for name in _clients(world) if random.random() < 0.3]
    inside = [*nodes, *clients]
    return inside, [name for name in (*_names(world.cluster.nodes), *_clients(world)) if name not in inside]


def isolate(world: World, random: Random, seconds: float) -> Course:
    """Cut one node off from all others, with some clients on its side."""
    inside, outside = _apart(world, random, 1)
    world.note(f"{', '.join(inside)} cut off from all others")
    yield from _hold(world, _between(world, inside, outside), seconds)
    world.note(f"{', '.join(inside)} joined again")


def halves(world: World, random: Random, seconds: float) -> Course:
    """Cut the cluster in two, with a majority on one side."""
    inside, outside = _apart(world, random, world.majority)
    world.note(f"cut in two: {', '.join(inside)} | {', '.join(outside)}")
    yield from _hold(world, _between(world, inside, outside), seconds)
    world.note("the two halves are joined again")


def one_way(world: World, random: Random, seconds: float) -> Course:
    """Let a node say but not hear, or hear but not say."""
    (node,) = world.pick(random)
    others = [name for name in _names(world.cluster.nodes) if name != node.name]
    if random.random() < 0.5:
        world.note(f"{node.name} hears no other node")
        cuts = [(node.name, world.links.dropped(others))]
    else:
        world.note(f"no other node hears {node.name}")
        cuts = [(other, world.links.dropped([node.name])) for other in others]
    yield from _hold(world, cuts, seconds)
    world.note(f"{node.name} hears and is heard again")


def chain(world: World, random: Random, seconds: float) -> Course:
    """Leave A-B and B-C, and cut A-C: who reaches whom is not transitive."""
    first, _, last = (node.name for node in world.pick(random, 3))
    world.note(f"{first} and {last} do not reach each other, and all others do")
    yield from _hold(world, _between(world, [first], [last]), seconds)
    world.note(f"{first} and {last} reach each other again")


def flap(world: World, random: Random, seconds: float) -> Course:
    """Cut a node off and join it again, again and again."""
    (node,) = world.pick(random)
    others = [*(name for name in _names(world.cluster.nodes) if name != node.name), *_clients(world)]
    world.note(f"the network of {node.name} comes and goes")
    while seconds > 0:
        off_s, on_s = random.uniform(0.1, FLAP_S), random.uniform(0.1, FLAP_S)
        yield from _hold(world, _between(world, [node.name], others), off_s)
        yield on_s
        seconds -= off_s + on_s
    world.note(f"the network of {node.name} stays")


def loss(world: World, random: Random, seconds: float) -> Course:
    """Lose every fifth packet, at one node or everywhere."""
    nodes = world.pick(random) if random.random() < 0.5 else world.cluster.alive
    world.note(f"every fifth packet to {names(nodes)} is lost")
    every = [*_names(world.cluster.nodes), *_clients(world)]
    cuts = [(node.name, world.links.lost(name for name in every if name != node.name)) for node in nodes]
    yield from _hold(world, cuts, seconds)
    world.note("no packets are lost any more")


def reset(world: World, random: Random, seconds: float) -> Course:
    """Reset every connection to a node, again and again as they are made anew."""
    (node,) = world.pick(random)
    every = [name for name in (*_names(world.cluster.nodes), *_clients(world)) if name != node.name]
    world.note(f"connections with {node.name} are reset")
    yield from _hold(world, [(node.name, world.links.reset(every))], seconds)
    world.note(f"connections with {node.name} stay")


def slow(world: World, random: Random, seconds: float) -> Course:
    """Let what a node says trickle."""
    (node,) = world.pick(random)
    world.note(f"the link of {node.name} is slow")
    world.links.slow_down(node.name)
    yield seconds
    world.links.speed_up(node.name)
    world.note(f"the link of {node.name} is fast again")


def _kind(name: str, seconds: tuple[float, float], course: object) -> Kind:
    return Kind(name, "network", seconds, course, Means.NAMESPACES)  # type: ignore[arg-type] # each is a course


KINDS = (
    _kind("isolation", (3, 8), isolate),
    _kind("cut in two", (3, 8), halves),
    _kind("one-way cut", (3, 8), one_way),
    _kind("non-transitive cut", (3, 8), chain),
    _kind("flapping", (4, 9), flap),
    _kind("20 % loss", (3, 8), loss),
    _kind("resets", (2, 6), reset),
    _kind("slow link", (3, 8), slow),
)
