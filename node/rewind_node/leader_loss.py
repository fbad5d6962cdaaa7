"""The drama of the demo: a third into the import, the node that leads most partitions is killed with `kill -9`.

Once others lead what it led, it is started again. The main thread calls `advance` and `tick`; each looks at the cluster
for a moment and returns.
"""

import time
from collections.abc import Callable
from typing import Any

from rewind_node.exits import NodeExit
from rewind_node.local_cluster import LocalCluster, LocalNode

STRIKE_AT = 1 / 3  # of the events acknowledged
CONTROL = 0  # the partition without events
LOOK_INTERVAL_S = 0.2
TAKEOVER_TIMEOUT_S = 60.0


class NoTakeoverError(NodeExit):
    """Nobody took over what the killed node led."""


class LeaderLoss:
    """Kills one leader of `cluster` when a third of `total` events is acknowledged. `say` takes lines for the user."""

    def __init__(self, cluster: LocalCluster, total: int, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._strike_at = total * STRIKE_AT
        self._say = say
        self._victim: LocalNode | None = None
        self._looked_at = 0.0
        self._replaced = False
        self.led: tuple[int, ...] = ()  # the partitions with events that the killed node led

    @property
    def killed(self) -> str | None:
        """The name of the node that was killed, None if it never came to that."""
        return self._victim.name if self._victim else None

    def advance(self, acknowledged: int) -> None:
        """Look whether it is time, now that so many events are acknowledged."""
        if self._victim is None:
            if acknowledged >= self._strike_at:
                self._strike(acknowledged)
            return
        self.tick()

    def tick(self) -> None:
        """Look whether others lead by now; if so, start the killed node again."""
        if self._victim is None or self._replaced or time.monotonic() - self._looked_at < LOOK_INTERVAL_S:
            return
        self._looked_at = time.monotonic()
        status = self._cluster.status(but=self._victim)
        leaders = leaders_of(status) if status else {}
        if not all(leaders.get(partition) not in (None, self._victim.name) for partition in self.led):
            return
        self._replaced = True
        self._cluster.start_node(self._victim)
        heirs = ", ".join(sorted({str(leaders[partition]) for partition in self.led}))
        self._say(f"  {heirs} took over; {self._victim.name} is started again.")

    def finish(self) -> None:
        """See the drama to its end: somebody leads, and the killed node serves again."""
        if self._victim is None:
            return
        give_up = time.monotonic() + TAKEOVER_TIMEOUT_S
        while not self._replaced:
            if time.monotonic() > give_up:
                raise NoTakeoverError(f"nobody took over from {self._victim.name} within {TAKEOVER_TIMEOUT_S:.0f} s")
            time.sleep(LOOK_INTERVAL_S)
            self.tick()
        self._cluster.wait_ready()
        self._say(f"  {self._victim.name} has caught up and serves again.")

    def _strike(self, acknowledged: int) -> None:
        status = self._cluster.status()
        leaders = leaders_of(status) if status else {}
        names = [leader for partition, leader in leaders.items() if leader is not None and partition != CONTROL]
        if not names:
            return  # an election is under way; the next progress is soon enough
        name = max(sorted(set(names)), key=names.count)
        victim = self._cluster.node(name)
        pid = victim.pid
        self._cluster.kill(victim)
        self._victim = victim
        self.led = tuple(p for p, leader in sorted(leaders.items()) if leader == name and p != CONTROL)
        which = "partition" if len(self.led) == 1 else "partitions"
        partitions = ", ".join(map(str, self.led))
        self._say(f"  kill -9 {pid} after {acknowledged:,} events: {name} is gone, which led {which} {partitions}.")


def leaders_of(status: dict[str, Any]) -> dict[int, str | None]:
    """Return the leader of each partition in a `/api/status` document."""
    return {partition["partition"]: partition["leader"] for partition in status["partitions"]}
