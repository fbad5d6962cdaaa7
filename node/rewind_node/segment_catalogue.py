"""Which segments of a partition count, and proof that none of them is missing.

A segment counts from the commit that its row in table `segments` belongs to. Beside these rows stands one under the
partition alone: how many they are, all their checksums taken together, and the mark that they lead to. It changes in
the same commits, and the mark is the replica's own. So a row that a damaged page hides, and a segment that the mark
does not cover, are told when the partition is loaded: streams would seem not to exist, or be shorter than they are.
"""

from collections.abc import Iterator, Sequence
from struct import Struct
from zlib import crc32

from rewind_cluster.errors import DamagedError
from rewind_node import store_layout as layout
from rewind_node.engine import Engine, Pair
from rewind_node.segments import Segment

_PROOF = Struct(">QII")  # the mark, how many segments, and the exclusive or of their rows' checksums


class Catalogue:
    """The segments of one partition that count, by context and oldest first. Raises `DamagedError` if one is missing.

    `applied` is the replica's mark: the index of the last entry whose rows are stored.
    """

    def __init__(self, partition: int, engine: Engine, applied: int) -> None:
        self.segments: dict[int, list[Segment]] = {}
        self.last_number = 0
        self._partition = partition
        self._engine = engine
        self._key = layout.U16.pack(partition)
        self._applied = applied
        self._count = 0
        self._sum = 0
        self._load()

    def _load(self) -> None:
        proof = (0, 0, 0)
        for key, value in self._engine.scan(layout.SEGMENTS, *layout.partition_range(self._partition)):
            if key == self._key:
                proof = self._unpack_proof(value)
                continue
            _, context, number = layout.segment_of_key(layout.SEGMENTS, key)
            self.segments.setdefault(context, []).append(Segment.load(self._engine, key, value))
            self.last_number = max(self.last_number, number)
            self._count_in(key, value)
        if proof != (self._applied, self._count, self._sum):
            raise DamagedError(
                f"partition {self._partition} has {self._count} segments that lead to {self._applied}, but they should "
                f"be {proof[1]} and lead to {proof[0]}, or are not the same"
            )
        for segments in self.segments.values():
            segments.sort(key=lambda segment: segment.through)

    def _unpack_proof(self, value: bytes) -> tuple[int, int, int]:
        payload = layout.unseal(layout.SEGMENTS, self._key, value)
        if len(payload) != _PROOF.size:
            raise DamagedError(f"the row {self._key.hex()} of table {layout.SEGMENTS} proves nothing")
        return _PROOF.unpack(payload)

    def _count_in(self, key: bytes, value: bytes) -> None:
        self._count += 1
        self._sum ^= crc32(value, crc32(key))

    def new_key(self, context: int) -> bytes:
        """Return the key of a segment to be written."""
        self.last_number += 1
        return layout.SEGMENT_KEY.pack(self._partition, context, self.last_number)

    def add(self, segments: Sequence[tuple[int, Segment]], applied: int) -> None:
        """Let segments count, each the newest of its context, from the commit on that moves the mark to `applied`."""
        pairs: list[Pair] = []
        for context, segment in segments:
            self.segments.setdefault(context, []).append(segment)
            pairs.append((segment.key, segment.value))
            self._count_in(*pairs[-1])
        self._applied = applied
        self._engine.put(layout.SEGMENTS, [*pairs, self._proof()])

    def replace(self, context: int, inputs: Sequence[Segment], merged: Segment) -> None:
        """Let a segment count in place of others, which follow each other."""
        segments = self.segments[context]
        first = segments.index(inputs[0])
        assert segments[first : first + len(inputs)] == list(inputs)
        segments[first : first + len(inputs)] = [merged]
        for segment in inputs:
            self._count -= 1
            self._sum ^= crc32(segment.value, crc32(segment.key))
        self._count_in(merged.key, merged.value)
        self._engine.delete(layout.SEGMENTS, [segment.key for segment in inputs])
        self._engine.put(layout.SEGMENTS, [(merged.key, merged.value), self._proof()])

    def _proof(self) -> Pair:
        return self._key, layout.seal(self._key, _PROOF.pack(self._applied, self._count, self._sum))

    def strangers(self) -> Iterator[bytes]:
        """Yield the keys of segments that something is stored of and that do not count: a seek for each there is."""
        counting = {segment.key for segments in self.segments.values() for segment in segments}
        for table in (layout.STREAMS, layout.FILTERS):
            start, stop = layout.partition_range(self._partition)
            while (pair := next(self._engine.scan(table, start, stop), None)) is not None:
                number = layout.segment_of_key(table, pair[0])[2]
                key = pair[0][: layout.SEGMENT_KEY.size]
                if key not in counting:
                    self.last_number = max(self.last_number, number)
                    yield key
                start = layout.beyond_number(key)
