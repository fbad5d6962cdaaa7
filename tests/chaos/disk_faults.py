"""Nodes' disks: full, without power, stuck, failing, slow, and damaged while the node is down.

Damage is done to one node of a run only, for what two nodes lose the others may not have. A node whose file is cut
short refuses to start and says so; then the file is put back as it was, which an operator may do because the node has
not run since. A node that cannot run with the bits that were flipped is out for the rest of the run; so is a replica
that has lost its vote. All others must have caught up in the end.
"""

import shutil
import subprocess
import time
from contextlib import ExitStack
from random import Random
from signal import SIGKILL, SIGTERM

from chaos.disks import LoopDisk
from chaos.faults import Course, Kind, Means, World, names
from chaos.nodes import DISK_ENDS, ChaosNode
from chaos.wishes import MARKER
from rewind_node.disk_reserve import DISK_RESERVE_BYTES_MIN, DISK_RESERVE_SHARE
from rewind_node.parent_death import dying_with_this_process

LOOK_S = 0.1
LEFT_SHARES = (0.5, 0.5, 0.1, 0.0)  # of the reserve
ENDING_S = 1.5  # until whoever has met a failure has ended, and was found
SYNC_DELAY_US = 300_000
NTH_SYNC = (1, 40)
FLIPS = (1, 12)
MENDING_S = 20.0
WELL_S = 1.5  # without complaint: then nothing more is met until somebody reads it


def _until_down(node: ChaosNode) -> Course:
    while node.running:
        yield LOOK_S


def fill(world: World, random: Random, seconds: float) -> Course:
    """Let something else fill the disks of some nodes, and give the space back."""
    nodes = world.pick(random, random.choice((1, 1, 2, len(world.cluster.nodes))))
    for node in nodes:
        size_bytes = shutil.disk_usage(node.disk.path).total
        reserve_bytes = max(size_bytes // DISK_RESERVE_SHARE, DISK_RESERVE_BYTES_MIN)
        node.excuses |= DISK_ENDS
        node.disk.fill(int(reserve_bytes * random.choice(LEFT_SHARES)))
    world.note(f"the disks of {names(nodes)} are full")
    yield seconds
    for node in nodes:
        node.disk.free()
    world.note(f"the disks of {names(nodes)} have space again")
    yield ENDING_S
    for node in nodes:
        node.excuses -= DISK_ENDS


def _power(world: World, nodes: list[ChaosNode], seconds: float) -> Course:
    """Cut the power of machines: what they had not synced is gone."""
    world.note(f"power cut at {names(nodes)}")
    for node in nodes:
        node.held += 1  # before the disk fails it: it must not be started on the way
        assert isinstance(node.disk, LoopDisk)
        node.disk.cut_power()
    for node in nodes:
        if node.process is not None:
            node.process.kill()
    yield seconds
    for node in nodes:
        yield from _until_down(node)
        assert isinstance(node.disk, LoopDisk)
        node.disk.restore_power()
        world.cluster.release(node)
    world.note(f"{names(nodes)} have power again")


def _with_power(nodes: list[ChaosNode]) -> list[ChaosNode]:
    return [node for node in nodes if isinstance(node.disk, LoopDisk) and not node.lost]


def cut_power_of_one(world: World, random: Random, seconds: float) -> Course:
    """Cut the power of one machine."""
    nodes = _with_power(world.pick(random, len(world.cluster.nodes)))
    yield from _power(world, nodes[:1], seconds)


def cut_power_of_all(world: World, _: Random, seconds: float) -> Course:
    """Cut the power of all machines whose disk can lose it; the others are killed with them."""
    nodes = _with_power(world.cluster.nodes)
    others = [node for node in world.cluster.alive if node not in nodes]
    for node in others:
        world.cluster.hold(node, SIGKILL)
    yield from _power(world, nodes, seconds)
    for node in others:
        world.cluster.release(node)


def freeze(world: World, random: Random, seconds: float) -> Course:
    """Let a disk take no writes for a while, as a storage that hangs does."""
    (node, *_) = _with_power(world.pick(random, len(world.cluster.nodes)))
    assert isinstance(node.disk, LoopDisk)
    world.note(f"the disk of {node.name} hangs")
    node.disk.freeze()
    yield seconds
    node.disk.thaw()
    world.note(f"the disk of {node.name} goes on")


# Syncs, by strace, which is attached to the node while the fault lasts.


def _inject(world: World, nodes: list[ChaosNode], seconds: float, injected: str, excuses: frozenset[int]) -> Course:
    running = [node for node in nodes if node.running]
    world.note(f"fdatasync of {names(running) or 'nobody, for none runs'}: {injected}")
    with ExitStack() as stack:
        tracers = []
        for node in running:
            assert node.process is not None
            node.excuses |= excuses
            command = ["/usr/bin/strace", "-f", "-p", str(node.process.pid), "-o", "/dev/null", "-e", "trace=fdatasync"]
            command = dying_with_this_process([*command, "-e", f"inject=fdatasync:{injected}"])
            tracers.append(stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL)))
        yield seconds
        for tracer in tracers:
            tracer.send_signal(SIGTERM)  # it lets go of the node
        while any(tracer.poll() is None for tracer in tracers):
            yield LOOK_S
    yield ENDING_S
    for node in running:
        node.excuses -= excuses
    world.note(f"fdatasync of {names(running)} works again")


def fail_sync(world: World, random: Random, seconds: float) -> Course:
    """Let a sync fail, after which nothing that the disk says may be believed."""
    yield from _inject(world, world.pick(random), seconds, f"error=EIO:when={random.randint(*NTH_SYNC)}", DISK_ENDS)


def delay_sync(world: World, random: Random, seconds: float) -> Course:
    """Let every sync take its time, at one node, at most of them, or at all."""
    nodes = world.pick(random, random.choice((1, world.majority, len(world.cluster.nodes))))
    yield from _inject(world, nodes, seconds, f"delay_enter={SYNC_DELAY_US}", frozenset())


def kill_at_sync(world: World, random: Random, seconds: float) -> Course:
    """Kill a node in the middle of a commit, before the disk has heard of it."""
    injected = f"error=EIO:signal=KILL:when={random.randint(*NTH_SYNC)}"
    yield from _inject(world, world.pick(random), seconds, injected, frozenset({-9}) | DISK_ENDS)


# Damage.


def _victim(world: World, random: Random) -> ChaosNode | None:
    """Return the node whose data may be damaged in this run, unless it is out already."""
    if not world.damaged:
        world.damaged.append(random.choice(world.cluster.nodes))
    (victim,) = world.damaged
    if victim.lost:
        world.note(f"{victim.name} is out for good, and no other may be damaged")
        return None
    return victim


def flip(world: World, random: Random, _: float) -> Course:
    """Flip bits of a node's data file while it is down, and see whether it can be mended."""
    node = _victim(world, random)
    if node is None:
        return
    world.cluster.hold(node)
    yield from _until_down(node)
    places = node.disk.flip_bits(random, random.randint(*FLIPS), MARKER)
    world.note(f"{len(places)} bits flipped in the data file of {node.name}, at {sorted(places)}")
    ends = len(world.cluster.ends)
    node.damaged = True
    world.cluster.release(node)
    give_up = well_s = time.monotonic() + MENDING_S
    while time.monotonic() < min(give_up, well_s + WELL_S):
        yield LOOK_S
        is_well = node.running and world.cluster.complaint_of(node) is None
        well_s = min(well_s, time.monotonic()) if is_well else give_up
        own_ends = [text for text in world.cluster.ends[ends:] if text.startswith(f"{node.name} ended")]
        if len(own_ends) >= 2:
            node.lost = f"{own_ends[-1]}, after bits of its data file had been flipped"
            node.held += 1
            break
    if node.lost:
        world.note(f"{node.name} is out for good: {node.lost}")


def truncate(world: World, random: Random, _: float) -> Course:
    """Cut a node's data file short while it is down; the node refuses it, and it is put back as it was."""
    node = _victim(world, random)
    if node is None:
        return
    world.cluster.hold(node)
    yield from _until_down(node)
    kept = node.log_file.with_suffix(".kept")
    shutil.copyfile(node.disk.data_file, kept)
    length = node.disk.truncate(random.uniform(0.05, 0.95))
    world.note(f"the data file of {node.name} is cut short to {length} bytes")
    node.excuses |= DISK_ENDS
    world.cluster.release(node)
    give_up = time.monotonic() + MENDING_S
    while time.monotonic() < give_up and not _has_refused(world, node):
        yield LOOK_S
    node.held += 1
    node.excuses -= DISK_ENDS
    if node.running:
        world.note(f"{node.name} runs: what was cut off was not in use")
    else:
        world.note(f"{node.name} says: {node.last_words()}")
        if "cut short" not in node.last_words():
            world.cluster.breakdowns.append(f"{node.name}, whose file was cut short, said: {node.last_words()}")
        shutil.copyfile(kept, node.disk.data_file)
    kept.unlink()
    world.cluster.release(node)


def _has_refused(world: World, node: ChaosNode) -> bool:
    """Return whether a node has either ended or come to serve."""
    if node.process is not None and not node.running and node.ended_s:
        return True
    return node.running and world.cluster.complaint_of(node) is None


KINDS = (
    Kind("full disk", "disk", (3, 8), fill, Means.MOUNT),
    Kind("power cut of one", "disk", (1, 4), cut_power_of_one, Means.LOOP_DISK),
    Kind("power cut of all", "disk", (0.5, 3), cut_power_of_all, Means.LOOP_DISK),
    Kind("frozen disk", "disk", (2, 6), freeze, Means.LOOP_DISK),
    Kind("sync fails", "disk", (3, 6), fail_sync, Means.STRACE),
    Kind("syncs delayed", "disk", (3, 6), delay_sync, Means.STRACE),
    Kind("killed at a sync", "disk", (3, 6), kill_at_sync, Means.STRACE),
    Kind("bits flipped", "disk", (1, 2), flip),
    Kind("data file cut short", "disk", (1, 2), truncate),
)
