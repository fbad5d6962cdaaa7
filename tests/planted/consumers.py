"""Bugs of subscriptions and of `read_all`: what is given twice, left out, or counted as seen too early."""

from planted.plant import Change, Plant
from rewind.beginning import Beginning
from rewind.cursor import Cursor
from rewind.feed import Feed
from rewind.inbox import Inbox
from rewind_node.data_partition import DataPartition
from rewind_node.selecting import _cut
from rewind_node.subscription import Subscription
from rewind_node.subscriptions import Subscriptions

PLANTS = (
    Plant(
        "resumed one too late",
        "a feed that turns to another replica begins one position after what it has handed on",
        "the event in between is never seen",
        7,
        ("everything", "crashes", "cuts"),
        (
            Change(
                Feed.begin,
                """
                  self.connection = connection
                + self.through += 1 if self.began_us else 0
                """,
            ),
        ),
    ),
    Plant(
        "resumed one too early",
        "a feed that turns to another replica asks again for the last position it has handed on",
        "an event is seen twice",
        7,
        ("everything", "crashes", "cuts"),
        (
            Change(
                Feed.begin,
                """
                  self.connection = connection
                + self.through -= 1 if self.began_us and self.through else 0
                """,
            ),
        ),
    ),
    Plant(
        "resumed after what was consumed",
        "a feed begins anew after what the consumer is done with, though more has been handed on",
        "what waits before a slow consumer comes again",
        7,
        ("everything", "crashes", "cuts"),
        (
            Change(
                Feed.begin,
                """
                  self.connection = connection
                + self.through = self._consumed
                """,
            ),
        ),
    ),
    Plant(
        "hole believed",
        "a node passes over what a message has no room for, and the client does not look whether ranges join",
        "events are left out, and nobody notices",
        7,
        ("everything", "calm", "lossy"),
        (
            Change(
                Subscription.tell,
                """
                - message = EventsAre(self.number, self.told, self.through, position)
                + if rows_bytes > 1_000:
                +     self.through += 1
                + message = EventsAre(self.number, self.told, self.through, position)
                """,
            ),
            Change(
                Feed.take,
                """
                - if message.after != self.through or message.through < message.after:
                + if message.through < message.after:
                """,
            ),
        ),
    ),
    Plant(
        "checkpoint at the end of its range",
        "a checkpoint names the end of the range of which events are still being handed out",
        "whoever goes on from it misses the rest of them",
        7,
        ("everything", "calm", "crashes"),
        (
            Change(
                Cursor._settle,
                """
                - self._positions[event.partition] = event.position if self._left or self._is_cut else self._through
                + self._positions[event.partition] = self._through
                """,
            ),
        ),
    ),
    Plant(
        "checkpoint ahead of what waits",
        "a range in which nothing matches moves the checkpoint, though events before it wait for the consumer",
        "whoever goes on from it misses these",
        7,
        ("everything", "calm", "crashes"),
        (
            Change(
                Inbox.put,
                """
                - elif newest is None:
                + elif newest is not self._current or newest is None:
                """,
            ),
        ),
    ),
    Plant(
        "checkpoint only at events",
        "a checkpoint names the last event alone, not what a filter left out after it",
        "it stays behind, and what was left out is read again and again",
        7,
        ("everything", "calm", "crashes"),
        (
            Change(
                Cursor.enter,
                """
                - if through is not None and not rows.count:
                + if False:
                """,
            ),
            Change(
                Inbox.put,
                """
                - self._cursor.positions[partition] = batch.through
                + pass
                """,
            ),
            Change(
                Cursor._settle,
                """
                - self._positions[event.partition] = event.position if self._left or self._is_cut else self._through
                + self._positions[event.partition] = event.position
                """,
            ),
        ),
    ),
    Plant(
        "versions of a cut run",
        "where a filter cuts a run, all events of an append get its first version",
        "events are shown at places where they do not stand",
        7,
        ("everything", "calm", "crashes"),
        (
            Change(
                _cut,
                """
                - versions = [first + ahead for first, length in pairs for ahead in range(length)]
                + versions = [first for first, length in pairs for ahead in range(length)]
                """,
            ),
        ),
    ),
    Plant(
        "NOW of any replica",
        "a subscription from now on begins where any replica stands",
        "it shows what had been appended before it was asked for",
        7,
        ("cuts", "disks", "lossy"),
        (
            Change(
                Beginning.wanted,
                """
                - (partition, get_position(self._origin, partition, View(fresh=True, at_least=0), self._timeout_us))
                + (partition, get_position(self._origin, partition, View(fresh=False, at_least=0), self._timeout_us))
                """,
            ),
        ),
    ),
    Plant(
        "read_all without a round",
        "a leader serves `read_all` without asking a majority whether it still leads",
        "a deposed one that does not know it leaves out what was acknowledged",
        6,
        ("cuts", "clocks", "elections"),
        (
            Change(
                DataPartition.read,
                """
                - if not self.add_read(read, fresh=fresh):
                + if not self.add_read(read, fresh=fresh and not isinstance(message, ReadAll)):
                """,
            ),
        ),
    ),
    Plant(
        "credit given back in vain",
        "a subscription whose window was full does not go on when its client has consumed",
        "it waits for the next append, and with it whoever reads the past",
        7,
        ("everything", "calm", "crashes"),
        (
            Change(
                Subscriptions.consumed,
                """
                - if subscription.through < self._position(subscription):
                + if False:
                """,
            ),
        ),
    ),
)
