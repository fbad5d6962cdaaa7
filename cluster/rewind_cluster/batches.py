"""What clients ask of a partition: the runs of appends that an `AppendBatch` carries.

A run is two frames. The first is a msgpack array `[first sequence, opens, streams, expected, counts, parts]`, the
second the events of all, packed; see `rewind_cluster.columns` for the shape. Numbers within a run are consecutive, so
what is sent again around appends that were answered meanwhile makes several runs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack

from rewind_cluster.client_messages import ANY_VERSION
from rewind_cluster.columns import ARRAYS_MAX, Counts, Events, are_counts, pack_events, size_of, starts
from rewind_cluster.errors import ProtocolError
from rewind_cluster.wire import UINT_MAX, Frame, unpack_columns

BATCH_APPENDS_MAX = 4096  # appends in one message
BATCH_EVENTS_MAX = 65_536  # the mebibyte that a client gathers holds 32,768 at most, and then one append of 4,096
BATCH_BYTES_MAX = (
    12 * 1024 * 1024
)  # all frames together: a mebibyte, an append of 8 MiB, and their streams' names. What
# a run becomes in a log, with a version for each part, must fit into a frame between nodes.
RUN_FIELDS = 6
FRAMES_PER_RUN = 2
_INTEGERS_ONLY = {int}
_TEXTS_ONLY = {str}


class AppendRun(NamedTuple):
    """Appends with consecutive numbers, as columns: the stream of each part and the version it expects.

    `opens`: a byte for each append, 1 where an earlier copy of it was sent and has not been answered; empty for none.
    """

    first_sequence: int
    opens: bytes
    streams: Sequence[str]
    expected: Sequence[int]
    counts: Counts
    parts: Counts
    events: bytes

    @property
    def append_count(self) -> int:
        """How many appends it holds."""
        return len(self.streams if self.parts is None else self.parts)

    @property
    def event_count(self) -> int:
        """How many events it holds."""
        return size_of(self.counts, len(self.streams))

    @property
    def largest_append(self) -> int:
        """How many events its largest append holds."""
        if self.counts is None or self.parts is None:
            return max(self.counts or self.parts or (1,))
        return max(sum(self.counts[start:stop]) for start, stop in starts(self.parts, len(self.parts)))

    @property
    def sequences(self) -> range:
        """The numbers of its appends."""
        return range(self.first_sequence, self.first_sequence + self.append_count)

    @property
    def open(self) -> bool:
        """Whether an earlier copy of any of them is unanswered."""
        return any(self.opens)

    def split(self, events: Events) -> list["AppendRun"]:
        """Return each append as a run of its own. `events` are its own, unpacked."""
        pieces = list(starts(self.counts, len(self.streams)))
        return [
            AppendRun(
                self.first_sequence + number,
                self.opens[number : number + 1],
                self.streams[start:stop],
                self.expected[start:stop],
                None if self.counts is None else self.counts[start:stop],
                None if self.parts is None else [stop - start],
                pack_events(events.slice(pieces[start][0], pieces[stop - 1][1])),
            )
            for number, (start, stop) in enumerate(starts(self.parts, self.append_count))
        ]


def pack_runs(runs: Sequence[AppendRun]) -> list[Frame]:
    """Return the frames of runs, to follow the header of an `AppendBatch`."""
    frames: list[Frame] = []
    for run in runs:
        frames += (msgpack.packb(run[:RUN_FIELDS]), run.events)
    return frames


def unpack_runs(frames: Sequence[Frame]) -> list[AppendRun]:
    """Return a batch's runs, their shape verified but not their events, or raise `ProtocolError`."""
    if not frames or len(frames) % FRAMES_PER_RUN:
        raise ProtocolError(f"a batch came with {len(frames)} frames, not two for each run of appends")
    if len(frames) > FRAMES_PER_RUN * BATCH_APPENDS_MAX or sum(map(len, frames)) > BATCH_BYTES_MAX:
        raise ProtocolError(f"a batch is over the limit of {BATCH_APPENDS_MAX} runs or {BATCH_BYTES_MAX} bytes")
    runs: list[AppendRun] = []
    appends = events = last_sequence = 0
    for head, packed in zip(frames[::2], frames[1::2], strict=True):
        run = _unpack_run(_unpack_head(head), packed)
        appends += run.append_count
        events += run.event_count
        if appends > BATCH_APPENDS_MAX or events > BATCH_EVENTS_MAX:
            raise ProtocolError(f"a batch holds more than {BATCH_APPENDS_MAX} appends or {BATCH_EVENTS_MAX} events")
        if run.first_sequence <= last_sequence:
            raise ProtocolError(f"a batch's numbers do not rise: {run.first_sequence} follows {last_sequence}")
        last_sequence = run.sequences[-1]
        runs.append(run)
    return runs


def _unpack_head(head: Frame) -> Any:
    try:
        return unpack_columns(head, ARRAYS_MAX, BATCH_EVENTS_MAX)
    except Exception as error:  # msgpack raises a dozen kinds, UnicodeDecodeError among them
        raise ProtocolError(f"a run of appends cannot be read: {error}") from error


def _unpack_run(head: Any, events: Frame) -> AppendRun:
    if type(head) is not list or len(head) < RUN_FIELDS or type(head[0]) is not int or type(head[1]) is not bytes:
        raise ProtocolError(f"a run of appends does not begin with an array of {RUN_FIELDS} or more")
    run = AppendRun._make((*head[:RUN_FIELDS], events))
    streams, expected = run.streams, run.expected
    if (
        type(streams) is not list
        or type(expected) is not list
        or not len(streams) == len(expected) > 0
        or set(map(type, streams)) != _TEXTS_ONLY
        or set(map(type, expected)) != _INTEGERS_ONLY
        or min(expected) < ANY_VERSION
        or not 1 <= run.first_sequence <= UINT_MAX - len(streams)
        or not are_counts(run.counts, length=len(streams))
        or not are_counts(run.parts, whole=len(streams))
        or len(run.opens) not in (0, run.append_count)
    ):
        raise ProtocolError("a run of appends has columns that do not fit together")
    return run
