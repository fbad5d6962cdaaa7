"""Appends one by one, for tests that speak the protocol by hand: into the columns that travel, and out of them."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import msgpack

from rewind_cluster.batches import AppendRun, pack_runs, unpack_runs
from rewind_cluster.columns import Events, pack_events, starts, unpack_events


class AppendPart(NamedTuple):
    """What one append wants of one stream. `events` are packed."""

    stream: str
    expected: int
    events: bytes


class AppendRequest(NamedTuple):
    """One append. `open`: an earlier copy of it was sent and has not been answered."""

    sequence: int
    open: bool
    parts: Sequence[AppendPart]


def pack_batch(requests: Sequence[AppendRequest]) -> list[bytes]:
    """Return the frames of appends, each a run of its own."""
    return pack_runs([run_of(request) for request in requests])


def run_of(request: AppendRequest) -> AppendRun:
    """Return one append as a run."""
    columns = [Events(*msgpack.unpackb(part.events)[:4]) for part in request.parts]  # right or wrong
    metadatas = [each for column in columns for each in column.metadatas or [None] * len(column.types)]
    return AppendRun(
        request.sequence,
        b"\1" if request.open else b"",
        [part.stream for part in request.parts],
        [part.expected for part in request.parts],
        [len(column.types) for column in columns],
        [len(columns)],
        pack_events(
            Events(
                b"".join(column.ids for column in columns),
                [kind for column in columns for kind in column.types],
                [data for column in columns for data in column.datas],
                metadatas,
            )
        ),
    )


def unpack_batch(frames: Sequence[bytes]) -> list[AppendRequest]:
    """Return the appends in a batch's frames, one by one."""
    requests = []
    for run in unpack_runs(frames):
        for single in run.split(unpack_events(run.events)):
            events = unpack_events(single.events)
            parts = [
                AppendPart(stream, expected, pack_events(events.slice(start, stop)))
                for stream, expected, (start, stop) in zip(
                    single.streams, single.expected, starts(single.counts, len(single.streams)), strict=True
                )
            ]
            requests.append(AppendRequest(single.first_sequence, single.open, parts))
    return requests


def answers_by_number(answers: Sequence[Any]) -> list[list[Any]]:
    """Return what `AppendsDone` tells, append by append: `[sequence, 0, [[version, position, timestamp], …]]` or as is.

    The places are those of the last event of each part.
    """
    told = []
    for answer in answers:
        if answer[1]:
            told.append(list(answer))
            continue
        sequence, _, versions, position, timestamp, counts, parts = answer
        if isinstance(position, list):
            places = [list(place) for place in zip(versions, position, timestamp, strict=True)]
        else:
            ends = accumulate(counts or [1] * len(versions))
            places = [
                [version, position + end - 1, timestamp + end - 1] for version, end in zip(versions, ends, strict=True)
            ]
        pieces = starts(parts, len(parts or versions))
        told += [[number, 0, places[start:stop]] for number, (start, stop) in enumerate(pieces, sequence)]
    return told


def again(answer: Sequence[Any]) -> list[Any]:
    """Return what `answers_by_number` has told of one append as `AppendsDone` may tell it."""
    sequence, _, places = answer
    versions, positions, timestamps = (list(column) for column in zip(*places, strict=True))
    return [sequence, 0, versions, positions, timestamps, None, [len(places)]]
