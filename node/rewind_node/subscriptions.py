"""Subscriptions: a context's events in one partition pushed to clients, first the past, then what is applied.

Rules it keeps:

* The ranges of a subscription join, from `Subscribe` on; what is sent has been applied here, so a majority has it.
* Credit: at most a window is sent and not consumed, or one row that is larger. A slow subscriber costs that and holds
  nobody up.
* A turn spends a bounded amount on them: first on those that were caught up and have news, then on those that read the
  past, one after the other. Both wait in line and keep their place into the next turn.
* Nobody waits in silence: a sign of life every second, or the end of the subscription with its reason.
"""

from collections import deque
from typing import TYPE_CHECKING

from rewind_cluster.client_messages import Code
from rewind_cluster.errors import DamagedError, InvalidArgumentError, ProtocolError, TooLargeError
from rewind_cluster.names import APPEND_EVENTS_MAX, MESSAGE_BYTES_MAX
from rewind_cluster.raft_messages import NOBODY
from rewind_cluster.ranges import (
    SIGN_OF_LIFE_INTERVAL_US,
    Consumed,
    Subscribe,
    SubscriptionEnded,
    Unsubscribe,
    pack_rows,
)
from rewind_node.connections import Client
from rewind_node.data_partition import DataPartition
from rewind_node.range_reading import Limits, Range
from rewind_node.selecting import Selection
from rewind_node.subscription import Subscription

if TYPE_CHECKING:
    from rewind_node.node import Node

SUBSCRIPTIONS_MAX = 4096  # at one node: as many as clients
CLIENT_SUBSCRIPTIONS_MAX = 256  # on one connection: a share of its windows is then 32 KiB
PUSH_BYTES_MAX = (
    128 * 1024
)  # of rows in one message, a larger first one excepted: what a subscriber gets before it is the next one's turn
PUSH_COST_MAX = 256 * 1024  # of reading and sending one message
LIVE_COST_MAX = 1024 * 1024  # in one turn for those that were caught up: about 2 ms, for they read the same entries
PAST_COST_MAX = 512 * 1024  # and for the others: about 2 ms, at 3 to 6 ms per MiB
SIGN_INTERVAL_US = 100_000  # between messages that only tell how far a filter has seen
LEADERLESS_MAX_US = 3_000_000  # longer than any election: a replica that sees no leader is cut off, another may not be


class Subscriptions:
    """All subscriptions of a node."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._by_client: dict[bytes, dict[int, Subscription]] = {}
        self._by_partition: dict[int, dict[Subscription, None]] = {}
        self._live: deque[Subscription] = deque()  # were caught up, and have news
        self._past: deque[Subscription] = deque()
        self._applied: dict[int, int] = {}  # what of each partition has been looked at
        self._leaderless_us: dict[int, int] = {}  # since when a partition has had no leader

    def __len__(self) -> int:
        return sum(map(len, self._by_partition.values()))

    @property
    def waiting(self) -> bool:
        """Whether any subscription can be served in the next turn."""
        return bool(self._live or self._past)

    # What clients send.

    def subscribe(self, client: Client, message: Subscribe) -> None:
        """Begin a subscription, or end it at once and say why."""
        own = self._by_client.get(client.route, {})
        if message.subscription in own:
            raise ProtocolError(f"subscription {message.subscription} is in use on this connection")
        try:
            subscription = Subscription(client, message, Selection.check(message.types, message.prefix))
        except InvalidArgumentError as error:
            code = Code.TOO_LARGE if isinstance(error, TooLargeError) else Code.INVALID
            self._say_ended(client, message.subscription, code, str(error))
            return
        refusal = self._refusal(message, len(own))
        if refusal is not None:
            self._say_ended(client, message.subscription, *refusal)
            return
        self._by_client.setdefault(client.route, {})[message.subscription] = subscription
        self._by_partition.setdefault(message.partition, {})[subscription] = None
        self._queue(self._past, subscription)

    def _refusal(self, message: Subscribe, count: int) -> tuple[Code, str] | None:
        """Return why this node does not serve a subscription, or None."""
        node, partition = self._node, message.partition
        if not isinstance(node.replicas.get(partition), DataPartition):
            code = Code.DAMAGED if partition in node.infirmary.repairs else Code.NOT_READY
            return code, f"no sound replica of partition {partition} is here; ask another node"
        if node.map is None or message.context not in node.map.contexts:
            return Code.CONTEXT_LAGGING, "this node has not heard of the context yet; ask again"
        if node.draining or self._is_leaderless(partition):
            return Code.NOT_READY, f"this node stops, or sees no leader of partition {partition}; ask another"
        if count >= CLIENT_SUBSCRIPTIONS_MAX:
            return Code.OVERLOADED, f"{CLIENT_SUBSCRIPTIONS_MAX} subscriptions are the limit of a connection"
        if len(self) >= SUBSCRIPTIONS_MAX:
            return Code.OVERLOADED, f"{SUBSCRIPTIONS_MAX} subscriptions are the limit of a node; retry later"
        return None

    def consumed(self, client: Client, message: Consumed) -> None:
        """Take in that a client has consumed what it was sent, and go on where the subscription waited for that."""
        subscription = self._by_client.get(client.route, {}).get(message.subscription)
        if subscription is not None:
            subscription.consumed(message.through)
            if subscription.through < self._position(subscription):
                self._queue(self._past, subscription)

    def unsubscribe(self, client: Client, message: Unsubscribe) -> None:
        """End a subscription because its client asks for it."""
        subscription = self._by_client.get(client.route, {}).get(message.subscription)
        if subscription is not None:
            self._remove(subscription)

    def client_gone(self, route: bytes) -> None:
        """End the subscriptions of a connection whose state has ended."""
        for subscription in list(self._by_client.get(route, {}).values()):
            self._remove(subscription)

    # Ends.

    def end_partition(self, partition: int, code: Code, text: str) -> None:
        """End all subscriptions of a partition and tell their clients, who resume elsewhere."""
        for subscription in list(self._by_partition.get(partition, ())):
            self._remove(subscription)
            self._say_ended(subscription.client, subscription.number, code, text)

    def end_all(self, text: str) -> None:
        """End everything: this node stops."""
        for partition in list(self._by_partition):
            self.end_partition(partition, Code.NOT_READY, text)

    def _remove(self, subscription: Subscription) -> None:
        subscription.ended = True  # it may still stand in line
        own = self._by_client[subscription.client.route]
        del own[subscription.number]
        if not own:
            del self._by_client[subscription.client.route]
        others = self._by_partition[subscription.partition]
        del others[subscription]
        if not others:
            del self._by_partition[subscription.partition]
            self._applied.pop(subscription.partition, None)

    def _say_ended(self, client: Client, number: int, code: Code, text: str) -> None:
        self._node.metrics.refusals[code.name.lower()] += 1
        self._node.outbox.send(client, SubscriptionEnded(number, code, text))

    # A turn.

    def push(self) -> None:
        """Send what this turn has applied, and a bounded amount of the past; credit permitting."""
        self._gather_news()
        self._work_off(self._live, LIVE_COST_MAX)
        self._work_off(self._past, PAST_COST_MAX)

    def _gather_news(self) -> None:
        for partition, subscriptions in self._by_partition.items():
            replica = self._node.replicas.get(partition)
            if replica is not None and self._applied.get(partition) != replica.applied:
                self._applied[partition] = replica.applied
                for subscription in subscriptions:
                    if subscription.through < self._position(subscription):
                        self._queue(self._live, subscription)

    def _queue(self, line: deque[Subscription], subscription: Subscription) -> None:
        if not subscription.queued:
            subscription.queued = True
            line.append(subscription)

    def _work_off(self, line: deque[Subscription], cost_max: int) -> None:
        cost = 0
        while line and cost < cost_max:
            subscription = line.popleft()
            subscription.queued = False
            if not subscription.ended:
                cost += self._serve(subscription)

    def _serve(self, subscription: Subscription) -> int:
        """Send one message's worth, and return what it cost to read."""
        replica = self._replica(subscription)
        room = subscription.room(len(self._by_client[subscription.client.route]))
        if replica is None or (room <= 0 and not subscription.idle):
            return 0  # it ends in this turn; or `Consumed` brings it back
        first_bytes_max = MESSAGE_BYTES_MAX if subscription.idle else room
        limits = Limits(APPEND_EVENTS_MAX, min(room, PUSH_BYTES_MAX), PUSH_COST_MAX, first_bytes_max)
        try:
            found = replica.read_range(subscription.context, subscription.through, subscription.selection, limits)
        except DamagedError as error:
            replica.quarantine(str(error))
            return PUSH_COST_MAX
        self._send(subscription, found)
        if subscription.through < self._position(subscription) and not found.stuck:
            self._queue(self._past, subscription)
        return found.cost

    def _send(self, subscription: Subscription, found: Range) -> None:
        node = self._node
        subscription.through = found.through
        if found.rows:
            rows = pack_rows(found.rows)
            node.metrics.events_pushed += found.events
            message = subscription.tell(self._position(subscription), len(rows), node.now_us)
            node.outbox.send(subscription.client, message, rows)
        elif subscription.sign_us is None or node.now_us - subscription.sign_us >= SIGN_INTERVAL_US:
            self._send_sign(subscription)

    def _send_sign(self, subscription: Subscription) -> None:
        message = subscription.tell(self._position(subscription), 0, self._node.now_us)
        self._node.outbox.send(subscription.client, message, pack_rows(()))

    def _replica(self, subscription: Subscription) -> DataPartition | None:
        replica = self._node.replicas.get(subscription.partition)
        return replica if isinstance(replica, DataPartition) and replica.damage is None else None

    def _position(self, subscription: Subscription) -> int:
        """Return the newest position of a subscription's context here, 0 at a replica that is (found to be) damaged."""
        replica = self._replica(subscription)
        if replica is None:
            return 0
        try:
            return replica.index.position(subscription.context)
        except DamagedError as error:
            replica.quarantine(str(error))
            return 0

    # Ten times a second.

    def maintain(self) -> None:
        """Send signs of life, and end what can no longer be served here."""
        self._watch_leaders()
        for subscription in [each for own in self._by_partition.values() for each in own]:
            if self._needs_sign(subscription):
                self._send_sign(subscription)

    def _needs_sign(self, subscription: Subscription) -> bool:
        if subscription.sent_us is None:
            return False  # its first message is under way
        silence_us = self._node.now_us - subscription.sent_us
        return subscription.told < subscription.through or silence_us >= SIGN_OF_LIFE_INTERVAL_US

    def _watch_leaders(self) -> None:
        now_us = self._node.now_us
        for partition, replica in self._node.replicas.items():
            if replica.raft.leader != NOBODY:
                self._leaderless_us.pop(partition, None)
            elif now_us - self._leaderless_us.setdefault(partition, now_us) >= LEADERLESS_MAX_US:
                text = f"this node has seen no leader of partition {partition} for {LEADERLESS_MAX_US // 1_000_000} s"
                self.end_partition(partition, Code.NOT_READY, text)

    def _is_leaderless(self, partition: int) -> bool:
        since_us = self._leaderless_us.get(partition)
        return since_us is not None and self._node.now_us - since_us >= LEADERLESS_MAX_US
