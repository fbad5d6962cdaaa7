"""A replica of partition 0, the control group: contexts and nodes, no events.

Its log leads to the cluster's map, which every node holds. The map is small and rebuilt from the log at each start.
"""

from collections.abc import Callable

from rewind_cluster.client_messages import (
    Code,
    ContextIs,
    ContextsAre,
    CreateContext,
    Failed,
    FindContext,
    ListContexts,
)
from rewind_cluster.clock import HybridClock
from rewind_cluster.cluster_map import NODES_MAX, ClusterMap, NodeInfo, context_record, node_record
from rewind_cluster.entry import Entry
from rewind_cluster.errors import ClusterError
from rewind_cluster.names import CONTROL
from rewind_cluster.raft import RaftOptions
from rewind_cluster.raft_messages import ReplicaId
from rewind_node.applying import apply_to_map
from rewind_node.connections import Client, Outbox
from rewind_node.replica import PendingRead, Replica
from rewind_node.store import Store

CREATING_MAX = 1000  # contexts asked for and not yet created; each takes a round trip and an fsync


class ControlPartition(Replica):
    """This node's replica of partition 0."""

    def __init__(
        self,
        store: Store,
        options: RaftOptions,
        pick: Callable[[int, int], int],
        now_us: int,
        *,
        cluster_map: ClusterMap,
        clock: HybridClock,
        outbox: Outbox,
    ) -> None:
        super().__init__(CONTROL, store, options, pick, now_us)
        self.map = cluster_map
        self._clock = clock
        self._outbox = outbox
        self._creating: list[tuple[Client, CreateContext]] = []
        self._proposed_name = ""  # of the context that was proposed last, which may stand in the log
        self._nodes: dict[str, NodeInfo] = {}
        self._proposed_index = 0
        self.guard(self._replay)

    def _replay(self) -> None:
        log = self.raft.log
        index = 0
        while index < self.applied:
            for entry in log.slice(index + 1, self.applied, 4 * 1024 * 1024):
                apply_to_map(self.map, entry)
                index = entry.index

    # Requests.

    def create(self, client: Client, message: CreateContext) -> bool:
        """Create a context, or find it; return False if this replica does not lead."""
        if not self.leading or self.raft.transferring:
            return False
        if len(self._creating) >= CREATING_MAX:
            text = "too many contexts are being created; retry later"
            self._outbox.send(client, Failed(message.request, Code.OVERLOADED, text, "", 0))
        else:
            self._creating.append((client, message))
        return True

    def find(self, client: Client, message: FindContext) -> None:
        """Answer with a context; that there is none is said only after a read-index round."""

        def serve() -> None:
            number = self.map.context_numbers.get(message.name)
            if number is None:
                text = (
                    f"there is no context {message.name!r}; create it with: rewind context create {message.name} "
                    "(--ordered for one order over all its streams)"
                )
                self._outbox.send(client, Failed(message.request, Code.CONTEXT_NOT_FOUND, text, "", 0))
            else:
                self._send_context(client, message.request, number)

        self._add_read(client, message, serve)

    def list(self, client: Client, message: ListContexts) -> None:
        """Answer with all contexts."""

        def serve() -> None:
            rows = [[context.number, context.name, context.partition] for context in self.map.contexts.values()]
            self._outbox.send(client, ContextsAre(message.request, rows))

        self._add_read(client, message, serve)

    def _add_read(self, client: Client, message: FindContext | ListContexts, serve: Callable[[], None]) -> None:
        def fail(why: str) -> None:
            self._outbox.send(client, Failed(message.request, Code.NOT_READY, why, "", 0))

        read = PendingRead(0, message.deadline_us, lambda: True, serve, fail)
        if not self.add_read(read, fresh=True):
            self._outbox.send(client, Failed(message.request, Code.OVERLOADED, "too many reads are waiting", "", 0))

    def _send_context(self, client: Client, request: int, number: int) -> None:
        context = self.map.contexts[number]
        self._outbox.send(client, ContextIs(request, number, context.name, context.partition))

    def learn_node(self, node: NodeInfo) -> None:
        """Take in how a node describes itself: the leader logs it where the map says otherwise."""
        known = self.map.nodes.get(node.id)
        if known != node and (known is not None or len(self.map.nodes.keys() | self._nodes.keys()) < NODES_MAX):
            self._nodes[node.id] = node

    # What a replica does.

    def apply_entry(self, entry: Entry) -> None:
        """Bring the map up to date."""
        apply_to_map(self.map, entry)

    @property
    def checkpointed(self) -> int:
        """The index that the stored state leads to: the map is rebuilt from the log, so whatever has been applied."""
        return self.applied

    def checkpoint(self, now_us: int) -> None:
        """Nothing is stored but the log."""

    def finish_checkpoint(self) -> None:
        """Nothing is stored but the log."""

    def lead(self) -> None:
        """Begin to take requests."""
        self._proposed_index = self.raft.log.last_index

    def resign(self) -> None:
        """Answer all who wait for a context; one that was proposed may yet be created."""
        self._answer_existing()
        creating, self._creating = self._creating, []
        for client, message in creating:
            code = Code.OPEN if message.name == self._proposed_name else Code.NOT_LEADER
            self._outbox.send(client, Failed(message.request, code, "partition 0 changed its leader", "", 0))

    def close_turn(self, wall_us: int) -> None:
        """Propose one change of the map at a time: each is judged on all before it, applied."""
        if self.raft.transferring or self.applied < self._proposed_index:
            return
        self._answer_existing()
        if self._creating:
            self._propose_context(wall_us)
        elif self._nodes:
            self._propose_node(wall_us)

    def _answer_existing(self) -> None:
        waiting: list[tuple[Client, CreateContext]] = []
        for client, message in self._creating:
            number = self.map.context_numbers.get(message.name)
            if number is None:
                waiting.append((client, message))
            elif (self.map.contexts[number].partition is not None) != message.ordered:
                kind = "ordered" if not message.ordered else "partitioned"
                text = f"the context {message.name!r} exists and is {kind}; choose another name"
                self._outbox.send(client, Failed(message.request, Code.CONTEXT_EXISTS, text, "", 0))
            else:
                self._send_context(client, message.request, number)
        self._creating = waiting

    def _propose_context(self, wall_us: int) -> None:
        client, message = self._creating[0]
        partition = self.map.partition_for_ordered() if message.ordered else None
        try:
            record = context_record(max(self.map.contexts) + 1, message.name, partition)
        except ClusterError as error:
            del self._creating[0]
            self._outbox.send(client, Failed(message.request, Code.INVALID, str(error), "", 0))
            return
        self._proposed_name = message.name
        self._propose(record, wall_us)

    def _propose_node(self, wall_us: int) -> None:
        node = self._nodes.pop(next(iter(self._nodes)))
        if self.map.nodes.get(node.id) != node:
            self._propose(node_record(node), wall_us)

    def _propose(self, body: bytes, wall_us: int) -> None:
        timestamp = max(self._clock.read(wall_us), self.raft.log.last_timestamp + 1)
        entry = self.raft.propose(context=0, first_position=0, event_count=0, timestamp=timestamp, body=body)
        self._proposed_index = entry.index

    def reads_ready(self, number: int) -> None:
        """Nothing here waits for rounds but reads."""

    def settle_refusals(self) -> None:
        """Nothing here is refused for its version."""

    def adopt_nodes(self) -> None:
        """Give each node that has no replica of partition 0 a learner, one change at a time."""
        if not self.leading or self.raft.transferring or not self.raft.committed_in_term:
            return
        if self.applied < self.raft.log.last_index:
            return
        membership = self.raft.membership
        placed = {member.node for member in membership.members.values()}
        missing = next((node for node in self.map.joined if node not in placed), None)
        if missing is not None:
            # Above all of the founding, and the same from each leader that tries: the node may have begun to be it
            # under one whose proposal was then lost.
            replica = ReplicaId(NODES_MAX + self.map.joined[missing])
            self.raft.propose_membership(membership.add_learner(replica, missing))

    @property
    def wants_turn(self) -> bool:
        """Whether a proposal waits for the turn to come."""
        waits = bool(self._creating or self._nodes) and self.applied >= self._proposed_index
        return waits and self.leading and not self.raft.transferring
