"""The end of a run: everything is healed, and then the cluster must come back, in bounded time.

Every call ends; every partition takes a fresh append; every replica that is left catches up with its leader, and does
so again after it was asked for all that it holds; terms no longer rise. Some plans keep a cut that lets nothing through
one way, and the same must hold for all but the two hosts at its ends. Last, what the replicas hold is read from their
stores for the checker.
"""

from collections.abc import Iterator

from histories.history import Outcome
from histories.logs import StoredLog, log_of_store, views_of

from rewind_node.data_partition import DataPartition
from rewind_node.store_layout import LOG_PREFIX, RAFT
from simulator.faults import heal_all
from simulator.findings import (
    CALL_NEVER_ENDS,
    CONSUMER_BEHIND,
    GROUP_BEHIND,
    NO_CATCH_UP,
    NO_SERVICE,
    SURPRISE,
    TERMS_RISE,
    Finding,
)
from simulator.machines import Host
from simulator.plan import Plan
from simulator.promises import may_lose, partition_of
from simulator.workload import Workload
from simulator.world import World

# The longest timeout, 8 s, three times for an append that is made again twice, and once more to open the contexts.
CALLS_END_US = 40_000_000
# Supervisors' restarts (2 s), repeated connection requests (1 s), elections that split (2 s each); a repaired replica
# is loaded anew and asks for everything. Calls, of which many wait for all that, took up to 3 s, and catching up 2 s.
SERVES_US = 10_000_000
CATCHES_UP_US = 15_000_000
# A feed that a kept cut leaves with a replica that is behind for good asks after 10 s and waits 2 s; then it may come
# to one that hears no leader, and turns away from that after 3 s, or from one that says nothing.
CONSUMERS_ARRIVE_US = 25_000_000
# The lease of an owner that died last (5 s), by a slow clock, claims that were under way (5 s), and an event that is
# worked on for 6 s, twice where its owner was to give it up meanwhile.
GROUPS_ARRIVE_US = 25_000_000
MEMBERS_LEAVE_US = 10_000_000
# Until the last election that the healing calls for: five of the longest waits of a follower without a leader.
TERMS_SETTLE_US = 10_000_000
TERMS_WATCHED_US = 6_000_000  # three of them
TERMS_LOOK_US = 500_000


class Verdict:
    """The last part of a run. `findings` holds what went wrong."""

    def __init__(self, world: World, plan: Plan, workload: Workload) -> None:
        self.findings: list[Finding] = []
        self._world = world
        self._plan = plan
        self._workload = workload
        self._cut_pair: set[int] = set()  # the hosts at the ends of the cut that is kept

    def reach(self) -> None:
        """Heal everything and see whether the cluster comes back."""
        world, plan = self._world, self._plan
        heal_all(world)
        self._workload.resume()
        if plan.kept_cut is not None:
            self._keep_cut(*(world.hosts[number] for number in plan.kept_cut))
        if not world.run_while(lambda: self._workload.busy, world.now_us + CALLS_END_US):
            left = ", ".join(self._workload.left())
            self._found(CALL_NEVER_ENDS, f"{CALLS_END_US // 1_000_000} s after everything was healed: {left}")
        self._see_service()
        self._see_catching_up()
        self._see_consumers()
        self._workload.audit()
        world.run_while(lambda: self._workload.busy, world.now_us + CALLS_END_US)
        self._see_catching_up()  # again: replicas that the audit found damaged are being repaired
        self._see_terms()
        for surprise in self._workload.records.surprises:
            self._found(SURPRISE, surprise)

    def _keep_cut(self, sender: Host, receiver: Host) -> None:
        """Let nothing through one way, if the cluster must do with that.

        It need not before it is founded, for which all seeds must be reached, nor where a partition has no majority
        without either host.
        """
        world = self._world
        founded = all(host.node is not None and host.node.founding is not None for host in world.hosts if host.is_seed)
        if founded and may_lose(world, sender) and may_lose(world, receiver):
            world.note("kept-cut", sender=sender.name, receiver=receiver.name)
            world.network.cut(sender, receiver)
            self._cut_pair = {sender.number, receiver.number}
        else:
            world.note("left-out", fault="kept-cut", why="the cluster may need both hosts")

    def _found(self, kind: str, text: str) -> None:
        self.findings.append(Finding(kind, text))

    # The cluster serves.

    def _see_service(self) -> None:
        probes = self._workload.probe(SERVES_US)
        self._world.run_while(lambda: self._workload.busy, self._world.now_us + 2 * SERVES_US)
        served = {
            append.partition
            for append in self._workload.records.appends
            if append.outcome is Outcome.OK
            and self._workload.records.operations[append.client, append.number].number in probes
        }
        for partition in range(1, self._plan.shape.partitions + 1):
            if partition not in served:
                limit_s = SERVES_US // 1_000_000
                self._found(NO_SERVICE, f"partition {partition} took no fresh append within {limit_s} s of healing")

    # Its replicas catch up.

    def _see_catching_up(self) -> None:
        if self._world.run_while(lambda: next(self._behind(), None), self._world.now_us + CATCHES_UP_US):
            return
        for text in self._behind():
            self._found(NO_CATCH_UP, f"{text}, {CATCHES_UP_US // 1_000_000} s after the cluster served again")

    def _behind(self) -> Iterator[str]:
        for partition in range(self._plan.shape.partitions + 1):
            leader = self._world.leader(partition)
            replica = self._world.replica(leader, partition) if leader is not None else None
            if leader is None or replica is None:
                yield f"partition {partition} has no leader"
                continue
            raft = replica.raft
            if replica.applied < raft.log.last_index:
                applied = f"{replica.applied} of {raft.log.last_index}"
                yield f"partition {partition}: its leader {leader.name} has applied {applied}"
            nodes = [member.node for member in raft.membership.members.values()]
            for host in self._world.hosts:
                left = host.node_id in nodes and not _is_lost(host, partition)
                if left and not self._is_cut_off(host, leader):
                    yield from self._behind_leader(host, partition, raft.commit)

    def _behind_leader(self, host: Host, partition: int, commit: int) -> Iterator[str]:
        where = f"partition {partition} on {host.name}"
        replica = self._world.replica(host, partition)
        if replica is None:
            yield f"{where} is not in service"
        elif replica.damage is not None or replica.raft.quarantined:
            yield f"{where} is under quarantine: {replica.damage}"
        elif replica.applied < commit:
            yield f"{where} has applied {replica.applied} of {commit}"

    def _is_cut_off(self, host: Host, leader: Host) -> bool:
        return {host.number, leader.number} == self._cut_pair

    # Its consumers get everything.

    def _see_consumers(self) -> None:
        world, workload = self._world, self._workload
        workload.hurry_consumers()
        if not world.run_while(lambda: next(workload.consumers_behind(), None), world.now_us + CONSUMERS_ARRIVE_US):
            limit_s = CONSUMERS_ARRIVE_US // 1_000_000
            for text in workload.consumers_behind():
                self._found(CONSUMER_BEHIND, f"{text}, {limit_s} s after all replicas had caught up")
        if not world.run_while(lambda: next(workload.groups_behind(), None), world.now_us + GROUPS_ARRIVE_US):
            limit_s = GROUPS_ARRIVE_US // 1_000_000
            for text in workload.groups_behind():
                self._found(GROUP_BEHIND, f"{text}, {limit_s} s after all other consumers had come to the end")
        workload.end_consumers()
        if not world.run_while(lambda: next(workload.members_leaving(), None), world.now_us + MEMBERS_LEAVE_US):
            for text in workload.members_leaving():
                self._found(CALL_NEVER_ENDS, f"{text} within {MEMBERS_LEAVE_US // 1_000_000} s")

    # Its terms no longer rise.

    def _see_terms(self) -> None:
        """See whether terms stay what they are for a while, which they must before the settling is over."""
        limit_us = self._world.now_us + TERMS_SETTLE_US
        while (risen := self._watch_terms()) and self._world.now_us <= limit_us:
            pass
        for partition, (before, term) in risen.items():
            text = f"from {before} to {term} in {TERMS_WATCHED_US // 1_000_000} quiet seconds"
            self._found(TERMS_RISE, f"partition {partition}: {text}")

    def _watch_terms(self) -> dict[int, tuple[int, int]]:
        """Let time pass as long as no term rises, and return those that have: from what to what."""
        before, until_us = self._terms(), self._world.now_us + TERMS_WATCHED_US
        risen: dict[int, tuple[int, int]] = {}
        while not risen and self._world.now_us < until_us:
            self._world.run_until(self._world.now_us + TERMS_LOOK_US)
            risen = {each: (before[each], term) for each, term in self._terms().items() if term != before[each]}
        return risen

    def _terms(self) -> dict[int, int]:
        terms = dict.fromkeys(range(self._plan.shape.partitions + 1), 0)
        for host in self._world.hosts:
            for partition in terms:
                replica = self._world.replica(host, partition)
                if replica is not None:
                    terms[partition] = max(terms[partition], replica.raft.term)
        return terms

    # What its replicas hold.

    def logs(self) -> list[StoredLog]:
        """Return the final logs of all replicas, partition 0 included.

        One in which a damaged entry has never been met is left out: the promise is that it is not served.
        """
        logs = []
        for host in self._world.hosts:
            hidden = {partition_of(flip) for flip in host.engine.damaged_rows() if flip.table.startswith(LOG_PREFIX)}
            for partition, replica in sorted(host.node.replicas.items() if host.node is not None else ()):
                if partition not in hidden:
                    log = log_of_store(replica.store, partition, host.name, replica.applied)
                    if isinstance(replica, DataPartition):
                        log.groups = views_of(replica.index.groups)
                    logs.append(log)
        return logs


def _is_lost(host: Host, partition: int) -> bool:
    """Return whether a replica's term or vote is damaged: it must not vote again, so it is out of service for good."""
    return any(flip.table == RAFT and partition_of(flip) == partition for flip in host.engine.damaged_rows())
