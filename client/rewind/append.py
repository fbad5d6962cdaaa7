"""One append on its way through a session, and how several are packed into the runs that are sent.

A run is what a node decodes, judges, stores and answers as a whole, see `rewind_cluster.columns`.
"""

from collections.abc import Iterator, Sequence

from rewind.requests import Call
from rewind.tokens import Origin
from rewind_cluster.batches import AppendRun
from rewind_cluster.columns import Events, pack_events

RUN_BYTES_TARGET = 64 * 1024  # a run past this is closed: a node that reads one event of it opens it all

Part = tuple[str, int, Events]  # stream, expected version, events


class Append(Call):
    """One append, of about `size` bytes. `many`: its result is a list, one item per part."""

    __slots__ = ("many", "open", "origin", "partition", "parts", "refusal", "sequence", "size")

    def __init__(
        self, parts: tuple[Part, ...], size: int, partition: int, origin: Origin, timeout_us: int, *, many: bool
    ) -> None:
        super().__init__(timeout_us)
        self.partition = partition
        self.origin = origin
        self.parts = parts
        self.many = many
        self.size = size
        self.sequence = 0
        self.open: tuple[int, ...] = ()  # epochs of the copies that may have been taken
        self.refusal: tuple[int, str] | None = None  # code and text of the last one

    def what(self) -> str:
        """Return what was asked for, for people."""
        return "append to " + ", ".join(f"stream {stream!r}" for stream, _, _ in self.parts)


def runs_of(appends: Sequence[Append], opens: bytes) -> Iterator[AppendRun]:
    """Yield appends as runs of consecutive numbers, none much larger than `RUN_BYTES_TARGET`."""
    start = size = 0
    for stop, append in enumerate(appends, 1):
        size += append.size
        if stop == len(appends) or appends[stop].sequence != append.sequence + 1 or size >= RUN_BYTES_TARGET:
            yield _run(appends[start:stop], opens[start:stop])
            start, size = stop, 0


def _run(appends: Sequence[Append], opens: bytes) -> AppendRun:
    parts = [part for append in appends for part in append.parts]
    columns = [part[2] for part in parts]
    counts = [len(column.types) for column in columns]
    metadatas = None
    if any(column.metadatas is not None for column in columns):
        metadatas = [each for column in columns for each in column.metadatas or (None,) * len(column.types)]
    events = Events(
        b"".join([column.ids for column in columns]),
        [kind for column in columns for kind in column.types],
        [data for column in columns for data in column.datas],
        metadatas,
    )
    return AppendRun(
        appends[0].sequence,
        opens if any(opens) else b"",
        [part[0] for part in parts],
        [part[1] for part in parts],
        None if len(events.types) == len(parts) else counts,
        None if len(parts) == len(appends) else [len(append.parts) for append in appends],
        pack_events(events),
    )
