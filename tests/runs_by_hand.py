"""Runs of appends as a client packs them, sent to a host of `tests/core` by hand."""

from collections.abc import Sequence
from typing import Any

from appends_by_hand import answers_by_number

from rewind_cluster.batches import AppendRun, pack_runs
from rewind_cluster.client_messages import AppendBatch, AppendsDone, Code
from rewind_cluster.columns import Events, pack_events

Part = tuple[str, int, Sequence[str]]  # stream, expected, names of its events


def run_of(first: int, appends: Sequence[Sequence[Part]], opens: bytes = b"") -> AppendRun:
    """Return a run of appends, each of one part or several, each event a name in ASCII."""
    parts = [part for append in appends for part in append]
    names = [name for _, _, events in parts for name in events]
    ids = b"".join(name.encode().rjust(16, b"\0") for name in names)
    return AppendRun(
        first,
        opens,
        [stream for stream, _, _ in parts],
        [expected for _, expected, _ in parts],
        None if len(names) == len(parts) else [len(events) for _, _, events in parts],
        None if len(parts) == len(appends) else [len(append) for append in appends],
        pack_events(Events(ids, ["T"] * len(names), [name.encode() for name in names], None)),
    )


def send(
    client: Any, host: Any, partition: int, runs: Sequence[AppendRun], *, context: int = 1, epoch: int = 1, low: int = 1
) -> None:
    """Send runs in one batch."""
    session = client.session(partition)
    client.hello(host)
    batch = AppendBatch(partition, context, session, epoch, low, client.deadline_us, 0)
    client.send(host, batch, *pack_runs(runs))


def answers(client: Any, count: int) -> dict[int, Any]:
    """Wait for so many answers and return them by number, without the code of what took effect."""
    told: dict[int, Any] = {}
    while len(told) < count:
        message, _ = client.await_message(lambda message: isinstance(message, AppendsDone))
        for number, code, *rest in answers_by_number(message.answers):
            told[number] = [place[:2] for place in rest[0]] if code == Code.OK else Code(code)
    return dict(sorted(told.items()))
