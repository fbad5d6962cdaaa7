"""Consumers of a client process: subscriptions and members of groups, each through many lives.

Checkpoints are kept in files, as an application keeps its own: a process that takes the place of one that was killed
goes on from there, and is given again what came after. A run ends with events that match every filter; a subscription
has arrived when it was given such an event by each partition.
"""

import asyncio
import threading
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from histories.group_history import ACK, NACK
from histories.recording import scanned_event, seen_event
from simulator.fates import fate_of

from chaos.journal import Journal
from chaos.shells import Shell, origin_of, partitions_of
from chaos.wishes import FILTERS, LAST, Group
from chaos.work import now_us
from rewind import NOW, DeadlineExceeded, Overloaded, RewindError, Unavailable
from rewind.joining import Joining
from rewind.tokens import make_token, read_checkpoint

LIVES_S = (4.0, 15.0)  # how long a subscription or a membership is open, drawn between these
REST_S = 0.2
KEEP_EVERY = 20  # events
TIMEOUT_S = 3.0
DUE = (DeadlineExceeded, Overloaded, Unavailable)
HURRIED_RETRY_S = 0.05


class Consumer:
    """What subscriptions and members have in common: lives, until told to hurry; then one that lasts to the end."""

    def __init__(self, client: int, shell: Shell, journal: Journal, random: Random) -> None:
        self._client = client
        self._number = 0
        self._shell = shell
        self._journal = journal
        self._random = random
        self._hurried = False
        self._over = False
        self._open: Any = None
        self._timer: threading.Timer | None = None

    async def run(self) -> None:
        """Live again and again until told to end."""
        while not self._over:
            self._number += 1
            try:
                await self._live()
            except DUE as error:
                self._journal.write("count", f"consumer {type(error).__name__}")
            except RewindError as error:
                self._journal.write("surprise", f"{self.what}: {type(error).__name__}: {error}")
            finally:
                self._closed()
            await asyncio.sleep(REST_S)

    @property
    def what(self) -> str:
        """What it is, for people."""
        raise NotImplementedError

    async def _live(self) -> None:
        raise NotImplementedError

    def _opened(self, consumer: Any) -> None:
        """Have a life end after a while."""
        self._open = consumer
        if self._over:
            self._shell.close_soon(consumer)
        elif not self._hurried:
            self._timer = threading.Timer(self._random.uniform(*LIVES_S), self._close, (consumer,))
            self._timer.daemon = True
            self._timer.start()

    def _close(self, consumer: Any) -> None:
        if not self._hurried:
            self._shell.close_soon(consumer)

    def _closed(self) -> None:
        self._open = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def hurry(self) -> None:
        """Stay open from now on."""
        self._hurried = True

    def finish(self) -> None:
        """End the last life."""
        self._over = True
        if self._open is not None:
            self._shell.close_soon(self._open)


class Subscriber(Consumer):
    """A subscription with one filter. `kept` is the file with its checkpoint."""

    def __init__(self, client: int, shell: Shell, journal: Journal, random: Random, number: int, kept: Path) -> None:
        super().__init__(client, shell, journal, random)
        self._wanted = FILTERS[number % len(FILTERS)]
        self._kept = kept
        self._lasts: set[int] = set()  # partitions whose last event has come

    @property
    def what(self) -> str:
        """What it is, for people."""
        return f"subscription {self._kept.name} of client {self._client}"

    @property
    def arrived(self) -> bool:
        """Whether everything has come."""
        return self._lasts >= set(partitions_of(self._shell))

    async def _live(self) -> None:
        shell, wanted = self._shell, self._wanted
        origin, partitions = origin_of(shell), partitions_of(shell)
        after: Any = self._kept.read_text() if self._kept.exists() else NOW if self._random.random() < 0.2 else None
        begun_us = now_us()
        subscription = await shell.subscribe(after=after, types=wanted.types, prefix=wanted.prefix, timeout=TIMEOUT_S)
        first = make_token(origin, dict.fromkeys(partitions, 0)) if after is None else subscription.checkpoint
        positions = read_checkpoint(after if isinstance(after, str) else first, origin, partitions)
        tag = self._client, self._number
        self._journal.write("scan", *tag, origin.context, begun_us, positions, after is NOW, *wanted)
        if after is NOW:
            self._keep(subscription.checkpoint)
        self._opened(subscription)
        count = 0
        while (event := await shell.next_of(subscription)) is not None:
            count += 1
            checkpoint = subscription.checkpoint
            through = read_checkpoint(checkpoint, origin, partitions)[event.partition]
            self._journal.write("event", *tag, event.partition, now_us(), through, *scanned_event(event))
            if event.metadata.get(LAST):
                self._lasts.add(event.partition)
            if count % KEEP_EVERY == 0:
                self._mark(tag, checkpoint)
                self._keep(checkpoint)
        self._mark(tag, subscription.checkpoint)
        self._keep(subscription.checkpoint)

    def _mark(self, tag: tuple[int, int], checkpoint: str) -> None:
        for partition, through in read_checkpoint(
            checkpoint, origin_of(self._shell), partitions_of(self._shell)
        ).items():
            self._journal.write("mark", *tag, partition, now_us(), through)

    def _keep(self, checkpoint: str) -> None:
        beside = self._kept.with_suffix(".new")
        beside.write_text(checkpoint)
        beside.replace(self._kept)


class Member(Consumer):
    """A member of a consumer group. How it goes with an event is decided by the event."""

    def __init__(self, client: int, shell: Shell, journal: Journal, random: Random, group: Group) -> None:
        super().__init__(client, shell, journal, random)
        self._group = group
        self._places: Counter[int] = Counter()  # deliveries so far, by partition

    @property
    def what(self) -> str:
        """What it is, for people."""
        return f"member of {self._group.name} as client {self._client}"

    async def _live(self) -> None:
        group, shell = self._group, self._shell
        begun_us = now_us()
        member = await shell.join(
            group.name,
            max_attempts=group.max_attempts,
            types=group.wanted.types,
            prefix=group.wanted.prefix,
            timeout=TIMEOUT_S,
        )
        who = membership_of(member)
        self._places.clear()
        self._journal.write(
            "member",
            *(self._client, self._number, origin_of(shell).context, begun_us, group.name, who.member.hex()),
            *(who.starts, group.max_attempts, *group.wanted),
        )
        self._opened(member)
        while (delivery := await shell.next_of(member)) is not None:
            await self._deal(delivery)

    async def _deal(self, delivery: Any) -> None:
        held, seen = delivery._held, seen_event(delivery.event)
        partition = held.claim.partition
        place = self._places[partition]
        self._places[partition] += 1
        where = self._client, self._number, partition
        handed = held.claim.epoch, held.position, seen.id, seen.digest, delivery.attempt, held.replayed
        self._journal.write("handed", *where, *handed, now_us())
        fate = fate_of(delivery.event.id.hex, self._group.fates, delivery.attempt, replayed=held.replayed)
        if fate.more_us and not self._hurried:
            await asyncio.sleep(fate.more_us / 1e6)
        self._journal.write("verdict", *where, place, fate.verdict, now_us())
        if fate.verdict == ACK:
            counts = delivery.ack()
        elif fate.verdict == NACK:
            counts = delivery.nack(HURRIED_RETRY_S if self._hurried else fate.retry_after_us / 1e6)
        else:
            counts = delivery.park("it is bad")
        if not counts:
            self._journal.write("in vain", *where, place)


_memberships: dict[int, Any] = {}  # by the identity of what they were made from


def remember_memberships() -> None:
    """Let this process remember who its members are: the library tells nobody but the cluster."""
    make = Joining.membership

    def membership(joining: Joining) -> Any:
        if id(joining) not in _memberships:
            _memberships[id(joining)] = joining, make(joining)  # kept with it, so that no other gets its identity
        return _memberships[id(joining)][1]

    Joining.membership = membership  # type: ignore[method-assign] # in a test's own process


def membership_of(member: Any) -> Any:
    """Return who a member of a group is."""
    return member._who if hasattr(member, "_who") else member._joining.membership()
