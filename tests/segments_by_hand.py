"""Rows of streams by hand: put into the store as checkpoints put them."""

from collections.abc import Mapping, Sequence

from rewind_node.store import Store, StreamRow
from rewind_node.stream_segments import StreamSegments

Rows = Mapping[str, Sequence[StreamRow]]


def segments_of(store: Store, applied: int = 0, partition: int = 1) -> StreamSegments:
    """Return a partition's segments as they are found at a start, with the mark that they should lead to."""
    return StreamSegments(partition, store.engine, applied)


def put_segment(segments: StreamSegments, rows: Rows, *, context: int = 1, through: int, slice_rows: int = 50) -> None:
    """Write one segment that holds each stream's rows, uncommitted."""
    items = sorted((name.encode(), row) for name, of_stream in rows.items() for row in of_stream)
    writer = segments.writer(context, len(items))
    for start in range(0, len(items), slice_rows):
        names, part = zip(*items[start : start + slice_rows], strict=True)
        writer.add(names, part)
    while not writer.finish():
        pass
    segments.publish([(context, writer)], through)


def run_of(first_version: int, count: int, *, index: int = 1) -> list[StreamRow]:
    """Return rows of one event each that follow each other, in entries that do, too."""
    return [StreamRow(first_version + number, 1, index + number, 0, 9) for number in range(count)]
