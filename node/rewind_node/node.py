"""One node's core: everything between the sockets and the disk, without either.

What arrives goes in as frames, with one reading of the clocks a turn; what is to be sent comes out as frames, in two
parts: before and after the disk. The loop that carries both is `rewind_node.loop`; a simulator can be another. The
order of a turn:

    begin_turn → received …, link_up/link_down …, tick → flush (send) → persist (answers; commit if asked) → committed
    (send)
"""

from collections.abc import Callable, Iterable
from typing import Any

from rewind_cluster.client_messages import Code
from rewind_cluster.clock import HybridClock
from rewind_cluster.cluster_map import ClusterMap, Founding, NodeInfo
from rewind_cluster.errors import DamagedError
from rewind_cluster.membership import Membership
from rewind_cluster.names import CONTROL
from rewind_cluster.raft import Role
from rewind_cluster.raft_messages import Envelope, ReplicaId
from rewind_cluster.raft_options import RaftOptions
from rewind_node.client_protocol import ClientProtocol
from rewind_node.connections import Frames, Outbox
from rewind_node.control_partition import ControlPartition
from rewind_node.founding import Founder, Plan, check_record
from rewind_node.infirmary import Infirmary
from rewind_node.leaders import Leaders
from rewind_node.metrics import Metrics
from rewind_node.peer_protocol import PeerProtocol
from rewind_node.peers import Peers
from rewind_node.placing import create_founding_replicas, create_replica, load_replica
from rewind_node.range_reading import RangeReader
from rewind_node.replica import Replica
from rewind_node.space import voter_with_space
from rewind_node.status import report, status
from rewind_node.store import Store
from rewind_node.subscriptions import Subscriptions

MAINTENANCE_INTERVAL_US = 100_000
REPORT_INTERVAL_US = 1_000_000
SYNC_DELAY_US = 50_000  # index rows wait this long for a commit that has to be synced anyway
FOUNDING_KEY = "founding"

Pick = Callable[[int, int], int]


class Node:
    """The core of one node."""

    def __init__(
        self,
        me: NodeInfo,
        plan: Plan,
        store: Store,
        options: RaftOptions,
        *,
        nonce: bytes,
        pid: int,
        pick: Pick,
        new_id: Callable[[], str],
        log: Any,
        now_us: int,
        wall_us: int,
    ) -> None:
        self.me = me
        self.plan = plan
        self.store = store
        self.options = options
        self.nonce = nonce
        self.pid = pid
        self.log = log
        self.now_us, self.wall_us = now_us, wall_us
        self.clock = HybridClock()
        self.outbox = Outbox()
        self.metrics = Metrics()
        self.peers = Peers()
        self.founding: Founding | None = None
        self.map: ClusterMap | None = None
        self.control: ControlPartition | None = None
        self.replicas: dict[int, Replica] = {}
        self.draining = False
        self.storage_full = False
        self.storage_exhausted = False
        self.joining = ""  # why this node has no replicas, where it has none
        self.leaders = Leaders(self)
        self.pick = pick
        self._new_id = new_id
        self.infirmary = Infirmary(self)
        self.ranges = RangeReader(store)
        self._founder = Founder(me, plan)
        self._touched: dict[int, Replica] = {}
        self._deadlines: dict[int, int] = {}  # of each replica, as its last turn left it: only a turn changes it
        self._envelopes: list[Envelope] = []
        self._maintenance_us = now_us
        self._report_us = now_us
        self._sync_us: int | None = None
        self._map_index = 0
        self._obstacles: list[str] = []
        self.peer_protocol = PeerProtocol(self)
        self.client_protocol = ClientProtocol(self)
        self.subscriptions = Subscriptions(self)
        packed = store.node_value(FOUNDING_KEY)
        if packed is not None:
            self._enter_cluster(check_record(packed))
        elif store.partitions() or store.stateless_partitions():
            raise DamagedError("there are replicas but no founding record: it is lost; replace this node")
        self._want_links()

    # The cluster.

    @property
    def cluster_id(self) -> str:
        """The ID of the cluster this node belongs to, or ""."""
        return self.founding.cluster_id if self.founding else ""

    def accept_founding(self, packed: bytes) -> None:
        """Store a founding record that was received or drawn, unless there is one."""
        if self.founding is not None:
            return
        founding = check_record(packed)
        self.store.put_node_value(FOUNDING_KEY, packed)
        create_founding_replicas(self.store, founding, self.me.id)
        self.store.commit()
        self._enter_cluster(founding)
        self.log.info("joined a cluster", cluster=founding.cluster_id, replicas=len(self.replicas))

    def _enter_cluster(self, founding: Founding) -> None:
        self.founding = founding
        self.map = ClusterMap(founding)
        self.store.mend_states()
        for partition in sorted({*self.store.partitions(), *self.store.stateless_partitions()}):
            self.load_replica(partition)
        if not self.replicas and not self.infirmary.repairs:
            self.joining = "this node is new to the cluster and has no replicas yet"
        self._want_links()

    def load_replica(self, partition: int) -> None:
        """Bring the stored replica of a partition into service; damage puts it under repair instead."""
        try:
            replica = load_replica(self, partition)
        except DamagedError as error:
            self.infirmary.admit(partition, str(error))
            return
        self.replicas[partition] = replica
        self._deadlines[partition] = replica.deadline_us
        if isinstance(replica, ControlPartition):
            self.control = replica

    def _quarantine_damaged(self) -> None:
        """Take replicas that met damage in this turn out of service, and begin to repair them."""
        damaged = [replica for replica in self.replicas.values() if replica.damage is not None]
        for replica in damaged:
            assert replica.damage is not None
            del self.replicas[replica.partition], self._deadlines[replica.partition]
            self._touched.pop(replica.partition, None)
            if replica is self.control:
                self.control = None
            self.subscriptions.end_partition(
                replica.partition, Code.DAMAGED, "this replica is under repair; ask another"
            )
            self.infirmary.admit(replica.partition, replica.damage)

    def _campaign_first(self) -> None:
        """Let the first leaders be those that the founding record spreads, as soon as a majority hears of it."""
        assert self.founding is not None
        for partition, replica in self.replicas.items():
            if replica.raft.term == 0 and self.founding.first_leader(partition) == self.me.id:
                replica.raft.campaign(self.now_us)
                self.touch(replica)

    def adopt_learner(self, replica: ReplicaId) -> None:
        """Become a learner of partition 0: its leader has given this node, which was new, a replica."""
        create_replica(self.store, CONTROL, replica, Membership({}))
        self.store.commit()
        self.load_replica(CONTROL)
        self.log.info("got a replica of partition 0", replica=replica)

    def _want_links(self) -> None:
        addresses = set(self.plan.seeds)
        if self.map is not None:
            addresses |= {node.peer_address for node in self.map.nodes.values()}
        self.peers.want(addresses - {self.me.peer_address} if self.founding else addresses)

    # What arrives.

    def begin_turn(self, now_us: int, wall_us: int) -> None:
        """Begin a turn: `now_us` is the monotonic clock, `wall_us` the wall clock, both in microseconds."""
        self.now_us, self.wall_us = now_us, wall_us

    def set_storage_full(self, full: bool, exhausted: bool) -> None:
        """Learn whether this node's disk space is below its reserve, and whether even that is going."""
        if full != self.storage_full:
            self.storage_full = full
            if full:
                self.log.warning("too little free disk space: appends are refused; free some")
            else:
                self.log.warning("there is enough free disk space again: appends are taken")
        if exhausted != self.storage_exhausted:
            self.storage_exhausted = exhausted
            for replica in self.replicas.values():
                replica.raft.storage_full = exhausted

    def touch(self, replica: Replica) -> Replica:
        """Let a replica take part in this turn."""
        self._touched[replica.partition] = replica
        return replica

    def node_of(self, replica: Replica, member: ReplicaId) -> str:
        """Return the ID of the node that a partition's member is on, or "" if that is not known."""
        found = replica.raft.membership.members.get(member)
        return found.node if found is not None else replica.senders.get(member, "")

    def link_up(self, address: str) -> None:
        """Learn that a connection that this node dialled is up."""
        link = self.peers.links.get(address)
        if link is not None:
            link.up = True
            self.peer_protocol.hello(link)

    def link_down(self, address: str) -> None:
        """Learn that a connection that this node dialled has dropped: what was on its way is lost, perhaps the node."""
        node_id = self.peers.down(address)
        if node_id is None:
            return
        self.metrics.peer_disconnects += 1
        rerouted = self.peers.is_up(node_id)
        text = "lost a connection to a node, use another" if rerouted else "lost the connection to a node"
        self.log.warning(text, peer=self.name_of(node_id), address=address)
        for replica, member in self._members_on(node_id):
            raft = self.touch(replica).raft
            (raft.peer_rerouted if rerouted else raft.peer_dropped)(member, self.now_us)

    def node_welcomed(self, node_id: str) -> None:
        """Learn that a connection to a node may be used from now on."""
        for replica, member in self._members_on(node_id):
            self.touch(replica).raft.peer_connected(member, self.now_us)

    def _members_on(self, node_id: str) -> Iterable[tuple[Replica, ReplicaId]]:
        for replica in self.replicas.values():
            for member, place in replica.raft.membership.members.items():
                if place.node == node_id:
                    yield replica, member

    # The turn.

    @property
    def deadline_us(self) -> int:
        """When the next turn must come, whatever arrives."""
        deadline = 0 if self.subscriptions.waiting else self._maintenance_us
        if self._sync_us is not None:
            deadline = min(deadline, self._sync_us)
        return min((deadline, *self._deadlines.values()))

    def tick(self) -> None:
        """Judge all timers, after everything that arrived has been taken in."""
        now_us = self.now_us
        for partition in [partition for partition, deadline_us in self._deadlines.items() if deadline_us <= now_us]:
            self.touch(self.replicas[partition])
        for replica in self._touched.values():  # to which what arrived may have given another deadline
            replica.raft.tick(now_us)
        if self._maintenance_us <= now_us:
            self._maintenance_us = now_us + MAINTENANCE_INTERVAL_US
            self._maintain()

    def _maintain(self) -> None:
        self.client_protocol.expire()
        self.subscriptions.maintain()
        self.peer_protocol.check_foreign()
        if self.founding is None:
            self._try_founding()
        else:
            self._campaign_first()
            self.infirmary.work()
        if self.control is not None:
            self.touch(self.control)
            self.control.adopt_nodes()
        for replica in self.replicas.values():
            if replica.reads_waiting or replica.untidy or replica.checkpointed < replica.applied:
                self.touch(replica)
        if self.storage_full or self.draining:
            self._hand_over()
        if self._report_us <= self.now_us:
            self._report_us = self.now_us + REPORT_INTERVAL_US
            self.peer_protocol.repeat_hellos()
            self.peer_protocol.report(report(self))

    def _try_founding(self) -> None:
        own, seeds = self.peers.own_addresses(), self.peers.seeds()
        obstacles = self._founder.obstacles(own, seeds)
        if obstacles != self._obstacles:
            self._obstacles = obstacles
            for line in obstacles:
                self.log.info("waiting to found a cluster", reason=line)
        if self._founder.may_found(own, seeds):
            founding = self._founder.found(seeds, self._new_id)
            self.accept_founding(founding.pack())
            self.peer_protocol.send_founding()

    @property
    def obstacles(self) -> list[str]:
        """What this node waits for before there is a cluster."""
        return [] if self.founding else self._obstacles or ["no seed has founded a cluster yet"]

    def flush(self) -> None:
        """Close the turn's gathering: what may leave before the disk is queued."""
        for replica in self._touched.values():
            self._envelopes.extend(replica.flush(self.wall_us))
            self.leaders.watch(replica)
        self._send_envelopes()

    def persist(self) -> bool:
        """Put what the turn owes into the store; return whether the store must commit before `committed`."""
        owes = False
        for replica in self._touched.values():
            owes = replica.persist(self.now_us) or owes
        self.subscriptions.push()
        if self._map_index != (self.map.index if self.map else 0):
            self._map_changed()
        if not owes and self.store.engine.dirty:
            if self._sync_us is None:
                self._sync_us = self.now_us + SYNC_DELAY_US
            owes = self._sync_us <= self.now_us
        if owes:
            self._sync_us = None
        return owes

    def committed(self) -> None:
        """Queue what had to wait for the disk: everything put before is durable."""
        touched, self._touched = self._touched, {}
        for replica in touched.values():
            self._envelopes.extend(replica.persisted())
            self.leaders.watch(replica)
            self._deadlines[replica.partition] = replica.deadline_us
        self._send_envelopes()
        self._quarantine_damaged()

    def _send_envelopes(self) -> None:
        envelopes, self._envelopes = self._envelopes, []
        self.peer_protocol.send(envelopes)

    # Views.

    def name_of(self, node_id: str) -> str:
        """Return a node's name, or its ID where the map does not know it."""
        node = self.map.nodes.get(node_id) if self.map else None
        return node.name if node else node_id

    def _map_changed(self) -> None:
        assert self.map is not None
        self._map_index = self.map.index
        self._want_links()
        self.client_protocol.broadcast(self.leaders.map_message(0))

    def membership(self, partition: int) -> Membership:
        """Return a partition's members as far as this node knows."""
        assert self.founding is not None
        replica = self.replicas.get(partition)
        if replica is not None and replica.raft.membership.members:
            return replica.raft.membership
        return self.founding.placement(partition)

    # Ending.

    def drain(self) -> None:
        """Hand every leadership over; this node takes no new one by itself."""
        self.draining = True
        self.subscriptions.end_all("this node stops; ask another")
        self._hand_over()

    def _hand_over(self) -> None:
        for replica in self.replicas.values():
            if replica.raft.role is not Role.LEADER or replica.raft.transferring:
                continue
            heir = None if self.draining else voter_with_space(self, replica)
            if self.draining or heir is not None:
                replica.raft.transfer(heir, self.now_us)
                self.touch(replica)

    def finish(self) -> None:
        """Store everything that has been applied, before the process ends; a damaged replica holds up no other."""
        for replica in self.replicas.values():
            replica.guard(replica.finish_checkpoint)
        self.store.commit()

    @property
    def handing_over(self) -> bool:
        """Whether a leadership is on its way to another node."""
        return any(replica.raft.transferring for replica in self.replicas.values())

    @property
    def leads(self) -> int:
        """How many partitions this node leads."""
        return sum(replica.raft.role is Role.LEADER for replica in self.replicas.values())

    def take_client_frames(self) -> list[tuple[bytes, Frames]]:
        """Return what is queued for clients, as (routing ID, frames)."""
        return self.outbox.take(self.clock.latest)

    def status(self) -> dict[str, Any]:
        """Return what `/api/status` tells."""
        return status(self)
