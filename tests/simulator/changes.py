"""What a controller does to data partitions: hands leaderships over and changes memberships, one step at a time.

It goes through the leading replica's consensus core, as partition 0's leader does for its own group, and makes the
store of a new replica as a node does when it is given one.
"""

from collections.abc import Sequence
from random import Random

from membership_steps import demote, learners, promote, remove

from rewind_cluster.entry import HEADER_BYTES
from rewind_cluster.errors import ClusterError
from rewind_cluster.membership import Membership
from rewind_cluster.raft_messages import ReplicaId
from rewind_node.placing import create_replica
from rewind_node.replica import Replica
from simulator.host import Host
from simulator.promises import has_majority, is_missing
from simulator.world import World

HEADER_BITS = 8 * HEADER_BYTES
REPLICA_IDS_PER_TERM = 1_000_000
FIRST_REPLICA_ID = 10_000  # above all of the founding
VOTERS_MIN = 2
STEP_WEIGHTS = {"add": 3, "promote": 6, "demote": 1, "remove": 1}  # so that voters get more than they were


def _led_partition(world: World, random: Random) -> tuple[Host, Replica] | None:
    """Return the leader of a data partition and its replica there, if it has one that may be talked to."""
    partition = random.randint(1, world.shape.partitions)
    host = world.leader(partition)
    if host is None:
        world.note("left-out", partition=partition, why="nobody leads")
        return None
    replica = world.replica(host, partition)
    assert replica is not None
    return host, replica


def transfer(world: World, random: Random) -> None:
    """Let a partition's leader hand over to another voter."""
    led = _led_partition(world, random)
    if led is not None:
        hand_over(world, *led)


def hand_over(world: World, host: Host, replica: Replica) -> None:
    """Let the leader of a partition hand over to another voter."""
    assert host.node is not None
    begun = replica.raft.transfer(None, host.monotonic_us)
    world.note("transfer", partition=replica.partition, host=host.name, begun=begun)
    host.node.touch(replica)
    host.wake()


def change_membership(world: World, random: Random) -> None:
    """Propose a step of a membership change that makes sense: add, promote, demote or remove a replica."""
    led = _led_partition(world, random)
    if led is None:
        return
    propose_step(world, random, *led)


def propose_step(
    world: World, random: Random, host: Host, replica: Replica, wanted: Sequence[str] = tuple(STEP_WEIGHTS)
) -> None:
    """Propose a step of a `wanted` kind through a leader, whether or not it has committed anything in its term."""
    if any(is_missing(other, replica.partition) for other in world.hosts if not other.lost):
        world.note("left-out", partition=replica.partition, why="a replica is damaged")
        return
    steps = [step for step in _steps(world, replica) if has_majority(world, replica.partition, step[1])]
    steps = [step for step in steps if step[0] in wanted]
    if not replica.raft.committed_in_term:
        steps = [step for step in steps if step[2] is None]  # it will be refused: nothing is to be made ready for it
    if not steps:
        world.note("left-out", partition=replica.partition, why="no step makes sense")
        return
    kinds = sorted({kind for kind, _, _ in steps})
    kind = random.choices(kinds, [STEP_WEIGHTS[kind] for kind in kinds])[0]
    what, change, target = random.choice([step for step in steps if step[0] == kind])
    if target is not None and not _make_room(target, replica, change):
        world.note("left-out", partition=replica.partition, why="the new replica's host is busy")
        return
    try:
        replica.raft.propose_membership(change)
        outcome = "proposed"
    except ClusterError as error:
        outcome = str(error)
    world.note("membership", partition=replica.partition, step=what, voters=change.voters, outcome=outcome)
    assert host.node is not None
    host.node.touch(replica)
    host.wake()


Step = tuple[str, Membership, Host | None]


def _steps(world: World, replica: Replica) -> list[Step]:
    """Return the steps that make sense now: what kind, to what membership, and the host of a replica that is to be."""
    raft, membership = replica.raft, replica.raft.membership
    steps: list[Step] = []
    for learner in learners(membership):
        progress = raft.progress(learner)
        steps.append(("remove", remove(membership, learner), None))
        if progress is not None and progress.match >= raft.commit:
            steps.append(("promote", promote(membership, learner), None))
    if len(membership.voters) > VOTERS_MIN:
        for voter in membership.voters:
            steps.append(("demote", demote(membership, voter), None))
            steps.append(("remove", remove(membership, voter), None))
    new = ReplicaId(FIRST_REPLICA_ID + raft.term * REPLICA_IDS_PER_TERM + raft.log.last_index + 1)
    able = [host for host in world.hosts if _can_take(host, replica.partition)]
    return steps + [("add", membership.add_learner(new, host.node_id), host) for host in able]


def _can_take(host: Host, partition: int) -> bool:
    node = host.node
    if node is None or host.busy or host.paused or node.control is None:
        return False
    return partition not in node.replicas and partition not in node.infirmary.repairs


def _make_room(host: Host, replica: Replica, change: Membership) -> bool:
    """Make the store of a replica that is about to be added, as `Node.adopt_learner` does for partition 0."""
    node = host.node
    if node is None or not _can_take(host, replica.partition):
        return False
    added = next(iter(change.members.keys() - replica.raft.membership.members.keys()))

    def create() -> None:
        create_replica(node.store, replica.partition, added, Membership({}))
        node.store.commit()
        node.load_replica(replica.partition)

    return host.operate(create)
