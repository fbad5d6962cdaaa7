"""Random sources that are derived from a run's seed by name, so that what one part of a run draws disturbs no other."""

from hashlib import blake2b
from random import Random


def source(seed: int, name: str) -> Random:
    """Return the source of this name, the same in every process."""
    return Random(int.from_bytes(blake2b(f"{seed}:{name}".encode(), digest_size=16).digest()))
