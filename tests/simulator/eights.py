"""Figure 8 of the Raft paper: an entry of an older term on a majority, and a later entry that may still replace it.

Of three voters, the first leads, is cut off and takes appends that nobody hears of. The second is elected by the third
and cut off before anybody hears of what it logs. Then the first is back with the third, is elected, and sends what it
has: now a majority holds entries of an older term. A moment later it is cut off again, and the second, whose last entry
is newer than those, is back with the third. What the first committed must not be lost (paper, 5.4.2).
"""

from typing import TYPE_CHECKING, Any

from simulator.contests import Contest

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.host import Host

VOTERS = 3


class FigureEight(Contest):
    """One partition's figure 8, as soon as its three voters are up."""

    LASTS_US = 12_000_000
    AGAIN_US = (100_000, 400_000)
    APART_US = (5_000_000, 8_000_000)
    HEARD_US = (3_000, 60_000)  # from the first's second election on: in the time of some messages and commits

    def begin(self) -> None:
        """Begin to look for a leader of three voters."""
        self._first: Host | None = None
        self._second: Host | None = None
        self._mends: list[Callable[[], None]] = []
        self.world.listeners.append(self._heard)
        self._prepare()

    def _prepare(self) -> None:
        if self.over:
            return
        host = self.world.leader(self.partition)
        replica = self.world.replica(host, self.partition) if host is not None else None
        if host is not None and replica is not None:
            nodes = [member.node for member in replica.raft.membership.members.values() if member.voter]
            voters = [each for each in self.world.hosts if each.node_id in nodes and each.up]
            if len(voters) == len(nodes) == VOTERS and host in voters:
                self._first = host
                self._cut_off(host)
                return
        self.later(self.AGAIN_US, self._prepare)

    def _cut_off(self, host: "Host") -> None:
        self.world.note("figure 8", alone=host.name)
        others = [each for each in self.world.hosts if each is not host]
        self._mends.append(self.part([host], others, self.APART_US))

    def _heard(self, host: "Host", event: str, facts: dict[str, Any]) -> None:
        """Take in who leads."""
        if self.over or event != "leader" or facts["partition"] != self.partition or facts["leader"] != host.node_name:
            return
        if self._first is None:
            return
        if host is self._first and self._second is not None:
            self.later(self.HEARD_US, self._turn_over)
        elif host is not self._first and self._second is None:
            # Cut off before it is heard, while the first is back.
            self._second = host
            self._mend()
            self._cut_off(host)

    def _turn_over(self) -> None:
        """Bring the second back, and cut the first off."""
        if self.over or self._first is None or self._second is None:
            return
        self._mend()
        self._cut_off(self._first)
        self._first = None  # that was it: whoever leads now may go on

    def _mend(self) -> None:
        for mend in self._mends:
            mend()
        self._mends.clear()
