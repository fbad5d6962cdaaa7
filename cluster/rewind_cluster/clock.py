"""The hybrid logical clock: timestamps that follow the wall clock and never go back.

A timestamp is an unsigned 64-bit number: microseconds since the epoch in the high 52 bits, a counter in the low 12.
Theory: Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots in Globally Distributed Databases", 2014. No
safety depends on it.
"""

COUNTER_BITS = 12
CLOCK_AHEAD_MAX_US = 60 * 1_000_000  # a client's clock may push ours by a minute, not by a year
TIMESTAMP_MAX = (1 << 64) - 1
CLOCK_MAX = TIMESTAMP_MAX - (1 << 60)  # the year 2103: no clock says more, and what is left is never used up


class HybridClock:
    """One per node. `wall_us` is microseconds since the epoch as the caller's wall clock says."""

    def __init__(self, latest: int = 0) -> None:
        self.latest = latest

    def read(self, wall_us: int) -> int:
        """Return a timestamp greater than every one returned or observed before."""
        self.latest = max(self.latest + 1, wall_us << COUNTER_BITS)
        return self.latest

    def observe(self, timestamp: int) -> None:
        """Take in a timestamp from another node, which is trusted unless it is beyond `CLOCK_MAX`."""
        if timestamp <= CLOCK_MAX:
            self.latest = max(self.latest, timestamp)

    def observe_client(self, timestamp: int, wall_us: int) -> None:
        """Take in a timestamp from a client, at most `CLOCK_AHEAD_MAX_US` ahead of `wall_us`."""
        self.latest = max(self.latest, min(timestamp, (wall_us + CLOCK_AHEAD_MAX_US) << COUNTER_BITS))


def microseconds(timestamp: int) -> int:
    """Return a timestamp's microseconds since the epoch."""
    return timestamp >> COUNTER_BITS
