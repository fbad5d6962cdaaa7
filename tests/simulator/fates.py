"""How it goes with an event in the hands of a consumer group: decided by the event alone, so all members fare alike.

Most events go well. *Flaky* ones fail once or twice, *hopeless* ones always, *bad* ones are parked at once, *slow* ones
take longer than a member that should give its partition up waits, and *deadly* ones end their member without a word.
Replays of what was parked go well every other time.
"""

from collections.abc import Mapping
from hashlib import blake2b
from itertools import accumulate
from typing import NamedTuple

from histories.group_history import ACK, NACK, PARK

DEADLY = "deadly"
DRAWN_OF = 10_000  # shares are parts of it
SLOW_US = 6_000_000
RETRIES_AFTER_US = (0, 100_000, 1_500_000)


class Fate(NamedTuple):
    """What comes of a delivery: a verdict or death, and how long that takes beyond the usual."""

    verdict: str
    more_us: int = 0
    retry_after_us: int = 0


def fate_of(name: str, shares: Mapping[str, int], attempt: int, *, replayed: bool) -> Fate:
    """Return what comes of the delivery of an event. `name` tells the event, `shares` how many are of each kind."""
    drawn = int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
    chance, further = drawn % DRAWN_OF, drawn // DRAWN_OF
    bounds = accumulate(shares.values())
    kind = next((kind for kind, bound in zip(shares, bounds, strict=True) if chance < bound), "")
    if replayed:
        return Fate(ACK if further % 2 else PARK)
    if kind == "hopeless" or (kind == "flaky" and attempt <= 1 + further % 2):
        return Fate(NACK, retry_after_us=RETRIES_AFTER_US[further % len(RETRIES_AFTER_US)])
    if kind == "bad":
        return Fate(PARK)
    if kind == "slow":
        return Fate(ACK, more_us=SLOW_US)
    return Fate(DEADLY if kind == DEADLY else ACK)
