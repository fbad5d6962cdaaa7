"""One subscription of one client: how far it has come, and its credit."""

from collections import deque

from rewind_cluster.ranges import CLIENT_WINDOWS_BYTES_MAX, WINDOW_BYTES_MAX, EventsAre, Subscribe
from rewind_node.connections import Client
from rewind_node.selecting import Selection

MESSAGE_COST_BYTES = 512  # what a message counts beside its rows: it bounds how many small ones a window holds


class Subscription:
    """A subscription as this node serves it.

    `through`: everything up to there was read here; `told`: the client knows that, so `told <= through`.
    """

    __slots__ = (
        "_sent",
        "_unconsumed_bytes",
        "_window_bytes",
        "client",
        "context",
        "ended",
        "number",
        "partition",
        "queued",
        "selection",
        "sent_us",
        "sign_us",
        "through",
        "told",
    )

    def __init__(self, client: Client, message: Subscribe, selection: Selection) -> None:
        self.client = client
        self.number = message.subscription
        self.partition = message.partition
        self.context = message.context
        self.selection = selection
        self.through = self.told = message.after
        self.queued = False  # it waits in line to be served
        self.ended = False
        self.sent_us: int | None = None  # when the last message was sent, None before the first
        self.sign_us: int | None = None  # when the last one without rows was
        self._window_bytes = max(1, min(message.window_bytes, WINDOW_BYTES_MAX))
        self._sent: deque[tuple[int, int]] = deque()  # not consumed: (through, bytes)
        self._unconsumed_bytes = 0

    def room(self, sharing: int) -> int:
        """Return the bytes of rows that may be sent now; `sharing`: how many subscriptions its connection has."""
        window_bytes = min(self._window_bytes, CLIENT_WINDOWS_BYTES_MAX // sharing)
        return window_bytes - self._unconsumed_bytes - MESSAGE_COST_BYTES

    @property
    def idle(self) -> bool:
        """Whether nothing is sent and not consumed: then a row goes out however large it is."""
        return not self._sent

    def tell(self, position: int, rows_bytes: int, now_us: int) -> EventsAre:
        """Return the header of the message that is sent now, and count it."""
        message = EventsAre(self.number, self.told, self.through, position)
        self.told = self.through
        self.sent_us = now_us
        if rows_bytes:
            size = rows_bytes + MESSAGE_COST_BYTES
            self._sent.append((self.through, size))
            self._unconsumed_bytes += size
        else:
            self.sign_us = now_us
        return message

    def consumed(self, through: int) -> None:
        """Take credit back for what the client has consumed."""
        while self._sent and self._sent[0][0] <= through:
            self._unconsumed_bytes -= self._sent.popleft()[1]
