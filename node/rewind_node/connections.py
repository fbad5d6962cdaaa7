"""Clients' connections as the core sees them, and what is to be sent to them."""

from collections.abc import Iterable
from typing import Any

from rewind_cluster.client_messages import CLIENT_CODEC, AppendsDone
from rewind_cluster.wire import Frame

Frames = list[Frame]


class Client:
    """One client's connection: its state from `Hello` until it ends.

    `refused` holds, by partition, the newest epoch of which an append was refused for routing or load: the rest of that
    epoch is refused as well, so that appends that were pipelined in order are taken in order or not at all.
    """

    __slots__ = ("heard_us", "program", "refused", "route")

    def __init__(self, route: bytes, program: str, now_us: int) -> None:
        self.route = route
        self.program = program
        self.heard_us = now_us
        self.refused: dict[int, int] = {}


class Outbox:
    """Messages to clients, in order, and the answers of appends gathered by connection and session."""

    def __init__(self) -> None:
        self._messages: list[tuple[bytes, Frames]] = []
        self._answers: dict[tuple[bytes, int, int, int], list[Any]] = {}

    def send(self, client: Client, message: object, *frames: Frame) -> None:
        """Queue one message."""
        self._messages.append((client.route, [CLIENT_CODEC.encode(message), *frames]))

    def send_to_route(self, route: bytes, message: object) -> None:
        """Queue one message to a connection without a state."""
        self._messages.append((route, [CLIENT_CODEC.encode(message)]))

    def answer(self, client: Client, partition: int, session: int, epoch: int, answer: Iterable[Any]) -> None:
        """Queue the answer of one append: its sequence number, then code and what belongs to it."""
        key = (client.route, partition, session, epoch)
        answers = self._answers.get(key)
        if answers is None:
            answers = self._answers[key] = []
        answers.append(answer)

    def take(self, clock: int) -> list[tuple[bytes, Frames]]:
        """Return all that is queued, as (routing ID, frames)."""
        if not self._messages and not self._answers:
            return []
        messages, self._messages = self._messages, []
        for (route, partition, session, epoch), answers in self._answers.items():
            message = AppendsDone(partition, session, epoch, answers, clock)
            messages.append((route, [CLIENT_CODEC.encode(message)]))
        self._answers = {}
        return messages
