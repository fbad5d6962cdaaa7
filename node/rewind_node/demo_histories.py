"""What went in against what came out: the histories of streams, from JSON lines of `rewind import` and `rewind export`.

An event is its type and its data, in the order of its stream; a 16-byte digest stands for it, so that millions fit
into memory. An event that is missing is lost; one that is there more often than it went in is duplicated, wherever it
stands.
"""

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

from rewind_node.exits import UsageError

DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between two sets of histories, in events and in streams."""

    lost: int
    duplicated: int
    out_of_order: int  # streams with the right events in the wrong order

    @property
    def clean(self) -> bool:
        """Whether nothing differs."""
        return not (self.lost or self.duplicated or self.out_of_order)


class Histories:
    """Each stream's events as a run of digests."""

    def __init__(self) -> None:
        self._digests: dict[str, bytearray] = {}

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Return what a file of JSON lines holds. Raises `UsageError` for a line that is no event."""
        histories = cls()
        try:
            with path.open("rb") as file:
                histories.add_lines(file)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise UsageError(f"{path}: {error}") from None
        if not histories.events:
            raise UsageError(f"{path} holds no events")
        return histories

    def add_lines(self, lines: Iterable[bytes]) -> None:
        """Add one event per JSON line, empty lines left out. Raises `ValueError` for a line that is no event."""
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    event = json.loads(line)
                    stream, digest = event["stream"], _digest(event)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise ValueError(f"line {number} is no event ({type(error).__name__}: {error})") from None
                self._digests.setdefault(stream, bytearray()).extend(digest)

    @property
    def names(self) -> set[str]:
        """The streams."""
        return set(self._digests)

    def of(self, stream: str) -> list[bytes]:
        """Return the digests of a stream's events, in order."""
        digests = bytes(self._digests.get(stream, b""))
        return [digests[start : start + DIGEST_BYTES] for start in range(0, len(digests), DIGEST_BYTES)]

    @property
    def streams(self) -> int:
        """How many streams there are."""
        return len(self._digests)

    @property
    def events(self) -> int:
        """How many events there are."""
        return sum(map(len, self._digests.values())) // DIGEST_BYTES

    def compare(self, actual: "Histories") -> Comparison:
        """Return how `actual` differs from these, the histories that went in."""
        lost = duplicated = out_of_order = 0
        for stream in self.names | actual.names:
            ours, theirs = self.of(stream), actual.of(stream)
            if ours == theirs:
                continue
            expected, found = Counter(ours), Counter(theirs)
            lost += (expected - found).total()
            duplicated += (found - expected).total()
            out_of_order += expected == found
        return Comparison(lost, duplicated, out_of_order)


def _digest(event: dict[str, Any]) -> bytes:
    if "data_base64" in event:
        data = b64decode(event["data_base64"], validate=True)
    else:
        data = json.dumps(event["data"], ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return blake2b(event["type"].encode("utf-8", "surrogatepass") + b"\0" + data, digest_size=DIGEST_BYTES).digest()
