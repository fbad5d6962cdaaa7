"""A duel: two leaders in turn change the membership of four voters, each with a half of them of its own.

The first is cut off and proposes a change that nobody else hears of. The second, elected by the three others, proposes
another one as soon as it leads, and is then left with one of them; the last one gets together with the first. If the
second were allowed to do so before it has committed anything in its term, each half would be a majority of its own
change (Ongaro, "bug in single-server membership changes", raft-dev, 2015).
"""

from typing import TYPE_CHECKING, Any

from membership_steps import demote

from rewind_cluster.errors import ClusterError
from simulator import changes
from simulator.contests import Contest

if TYPE_CHECKING:
    from collections.abc import Callable

    from rewind_cluster.membership import Membership
    from rewind_node.replica import Replica
    from simulator.host import Host

VOTERS = 4


class Duel(Contest):
    """One partition's duel, as soon as it has four voters, towards which it is changed."""

    LASTS_US = 14_000_000
    AGAIN_US = (100_000, 300_000)
    APART_US = (5_000_000, 8_000_000)

    def begin(self) -> None:
        """Begin to bring the partition to four voters."""
        self._first: Host | None = None
        self._left_out: Host | None = None  # by the change of the first
        self._join: Callable[[], None] | None = None
        self._voters: list[Host] = []
        self._prepare()

    def _prepare(self) -> None:
        if self.over:
            return
        host = self.world.leader(self.partition)
        replica = self.world.replica(host, self.partition) if host is not None else None
        if host is not None and replica is not None:
            voters = self._hosts_of(replica.raft.membership)
            if len(voters) == len(replica.raft.membership.voters) == VOTERS and all(each.up for each in voters):
                self._challenge(host, replica, voters)
                return
            kinds = ("add", "promote") if len(replica.raft.membership.voters) < VOTERS else ("demote",)
            changes.propose_step(self.world, self.random, host, replica, kinds)
        self.later(self.AGAIN_US, self._prepare)

    def _hosts_of(self, membership: "Membership") -> list["Host"]:
        places = {host.node_id: host for host in self.world.hosts}
        nodes = [membership.members[voter].node for voter in membership.voters]
        return [places[node] for node in nodes if node in places]

    def _challenge(self, host: "Host", replica: "Replica", voters: list["Host"]) -> None:
        self._first, self._voters = host, voters
        self._left_out = self.random.choice([voter for voter in voters if voter is not host])
        self._join = self.part([host], [other for other in self.world.hosts if other is not host], self.APART_US)
        self._demote(host, replica, self._left_out)
        self.world.listeners.append(self._heard)

    def _demote(self, host: "Host", replica: "Replica", voter: "Host") -> None:
        """Let a leader propose that another host's voter becomes a learner."""
        raft = replica.raft
        chosen = next((each for each, member in raft.membership.members.items() if member.node == voter.node_id), None)
        if chosen is None or host.node is None:
            return
        try:
            raft.propose_membership(demote(raft.membership, chosen))
            outcome = "proposed"
        except ClusterError as error:
            outcome = str(error)
        self.world.note("duel", host=host.name, demotes=voter.name, outcome=outcome)
        host.node.touch(replica)
        host.wake()

    def _heard(self, host: "Host", event: str, facts: dict[str, Any]) -> None:
        """Take in what a node says; the next to lead is the second."""
        new = event == "leader" and facts["partition"] == self.partition and facts["leader"] == host.node_name
        if new and not self.over and self._join is not None and host in self._voters and host is not self._first:
            self.later((0, 0), self._answer, host)

    def _answer(self, host: "Host") -> None:
        replica = self.world.replica(host, self.partition)
        if self._join is None or self._first is None or replica is None:
            return
        self._join()
        self._join = None
        self._demote(host, replica, self._first)
        others = [voter for voter in self._voters if voter not in (host, self._first)]
        self.random.shuffle(others)
        ally = self._left_out if self._left_out in others else others[0]
        assert ally is not None
        self.part([host, ally], [each for each in self.world.hosts if each not in (host, ally)], self.APART_US)
