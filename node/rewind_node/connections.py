"""Clients' connections as the core sees them, and what is to be sent to them."""

from collections.abc import Iterable, Sequence
from typing import Any

from rewind_cluster.batches import AppendRun
from rewind_cluster.client_messages import CLIENT_CODEC, AppendsDone
from rewind_cluster.wire import Frame

Frames = list[Frame]
Answer = list[Any]  # what stands in `AppendsDone`, its sequence number first


class Client:
    """One client's connection: its state from `Hello` until it ends.

    `refused` holds, by partition, the newest epoch of which an append was refused for routing or load: the rest of that
    epoch is refused as well, so that appends that were pipelined in order are taken in order or not at all.
    """

    __slots__ = ("_bursts", "heard_us", "program", "refused", "route")

    def __init__(self, route: bytes, program: str, now_us: int) -> None:
        self.route = route
        self.program = program
        self.heard_us = now_us
        self.refused: dict[int, int] = {}
        self._bursts: dict[int, Burst] = {}  # the newest of each partition

    def burst(self, partition: int, session: int, epoch: int) -> "Burst":
        """Return the burst that a batch belongs to, so that its answers go out with those of the batches before."""
        burst = self._bursts.get(partition)
        if burst is None or burst.session != session or burst.epoch != epoch:
            burst = self._bursts[partition] = Burst(self, partition, session, epoch)
        return burst


class Burst:
    """The appends of one session that a client sends in one epoch, and the answers that are ready to be sent."""

    __slots__ = ("answers", "client", "epoch", "partition", "session")

    def __init__(self, client: Client, partition: int, session: int, epoch: int) -> None:
        self.client = client
        self.partition = partition
        self.session = session
        self.epoch = epoch
        self.answers: list[Answer] = []


class Outbox:
    """Messages to clients, in order, and the answers of appends gathered by batch."""

    def __init__(self) -> None:
        self._messages: list[tuple[bytes, Frames]] = []
        self._answered: list[Burst] = []
        self.bytes = 0  # of the opaque frames that are queued, and of what was opened to make them

    def send(self, client: Client, message: object, *frames: Frame) -> None:
        """Queue one message."""
        self.bytes += sum(map(len, frames))
        self._messages.append((client.route, [CLIENT_CODEC.encode(message), *frames]))

    def charge(self, size: int) -> None:
        """Count bytes that were read for answers, in vain perhaps, like those of the answers themselves."""
        self.bytes += size

    def send_to_route(self, route: bytes, message: object) -> None:
        """Queue one message to a connection without a state."""
        self._messages.append((route, [CLIENT_CODEC.encode(message)]))

    def answer(self, burst: Burst, answer: Answer) -> None:
        """Queue the answer of an append or of a run of them, as `AppendsDone` holds it."""
        if not burst.answers:
            self._answered.append(burst)
        burst.answers.append(answer)

    def refuse(self, burst: Burst, runs: Iterable[AppendRun], refusal: Sequence[Any], others: Sequence[Any]) -> None:
        """Queue the refusal, its code and what belongs to it, of the first append of runs, and that of all `others`."""
        for run in runs:
            for sequence in run.sequences:
                self.answer(burst, [sequence, *refusal])
                refusal = others

    def take(self, clock: int) -> list[tuple[bytes, Frames]]:
        """Return all that is queued, as (routing ID, frames)."""
        if not self._messages and not self._answered:
            return []
        self.bytes = 0
        messages, self._messages = self._messages, []
        answered, self._answered = self._answered, []
        for burst in answered:
            message = AppendsDone(burst.partition, burst.session, burst.epoch, burst.answers, clock)
            messages.append((burst.client.route, [CLIENT_CODEC.encode(message)]))
            burst.answers = []
        return messages
