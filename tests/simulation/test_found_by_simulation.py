"""What the simulator has found in the shipped code, each reduced to its story."""

from typing import Any

from simulator import changes

PARTITION = 1


def step(world: Any, kind: str, target: Any = None) -> None:
    """Take one step of a membership change in partition 1, and let it settle."""
    leader = world.leads(PARTITION)
    replica = world.replica(leader, PARTITION)
    for found, change, host in changes._steps(world, replica):
        if found == kind and target in (None, host):
            if host is not None:
                assert changes._make_room(host, replica, change)
            replica.raft.propose_membership(change)
            leader.node.touch(replica)
            leader.wake()
            world.wait(1_000_000)
            return
    raise AssertionError(f"there is no step {kind}")


def test_a_node_that_joins_while_partition_0_loses_its_leader_gets_its_learner(make_world: Any) -> None:
    world = make_world(late_nodes=1).found()
    late, leader = world.hosts[3], world.leads(0)
    world.until(lambda: late.up)
    while late.node_id not in leader.node.map.nodes:
        world.wait(200)
    for host in world.hosts[:3]:
        if host is not leader:
            world.network.cut(leader, host)
    world.until(lambda: late.node.control is not None)  # it has begun to be a learner that nobody committed
    leader.crash()
    world.wait(3_000_000)
    world.network.mend_all()
    leader.start()

    world.until(lambda: late.node.control.applied >= world.replica(world.leads(0), 0).raft.commit > 2)

    members = world.replica(world.leads(0), 0).raft.membership.members
    assert members[late.node.control.raft.replica].node == late.node_id


def test_a_damaged_replica_is_repaired_from_a_leader_that_is_not_of_the_founding(make_world: Any) -> None:
    world = make_world(nodes=5, memberships=True).found()
    for number in range(10):
        world.append(str(number))
    victim = next(host for host in world.hosts if world.replica(host, PARTITION))
    newcomer = next(host for host in world.hosts if not world.replica(host, PARTITION))
    step(world, "add", newcomer)
    step(world, "promote")
    leader = world.leads(PARTITION)
    replica = world.replica(leader, PARTITION)
    heir = world.replica(newcomer, PARTITION).raft.replica
    assert replica.raft.transfer(heir, leader.monotonic_us)
    leader.node.touch(replica)
    leader.wake()
    world.until(lambda: world.leader(PARTITION) is newcomer)

    table = f"log:{PARTITION}"
    victim.engine.flip(table, victim.engine.rows(table)[2], 8 * 200)
    victim.node.infirmary._scrub_us = 0
    world.until(lambda: world.told("damaged", f"host={victim.name}"))

    world.until(lambda: world.told("has been repaired", f"host={victim.name}"))
    assert not victim.node.infirmary.repairs
