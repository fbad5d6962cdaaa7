"""Listing streams, without input and output: the names of all partitions, merged into one bytewise order.

Code points order text as their UTF-8 bytes do, so Python's own comparison is the right one.
"""

import heapq
from collections import deque

from rewind.inquiries import Names, View, list_streams
from rewind.requests import Request
from rewind.tokens import Origin

CHUNK_NAMES_MAX = 1000  # of each partition


class StreamList:
    """One listing. Answer what `wanted` returns through `take`, then `pop` names, until neither gives anything."""

    def __init__(
        self, origin: Origin, partitions: tuple[int, ...], prefix: str, views: dict[int, View], timeout_us: int
    ) -> None:
        self._origin = origin
        self._prefix = prefix
        self._views = views
        self._timeout_us = timeout_us
        self._names: dict[int, deque[str]] = {partition: deque() for partition in partitions}
        self._after: dict[int, str | None] = dict.fromkeys(partitions)
        self._unfinished = set(partitions)
        self._heads: list[tuple[str, int]] = []  # the next name of each partition that has one

    def wanted(self) -> list[tuple[int, Request]]:
        """Return the requests that must be answered before the next name is known, by partition."""
        return [
            (
                partition,
                list_streams(
                    self._origin,
                    partition,
                    self._prefix,
                    self._views[partition],
                    self._timeout_us,
                    after=self._after[partition],
                    count_max=CHUNK_NAMES_MAX,
                ),
            )
            for partition in sorted(self._unfinished)
            if not self._names[partition]
        ]

    def take(self, partition: int, chunk: Names) -> None:
        """Take in the names that a partition answered with."""
        if chunk.names:
            self._after[partition] = chunk.names[-1]
            self._names[partition].extend(chunk.names)
            heapq.heappush(self._heads, (chunk.names[0], partition))
        if not chunk.more or not chunk.names:
            self._unfinished.discard(partition)

    def pop(self) -> list[str]:
        """Return the names that are next for certain: until a partition runs out that may have more."""
        popped: list[str] = []
        while self._heads:
            name, partition = heapq.heappop(self._heads)
            popped.append(name)
            names = self._names[partition]
            names.popleft()
            if names:
                heapq.heappush(self._heads, (names[0], partition))
            elif partition in self._unfinished:
                break
        return popped
